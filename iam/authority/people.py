"""Writes of people from a file: their sign-ins, offices and roles; what is there already stays as it is."""

import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from django.core.exceptions import ValidationError
from django.db import transaction

from audit import services as audit
from holding import clock
from holding.models import Unit
from iam.access import services as access
from iam.access.models import AccessRole, RoleBinding, User
from iam.authority import offices
from iam.authority.models import Appointment, Office

DEMONSTRATION = Path(__file__).parent / "data" / "people.yaml"
PASSWORD_BYTES = 12
LANGUAGES = ("es", "en")
NAMES = ("username", "first_name", "last_name")
KNOWN = {*NAMES, "offices", "roles"}


class PeopleError(ValueError):
    """A file of people that cannot be loaded; `mistakes` names each with its place in the file."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file brought: the passwords of the people who are new (kept nowhere else), offices and roles."""

    passwords: Mapping[str, str]
    appointments: int
    bindings: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file may name."""

    units: Mapping[str, Unit]
    offices: Mapping[str, Office]
    roles: Mapping[str, AccessRole]
    people: dict[str, User]
    addresses: Mapping[str, str]  # and whose they are


def read_people(path: Path = DEMONSTRATION) -> dict[str, Any]:
    """Return the content of a file of people. Raises PeopleError when it is no mapping in YAML."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PeopleError([f"no YAML: {error}"]) from error
    if not isinstance(data, dict):
        raise PeopleError(["the file is no mapping"])
    return data


@transaction.atomic
def load_people(*, data: Mapping[str, Any], actor: str) -> Loaded:
    """Create the people of a file who are not there, and give all of them the offices and roles that they lack.

    Nobody's name or password is changed and nothing is taken away, so the same file twice changes nothing.
    Raises PeopleError naming each mistake.
    """
    people = {person.username: person for person in User.objects.all()}
    known = _Known(
        units={unit.slug: unit for unit in Unit.objects.all()},
        offices={office.slug: office for office in Office.objects.all()},
        roles={role.slug: role for role in AccessRole.objects.all()},
        people=people,
        addresses={person.email.casefold(): name for name, person in people.items() if person.email},
    )
    if not known.units or not known.offices:
        raise PeopleError(["no holding, or no authority matrix, is loaded: load it first (load_holding, prepare)"])
    if mistakes := list(_mistakes(data, known)):
        raise PeopleError(mistakes)
    passwords: dict[str, str] = {}
    appointments = bindings = 0
    for entry in data["people"]:
        name = entry["username"]
        if name not in people:
            passwords[name] = secrets.token_urlsafe(PASSWORD_BYTES)
            people[name] = access.create_person(
                password=passwords[name],
                actor=actor,
                email=f"{name}@{data['domain']}",
                language=data["language"],
                is_active=True,
                cleared=True,
                **{key: entry[key] for key in NAMES},
            )
        appointments += _appoint(people[name], entry, known, actor)
        bindings += _bind(people[name], entry, known, actor)
    return Loaded(passwords, appointments, bindings)


def _appoint(person: User, entry: Mapping[str, Any], known: _Known, actor: str) -> int:
    """Give a person the offices that they do not hold; return how many."""
    held = set(Appointment.objects.at(clock.now()).filter(person=person).values_list("office__slug", "unit__slug"))
    wanted = [item for item in entry.get("offices", ()) if (item["office"], item.get("unit")) not in held]
    for item in wanted:
        offices.appoint_to_office(
            office=item["office"], person=person, unit=known.units.get(item.get("unit")), actor=actor
        )
    return len(wanted)


def _bind(person: User, entry: Mapping[str, Any], known: _Known, actor: str) -> int:
    """Give a person the roles that they do not hold; return how many."""
    held = set(
        RoleBinding.objects.in_force().filter(user=person, expires_at=None).values_list("role__slug", "unit__slug")
    )
    wanted = [item for item in entry.get("roles", ()) if (item["role"], item.get("unit")) not in held]
    for item in wanted:
        binding = RoleBinding.objects.create(
            user=person,
            role=known.roles[item["role"]],
            unit=known.units.get(item.get("unit")),
            source=RoleBinding.Source.SYSTEM,
            reason="load_people",
        )
        audit.record(
            actor=actor,
            action="binding.grant",
            object=f"person/{person.pk}",
            details={"binding": binding.pk, "role": item["role"], "unit": item.get("unit", "")},
        )
    return len(wanted)


# --- mistakes ----------------------------------------------------------------------------------------------


def _mistakes(data: Mapping[str, Any], known: _Known) -> Iterator[str]:
    """Yield each mistake of a file, with its place."""
    if data.get("language") not in LANGUAGES:
        yield f"language: {data.get('language')!r} is none of {', '.join(LANGUAGES)}"
    if not _is_text(data.get("domain")):
        yield "domain: a name is needed, such as example.org"
    if not isinstance(data.get("people"), list):
        yield "people: a list is needed"
        return
    seen: set[str] = set()
    for place, entry in enumerate(data["people"]):
        at = f"people[{place}]"
        if not isinstance(entry, dict):
            yield f"{at}: a mapping is needed"
            continue
        yield from (f"{at}.{key}: there is no such field" for key in entry if key not in KNOWN)
        yield from (f"{at}.{key}: a text is needed" for key in NAMES if not _is_text(entry.get(key)))
        if entry.get("username") not in known.people:
            yield from (f"{at}.username: {said}" for said in _wrong_name(str(entry.get("username"))))
        name = str(entry.get("username")).casefold()  # addresses are the same whatever their case
        if name in seen:
            yield f"{at}.username: {entry['username']} was named before"
        seen.add(name)
        email = f"{name}@{data.get('domain')}".casefold()
        if entry.get("username") not in known.people and email in known.addresses:
            yield f"{at}.username: {email} is the address of {known.addresses[email]} already"
        yield from _mistakes_in(entry, at, "offices", "office", known)
        yield from _mistakes_in(entry, at, "roles", "role", known)


def _wrong_name(name: str) -> list[str]:
    """Return why nobody may be called so, nothing for a good name."""
    try:
        User.username_validator(name)
    except ValidationError as error:
        return list(error.messages)
    return []


def _mistakes_in(entry: Mapping[str, Any], at: str, key: str, what: str, known: _Known) -> Iterator[str]:
    """Yield the mistakes in somebody's offices or roles."""
    items = entry.get(key, [])
    if not isinstance(items, list):
        yield f"{at}.{key}: a list is needed"
        return
    catalogue: Mapping[str, Any] = known.offices if what == "office" else known.roles
    for place, item in enumerate(items):
        here = f"{at}.{key}[{place}]"
        if not isinstance(item, dict) or set(item) - {what, "unit"}:
            yield f"{here}: a mapping of {what} and unit is needed"
            continue
        found = catalogue.get(str(item.get(what)))
        if found is None:
            yield f"{here}.{what}: there is no {what} {item.get(what)!r}"
        if "unit" in item and str(item["unit"]) not in known.units:
            yield f"{here}.unit: there is no unit {item['unit']!r}"
        if isinstance(found, Office) and (found.scope == Office.Scope.UNIT) != ("unit" in item):
            yield f"{here}.unit: an office of units needs one, and no other office has one"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= 150
