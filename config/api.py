"""The one router of the REST API."""

from django.urls import include, path, re_path
from drf_spectacular.views import SpectacularJSONAPIView
from rest_framework.routers import SimpleRouter

from audit.api import LedgerViewSet
from bus.api import DirectedMessageViewSet
from holding.api import SeatViewSet, UnitViewSet
from iam.access.api import BindingViewSet, PersonViewSet
from iam.access.api_accounts import AccountViewSet, OwnTokenViewSet, TokenViewSet
from iam.access.api_emergencies import EmergencyViewSet
from iam.access.api_invitations import InvitationViewSet
from iam.access.api_reviews import ReviewItemViewSet, ReviewViewSet
from iam.access.api_roles import GroupViewSet, RoleViewSet
from iam.access.rules import CLEARED
from iam.authority.api import (
    AppointmentViewSet,
    ApprovalViewSet,
    DelegationViewSet,
    InterestViewSet,
    MatrixView,
    OfficeViewSet,
    RateViewSet,
    SubstitutionViewSet,
    VersionViewSet,
)
from portal.api import AsyncApiView, MessageSchemaView, NotFoundView, OverviewView
from portal.api_quarantine import QuarantineViewSet, SuspectViewSet
from subsidiaries.commands.api import CommandViewSet
from subsidiaries.enrolment.api import CredentialsView, EnrolmentViewSet, EnrolView
from subsidiaries.escalations.api import EscalationViewSet
from subsidiaries.performance.api import KpiMinuteViewSet
from subsidiaries.replacement.api import (
    AgentViewSet,
    FencedHostViewSet,
    IncidentViewSet,
    ReplacementViewSet,
    SeatBackoffViewSet,
    ServiceLevelViewSet,
)
from subsidiaries.replacement.api_rollouts import RolloutViewSet
from subsidiaries.replacement.api_rollouts import VersionViewSet as BlueprintVersionViewSet
from subsidiaries.replacement.api_staffing import CapDelegationViewSet, RetirementViewSet, StaffingViewSet


class SchemaView(SpectacularJSONAPIView):
    """The OpenAPI document, to whoever has the clearance."""

    permission = CLEARED


router = SimpleRouter()
router.register("units", UnitViewSet, basename="unit")
router.register("seats", SeatViewSet, basename="seat")
router.register("agents/enrolments", EnrolmentViewSet, basename="enrolment")
router.register("agents", AgentViewSet, basename="agent")
router.register("replacements", ReplacementViewSet, basename="replacement")
router.register("arp/incidents", IncidentViewSet, basename="incident-api")
router.register("arp/levels", ServiceLevelViewSet, basename="service-level")
router.register("arp/back-offs", SeatBackoffViewSet, basename="back-off")
router.register("fenced-hosts", FencedHostViewSet, basename="fenced-host")
router.register("blueprint-versions", BlueprintVersionViewSet, basename="blueprint-version")
router.register("rollouts", RolloutViewSet, basename="rollout-api")
router.register("staffing/retirements", RetirementViewSet, basename="retirement-api")
router.register("staffing/caps", CapDelegationViewSet, basename="cap-api")
router.register("staffing", StaffingViewSet, basename="staffing-api")
router.register("commands", CommandViewSet, basename="command-api")
router.register("kpis", KpiMinuteViewSet, basename="kpi")
router.register("messages", DirectedMessageViewSet, basename="message-api")
router.register("escalations", EscalationViewSet, basename="escalation-api")
router.register("ledger", LedgerViewSet, basename="ledger")
router.register("quarantine", QuarantineViewSet, basename="quarantined-message")
router.register("suspects", SuspectViewSet, basename="suspect")
router.register("iam/bindings", BindingViewSet, basename="binding")
router.register("iam/roles", RoleViewSet, basename="access-role")
router.register("iam/people", PersonViewSet, basename="person")
router.register("iam/groups", GroupViewSet, basename="group")
router.register("iam/services", AccountViewSet, basename="service-account")
router.register("iam/tokens", TokenViewSet, basename="account-token")
router.register("iam/own-tokens", OwnTokenViewSet, basename="own-token")
router.register("iam/emergencies", EmergencyViewSet, basename="emergency")
router.register("iam/reviews", ReviewViewSet, basename="review")
router.register("iam/reviews/(?P<review>[0-9]{1,18})/items", ReviewItemViewSet, basename="review-item")
router.register("iam/invitations", InvitationViewSet, basename="open-invitation")
router.register("approvals", ApprovalViewSet, basename="approval-api")
router.register("authority/matrix/versions", VersionViewSet, basename="matrix-version")
router.register("authority/rates", RateViewSet, basename="rate")
router.register("authority/offices", OfficeViewSet, basename="office")
router.register("authority/appointments", AppointmentViewSet, basename="appointment")
router.register("authority/delegations", DelegationViewSet, basename="delegation")
router.register("authority/substitutions", SubstitutionViewSet, basename="substitution")
router.register("authority/interests", InterestViewSet, basename="interest")

urlpatterns = [
    path("schema/", SchemaView.as_view(), name="api-schema"),
    path("asyncapi.json", AsyncApiView.as_view(), name="asyncapi"),
    path("schemas/<str:name>.json", MessageSchemaView.as_view(), name="message-schema"),
    path("v1/overview/", OverviewView.as_view(), name="overview-api"),
    path("v1/authority/matrix/", MatrixView.as_view(), name="matrix-api"),
    path("v1/agents/enrol/", EnrolView.as_view(), name="enrol-api"),
    path("v1/agents/credentials/", CredentialsView.as_view(), name="agent-credentials"),
    path("v1/", include(router.urls)),
    re_path(r"^", NotFoundView.as_view(), name="api-not-found"),
]
