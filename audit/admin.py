"""The ledger in the admin: to be looked at."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from audit.models import Leaf, LedgerEntry, TreeHead, UnsealedEntry


@admin.register(LedgerEntry)
class LedgerEntryAdmin(admin.ModelAdmin):
    """Acts, the newest first."""

    permission = "ledger.view"
    list_display = ("id", "at", "actor", "action", "object", "correlation_id")
    search_fields = ("object__exact", "actor__exact", "action__exact")
    search_help_text = _("An object, an actor or an action, written out in full.")
    ordering = ("-id",)
    fields = ("id", "uid", "at", "actor", "action", "object", "before", "after", "correlation_id", "canonical")
    readonly_fields = ("canonical",)

    @admin.display(description=_("canonical bytes"))
    def canonical(self, entry: LedgerEntry) -> str:
        """Return the sealed bytes as text."""
        return bytes(entry.body).decode("utf-8", "replace")

    def get_queryset(self, request: HttpRequest) -> QuerySet[LedgerEntry]:
        """Return entries without their bytes, which a list does not show."""
        return super().get_queryset(request).defer("body")


@admin.register(Leaf)
class LeafAdmin(admin.ModelAdmin):
    """The places of entries in the log."""

    permission = "ledger.view"
    list_display = ("index", "entry", "hash")
    list_select_related = ("entry",)
    ordering = ("-index",)
    fields = ("index", "entry", "hash")
    readonly_fields = ("hash",)

    @admin.display(description=_("leaf hash"))
    def hash(self, leaf: Leaf) -> str:
        """Return the leaf hash in hex."""
        return bytes(leaf.leaf_hash).hex()


@admin.register(TreeHead)
class TreeHeadAdmin(admin.ModelAdmin):
    """The log after each batch."""

    permission = "ledger.view"
    list_display = ("size", "at", "root_hash")
    ordering = ("-size",)
    fields = ("size", "at", "root_hash")
    readonly_fields = ("root_hash",)

    @admin.display(description=_("root"))
    def root_hash(self, head: TreeHead) -> str:
        """Return the root in hex."""
        return bytes(head.root).hex()


@admin.register(UnsealedEntry)
class UnsealedEntryAdmin(admin.ModelAdmin):
    """Entries that wait for the sequencer."""

    permission = "ledger.view"
    list_display = ("entry",)
    list_select_related = ("entry",)
    ordering = ("-entry_id",)
