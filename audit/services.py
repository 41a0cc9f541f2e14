"""Writing, sealing and verifying the ledger."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from audit import canonical as canonical_json
from audit import merkle
from audit.arrays import array
from audit.models import Leaf, LedgerEntry, TreeHead, UnsealedEntry

FORMAT = 1
SEQUENCER_LOCK = 0x6C656467  # "ledg": one sequencer at a time
State = Mapping[str, Any]
WRITTEN = ("uid", "at", "actor", "action", "object", "before", "after", "correlation_id", "body")
# The entries and their places in the sequencer's queue, in one statement.
WRITE = """
with written as (
    insert into audit_ledgerentry (uid, at, actor, action, object, before, after, correlation_id, body)
    select * from unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                         %s::text[], %s::bytea[])
    returning id
), waiting as (
    insert into audit_unsealedentry (entry_id) select id from written
)
select id from written order by id
"""
APPEND = """
    insert into audit_leaf (index, entry_id, leaf_hash)
    select * from unnest(%s::bigint[], %s::bigint[], %s::bytea[])
"""


@dataclass(frozen=True, slots=True)
class Act:
    """What one ledger entry says. `before` and `after` are the object's state; only their digests are kept."""

    actor: str
    action: str
    object: str
    before: State | None = None
    after: State | None = None
    details: State | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of `verify`: entries read, the log's size and root, and each fault in words."""

    entries: int
    size: int
    root: str
    unsealed: int
    faults: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def digest(state: State | None) -> str:
    """Return the SHA-256 (hex) of a state's canonical JSON (RFC 8785), or "" for None."""
    return sha256(canonical_json.dumps(dict(state))).hexdigest() if state is not None else ""


def canonical(*, uid: UUID, at: datetime, act: Act, correlation_id: str) -> bytes:
    """Return the canonical bytes (RFC 8785) that an entry is sealed as. This format is final."""
    return _sealed(uid, at, act, correlation_id, digest(act.before), digest(act.after))


def _sealed(uid: UUID, at: datetime, act: Act, correlation_id: str, before: str, after: str) -> bytes:
    body: dict[str, Any] = {
        "v": FORMAT,
        "id": str(uid),
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": act.actor,
        "action": act.action,
        "object": act.object,
        "before": before,
        "after": after,
        "correlation": correlation_id,
        "details": dict(act.details or {}),
    }
    return canonical_json.dumps(body)


def record(
    *,
    actor: str,
    action: str,
    object: str,
    before: State | None = None,
    after: State | None = None,
    details: State | None = None,
    correlation_id: str = "",
) -> LedgerEntry:
    """Write one entry in the caller's transaction (see `record_many`)."""
    act = Act(actor=actor, action=action, object=object, before=before, after=after, details=details)
    return record_many(acts=[act], correlation_id=correlation_id)[0]


def record_many(*, acts: Iterable[Act], correlation_id: str = "") -> list[LedgerEntry]:
    """Write an entry for each act, in order, in the caller's transaction.

    Must run inside `transaction.atomic()`, together with the change that the acts tell of; raises
    RuntimeError otherwise, since an entry without its change (or the reverse) would be a lie.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("A ledger entry is written in its change's own transaction: open atomic() first.")
    now = timezone.now()
    entries = [_entry(act=act, at=now, correlation_id=correlation_id) for act in acts]
    columns = zip(*([getattr(entry, name) for name in WRITTEN] for entry in entries), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(WRITE, [array(column) for column in columns] or [[]] * len(WRITTEN))
        for entry, (number,) in zip(entries, cursor.fetchall(), strict=True):
            entry.pk = number
    return entries


def _entry(*, act: Act, at: datetime, correlation_id: str) -> LedgerEntry:
    uid, before, after = uuid4(), digest(act.before), digest(act.after)
    return LedgerEntry(
        uid=uid,
        at=at,
        actor=act.actor,
        action=act.action,
        object=act.object,
        before=before,
        after=after,
        correlation_id=correlation_id,
        body=_sealed(uid, at, act, correlation_id, before, after),
    )


@transaction.atomic
def seal(*, limit: int = 5000) -> int:
    """Append the committed, still unsealed entries to the Merkle log; return how many (0: nothing to do).

    Only one sequencer works at a time (advisory lock); another call returns 0 at once. Which order
    transactions committed in is unknowable, so the log's order is decided here, by entry number.
    """
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_xact_lock(%s)", [SEQUENCER_LOCK])
        if not cursor.fetchone()[0]:
            return 0
    waiting = list(UnsealedEntry.objects.order_by("entry_id").values_list("entry_id", "entry__body")[:limit])
    if not waiting:
        return 0
    head = TreeHead.objects.order_by("-size").first()
    size = head.size if head else 0
    leaves = [merkle.leaf_hash(bytes(body)) for _, body in waiting]
    with connection.cursor() as cursor:
        places = range(size, size + len(leaves))
        cursor.execute(APPEND, [array(places), array(entry for entry, _ in waiting), array(leaves)])
    peaks, size = merkle.append(_split(bytes(head.peaks)) if head else [], size, leaves)
    TreeHead.objects.create(size=size, at=timezone.now(), root=merkle.root(peaks), peaks=b"".join(peaks))
    UnsealedEntry.objects.filter(entry_id__in=[entry_id for entry_id, _ in waiting]).delete()
    return len(waiting)


def _split(peaks: bytes) -> list[bytes]:
    return [peaks[at : at + 32] for at in range(0, len(peaks), 32)]


def verify() -> Verification:
    """Recompute the whole log from the stored bytes and compare it with every leaf and every tree head.

    Finds: altered bytes, columns that disagree with the bytes, missing or extra leaves, gaps in the
    index, wrong roots, and entries that are neither sealed nor waiting.
    """
    faults: list[str] = []
    heads = {head.size: bytes(head.root) for head in TreeHead.objects.all()}
    peaks: list[bytes] = []
    size = 0
    batch: list[bytes] = []  # leaves since the last tree head
    for row in _sealed_rows():
        if row.place != size + len(batch):
            faults.append(f"leaf {size + len(batch)} is missing: the next stored one is {row.place}")
            break
        computed = merkle.leaf_hash(row.body)
        if computed != row.leaf_hash:
            faults.append(f"entry {row.entry} (leaf {row.place}): its bytes are not those that were sealed")
        if not _columns_agree(row):
            faults.append(f"entry {row.entry}: its columns disagree with its sealed bytes")
        batch.append(computed)
        if row.place + 1 in heads:
            peaks, size = merkle.append(peaks, size, batch)
            batch = []
            if heads.pop(size) != merkle.root(peaks):
                faults.append(f"tree head of size {size}: its root does not follow from the entries")
    peaks, size = merkle.append(peaks, size, batch)
    faults.extend(f"tree head of size {missing}: the log has only {size} leaves" for missing in sorted(heads))
    unsealed = UnsealedEntry.objects.count()
    entries = LedgerEntry.objects.count()
    if entries != size + unsealed:
        faults.append(f"{entries} entries, but {size} sealed and {unsealed} waiting")
    return Verification(entries, size, merkle.root(peaks).hex(), unsealed, tuple(faults))


class _Told(msgspec.Struct):
    """What the bytes of an entry say that its columns say too."""

    id: UUID
    at: datetime
    actor: str
    action: str
    object: str
    before: str
    after: str
    correlation: str


_read = msgspec.json.Decoder(_Told).decode


class _SealedRow(NamedTuple):
    place: int
    leaf_hash: bytes
    entry: int
    body: bytes
    columns: tuple[Any, ...]  # uid, at, actor, action, object, before, after, correlation


def _sealed_rows() -> Iterator[_SealedRow]:
    entry = ("uid", "at", "actor", "action", "object", "before", "after", "correlation_id")
    rows = (
        Leaf.objects.order_by("index")
        .values_list("index", "leaf_hash", "entry_id", "entry__body", *(f"entry__{name}" for name in entry))
        .iterator(chunk_size=5000)
    )
    for index, leaf_hash, entry_id, body, *columns in rows:
        yield _SealedRow(index, bytes(leaf_hash), entry_id, bytes(body), tuple(columns))


def _columns_agree(row: _SealedRow) -> bool:
    try:
        told = _read(row.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return row.columns == (
        told.id,
        told.at,
        told.actor,
        told.action,
        told.object,
        told.before,
        told.after,
        told.correlation,
    )
