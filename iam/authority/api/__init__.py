"""The REST API of authority: approvals, the matrix, and who holds office."""

from iam.authority.api.approvals import ApprovalViewSet
from iam.authority.api.holders import (
    AppointmentViewSet,
    DelegationViewSet,
    InterestViewSet,
    OfficeViewSet,
    SubstitutionViewSet,
)
from iam.authority.api.matrix import MatrixView, VersionViewSet
from iam.authority.api.rates import RateViewSet

__all__ = [
    "AppointmentViewSet",
    "ApprovalViewSet",
    "DelegationViewSet",
    "InterestViewSet",
    "MatrixView",
    "OfficeViewSet",
    "RateViewSet",
    "SubstitutionViewSet",
    "VersionViewSet",
]
