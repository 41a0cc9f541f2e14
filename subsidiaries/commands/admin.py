"""Commands in the admin: what was ordered, and what became of it; read only."""

from django.contrib import admin

from subsidiaries.commands import models


@admin.register(models.Command)
class CommandAdmin(admin.ModelAdmin):
    """Commands, the newest first."""

    permission = "units.view"
    list_display = ("id", "verb", "scope", "unit", "division", "role", "agents", "actor", "created_at", "state")
    list_filter = ("verb", "state", "unit")
    list_select_related = ("unit", "division", "role")
    ordering = ("-id",)


@admin.register(models.Target)
class TargetAdmin(admin.ModelAdmin):
    """What became of commands in each division."""

    permission = "units.view"
    list_display = ("command", "division", "state", "agents", "sent_at", "acknowledged_at", "due_at", "words")
    list_filter = ("state", "unit")
    list_select_related = ("command", "division")
    ordering = ("-id",)
