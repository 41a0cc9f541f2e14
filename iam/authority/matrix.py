"""Writes of the matrix: matters and offices of a file, drafts, and their adoption."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml
from django.db import connection, transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from audit import services as audit
from holding import clock
from iam.authority.models import ENVELOPE, MatrixVersion, Matter, Office, Rule

FILE = Path(__file__).parent / "data" / "matrix.yaml"
BOARD_RANK = 6  # reserved matters are decided here or above
MATRIX_LOCK = 0x6D61747269780000  # "matrix\0\0": one draft, adoption or load at a time
AUTHOR = "portal/authority"


class MatrixError(ValueError):
    """A text of the matrix that cannot be; `mistakes` names each."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule as it is proposed: slugs, the limit in the matter's measure (None: without), holders required."""

    matter: str
    office: str
    limit: Decimal | None
    required: int | None = 1  # None: the majority of the body


def matrix_at(when: datetime) -> MatrixVersion | None:
    """Return the version in force at that time; None before the first."""
    return MatrixVersion.objects.in_force(when).first()


def read_matrix(path: Path = FILE) -> dict[str, Any]:
    """Return the content of a matrix file. Raises MatrixError when it is no mapping in YAML."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise MatrixError([f"no YAML: {error}"]) from error
    if not isinstance(data, dict):
        raise MatrixError(["the file is no mapping"])
    return data


# --- drafts ------------------------------------------------------------------------------------------------


@transaction.atomic
def draft_matrix(
    *, author: str, rules: Iterable[RuleText], reason: str = "", at: datetime | None = None
) -> MatrixVersion:
    """Write the next version as a draft, which decides nothing yet. Raises MatrixError naming each mistake."""
    _lock()
    return _draft(author=author, rules=list(rules), reason=reason, at=at or clock.now())


def _draft(*, author: str, rules: list[RuleText], reason: str, at: datetime) -> MatrixVersion:
    matters = {matter.slug: matter for matter in Matter.objects.all()}
    offices = {office.slug: office for office in Office.objects.all()}
    if mistakes := list(_mistakes(rules, matters, offices)):
        raise MatrixError(mistakes)
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
                "matter": rule.matter,
                "office": rule.office,
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
        if rule.limit is not None and (not rule.limit.is_finite() or rule.limit < 0):
            yield _("%(office)s: a limit is a number from 0.") % {"office": office.slug}
        elif rule.limit is not None and (below is None or rule.limit < below):
            yield _("%(office)s: its limit is under that of the rank below.") % {"office": office.slug}
        else:
            below = rule.limit
        if (rule.required is None) != (office.scope == Office.Scope.BODY) or rule.required == 0:
            yield _("%(office)s: a body decides by majority, any other office by a number of holders.") % {
                "office": office.slug
            }
        if office.slug == ENVELOPE and rule.limit is None:
            yield _("%(office)s: what nobody decides has a limit.") % {"office": office.slug}
        if matter.reserved and office.rank < BOARD_RANK:
            yield _("%(office)s: the matter is reserved to the board.") % {"office": office.slug}


# --- adoption ----------------------------------------------------------------------------------------------


@transaction.atomic
def adopt_matrix(
    *, number: int, approver: str, valid_from: datetime | None = None, at: datetime | None = None
) -> MatrixVersion:
    """Put a draft in force from `valid_from` (now, or later); the version before it ends then.

    `approver` is a person other than the author, or the resolution that adopted it. Raises ValueError.
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
        raise ValueError(_("A version of the matrix is adopted by somebody other than its author."))
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
    rules = _rules(data)
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


def _rules(data: Mapping[str, Any]) -> list[RuleText]:
    bodies = {item["slug"] for item in data["offices"] if item["scope"] == Office.Scope.BODY}
    rules, mistakes = [], []
    for matter in data["matters"]:
        for office, given in dict(matter.get("rules") or {}).items():
            said = given if isinstance(given, dict) else {"limit": given}
            try:
                limit = None if said["limit"] is None else Decimal(str(said["limit"]))
                required = None if office in bodies else int(said.get("required", 1))
            except (KeyError, ValueError, InvalidOperation):
                mistakes.append(f"{matter['slug']}, {office}: {given!r} is no limit")
                continue
            rules.append(RuleText(matter["slug"], office, limit, required))
    if mistakes:
        raise MatrixError(mistakes)
    return rules


def _lock() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [MATRIX_LOCK])
