"""ARP in the admin: what is observed, and what was decided."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from subsidiaries.replacement import models, planning, rollout_models

CODE_HELP = _("Beginning of a seat's code, such as op-0042.")


@admin.register(models.DivisionState)
class DivisionStateAdmin(admin.ModelAdmin):
    """Which host runs which division."""

    permission = "units.view"
    list_display = ("division", "host", "epoch", "seen_at", "full_at", "observed_generation")
    list_select_related = ("division",)
    search_fields = ("division__key__startswith", "host__exact")
    ordering = ("division_id",)


@admin.register(models.SeatState)
class SeatStateAdmin(admin.ModelAdmin):
    """The last observed state of each seat."""

    permission = "units.view"
    list_display = ("seat", "division", "generation", "state", "since", "done", "missed")
    list_filter = ("unit", "state")
    list_select_related = ("seat__unit", "division")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("seat_id",)


@admin.register(models.Census)
class CensusAdmin(admin.ModelAdmin):
    """Live agents by division and role."""

    permission = "units.view"
    list_display = ("division", "role", "seats", "live")
    list_filter = ("unit", "role")
    list_select_related = ("division",)
    ordering = ("id",)


@admin.register(models.UnitFloor)
class UnitFloorAdmin(admin.ModelAdmin):
    """For how long each unit was below its floor."""

    permission = "units.view"
    list_display = ("unit", "reached_at", "below_since", "seconds_below")
    list_select_related = ("unit",)
    ordering = ("unit_id",)


@admin.register(models.Monitor)
class MonitorAdmin(admin.ModelAdmin):
    """Since when presence is received."""

    permission = "units.view"
    list_display = ("id", "since", "last_at")


@admin.register(models.StaffingRule)
class StaffingRuleAdmin(admin.ModelAdmin):
    """The limits of ARP."""

    permission = "units.view"
    list_display = (
        "id", "missing_per_cycle", "slow_above", "stop_above", "relocation_s", "daily_cap", "expectation_s",
        "backoff_base_s", "backoff_ceiling_s", "stable_s", "quality_share", "unit_cost", "probation_s",
    )  # fmt: skip


@admin.register(models.Replacement)
class ReplacementAdmin(admin.ModelAdmin):
    """Replacements, the newest first."""

    permission = "units.view"
    list_display = (
        "id", "seat", "generation", "reason", "promoted_from", "detected_at", "decided_at", "live_at", "failed_at",
    )  # fmt: skip
    exclude = ("actor",)
    list_filter = ("unit", "reason")
    list_select_related = ("seat__unit", "promoted_from")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("-id",)


@admin.register(models.Successor)
class SuccessorAdmin(admin.ModelAdmin):
    """Who succeeds whom."""

    permission = "units.view"
    list_display = ("seat", "rank", "successor", "ordered_by", "ranked_at")
    list_filter = ("unit", ("ordered_by", admin.EmptyFieldListFilter))
    list_select_related = ("seat__unit", "successor__unit")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("seat_id", "rank")


@admin.register(models.Incident)
class IncidentAdmin(admin.ModelAdmin):
    """What ARP does not mend alone."""

    permission = "units.view"
    list_display = ("id", "unit", "kind", "opened_at", "closed_at", "deficit", "detail", "released_at")
    exclude = ("acknowledged_by", "released_by")  # people are named on the incident's page, to whoever may see them
    list_filter = ("kind", ("closed_at", admin.EmptyFieldListFilter), "unit")
    list_select_related = ("unit",)
    ordering = ("-id",)


@admin.register(models.Allowance)
class AllowanceAdmin(admin.ModelAdmin):
    """What people allowed beyond the cap."""

    permission = "authority.view"  # it names the approval
    list_display = ("unit", "day", "extra", "approval")
    list_filter = ("unit",)
    list_select_related = ("unit", "approval")
    ordering = ("-id",)


@admin.register(models.FencedHost)
class FencedHostAdmin(admin.ModelAdmin):
    """Hosts that acted without holding their division."""

    permission = "units.view"
    list_display = ("id", "division", "host", "standing", "epoch", "current_host", "last_at", "messages")
    list_filter = ("standing", "division__unit")
    list_select_related = ("division",)
    ordering = ("-id",)


@admin.register(rollout_models.Rollout)
class RolloutAdmin(admin.ModelAdmin):
    """Rollouts of blueprint versions, the newest first."""

    permission = "units.view"
    list_display = ("id", "version", "unit", "everywhere", "actor", "created_at", "state", "note")
    list_filter = ("state", "unit")
    list_select_related = ("version__blueprint", "unit")
    ordering = ("-id",)


@admin.register(rollout_models.RolloutUnit)
class RolloutUnitAdmin(admin.ModelAdmin):
    """How far rollouts are by unit."""

    permission = "units.view"
    list_display = ("rollout", "unit", "blueprint", "agents", "canaries", "ended_at")
    list_filter = ("unit", ("ended_at", admin.EmptyFieldListFilter))
    list_select_related = ("rollout__version__blueprint", "unit", "blueprint")
    ordering = ("-id",)


@admin.register(rollout_models.RolloutSeat)
class RolloutSeatAdmin(admin.ModelAdmin):
    """Seats that rollouts have changed."""

    permission = "units.view"
    list_display = ("rollout", "seat", "canary", "former", "generation", "state", "begun_at", "failed_at")
    list_filter = ("state", "canary", "unit")
    list_select_related = ("rollout__version__blueprint", "seat__unit", "former__blueprint")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("-id",)


@admin.register(rollout_models.SurgeSeat)
class SurgeSeatAdmin(admin.ModelAdmin):
    """Temporary seats."""

    permission = "units.view"
    list_display = ("seat", "unit", "rollout", "opened_at", "closed_at")
    list_filter = ("unit", ("closed_at", admin.EmptyFieldListFilter))
    list_select_related = ("seat__unit", "unit", "rollout__version__blueprint")
    ordering = ("-seat_id",)


@admin.register(rollout_models.CrashRule)
class CrashRuleAdmin(admin.ModelAdmin):
    """When a version is halted."""

    permission = "units.view"
    list_display = ("id", "window_s", "least", "share")


@admin.register(planning.StaffingPlan)
class StaffingPlanAdmin(admin.ModelAdmin):
    """Floor, reserve and maximum of each role."""

    permission = "units.view"
    list_display = ("unit", "role", "floor", "reserve", "maximum", "changed_at", "changed_by")
    list_filter = ("unit", "role")
    list_select_related = ("unit", "role")
    ordering = ("unit_id", "role_id")


@admin.register(planning.CapDelegation)
class CapDelegationAdmin(admin.ModelAdmin):
    """Caps that people delegated to ARP."""

    permission = "units.view"
    list_display = ("unit", "cap", "starts_on", "ends_on", "revoked_at", "reason")
    list_filter = ("unit", ("revoked_at", admin.EmptyFieldListFilter))
    list_select_related = ("unit",)
    ordering = ("-id",)


@admin.register(planning.Retirement)
class RetirementAdmin(admin.ModelAdmin):
    """Planned retirements, the newest first."""

    permission = "units.view"
    list_display = ("id", "unit", "role", "choice", "detail", "surge", "state", "actor", "created_at")
    list_filter = ("unit", "state")
    list_select_related = ("unit", "role")
    ordering = ("-id",)


@admin.register(planning.Retiree)
class RetireeAdmin(admin.ModelAdmin):
    """The seats of planned retirements."""

    permission = "units.view"
    list_display = ("retirement", "place", "seat", "generation", "begun_at", "done_at", "moved_on")
    list_select_related = ("retirement", "seat__unit")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("-retirement_id", "place")


@admin.register(models.SeatBackoff)
class SeatBackoffAdmin(admin.ModelAdmin):
    """Seats whose agents do not last."""

    permission = "units.view"
    list_display = ("seat", "strikes", "decided_at", "not_before")
    list_filter = ("unit",)
    list_select_related = ("seat__unit",)
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("seat_id",)


@admin.register(models.VersionStanding)
class VersionStandingAdmin(admin.ModelAdmin):
    """How blueprint versions do."""

    permission = "units.view"
    list_display = ("version", "proven_at", "strikes", "troubled_at", "not_before")
    list_select_related = ("version__blueprint",)
    ordering = ("version_id",)


@admin.register(models.IncidentStep)
class IncidentStepAdmin(admin.ModelAdmin):
    """What became of incidents."""

    permission = "people.view"  # it names people
    list_display = ("id", "incident", "kind", "who", "note", "at")
    list_filter = ("kind",)
    list_select_related = ("incident",)
    ordering = ("-id",)


@admin.register(models.FloorBreach)
class FloorBreachAdmin(admin.ModelAdmin):
    """When units were below their floor."""

    permission = "units.view"
    list_display = ("id", "unit", "began_at", "ended_at")
    list_filter = ("unit",)
    list_select_related = ("unit",)
    ordering = ("-id",)


@admin.register(models.DoubleHolder)
class DoubleHolderAdmin(admin.ModelAdmin):
    """Seats with two live agents; there must be none."""

    permission = "units.view"
    list_display = ("id", "seat", "generation", "other", "host", "epoch", "first_at", "last_at", "reports")
    list_filter = ("unit",)
    list_select_related = ("seat__unit",)
    ordering = ("-id",)


@admin.register(models.ServiceLevel)
class ServiceLevelAdmin(admin.ModelAdmin):
    """The service levels, as last computed."""

    permission = "units.view"
    list_display = (
        "id", "unit", "span", "as_of", "replaced", "restore_p50", "restore_p95", "restore_max", "seconds_below",
        "duplicates", "brakes",
    )  # fmt: skip
    list_filter = ("span", "unit")
    list_select_related = ("unit",)
    ordering = ("id",)
