"""Texts of the matrix: rules as they are proposed, read from YAML with the place of each mistake."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml
from django.utils.translation import gettext as _

SHOWN = 40  # characters of what was written that a mistake repeats


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


class _Plain(yaml.SafeLoader):
    """YAML in which nothing is said twice: no key again in its mapping, and no alias."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=_("aliases are not taken"), problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _value in node.value:
            name = key.value if isinstance(key.value, str) else ""
            if name in seen:  # else the last one would win, unseen
                problem = _("“%(key)s” was said before") % {"key": name[:SHOWN]}
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if name:
                seen.add(name)
        return super().construct_mapping(node, deep)


def parse(text: str) -> dict[str, Any]:
    """Return the content of a text. Raises MatrixError when it is no mapping in YAML, with line and column."""
    try:
        data = yaml.load(text, _Plain)  # noqa: S506  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = _("line %(line)s, column %(column)s") % {
            "line": mark.line + 1 if mark else 1,
            "column": mark.column + 1 if mark else 1,
        }
        raise MatrixError([_("no YAML: %(why)s") % {"why": f"{place}: {error.problem}"}]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MatrixError([_("no YAML: %(why)s") % {"why": str(error)[:200]}]) from error
    if not isinstance(data, dict):
        raise MatrixError([_("the text is no mapping: it has a list `matters`, each with its slug and its rules")])
    return data


def rules_of(data: Mapping[str, Any], *, bodies: Iterable[str]) -> list[RuleText]:
    """Return the rules that a text says; `bodies` are the offices that decide by majority.

    Raises MatrixError naming each mistake with its place, such as `matters[2].rules.board`.
    """
    read = _Rules(frozenset(bodies))
    rules = list(read.of_matters(data.get("matters")))
    if read.mistakes:
        raise MatrixError(read.mistakes)
    return rules


class _Rules:
    """Reads rules and gathers mistakes."""

    def __init__(self, bodies: frozenset[str]) -> None:
        self.bodies = bodies
        self.mistakes: list[str] = []

    def of_matters(self, matters: Any) -> Iterator[RuleText]:
        if not isinstance(matters, list):
            self.mistakes.append(_("matters: a list is needed"))
            return
        seen: set[str] = set()
        for place, matter in enumerate(matters):
            at = f"matters[{place}]"
            if not isinstance(matter, dict) or not isinstance(matter.get("slug"), str):
                self.mistakes.append(_("%(at)s: a mapping with a slug is needed") % {"at": at})
                continue
            slug, rules = matter["slug"], matter.get("rules") or {}
            if slug in seen:
                self.mistakes.append(_("%(at)s.slug: %(slug)s was named before") % {"at": at, "slug": slug[:SHOWN]})
            seen.add(slug)
            if not isinstance(rules, dict):
                self.mistakes.append(_("%(at)s.rules: a mapping of offices to limits is needed") % {"at": at})
                continue
            for office, given in rules.items():
                rule = self.of_office(f"{at}.rules.{str(office)[:SHOWN]}", slug, str(office), given)
                if rule is not None:
                    yield rule

    def of_office(self, at: str, matter: str, office: str, given: Any) -> RuleText | None:
        said = given if isinstance(given, dict) else {"limit": given}
        known = {"limit", "required"} if office not in self.bodies else {"limit"}
        if unknown := sorted(str(key)[:SHOWN] for key in said if key not in known):
            self.mistakes.append(
                _("%(at)s: there is no field %(fields)s") % {"at": at, "fields": ", ".join(unknown)}
            )
            return None
        required = said.get("required", 1)
        if not isinstance(required, int) or isinstance(required, bool):
            self.mistakes.append(_("%(at)s.required: a whole number of holders is needed") % {"at": at})
            return None
        try:
            limit = _limit(said["limit"])
        except (KeyError, TypeError, ValueError, InvalidOperation):
            self.mistakes.append(
                _("%(at)s: %(given)s is no limit; write a number, null for none, or {limit: …, required: 2}")
                % {"at": at, "given": repr(given)[:SHOWN]}
            )
            return None
        return RuleText(matter, office, limit, None if office in self.bodies else required)


def _limit(given: object) -> Decimal | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise TypeError
    return Decimal(str(given))
