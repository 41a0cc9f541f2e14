"""The group's structure in the admin: to be looked at. It is changed by loading a holding file, and by ARP."""

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from holding import models

CODE_HELP = _("Beginning of a code, such as op-0042.")


@admin.register(models.Holding)
class HoldingAdmin(admin.ModelAdmin):
    """The parent company's identity."""

    permission = "units.view"
    list_display = ("code", "name", "floor", "scaled", "loaded_at")
    exclude = ("source",)


@admin.register(models.Sector)
class SectorAdmin(admin.ModelAdmin):
    """Groups of subsidiaries."""

    permission = "units.view"
    list_display = ("slug", "name_es", "name_en", "archetype")
    ordering = ("position",)


@admin.register(models.Unit)
class UnitAdmin(admin.ModelAdmin):
    """The parent company and its subsidiaries."""

    permission = "units.view"
    list_display = ("slug", "name_es", "name_en", "kind", "sector", "work", "floor")
    list_filter = ("kind", "sector")
    list_select_related = ("sector",)
    search_fields = ("slug__startswith", "name_es__icontains", "name_en__icontains")
    ordering = ("position",)


@admin.register(models.Body)
class BodyAdmin(admin.ModelAdmin):
    """Bodies of the parent company."""

    permission = "units.view"
    list_display = ("slug", "name_es", "name_en")
    ordering = ("position",)


@admin.register(models.Role)
class RoleAdmin(admin.ModelAdmin):
    """Roles and their quotas."""

    permission = "units.view"
    list_display = ("slug", "code", "tier", "count", "per_division")
    ordering = ("position",)


@admin.register(models.Division)
class DivisionAdmin(admin.ModelAdmin):
    """Shards of units."""

    permission = "units.view"
    list_display = ("key", "unit", "body", "manifest_generation")
    list_filter = ("unit",)
    list_select_related = ("unit", "body")
    search_fields = ("key__startswith",)
    ordering = ("id",)


@admin.register(models.Blueprint)
class BlueprintAdmin(admin.ModelAdmin):
    """Recipes of agents."""

    permission = "units.view"
    list_display = ("slug", "role", "body")
    list_select_related = ("role", "body")
    ordering = ("id",)


@admin.register(models.BlueprintVersion)
class BlueprintVersionAdmin(admin.ModelAdmin):
    """Versions of recipes, which never change once they are approved."""

    permission = "units.view"
    list_display = ("blueprint", "version", "state", "author", "approved_by", "approved_at", "halted_at", "digest")
    list_filter = ("state", "blueprint")
    list_select_related = ("blueprint",)
    ordering = ("blueprint_id", "-version")


@admin.register(models.Seat)
class SeatAdmin(admin.ModelAdmin):
    """Permanent positions."""

    permission = "units.view"
    list_display = (
        "code", "unit", "role", "body", "division", "generation", "stage", "reports_to", "closed_at",
    )  # fmt: skip
    list_filter = ("unit", "role", "stage")
    list_select_related = ("unit", "role", "body", "division", "reports_to__unit")
    search_fields = ("code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("id",)


@admin.register(models.Suspension)
class SuspensionAdmin(admin.ModelAdmin):
    """Orders that stand."""

    permission = "units.view"
    list_display = ("order", "division", "role", "seat", "share", "desired", "actor", "reason", "since")
    list_filter = ("unit", "desired")
    list_select_related = ("division", "role", "seat__unit")
    ordering = ("id",)


@admin.register(models.Agent)
class AgentAdmin(admin.ModelAdmin):
    """Occupants of seats, the newest first."""

    permission = "units.view"
    list_display = ("agent_id", "unit", "seat", "generation", "stage", "subject", "created_at", "retired_at")
    list_filter = ("unit", "stage", ("retired_at", admin.EmptyFieldListFilter))
    list_select_related = ("unit", "seat__unit")
    search_fields = ("agent_id__startswith", "subject__startswith")
    search_help_text = _("Beginning of an agent's id, such as op-0042, or of its subject.")
    ordering = ("-id",)


@admin.register(models.Incumbency)
class IncumbencyAdmin(admin.ModelAdmin):
    """Who held which seat, and when."""

    permission = "units.view"
    list_display = ("seat", "agent", "generation", "started_at", "ended_at")
    list_select_related = ("seat__unit", "agent")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("-id",)


@admin.register(models.StageChange)
class StageChangeAdmin(admin.ModelAdmin):
    """What became of agents and seats, the newest first."""

    permission = "units.view"
    list_display = ("id", "seat", "agent", "old", "new", "at", "actor", "reason")
    list_filter = ("unit", "new")
    list_select_related = ("seat__unit", "agent")
    search_fields = ("seat__code__startswith",)
    search_help_text = CODE_HELP
    ordering = ("-id",)


@admin.register(models.Mandate)
class MandateAdmin(admin.ModelAdmin):
    """Mandates and their owners."""

    permission = "units.view"
    list_display = ("code", "name", "owner_body", "owner_seat")
    list_select_related = ("owner_body", "owner_seat__unit")
    ordering = ("id",)


@admin.register(models.Architecture)
class ArchitectureAdmin(admin.ModelAdmin):
    """The four architectures."""

    permission = "units.view"
    list_display = ("slug", "name_es", "name_en", "owner")
    list_select_related = ("owner__unit",)
    ordering = ("position",)
