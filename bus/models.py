"""What the bus keeps in the database: messages to send, mail of agents, messages handled, messages refused."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import connection, models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    _Field = models.Field[Any, Any]
else:
    _Field = models.Field  # generic for the type checker only


class OutboxMessage(models.Model):
    """A message that was decided in some transaction and is sent after it, at least once."""

    id = models.BigAutoField(primary_key=True)
    subject = models.CharField(_("subject"), max_length=200)
    headers = models.JSONField(_("headers"), default=dict)
    payload = models.BinaryField(_("payload"))
    dedup = models.CharField(_("message id"), max_length=200, unique=True)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    sent_at = models.DateTimeField(_("sent at"), null=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    error = models.CharField(_("last error"), max_length=500, blank=True)

    class Meta:
        verbose_name = _("outgoing message")
        verbose_name_plural = _("outgoing messages")
        indexes = [models.Index(fields=["id"], condition=Q(sent_at=None), name="outbox_unsent")]

    def __str__(self) -> str:
        return f"{self.subject} {self.dedup}"


class DirectedMessage(models.Model):
    """A message to one agent. It is in the mailbox until it is answered, or until its deadline (`bus.mailbox`)."""

    # The holding stands above the bus: the unit is its number, without a key. Row-level security: holding, 0005.
    UNIT: ClassVar[str] = "unit_id"

    class State(models.TextChoices):
        OPEN = "open", _("open")
        ACCEPTED = "accepted", _("accepted")
        REJECTED = "rejected", _("rejected")
        EXPIRED = "expired", _("expired")
        WITHDRAWN = "withdrawn", _("withdrawn")

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(_("message id"), max_length=120, unique=True)
    unit_id = models.BigIntegerField(_("unit"))
    address = models.CharField(_("agent"), max_length=120)
    type = models.CharField(_("type"), max_length=80)
    source = models.CharField(_("source"), max_length=200)
    body = models.BinaryField(_("body"))
    epoch = models.BigIntegerField(_("epoch"), null=True)  # set: only the agent under this epoch may take it
    created_at = models.DateTimeField(_("created at"))
    not_before = models.DateTimeField(_("not before"))
    deadline = models.DateTimeField(_("deadline"))
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_try_at = models.DateTimeField(_("next attempt"))
    error = models.CharField(_("last error"), max_length=200, blank=True)
    state = models.CharField(_("state"), max_length=9, choices=State, default=State.OPEN)
    code = models.CharField(_("code of the answer"), max_length=60, blank=True)
    reason = models.CharField(_("reason"), max_length=500, blank=True)
    settled_at = models.DateTimeField(_("settled at"), null=True)

    class Meta:
        verbose_name = _("directed message")
        verbose_name_plural = _("directed messages")
        constraints = [
            models.CheckConstraint(
                condition=Q(state="open", settled_at=None) | (~Q(state="open") & Q(settled_at__isnull=False)),
                name="directed_settled",
            ),
            models.CheckConstraint(condition=Q(not_before__lte=models.F("deadline")), name="directed_has_time"),
        ]
        indexes = [
            models.Index(fields=["next_try_at"], name="directed_due", condition=Q(state="open")),
            models.Index(fields=["address", "id"], name="directed_open", condition=Q(state="open")),
            models.Index(fields=["deadline"], name="directed_deadline", condition=Q(state="open")),
            models.Index(fields=["address", "-id"], name="directed_of_agent"),
            models.Index(fields=["unit_id", "-id"], name="directed_of_unit"),
        ]

    def __str__(self) -> str:
        return f"{self.address} {self.key}"


class HandledMessage(models.Model):
    """A message id whose effect is committed: the same message a second time changes nothing."""

    id = models.BigAutoField(primary_key=True)
    consumer = models.CharField(_("consumer"), max_length=60)
    message_id = models.CharField(_("message id"), max_length=200)
    handled_at = models.DateTimeField(_("handled at"), auto_now_add=True)

    class Meta:
        verbose_name = _("handled message")
        verbose_name_plural = _("handled messages")
        constraints = [
            models.UniqueConstraint(fields=["consumer", "message_id"], name="handled_once"),
        ]
        indexes = [models.Index(fields=["handled_at"], name="handled_at")]

    def __str__(self) -> str:
        return f"{self.consumer} {self.message_id}"


class QuarantinedMessage(models.Model):
    """A message that was refused, with the reason; its bytes are kept (up to 32 KiB) to be looked at."""

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(_("stream"), max_length=40)
    stream_seq = models.BigIntegerField(_("sequence in the stream"))
    subject = models.CharField(_("subject"), max_length=255)
    source = models.CharField(_("source"), max_length=255, blank=True)
    headers = models.JSONField(_("headers"), default=dict)
    sha256 = models.CharField(_("SHA-256 of the body"), max_length=64)
    size = models.PositiveIntegerField(_("size in bytes"))
    body = models.BinaryField(_("body"))
    stage = models.CharField(_("stage"), max_length=20)  # size, json, type, schema, semantic, epoch, delivery
    reason = models.CharField(_("reason"), max_length=500)
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)

    class Meta:
        verbose_name = _("quarantined message")
        verbose_name_plural = _("quarantined messages")
        constraints = [
            models.UniqueConstraint(fields=["stream", "stream_seq", "sha256"], name="quarantined_once"),
        ]
        indexes = [models.Index(fields=["source", "-received_at"], name="quarantine_source")]

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


class Int8MultiRangeField(_Field):
    """A set of integers as PostgreSQL's int8multirange."""

    def db_type(self, connection: object) -> str:
        """Return the column type."""
        return "int8multirange"


class Watermark(models.Model):
    """Which numbers of a sender's gap-free `Claytom-Seq` were received, under each epoch and in each stream."""

    id = models.BigAutoField(primary_key=True)
    division = models.CharField(_("division"), max_length=60)
    stream = models.CharField(_("stream"), max_length=40)
    epoch = models.BigIntegerField(_("epoch"))
    received = Int8MultiRangeField(_("received"))
    updated_at = models.DateTimeField(_("updated at"))
    receipt_due = models.BooleanField(_("receipt due"), default=False, db_default=False)

    class Meta:
        verbose_name = _("watermark")
        verbose_name_plural = _("watermarks")
        constraints = [
            models.UniqueConstraint(fields=["division", "stream", "epoch"], name="watermark_once"),
        ]

    def __str__(self) -> str:
        return f"{self.division} {self.epoch} {self.received}"


class Lease(models.Model):
    """A lease of a division that the lease bucket has given: the highest epoch of a division is in force."""

    id = models.BigAutoField(primary_key=True)
    division = models.CharField(_("division"), max_length=64)
    epoch = models.BigIntegerField(_("epoch"))
    host = models.CharField(_("host"), max_length=100, blank=True)
    acquired_at = models.DateTimeField(_("acquired at"))
    noted_at = models.DateTimeField(_("noted at"))

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")
        constraints = [models.UniqueConstraint(fields=["division", "epoch"], name="lease_once")]

    def __str__(self) -> str:
        return f"{self.division} {self.epoch} {self.host}"


class CounterManager(models.Manager["Counter"]):
    """Adds to counters from any number of processes."""

    def add(self, sums: Mapping[tuple[str, tuple[tuple[str, str], ...]], int]) -> None:
        """Add each sum to the counter of its name and labels, in the order given."""
        if not sums:
            return
        names = [name for name, _ in sums]
        labels = [json.dumps(dict(pairs)) for _, pairs in sums]
        with connection.cursor() as cursor:
            cursor.execute(ADD_TO_COUNTERS, [names, labels, list(sums.values())])


ADD_TO_COUNTERS = """
    insert into bus_counter (name, labels, value)
    select * from unnest(%s::text[], %s::jsonb[], %s::bigint[])
    on conflict (name, labels) do update set value = bus_counter.value + excluded.value
"""


class Counter(models.Model):
    """A number that only grows, of all processes together; `/metrics` shows it (see `bus.counters`)."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(_("name"), max_length=80)
    labels = models.JSONField(_("labels"), default=dict)
    value = models.BigIntegerField(_("value"), default=0)

    objects = CounterManager()

    class Meta:
        verbose_name = _("counter")
        verbose_name_plural = _("counters")
        constraints = [models.UniqueConstraint(fields=["name", "labels"], name="counter_once")]

    def __str__(self) -> str:
        return f"{self.name}{self.labels}"
