"""The bus in the admin: what waits, what was refused and why, what was counted."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from bus.models import (
    Counter,
    DirectedMessage,
    FailedDelivery,
    HandledMessage,
    Lease,
    OutboxMessage,
    QuarantinedMessage,
    RefusalWindow,
    Suspect,
    Watermark,
)

SHOWN = 32_768  # characters of a body


@admin.register(OutboxMessage)
class OutboxMessageAdmin(admin.ModelAdmin):
    """Messages to send, the newest first."""

    permission = "bus.view"
    list_display = ("id", "subject", "dedup", "created_at", "sent_at", "attempts", "error")
    list_filter = (("sent_at", admin.EmptyFieldListFilter),)
    search_fields = ("dedup__exact", "subject__exact")
    ordering = ("-id",)
    fields = ("id", "subject", "dedup", "headers", "text", "created_at", "sent_at", "attempts", "error")
    readonly_fields = ("text",)

    @admin.display(description=_("payload"))
    def text(self, message: OutboxMessage) -> str:
        """Return the payload as text."""
        return bytes(message.payload).decode("utf-8", "replace")[:SHOWN]

    def get_queryset(self, request: HttpRequest) -> QuerySet[OutboxMessage]:
        """Return messages without their payloads, which a list does not show."""
        return super().get_queryset(request).defer("payload")


@admin.register(DirectedMessage)
class DirectedMessageAdmin(admin.ModelAdmin):
    """Messages to single agents, and what became of them."""

    permission = "bus.view"
    list_display = ("id", "address", "type", "key", "state", "code", "attempts", "created_at", "deadline", "error")
    list_filter = ("state", "type")
    search_fields = ("key__exact", "address__exact")
    ordering = ("-id",)
    fields = (
        "id", "key", "address", "type", "source", "epoch", "text", "created_at", "not_before", "deadline",
        "attempts", "next_try_at", "error", "state", "code", "reason", "settled_at",
    )  # fmt: skip
    readonly_fields = ("text",)

    @admin.display(description=_("body"))
    def text(self, message: DirectedMessage) -> str:
        """Return the body as text."""
        return bytes(message.body).decode("utf-8", "replace")[:SHOWN]

    def get_queryset(self, request: HttpRequest) -> QuerySet[DirectedMessage]:
        """Return messages without their bodies, which a list does not show."""
        return super().get_queryset(request).defer("body")


@admin.register(HandledMessage)
class HandledMessageAdmin(admin.ModelAdmin):
    """Message ids whose effect is committed."""

    permission = "bus.view"
    list_display = ("id", "consumer", "message_id", "handled_at")
    search_fields = ("message_id__exact",)
    ordering = ("-id",)


@admin.register(QuarantinedMessage)
class QuarantinedMessageAdmin(admin.ModelAdmin):
    """Messages that were refused, with the reason."""

    permission = "bus.view"
    list_display = ("id", "received_at", "state", "stage", "reason", "stream", "subject", "source", "size")
    list_filter = ("state", "stage", "stream")
    search_fields = ("source__exact", "subject__exact", "sha256__exact")
    ordering = ("-id",)
    fields = (
        "id", "received_at", "state", "stage", "rule", "reason", "stream", "stream_seq", "subject", "source",
        "headers", "sha256", "size", "whole", "text", "decided_at", "decided_by", "note", "replay",
    )  # fmt: skip
    readonly_fields = ("text",)

    @admin.display(description=_("body"))
    def text(self, message: QuarantinedMessage) -> str:
        """Return the body as text; it is hostile, and only ever shown as text."""
        return bytes(message.body).decode("utf-8", "replace")[:SHOWN]

    def get_queryset(self, request: HttpRequest) -> QuerySet[QuarantinedMessage]:
        """Return messages without their bodies, which a list does not show."""
        return super().get_queryset(request).defer("body")


@admin.register(Suspect)
class SuspectAdmin(admin.ModelAdmin):
    """Sources that are or were suspect."""

    permission = "bus.view"
    list_display = ("id", "source", "unit", "since", "last_at", "count", "reason", "closed_at")
    list_filter = (("closed_at", admin.EmptyFieldListFilter),)
    search_fields = ("source__exact",)
    ordering = ("-id",)


@admin.register(RefusalWindow)
class RefusalWindowAdmin(admin.ModelAdmin):
    """When the newest messages of sources were refused."""

    permission = "bus.view"
    list_display = ("id", "source", "unit")
    search_fields = ("source__exact",)
    ordering = ("-id",)


@admin.register(FailedDelivery)
class FailedDeliveryAdmin(admin.ModelAdmin):
    """Messages that consumers gave up."""

    permission = "bus.view"
    list_display = ("id", "advised_at", "stream", "consumer", "stream_seq", "kind", "deliveries", "state", "reason")
    list_filter = ("state", "kind", "stream")
    ordering = ("-id",)


@admin.register(Counter)
class CounterAdmin(admin.ModelAdmin):
    """What the processes counted."""

    permission = "bus.view"
    list_display = ("name", "labels", "value")
    search_fields = ("name__startswith",)
    ordering = ("name", "id")


@admin.register(Watermark)
class WatermarkAdmin(admin.ModelAdmin):
    """Which numbers of each sender have come in."""

    permission = "bus.view"
    list_display = ("division", "stream", "epoch", "received", "updated_at", "receipt_due")
    search_fields = ("division__startswith",)
    ordering = ("-id",)


@admin.register(Lease)
class LeaseAdmin(admin.ModelAdmin):
    """Who was given which division, and under which epoch."""

    permission = "bus.view"
    list_display = ("division", "epoch", "host", "acquired_at", "noted_at")
    search_fields = ("division__startswith", "host__exact")
    ordering = ("-id",)
