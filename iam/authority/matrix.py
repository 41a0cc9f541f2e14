"""Writes of the matrix: matters and offices of a file, drafts, and their adoption."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from iam.authority.models import ENVELOPE, MatrixVersion, Matter, Office, Rule
from iam.authority.reading import SHOWN, MatrixError, RuleText, parse, rules_of

FILE = Path(__file__).parent / "data" / "matrix.yaml"
BOARD_RANK = 6  # reserved matters are decided here or above
MATRIX_LOCK = 0x6D61747269780000  # "matrix\0\0": one draft, adoption or load at a time
AUTHOR = "portal/authority"
LARGEST = Decimal(10) ** 16  # of a limit; and with four decimals
MOST_HOLDERS = 99


class NotAdopterError(ValueError):
    """A version that somebody else must adopt: the author may not."""


def matrix_at(when: datetime) -> MatrixVersion | None:
    """Return the version in force at that time; None before the first."""
    return MatrixVersion.objects.in_force(when).first()


def read_matrix(path: Path = FILE) -> dict[str, Any]:
    """Return the content of a matrix file. Raises MatrixError when it is no mapping in YAML."""
    return parse(path.read_text(encoding="utf-8"))


# --- drafts ------------------------------------------------------------------------------------------------


@transaction.atomic
def draft_matrix(
    *, author: str, rules: Iterable[RuleText], reason: str = "", at: datetime | None = None
) -> MatrixVersion:
    """Write the next version as a draft, which decides nothing yet. Raises MatrixError naming each mistake."""
    _lock()
    return _draft(author=author, rules=list(rules), reason=reason, at=at or clock.now())


def _draft(*, author: str, rules: list[RuleText], reason: str, at: datetime) -> MatrixVersion:
    matters, offices = check_rules(rules)
    newest = MatrixVersion.objects.aggregate(Max("number"))["number__max"] or 0
    version = MatrixVersion.objects.create(
        number=newest + 1, author=author, reason=reason, digest=rules_digest(rules), created_at=at
    )
    Rule.objects.bulk_create(
        [
            Rule(
                version=version,
                matter=matters[rule.matter],
                office=offices[rule.office],
                limit=rule.limit,
                required=rule.required,
            )
            for rule in rules
        ]
    )
    audit.record(
        actor=author,
        action="matrix.draft",
        object=f"matrix/{version.number}",
        after={"rules": version.digest},
        details={"rules": version.digest, "reason": reason},
    )
    return version


def check_rules(rules: list[RuleText]) -> tuple[Mapping[str, Matter], Mapping[str, Office]]:
    """Return matters and offices by slug. Raises MatrixError naming each mistake in the rules."""
    matters = {matter.slug: matter for matter in Matter.objects.all()}
    offices = {office.slug: office for office in Office.objects.all()}
    if mistakes := list(_mistakes(rules, matters, offices)):
        raise MatrixError(mistakes)
    return matters, offices


def rules_digest(rules: Iterable[RuleText]) -> str:
    """Return the SHA-256 (hex) of rules, whatever their order."""
    lines = sorted(
        f"{rule.matter} {rule.office} {'-' if rule.limit is None else f'{rule.limit:.4f}'} {rule.required}"
        for rule in rules
    )
    return audit.digest({"rules": lines})


def _mistakes(rules: list[RuleText], matters: Mapping[str, Matter], offices: Mapping[str, Office]) -> Iterator[str]:
    by_matter: dict[str, list[tuple[Office, RuleText]]] = {}
    for rule in rules:
        if rule.matter not in matters or rule.office not in offices:
            yield _("%(matter)s, %(office)s: there is no such matter or office.") % {
                "matter": rule.matter[:SHOWN],
                "office": rule.office[:SHOWN],
            }
            continue
        by_matter.setdefault(rule.matter, []).append((offices[rule.office], rule))
    for slug, given in by_matter.items():
        yield from (f"{slug}: {mistake}" for mistake in _matter_mistakes(matters[slug], given))


def _matter_mistakes(matter: Matter, given: list[tuple[Office, RuleText]]) -> Iterator[str]:
    given.sort(key=lambda pair: pair[0].rank)
    below: Decimal | None = Decimal(-1)
    ranks = [office.rank for office, _rule in given]
    if len(set(ranks)) != len(ranks):
        yield _("two offices of one rank; say which of them decides.")
    for office, rule in given:
        if rule.limit is not None and not _is_limit(rule.limit):
            yield _("%(office)s: a limit is a number from 0, with four decimals at most.") % {"office": office.slug}
        elif rule.limit is not None and (below is None or rule.limit < below):
            yield _("%(office)s: its limit is under that of the rank below.") % {"office": office.slug}
        else:
            below = rule.limit
        counted = rule.required is not None and 1 <= rule.required <= MOST_HOLDERS
        if (rule.required is None) != (office.scope == Office.Scope.BODY) or not (rule.required is None or counted):
            yield _("%(office)s: a body decides by majority, any other office by a number of holders.") % {
                "office": office.slug
            }
        if office.slug == ENVELOPE and rule.limit is None:
            yield _("%(office)s: what nobody decides has a limit.") % {"office": office.slug}
        if matter.reserved and office.rank < BOARD_RANK:
            yield _("%(office)s: the matter is reserved to the board.") % {"office": office.slug}


def _is_limit(limit: Decimal) -> bool:
    """Whether a limit can be kept as it is."""
    return limit.is_finite() and 0 <= limit < LARGEST and limit == limit.quantize(Decimal("0.0001"))


# --- adoption ----------------------------------------------------------------------------------------------


@transaction.atomic
def adopt_matrix(
    *, number: int, approver: str, valid_from: datetime | None = None, at: datetime | None = None
) -> MatrixVersion:
    """Put a draft in force from `valid_from` (now, or later); the version before it ends then.

    `approver` is a person other than the author (else NotAdopterError), or the resolution that adopted it.
    Raises ValueError.
    """
    _lock()
    return _adopt(number=number, approver=approver, valid_from=valid_from, at=at or clock.now())


def _adopt(*, number: int, approver: str, valid_from: datetime | None, at: datetime) -> MatrixVersion:
    start = valid_from or at
    version = MatrixVersion.objects.get(number=number)
    before = MatrixVersion.objects.filter(status=MatrixVersion.Status.ADOPTED).first()
    if version.status != MatrixVersion.Status.DRAFT:
        raise ValueError(_("Version %(number)s is not a draft.") % {"number": number})
    if approver in {"", version.author}:
        raise NotAdopterError(_("A version of the matrix is adopted by somebody other than its author."))
    if start < at:
        raise ValueError(_("A version of the matrix does not come into force in the past."))
    if before is not None and before.valid_from is not None and before.valid_from >= start:
        raise ValueError(_("Version %(number)s comes into force no earlier.") % {"number": before.number})
    if before is not None:
        before.status, before.valid_to = MatrixVersion.Status.SUPERSEDED, start
        before.save(update_fields=["status", "valid_to"])
    version.status, version.valid_from, version.approver = MatrixVersion.Status.ADOPTED, start, approver
    version.save(update_fields=["status", "valid_from", "approver"])
    audit.record(
        actor=approver,
        action="matrix.adopt",
        object=f"matrix/{version.number}",
        before={"version": before.number, "rules": before.digest} if before else None,
        after={"version": version.number, "rules": version.digest},
        details={"author": version.author, "from": start.isoformat(), "rules": version.digest},
    )
    return version


# --- the file ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install_matrix` did: whether matters or offices changed, and the version written, if any."""

    changed: bool
    version: MatrixVersion | None


@transaction.atomic
def install_matrix(*, data: Mapping[str, Any], actor: str, at: datetime | None = None) -> Installed:
    """Bring matters and offices to what a file says, and its rules into a version; the same file changes nothing.

    The first version is adopted at once, by `actor`. Later, other rules become a draft that somebody must
    adopt: a file never changes who may decide. Raises MatrixError naming each mistake.
    """
    _lock()
    at = at or clock.now()
    changed = _write_catalogue(data)
    bodies = [item["slug"] for item in data["offices"] if item["scope"] == Office.Scope.BODY]
    rules = rules_of(data, bodies=bodies)
    version = None
    if not MatrixVersion.objects.filter(digest=rules_digest(rules)).exists():
        reason = str(data.get("reason", ""))[:200]
        version = _draft(author=AUTHOR, rules=rules, reason=reason, at=at)
        if not MatrixVersion.objects.exclude(status=MatrixVersion.Status.DRAFT).exists():
            version = _adopt(number=version.number, approver=actor, valid_from=None, at=at)
    if changed:
        audit.record(
            actor=actor,
            action="authority.load",
            object="authority",
            after=dict(data),
            details={"matters": len(data["matters"]), "offices": len(data["offices"])},
        )
    return Installed(changed=changed, version=version)


def _write_catalogue(data: Mapping[str, Any]) -> bool:
    """Create or update offices and matters; return whether anything changed."""
    changed = False
    try:
        offices = {
            item["slug"]: {
                "name_es": item["es"],
                "name_en": item["en"],
                "scope": Office.Scope(item["scope"]).value,
                "rank": int(item["rank"]),
            }
            for item in data["offices"]
        }
        matters = {
            item["slug"]: {
                "name_es": item["es"],
                "name_en": item["en"],
                "measure": Matter.Measure(item["measure"]).value,
                "reserved": bool(item.get("reserved", False)),
                "anti_splitting": bool(item["anti_splitting"]),
                "sla_hours": int(item["hours"][0]),
                "expiry_hours": int(item["hours"][1]),
                "position": position,
            }
            for position, item in enumerate(data["matters"], start=1)
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise MatrixError([f"an office or a matter is not complete: {error!r}"]) from error
    models: tuple[tuple[Any, dict[str, dict[str, Any]]], ...] = ((Office, offices), (Matter, matters))
    for model, wanted in models:
        known = {row["slug"]: row for row in model.objects.values()}
        for slug, fields in wanted.items():
            row = known.get(slug, {})
            if any(row.get(name) != value for name, value in fields.items()):
                model.objects.update_or_create(slug=slug, defaults=fields)
                changed = True
    return changed


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [MATRIX_LOCK])
