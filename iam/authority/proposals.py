"""What somebody proposes as the next matrix: its text, and what it would change."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import yaml
from django.utils.translation import gettext as _

from iam.authority.matrix import check_rules, rules_digest
from iam.authority.models import MatrixVersion, Matter, Office, Rule
from iam.authority.reading import SHOWN, MatrixError, RuleText, parse, rules_of

CATALOGUE = {
    "offices": ("slug", "rank", "scope", "es", "en"),
    "matters": ("slug", "es", "en", "measure", "anti_splitting", "reserved", "hours", "rules"),
}


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one rule; `before` is None for a new rule, `after` for one that is removed."""

    matter: Matter
    office: Office
    before: RuleText | None
    after: RuleText | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """Rules without a mistake, the version that they would follow, and what they change of it."""

    base: MatrixVersion | None
    rules: list[RuleText]
    changes: list[Change]

    @property
    def seen(self) -> str:
        """A name for exactly this difference: who confirms it has looked at no other."""
        return f"{self.base.number if self.base else 0}-{rules_digest(self.rules)}"


def propose(*, rules: Iterable[RuleText]) -> Proposal:
    """Check rules and compare them with the version that they would follow. Raises MatrixError."""
    wanted, base = list(rules), base_of(None)
    if not wanted:
        raise MatrixError([_("A matrix without rules lets nobody decide.")])
    check_rules(wanted)
    return Proposal(base, wanted, compare(rules_in(base), wanted))


def propose_text(*, text: str) -> Proposal:
    """Read a text of the form that `load_authority` takes; its offices and matters must be those that are loaded.

    Raises MatrixError naming each mistake with its place.
    """
    data = parse(text)
    bodies = Office.objects.filter(scope=Office.Scope.BODY).values_list("slug", flat=True)
    mistakes = list(_other_catalogue(data))
    try:
        rules = rules_of(data, bodies=bodies)
    except MatrixError as error:
        raise MatrixError([*mistakes, *error.mistakes]) from error
    if mistakes:
        raise MatrixError(mistakes)
    return propose(rules=rules)


def base_of(version: MatrixVersion | None) -> MatrixVersion | None:
    """Return the version that another one followed; of a draft, or of None, the one that it would follow."""
    if version is None or version.status == MatrixVersion.Status.DRAFT:
        return MatrixVersion.objects.filter(status=MatrixVersion.Status.ADOPTED).first()
    return MatrixVersion.objects.filter(valid_to=version.valid_from).first()


def changes_of(version: MatrixVersion) -> list[Change]:
    """Return what a version changed, or a draft would change, of the one before it."""
    return compare(rules_in(base_of(version)), rules_in(version))


def rules_in(version: MatrixVersion | None) -> list[RuleText]:
    """Return the rules of a version; none for None."""
    found = Rule.objects.filter(version=version).select_related("matter", "office") if version else ()
    return [RuleText(one.matter.slug, one.office.slug, one.limit, one.required) for one in found]


def compare(before: Iterable[RuleText], after: Iterable[RuleText]) -> list[Change]:
    """Return the rules that differ, by matter and rank."""
    old = {(rule.matter, rule.office): rule for rule in before}
    new = {(rule.matter, rule.office): rule for rule in after}
    matters = {matter.slug: matter for matter in Matter.objects.all()}
    offices = {office.slug: office for office in Office.objects.all()}
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    changes = [Change(matters[m], offices[o], old.get((m, o)), new.get((m, o))) for m, o in differing]
    return sorted(changes, key=lambda one: (one.matter.position, one.office.rank, one.office.slug))


def text_of(version: MatrixVersion | None) -> str:
    """Return the rules of a version as a text that `propose_text` takes."""
    matters: dict[str, dict[str, Any]] = {}
    for rule in rules_in(version):
        limit = None if rule.limit is None else _number(rule.limit)
        several = rule.required is not None and rule.required > 1
        said: Any = {"limit": limit, "required": rule.required} if several else limit
        matters.setdefault(rule.matter, {})[rule.office] = said
    data = {"matters": [{"slug": slug, "rules": rules} for slug, rules in matters.items()]}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _number(limit: Decimal) -> int | str:
    """A limit as YAML has it: a whole number, or text, which keeps its digits."""
    return int(limit) if limit == limit.to_integral_value() else f"{limit.normalize():f}"


# --- offices and matters, which a proposal does not change --------------------------------------------------


def _other_catalogue(data: dict[str, Any]) -> list[str]:
    """Return where a text says something else of offices and matters than what is loaded."""
    known = {
        "offices": {
            one.slug: {"rank": one.rank, "scope": one.scope, "es": one.name_es, "en": one.name_en}
            for one in Office.objects.all()
        },
        "matters": {
            one.slug: {
                "es": one.name_es,
                "en": one.name_en,
                "measure": one.measure,
                "anti_splitting": one.anti_splitting,
                "reserved": one.reserved,
                "hours": [one.sla_hours, one.expiry_hours],
            }
            for one in Matter.objects.all()
        },
    }
    mistakes = [
        _("%(at)s: there is no such section") % {"at": str(name)[:SHOWN]}
        for name in data
        if name not in ("reason", "offices", "matters")
    ]
    for section, fields in CATALOGUE.items():
        said = data.get(section, [])
        for place, item in enumerate(said if isinstance(said, list) else []):
            if isinstance(item, dict):
                mistakes += _other(f"{section}[{place}]", item, known[section], fields)
    return mistakes


def _other(at: str, item: dict[str, Any], known: dict[str, dict[str, Any]], fields: tuple[str, ...]) -> list[str]:
    there = known.get(str(item.get("slug")))
    if there is None:
        return [_("%(at)s.slug: there is no “%(slug)s”") % {"at": at, "slug": str(item.get("slug"))[:SHOWN]}]
    mistakes = []
    for name, value in item.items():
        if name not in fields:
            mistakes.append(_("%(at)s.%(name)s: there is no such field") % {"at": at, "name": str(name)[:SHOWN]})
        elif name not in ("slug", "rules") and value != there[name]:
            mistakes.append(
                _("%(at)s.%(name)s: it is %(there)s; a draft changes rules only")
                % {"at": at, "name": name, "there": there[name]}
            )
    return mistakes
