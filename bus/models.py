"""What the bus keeps in the database: messages to send, mail of agents, messages handled, messages refused."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib.postgres.fields import ArrayField
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
    not_before = models.DateTimeField(_("not before"), null=True)
    insist = models.BooleanField(_("stored anew or sent again"), default=False)
    """Whether it counts as sent only when the stream stores it: known under its id, it is tried again later."""
    stream_seq = models.BigIntegerField(_("sequence in the queue of work"), null=True)

    class Meta:
        verbose_name = _("outgoing message")
        verbose_name_plural = _("outgoing messages")
        indexes = [
            models.Index(fields=["id"], condition=Q(sent_at=None), name="outbox_unsent"),
            models.Index(fields=["stream_seq"], condition=~Q(stream_seq=None), name="outbox_of_queue"),
        ]

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

    UNIT = "unit_id"

    class State(models.TextChoices):
        """What became of it."""

        HELD = "held", _("held")
        REPLAYED = "replayed", _("replayed")
        DISCARDED = "discarded", _("discarded")
        EXPIRED = "expired", _("expired")

    class Stage(models.TextChoices):
        """Which check it did not pass, in their order; then what came after the checks."""

        SIZE = "size", _("size")
        JSON = "json", _("JSON")
        TYPE = "type", _("type")
        SCHEMA = "schema", _("schema")
        SEMANTIC = "semantic", _("meaning")
        EPOCH = "epoch", _("epoch")
        HANDLER = "handler", _("handling")
        DELIVERY = "delivery", _("delivery")

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(_("stream"), max_length=40)
    stream_seq = models.BigIntegerField(_("sequence in the stream"))
    unit_id = models.BigIntegerField(_("unit"), null=True)
    """Of the unit in the subject; null when the holding has no such unit. A key of the app that stands above."""
    subject = models.CharField(_("subject"), max_length=255)
    source = models.CharField(_("source"), max_length=255, blank=True)
    headers = models.JSONField(_("headers"), default=dict)
    sha256 = models.CharField(_("SHA-256 of the body"), max_length=64)
    size = models.PositiveIntegerField(_("size in bytes"))
    body = models.BinaryField(_("body"))
    whole = models.BooleanField(_("kept whole"), default=False)
    """Whether subject, headers and body are exactly those that came: only such a message can be replayed."""
    stage = models.CharField(_("stage"), max_length=20, choices=Stage)
    rule = models.CharField(_("rule"), max_length=60, blank=True)
    reason = models.CharField(_("reason"), max_length=500)
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.HELD)
    decided_at = models.DateTimeField(_("decided at"), null=True)
    decided_by = models.CharField(_("decided by"), max_length=200, blank=True)
    note = models.CharField(_("note"), max_length=500, blank=True)
    replay = models.ForeignKey(
        OutboxMessage, verbose_name=_("replay"), null=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        verbose_name = _("quarantined message")
        verbose_name_plural = _("quarantined messages")
        constraints = [
            models.UniqueConstraint(fields=["stream", "stream_seq", "sha256"], name="quarantined_once"),
        ]
        indexes = [
            models.Index(fields=["source", "-received_at"], name="quarantine_source"),
            models.Index(fields=["state", "-id"], name="quarantine_state"),
            models.Index(fields=["unit_id", "-id"], name="quarantine_unit"),
            models.Index(fields=["received_at"], name="quarantine_received"),
        ]

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


class RefusalWindow(models.Model):
    """When the last messages of a source were refused: the newest twenty times, kept for some minutes."""

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=255)
    unit = models.CharField(_("unit"), max_length=24, blank=True)
    recent = ArrayField(models.DateTimeField(), verbose_name=_("refused at"))

    class Meta:
        verbose_name = _("refusals of a source")
        verbose_name_plural = _("refusals of sources")
        constraints = [models.UniqueConstraint(fields=["source", "unit"], name="window_once")]

    def __str__(self) -> str:
        return f"{self.source} {self.unit}"


class Suspect(models.Model):
    """A source of which twenty messages were refused within a minute, until none is for a while."""

    UNIT = "unit_id"

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=255)
    unit = models.CharField(_("unit in its subjects"), max_length=24, blank=True)
    unit_id = models.BigIntegerField(_("unit"), null=True)
    since = models.DateTimeField(_("since"))
    last_at = models.DateTimeField(_("last refusal at"))
    count = models.BigIntegerField(_("refusals"), default=0)
    """All of them, also those that were too many to be kept."""
    stage = models.CharField(_("last stage"), max_length=20, choices=QuarantinedMessage.Stage)
    rule = models.CharField(_("last rule"), max_length=60, blank=True)
    reason = models.CharField(_("last reason"), max_length=500)
    closed_at = models.DateTimeField(_("closed at"), null=True)

    class Meta:
        verbose_name = _("suspect source")
        verbose_name_plural = _("suspect sources")
        constraints = [
            models.UniqueConstraint(fields=["source", "unit"], condition=Q(closed_at=None), name="suspect_once"),
        ]
        indexes = [models.Index(fields=["source", "-id"], name="suspect_source")]

    def __str__(self) -> str:
        return self.source


class FailedDelivery(models.Model):
    """A message that a consumer gave up: what the server's advisory tells, and how far it was looked after."""

    class Kind(models.TextChoices):
        """How it was given up."""

        EXHAUSTED = "exhausted", _("deliveries exhausted")
        TERMINATED = "terminated", _("terminated by the receiver")

    class State(models.TextChoices):
        """Found in an advisory; then kept in the quarantine, then gone from the queue: done. Or gone before."""

        FOUND = "found", _("found")
        KEPT = "kept", _("kept")
        DONE = "done", _("done")
        GONE = "gone", _("acknowledged after all")

    id = models.BigAutoField(primary_key=True)
    stream = models.CharField(_("stream"), max_length=40)
    consumer = models.CharField(_("consumer"), max_length=60)
    stream_seq = models.BigIntegerField(_("sequence in the stream"))
    kind = models.CharField(_("kind"), max_length=10, choices=Kind)
    deliveries = models.PositiveIntegerField(_("deliveries"), default=0)
    reason = models.CharField(_("reason"), max_length=400, blank=True)
    advised_at = models.DateTimeField(_("advised at"))
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.FOUND)

    class Meta:
        verbose_name = _("failed delivery")
        verbose_name_plural = _("failed deliveries")
        constraints = [
            models.UniqueConstraint(
                fields=["stream", "consumer", "stream_seq", "kind", "advised_at"], name="failed_once"
            ),
        ]
        indexes = [models.Index(fields=["id"], condition=Q(state__in=("found", "kept")), name="failed_open")]

    def __str__(self) -> str:
        return f"{self.stream}/{self.consumer} {self.stream_seq}"


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
