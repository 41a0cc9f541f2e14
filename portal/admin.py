"""Exports in the admin: to look at."""

from django.contrib import admin

from portal.models import Export


@admin.register(Export)
class ExportAdmin(admin.ModelAdmin):
    """Who exported what, the newest first."""

    permission = "ledger.view"
    list_display = ("at", "person", "rows", "filters", "approval")
    list_select_related = ("person", "approval")
    search_fields = ("person__username__istartswith",)
