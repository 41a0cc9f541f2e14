"""Enrolments in the administration: to look at, never to write."""

from django.contrib import admin

from subsidiaries.enrolment.models import Enrolment


@admin.register(Enrolment)
class EnrolmentAdmin(admin.ModelAdmin):
    """Seats offered to, or held by, agents of people's own. The digest of a token is nobody's business."""

    permission = "units.view"
    list_display = ("id", "unit", "seat", "agent", "actor", "created_at", "used_at", "seen_at", "ended_at")
    list_select_related = ("unit", "seat__unit", "agent")
    list_filter = ("unit",)
    exclude = ("digest",)
    ordering = ("-id",)
    show_full_result_count = False
