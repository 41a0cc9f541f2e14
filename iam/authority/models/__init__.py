"""The matrix, the people who hold authority under it, and the approvals decided by them."""

from iam.authority.models.approvals import Approval, Decision, Level
from iam.authority.models.holders import Appointment, Delegation, Hat, Interest, Substitution
from iam.authority.models.matrix import ENVELOPE, MatrixVersion, Matter, Office, Rule
from iam.authority.models.rates import ExchangeRate

__all__ = [
    "ENVELOPE",
    "Appointment",
    "Approval",
    "Decision",
    "Delegation",
    "ExchangeRate",
    "Hat",
    "Interest",
    "Level",
    "MatrixVersion",
    "Matter",
    "Office",
    "Rule",
    "Substitution",
]
