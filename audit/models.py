"""The ledger's tables. All are append-only: the database refuses UPDATE, DELETE and TRUNCATE (migration 0001)."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class LedgerEntry(models.Model):
    """One act: who did what to which object, as canonical bytes that are never altered."""

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(_("identifier"), unique=True)
    at = models.DateTimeField(_("at"))
    actor = models.CharField(_("actor"), max_length=200)
    action = models.CharField(_("action"), max_length=100)
    object = models.CharField(_("object"), max_length=200)
    before = models.CharField(_("digest before"), max_length=64, blank=True)
    after = models.CharField(_("digest after"), max_length=64, blank=True)
    correlation_id = models.CharField(_("correlation"), max_length=100, blank=True)
    body = models.BinaryField(_("canonical bytes"))

    class Meta:
        verbose_name = _("ledger entry")
        verbose_name_plural = _("ledger entries")
        indexes = [
            models.Index(fields=["object", "-id"], name="ledger_object"),
            models.Index(fields=["actor", "-id"], name="ledger_actor"),
            models.Index(fields=["action", "-id"], name="ledger_action"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object}"


class UnsealedEntry(models.Model):
    """An entry that the sequencer has not yet appended to the log; lives for about a second."""

    entry = models.OneToOneField(LedgerEntry, on_delete=models.DO_NOTHING, primary_key=True)

    def __str__(self) -> str:
        return str(self.entry_id)


class Leaf(models.Model):
    """The place of an entry in the Merkle log."""

    index = models.BigIntegerField(_("index"), primary_key=True)
    entry = models.OneToOneField(LedgerEntry, on_delete=models.DO_NOTHING, related_name="leaf")
    leaf_hash = models.BinaryField(_("leaf hash"))

    def __str__(self) -> str:
        return str(self.index)


class TreeHead(models.Model):
    """The log after a batch was appended: its size, its root, and the peaks from which it grows on."""

    size = models.BigIntegerField(_("size"), primary_key=True)
    at = models.DateTimeField(_("at"))
    root = models.BinaryField(_("root"))
    peaks = models.BinaryField(_("peaks"))  # 32 bytes each, largest subtree first

    class Meta:
        verbose_name = _("tree head")
        verbose_name_plural = _("tree heads")

    def __str__(self) -> str:
        return f"{self.size} {bytes(self.root).hex()}"
