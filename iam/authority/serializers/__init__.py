"""What the API says of authority, and what it takes."""

from iam.authority.serializers.approvals import (
    ApprovalSerializer,
    AskSerializer,
    DecideSerializer,
    TitleSerializer,
    WithdrawSerializer,
)
from iam.authority.serializers.holders import (
    AppointmentSerializer,
    AppointSerializer,
    DeclareSerializer,
    DelegateSerializer,
    DelegationSerializer,
    InterestSerializer,
    OfficeSerializer,
    SubstituteSerializer,
    SubstitutionSerializer,
)
from iam.authority.serializers.matrix import (
    AdoptSerializer,
    DraftSerializer,
    MatrixSerializer,
    VersionDetailSerializer,
    VersionSerializer,
)
from iam.authority.serializers.rates import RateSerializer, RecordRateSerializer

__all__ = [
    "AdoptSerializer",
    "AppointSerializer",
    "AppointmentSerializer",
    "ApprovalSerializer",
    "AskSerializer",
    "DecideSerializer",
    "DeclareSerializer",
    "DelegateSerializer",
    "DelegationSerializer",
    "DraftSerializer",
    "InterestSerializer",
    "MatrixSerializer",
    "OfficeSerializer",
    "RateSerializer",
    "RecordRateSerializer",
    "SubstituteSerializer",
    "SubstitutionSerializer",
    "TitleSerializer",
    "VersionDetailSerializer",
    "VersionSerializer",
    "WithdrawSerializer",
]
