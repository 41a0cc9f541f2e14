"""What the API says of staffing, and what it takes."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_field, extend_schema_serializer
from rest_framework import serializers

from iam.authority.models import Approval
from subsidiaries.replacement import retiring
from subsidiaries.replacement.delegating import MOST
from subsidiaries.replacement.outlook import Outlook
from subsidiaries.replacement.planning import CapDelegation, Retirement
from subsidiaries.replacement.retiring import MOST_NAMED, REASON_LENGTH, Progress
from subsidiaries.replacement.staffing import MOST_SEATS


class RolePlanSerializer(serializers.Serializer[dict[str, Any]]):
    """The plan of a role, with its seats and live agents."""

    role = serializers.CharField(help_text="Slug of the role.")
    floor = serializers.IntegerField(help_text="Live agents that there must be.")
    reserve = serializers.IntegerField(help_text="Seats beyond the floor.")
    maximum = serializers.IntegerField(help_text="Seats that there may be.")
    seats = serializers.IntegerField(help_text="Seats that are open.")
    live = serializers.IntegerField(help_text="Agents that are live.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A subsidiary",
            value={
                "unit": "pricing",
                "floor": 1500,
                "establishment": 1504,
                "live": 1504,
                "below_floor": 0,
                "reserve": 4,
                "reserve_needed": 4,
                "chance_below_floor": 1.64e-08,
                "failures_seen": 12,
                "failures_per_agent_30_days": 0.031,
                "downtime_s": 19.4,
                "cap": 3000,
                "cap_usual": 3000,
                "cap_delegated": False,
                "allowed_beyond": 0,
                "replaced_today": 2,
                "roles": [
                    {
                        "role": "operator", "floor": 1470, "reserve": 4, "maximum": 1617, "seats": 1474,
                        "live": 1474,
                    },
                ],
            },
        )
    ]
)  # fmt: skip
class StaffingSerializer(serializers.Serializer[Outlook]):
    """How a subsidiary is staffed."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the subsidiary.")
    floor = serializers.IntegerField(help_text="Live agents that there must be.")
    establishment = serializers.IntegerField(help_text="Seats that there shall be: floor and reserve.")
    live = serializers.IntegerField(help_text="Agents that are live.")
    below_floor = serializers.IntegerField(source="short", help_text="Live agents that lack.")
    reserve = serializers.IntegerField(help_text="Seats beyond the floor, by plan.")
    reserve_needed = serializers.IntegerField(
        source="needed", help_text="For a chance below 1e-6 of being below the floor at an instant."
    )
    chance_below_floor = serializers.FloatField(source="below", help_text="With the reserve of the plan.")
    failures_seen = serializers.IntegerField(source="observed.failures", help_text="In 30 days.")
    failures_per_agent_30_days = serializers.FloatField(
        source="estimate.per_agent_and_30_days", help_text="Upper limit at 95 %, with a prior."
    )
    downtime_s = serializers.FloatField(
        source="estimate.downtime_s", help_text="Mean seconds from detection to the next live agent."
    )
    cap = serializers.IntegerField(help_text="Replacements per business day that ARP decides by itself.")
    cap_usual = serializers.IntegerField(source="usual_cap", help_text="The cap of the staffing rule.")
    cap_delegated = serializers.SerializerMethodField(help_text="Whether people delegated the cap.")
    allowed_beyond = serializers.IntegerField(source="allowed", help_text="Allowed today beyond the cap.")
    replaced_today = serializers.IntegerField(source="used", help_text="Replacements since the day began.")
    roles = serializers.SerializerMethodField(help_text="Plans by role.")

    def get_cap_delegated(self, row: Outlook) -> bool:
        """Return whether the cap is a delegated one."""
        return row.delegation is not None

    @extend_schema_field(RolePlanSerializer(many=True))
    def get_roles(self, row: Outlook) -> list[dict[str, Any]]:
        """Return the plan of each role with its seats."""
        found = []
        for plan in row.plans:
            seats, live = row.by_role.get(plan.role.slug, (0, 0))
            found.append(
                {
                    "role": plan.role.slug,
                    "floor": plan.floor,
                    "reserve": plan.reserve,
                    "maximum": plan.maximum,
                    "seats": seats,
                    "live": live,
                }
            )
        return found


class ReasonedSerializer(serializers.Serializer[Any]):
    """What is asked for says why, and under which key."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="Why; the ledger keeps it.")
    key = serializers.CharField(max_length=80, help_text="The same key again is the same request.")


class PlanAskedSerializer(ReasonedSerializer):
    """The plan of the operators as it shall be."""

    floor = serializers.IntegerField(min_value=0, max_value=MOST_SEATS)
    reserve = serializers.IntegerField(min_value=0, max_value=MOST_SEATS)
    maximum = serializers.IntegerField(min_value=0, max_value=MOST_SEATS)


class CapAskedSerializer(ReasonedSerializer):
    """A cap as it shall be."""

    cap = serializers.IntegerField(min_value=0, max_value=MOST, help_text="Replacements per business day.")
    ends_on = serializers.DateField(
        allow_null=True, default=None, help_text="Its last business day; a cap above the rule's needs one."
    )


class RetireAskedSerializer(ReasonedSerializer):
    """Which operators are to retire."""

    choice = serializers.ChoiceField(choices=Retirement.Choice.choices)
    count = serializers.IntegerField(
        min_value=0, max_value=MOST_SEATS, default=0, help_text="How many, at most (`oldest`: at least one)."
    )
    version = serializers.IntegerField(
        min_value=0, max_value=1_000_000, default=0, help_text="Made before this blueprint version (`version`)."
    )
    named = serializers.ListField(
        child=serializers.CharField(max_length=30),
        max_length=MOST_NAMED,
        default=list,
        help_text="Codes of seats (`named`).",
    )
    surge = serializers.IntegerField(
        min_value=0, max_value=MOST_SEATS, default=0, help_text="Seats opened for it, beyond the establishment."
    )


class StaffingReasonSerializer(serializers.Serializer[Any]):
    """Why."""

    reason = serializers.CharField(max_length=REASON_LENGTH, help_text="The ledger keeps it.")


class AskedSerializer(serializers.Serializer[Approval]):
    """What became of a request."""

    approval = serializers.IntegerField(source="pk", help_text="Number of the approval.")
    state = serializers.CharField(help_text="`executed` when it is done, `pending` when it waits.")
    failure = serializers.CharField(help_text="Why it could not be carried out.")


class CapDelegationSerializer(serializers.ModelSerializer[CapDelegation]):
    """A delegated cap."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the subsidiary.")

    class Meta:
        model = CapDelegation
        fields = (
            "id", "unit", "cap", "starts_on", "ends_on", "reason", "approval", "revoked_at", "revoked_by",
        )  # fmt: skip


class RetirementSerializer(serializers.ModelSerializer[Retirement]):
    """A planned retirement and how far it has come."""

    unit = serializers.CharField(source="unit.slug", help_text="Slug of the subsidiary.")
    role = serializers.CharField(source="role.slug", help_text="Slug of the role.")
    total = serializers.SerializerMethodField(help_text="Agents in all.")
    done = serializers.SerializerMethodField(help_text="Agents whose next generation is live.")
    under_way = serializers.SerializerMethodField(help_text="Agents taken out whose next one is not live yet.")

    class Meta:
        model = Retirement
        fields = (
            "id", "unit", "role", "choice", "detail", "surge", "state", "words", "reason", "actor", "created_at",
            "changed_at", "total", "done", "under_way",
        )  # fmt: skip

    def _progress(self, row: Retirement) -> Progress:
        known = self.context.get("progress") or retiring.progress(row)
        found: Progress = known.get(row.pk, Progress(0, 0, 0))
        return found

    def get_total(self, row: Retirement) -> int:
        """Return the agents in all."""
        return self._progress(row).total

    def get_done(self, row: Retirement) -> int:
        """Return the agents that are followed."""
        return self._progress(row).done

    def get_under_way(self, row: Retirement) -> int:
        """Return the agents that are on their way."""
        return self._progress(row).under_way
