"""Authority in the admin: to look at. Every write is a service's."""

from django.contrib import admin

from iam.authority import models


@admin.register(models.Matter)
class MatterAdmin(admin.ModelAdmin):
    """What is decided."""

    permission = "authority.view"
    list_display = ("slug", "name_es", "measure", "reserved", "anti_splitting", "sla_hours", "expiry_hours")
    list_filter = ("measure", "reserved")


@admin.register(models.Office)
class OfficeAdmin(admin.ModelAdmin):
    """Who may hold authority."""

    permission = "authority.view"
    list_display = ("slug", "name_es", "scope", "rank")


@admin.register(models.MatrixVersion)
class MatrixVersionAdmin(admin.ModelAdmin):
    """Versions of the matrix, the newest first."""

    permission = "authority.view"
    list_display = ("number", "status", "valid_from", "valid_to", "author", "approver")
    list_filter = ("status",)


@admin.register(models.Rule)
class RuleAdmin(admin.ModelAdmin):
    """The rules of each version."""

    permission = "authority.view"
    list_display = ("version", "matter", "office", "limit", "required")
    list_filter = ("version", "matter")
    list_select_related = ("version", "matter", "office")


@admin.register(models.Appointment)
class AppointmentAdmin(admin.ModelAdmin):
    """Who holds which office."""

    permission = "authority.view"
    list_display = ("person", "office", "unit", "valid_from", "valid_to", "recorded_by")
    list_filter = ("office",)
    list_select_related = ("person", "office", "unit")
    search_fields = ("person__username__istartswith",)


@admin.register(models.Delegation)
class DelegationAdmin(admin.ModelAdmin):
    """What holders lent to others."""

    permission = "authority.view"
    list_display = ("delegator", "person", "matters", "limit", "valid_from", "valid_to", "reason")
    list_select_related = ("delegator", "person")
    search_fields = ("person__username__istartswith", "delegator__username__istartswith")


@admin.register(models.Substitution)
class SubstitutionAdmin(admin.ModelAdmin):
    """Who stands in for whom."""

    permission = "authority.view"
    list_display = ("person", "substitute", "valid_from", "valid_to", "reason", "recorded_by")
    list_select_related = ("person", "substitute")
    search_fields = ("person__username__istartswith", "substitute__username__istartswith")


@admin.register(models.Interest)
class InterestAdmin(admin.ModelAdmin):
    """The register of interests."""

    permission = "authority.view"
    list_display = ("person", "kind", "unit", "counterparty", "valid_from", "valid_to")
    list_filter = ("kind",)
    list_select_related = ("person", "unit")
    search_fields = ("person__username__istartswith", "counterparty__istartswith")


@admin.register(models.ExchangeRate)
class ExchangeRateAdmin(admin.ModelAdmin):
    """The register of exchange rates."""

    permission = "authority.view"
    list_display = ("currency", "rate", "on", "source", "recorded_by", "recorded_at")
    list_filter = ("currency",)


@admin.register(models.Approval)
class ApprovalAdmin(admin.ModelAdmin):
    """Approvals, the newest first."""

    permission = "authority.view"
    list_display = ("id", "title", "matter", "unit", "value", "judged", "actor", "state", "requested_at", "due_at")
    list_filter = ("state", "matter")
    list_select_related = ("matter", "unit")
    search_fields = ("key__startswith", "actor__istartswith")


@admin.register(models.Level)
class LevelAdmin(admin.ModelAdmin):
    """The offices that may decide each approval."""

    permission = "authority.view"
    list_display = ("approval", "office", "required", "majority", "cause", "since")
    list_filter = ("cause", "office")
    list_select_related = ("approval", "office")
    ordering = ("-id",)


@admin.register(models.Decision)
class DecisionAdmin(admin.ModelAdmin):
    """Decisions, the newest first."""

    permission = "authority.view"
    list_display = ("approval", "person", "acting_for", "office", "verdict", "at")
    list_filter = ("verdict", "office")
    list_select_related = ("approval", "person", "acting_for", "office")
    search_fields = ("person__username__istartswith",)
    ordering = ("-id",)
