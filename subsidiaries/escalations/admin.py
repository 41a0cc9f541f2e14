"""Escalations in the admin: to look at; they are decided on their page."""

from django.contrib import admin

from subsidiaries.escalations import models


@admin.register(models.Escalation)
class EscalationAdmin(admin.ModelAdmin):
    """What agents could not settle, the newest first."""

    permission = "people.view"  # it names who has it
    list_display = ("id", "code", "unit", "severity", "matter", "level", "state", "raised_at", "due_at", "taken_by")
    list_filter = ("state", "severity", "matter", "unit")
    list_select_related = ("unit",)
    search_fields = ("code__exact", "agent__exact")
    ordering = ("-id",)


@admin.register(models.Step)
class StepAdmin(admin.ModelAdmin):
    """Who was asked and what people did."""

    permission = "people.view"  # it names who has it
    list_display = ("id", "escalation", "kind", "level", "who", "at")
    list_filter = ("kind",)
    list_select_related = ("escalation",)
    ordering = ("-id",)
