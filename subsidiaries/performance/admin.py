"""KPIs in the admin: to be looked at."""

from datetime import timedelta

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from subsidiaries.performance import models

SHOWN = timedelta(minutes=1)


@admin.register(models.KpiSample)
class KpiSampleAdmin(admin.ModelAdmin):
    """The samples of the last minute; there are millions of older ones."""

    permission = "units.view"
    list_display = ("ts", "unit", "role", "ordinal", "generation", "quality_score", "stale")
    list_filter = ("unit", "role")
    list_select_related = ("unit",)
    ordering = ("-ts",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[models.KpiSample]:
        """Return the samples of the last minute."""
        return super().get_queryset(request).filter(ts__gte=timezone.now() - SHOWN)


@admin.register(models.KpiLatest)
class KpiLatestAdmin(admin.ModelAdmin):
    """The last claim of each seat."""

    permission = "units.view"
    list_display = (
        "unit", "role", "ordinal", "ts", "throughput_per_day", "quality_score", "sla_met_pct",
        "innovation_landings_mo", "training_hours_w",
    )  # fmt: skip
    list_filter = ("unit", "role")
    list_select_related = ("unit",)
    search_fields = ("ordinal__exact",)
    search_help_text = _("Number of the seat in its unit.")
    ordering = ("id",)


@admin.register(models.KpiMinute)
class KpiMinuteAdmin(admin.ModelAdmin):
    """Sums by minute, unit and role, the newest first."""

    permission = "units.view"
    list_display = ("minute", "unit", "role", "n", "sum_quality_score")
    list_filter = ("unit", "role")
    list_select_related = ("unit",)
    ordering = ("-minute", "-id")


@admin.register(models.KpiCoverage)
class KpiCoverageAdmin(admin.ModelAdmin):
    """How many seats of each unit were heard of when."""

    permission = "units.view"
    list_display = ("unit", "seats", "as_of")
    list_select_related = ("unit",)
    ordering = ("unit_id",)


@admin.register(models.SampleKey)
class SampleKeyAdmin(admin.ModelAdmin):
    """Samples without a number that were handled."""

    permission = "bus.view"
    list_display = ("key", "at")
    ordering = ("-at",)
