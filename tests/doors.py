"""Every door of the portal, from the URL map, the OpenAPI document and the administration's registry."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import ModelAdmin
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from bus.models import DirectedMessage
from holding.models import BlueprintVersion, Unit
from holding.scope import VIEW
from iam.access.models import AccessReview, EmergencyAccess, Invitation
from iam.authority.models import Appointment, Delegation, Interest, Substitution
from portal.agents import address
from subsidiaries.enrolment.models import Enrolment
from subsidiaries.escalations.models import Escalation
from subsidiaries.replacement.planning import CapDelegation, Retirement
from tests.access_rules import CLOSED, KEPT, LISTS, ROUTES, SEEN, Rule
from tests.planted import Planted
from tests.principals import OWN, UNITS

MISSING: Final = "?"  # in the place of a unit: something that does not exist
NOBODY: Final = 987654321
Arguments = dict[str, Any]

SAFE: Final = ("GET", "HEAD")
UNSAFE: Final = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True, slots=True)
class Door:
    """An address: its kind (page, api, admin), what it asks for, and whose object it names (empty: nobody's)."""

    name: str
    kind: str
    rule: Rule
    path: str
    of: str = ""
    queried: bool = False

    def asks(self, method: str) -> str | None:
        """Return the rule of a method; None for one that is not offered."""
        if isinstance(self.rule, str):
            return self.rule
        return self.rule.get("GET" if method == "HEAD" else method)

    @property
    def offers(self) -> Sequence[str]:
        """The rules of all its methods."""
        return [self.rule] if isinstance(self.rule, str) else [*self.rule.values()]

    @property
    def seen(self) -> str:
        """The permission by which the object that it names is seen."""
        return SEEN.get(self.name, VIEW)


# What the arguments of a route are, for a unit that was planted. Routes without arguments need no line.
ARGUMENTS: Final[Mapping[str, Callable[[Planted, str], Sequence[Arguments]]]] = {
    "unit": lambda planted, slug: [{"slug": slug}],
    **dict.fromkeys(
        ("agent", "isolate-agent", "release-agent", "order-succession"),
        lambda planted, slug: [
            dict(zip(("unit", "agent"), address(agent).strip("/").split("/")[1:], strict=True))
            for agent in planted[slug].agents
        ],
    ),
    "children": lambda planted, slug: [
        {"kind": "unit", "key": slug},
        *({"kind": "seat", "key": str(seat.pk)} for seat in planted[slug].seats),
    ],
    **dict.fromkeys(
        (
            "escalation", "take-escalation", "assign-escalation", "resolve-escalation", "escalation-api-detail",
            "escalation-api-take", "escalation-api-assign", "escalation-api-resolve",
        ),
        lambda planted, slug: [{"pk": one.pk} for one in Escalation.objects.filter(unit=planted[slug].unit)],
    ),
    "message-api-detail": lambda planted, slug: [
        {"pk": one.pk} for one in DirectedMessage.objects.filter(unit_id=planted[slug].unit.pk)
    ],
    "unit-detail": lambda planted, slug: [{"slug": slug}],
    "seat-detail": lambda planted, slug: [{"pk": seat.pk} for seat in planted[slug].seats],
    **dict.fromkeys(
        ("agent-detail", "agent-quarantine", "agent-release"),
        lambda planted, slug: [
            *({"identity": agent.pk} for agent in planted[slug].agents),
            *({"identity": agent.subject} for agent in planted[slug].agents),
        ],
    ),
    **dict.fromkeys(
        ("enrolment", "withdraw-enrolment"),
        lambda planted, slug: [{"number": one.pk} for one in Enrolment.objects.filter(unit=planted[slug].unit)],
    ),
    **dict.fromkeys(
        ("enrolment-detail", "enrolment-withdraw"),
        lambda planted, slug: [{"pk": one.pk} for one in Enrolment.objects.filter(unit=planted[slug].unit)],
    ),
    **dict.fromkeys(
        ("replacement", "replacement-detail"),
        lambda planted, slug: [
            {"pk": pk} for pk in planted[slug].unit.replacement_set.values_list("pk", flat=True)
        ],
    ),
    **dict.fromkeys(
        (
            "incident", "acknowledge-incident", "note-incident", "release-brake", "incident-api-detail",
            "incident-api-acknowledge", "incident-api-note", "incident-api-release",
        ),
        lambda planted, slug: [{"pk": pk} for pk in planted[slug].unit.incident_set.values_list("pk", flat=True)],
    ),
    **dict.fromkeys(
        (
            "command-api-detail", "command-api-halt", "command-api-proceed", "command-api-abort", "command",
            "halt-command", "continue-command", "abort-command",
        ),
        lambda planted, slug: [{"pk": pk} for pk in planted[slug].unit.command_set.values_list("pk", flat=True)],
    ),
    **dict.fromkeys(
        (
            "rollout-api-detail", "rollout-api-seats", "rollout-api-pause", "rollout-api-resume",
            "rollout-api-back", "rollout-api-abort", "rollout", "pause-rollout", "resume-rollout",
            "return-rollout", "abort-rollout",
        ),
        lambda planted, slug: [{"pk": pk} for pk in planted[slug].unit.rollout_set.values_list("pk", flat=True)],
    ),
    **dict.fromkeys(
        (
            "staffing-unit", "staffing-change", "staffing-cap", "staffing-retire", "staffing-api-detail",
            "staffing-api-change", "staffing-api-cap", "staffing-api-retire",
        ),
        lambda planted, slug: [] if planted[slug].parent else [{"slug": slug}],  # of subsidiaries alone
    ),
    **dict.fromkeys(
        (
            "retirement-api-detail", "retirement-api-pause", "retirement-api-resume", "retirement-api-abort",
        ),
        lambda planted, slug: [{"pk": one.pk} for one in Retirement.objects.filter(unit=planted[slug].unit)],
    ),
    "act-on-retirement": lambda planted, slug: [
        {"pk": one.pk, "verb": verb}
        for one in Retirement.objects.filter(unit=planted[slug].unit)
        for verb in ("pause", "resume", "abort")
    ],
    **dict.fromkeys(
        ("revoke-cap", "cap-api-revoke"),
        lambda planted, slug: [{"pk": one.pk} for one in CapDelegation.objects.filter(unit=planted[slug].unit)],
    ),
    "access-person": lambda planted, slug: [{"username": one.username} for one in planted[slug].people],
    "access-revoke": lambda planted, slug: [{"binding": one.pk} for one in planted[slug].bindings],
    **dict.fromkeys(
        ("access-emergency", "access-emergency-decide", "access-emergency-end"),
        lambda planted, slug: [
            {"number": one.pk} for one in EmergencyAccess.objects.filter(unit=planted[slug].unit)
        ],
    ),
    **dict.fromkeys(
        ("emergency-detail", "emergency-decide", "emergency-end"),
        lambda planted, slug: [{"pk": one.pk} for one in EmergencyAccess.objects.filter(unit=planted[slug].unit)],
    ),
    "access-group-remove": lambda planted, slug: [{"number": one.pk} for one in planted[slug].groups],
    "group-detail": lambda planted, slug: [{"pk": one.pk} for one in planted[slug].groups],
    **dict.fromkeys(
        (
            "access-service", "access-service-deactivate", "access-service-token", "service-account-detail",
            "service-account-deactivate",
        ),
        lambda planted, slug: [{"username": planted[slug].service.username}],
    ),
    "access-service-token-revoke": lambda planted, slug: [
        {"username": planted[slug].service.username, "number": one.pk} for one in planted[slug].service.tokens.all()
    ],
    **dict.fromkeys(
        ("review-detail", "review-close"),
        lambda planted, slug: [{"pk": one.pk} for one in AccessReview.objects.filter(unit=planted[slug].unit)],
    ),
    "review-item-list": lambda planted, slug: [
        {"review": one.pk} for one in AccessReview.objects.filter(unit=planted[slug].unit)
    ],
    "review-item-decide": lambda planted, slug: [
        {"review": one.pk, "pk": item.pk}
        for one in AccessReview.objects.filter(unit=planted[slug].unit)
        for item in one.items.all()
    ],
    **dict.fromkeys(
        ("access-review", "access-review-close"),
        lambda planted, slug: [{"number": one.pk} for one in AccessReview.objects.filter(unit=planted[slug].unit)],
    ),
    "access-review-decide": lambda planted, slug: [
        {"number": one.pk, "item": item.pk}
        for one in AccessReview.objects.filter(unit=planted[slug].unit)
        for item in one.items.all()
    ],
    **dict.fromkeys(
        (
            "approval", "decide-approval", "withdraw-approval", "approval-api-detail", "approval-api-decide",
            "approval-api-withdraw", "approval-api-titles",
        ),
        lambda planted, slug: [{"pk": one.pk} for one in planted[slug].approvals],
    ),
    **dict.fromkeys(
        ("appointment-detail", "appointment-end"), lambda planted, slug: _held(Appointment, planted, slug),
    ),
    **dict.fromkeys(
        ("delegation-detail", "delegation-revoke"),
        lambda planted, slug: _held(Delegation, planted, slug, "delegator"),
    ),
    **dict.fromkeys(
        ("substitution-detail", "substitution-end"), lambda planted, slug: _held(Substitution, planted, slug),
    ),
    **dict.fromkeys(("interest-detail", "interest-end"), lambda planted, slug: _held(Interest, planted, slug)),
    **dict.fromkeys(
        ("binding-detail", "binding-revoke"),
        lambda planted, slug: [{"pk": one.pk} for one in planted[slug].bindings],
    ),
    "person-detail": lambda planted, slug: [{"username": one.username} for one in planted[slug].people],
    **dict.fromkeys(
        ("quarantined", "quarantine-replay", "quarantine-discard"),
        lambda planted, slug: [{"number": one.pk} for one in planted[slug].refused],
    ),
    **dict.fromkeys(
        ("quarantined-message-detail", "quarantined-message-replay", "quarantined-message-discard"),
        lambda planted, slug: [{"pk": one.pk} for one in planted[slug].refused],
    ),
    "admin:view_on_site": lambda planted, slug: [
        {"content_type_id": ContentType.objects.get_for_model(Unit).pk, "object_id": planted[slug].unit.pk}
    ],
}  # fmt: skip
# The same of routes whose objects are no unit's: one that exists.
COMMON: Final[Mapping[str, Callable[[Planted], Arguments]]] = {
    "message-schema": lambda planted: {"name": "kpi.sample"},
    **dict.fromkeys(
        (
            "blueprint",
            "edit-blueprint",
            "submit-blueprint",
            "withdraw-blueprint",
            "revoke-blueprint",
            "release-blueprint",
        ),
        lambda planted: {"slug": "operator", "number": 1},
    ),
    **dict.fromkeys(
        (
            "blueprint-version-detail",
            "blueprint-version-submit",
            "blueprint-version-withdraw",
            "blueprint-version-revoke",
            "blueprint-version-release",
        ),
        lambda planted: {"pk": _first(BlueprintVersion)},
    ),
    "ledger-detail": lambda planted: {"pk": planted.entry(OWN)},
    "admin:app_list": lambda planted: {"app_label": "holding"},
    "access-role": lambda planted: {"slug": "viewer"},
    "access-role-detail": lambda planted: {"slug": "viewer"},
    "end-appointment": lambda planted: {"pk": _first(Appointment)},
    **dict.fromkeys(
        ("adopt-matrix", "matrix-version-detail", "matrix-version-adopt"), lambda planted: {"number": 1}
    ),
    "revoke-invitation": lambda planted: {"number": _first(Invitation)},
    "open-invitation-revoke": lambda planted: {"pk": _first(Invitation)},
    "account-token-detail": lambda planted: {"pk": planted[OWN].service.tokens.get().pk},
    "reset": lambda planted: {"number": "x", "token": "x"},
    "invitation": lambda planted: {"token": "x"},
    "confirm-email": lambda planted: {"token": "x"},
    "openid_connect_login": lambda planted: {"provider_id": "oidc"},
    "openid_connect_callback": lambda planted: {"provider_id": "oidc"},
}
# Of routes that answer only to whom an object belongs: one that is somebody else's, and so does not exist.
FOREIGN: Final[Mapping[str, Callable[[], Arguments]]] = {
    "end-authority": lambda: {"kind": "delegation", "pk": _first(Delegation)},
    "revoke-token": lambda: {"number": NOBODY},
    "own-token-detail": lambda: {"pk": NOBODY},
    "remove-step": lambda: {"number": NOBODY},
    "message": lambda: {"name": "nothing"},
}
ALWAYS_THERE: Final = ("admin:app_list", "reset", "invitation", "confirm-email")  # whatever their arguments
ABSENT: Final[Mapping[str, Any]] = {
    "slug": "nowhere", "unit": "nowhere", "agent": "op-9999-g1", "kind": "seat", "key": str(NOBODY), "pk": NOBODY,
    "identity": "org.claytom.pricing.operator.op-9999-g1", "app_label": "holding", "content_type_id": NOBODY,
    "object_id": NOBODY, "username": "zq-nobody", "binding": NOBODY, "number": NOBODY, "item": NOBODY,
    "verb": "pause", "review": NOBODY, "provider_id": "nowhere", "name": "nothing",
}  # fmt: skip

# Values of the parameters of queries, for a unit that was planted.
PARAMETERS: Final[Mapping[str, Callable[[Planted, str], Sequence[Any]]]] = {
    "unit": lambda planted, slug: [slug],
    "division": lambda planted, slug: [planted[slug].seats[0].division.key],
    "q": lambda planted, slug: [
        planted[slug].agents[-1].agent_id, planted[slug].agents[-1].subject, planted[slug].seats[0].code,
        planted[slug].unit.name, f"org.claytom.{slug}.", "zqholder",
    ],
    "object": lambda planted, slug: [f"unit/{slug}", f"seat/{planted[slug].seats[1]}"],
    "role": lambda planted, slug: ["c-suite" if planted[slug].parent else "operator", "supervisor"],
    "state": lambda planted, slug: ["idle", "replaced", "unknown", "pending", "rejected", "taken", "all"],
    "severity": lambda planted, slug: ["critical"],
    "blueprint": lambda planted, slug: ["operator"],
    "failed": lambda planted, slug: ["1"],
    "overdue": lambda planted, slug: ["true"],
    "agent": lambda planted, slug: [planted[slug].agents[-1].subject],
    "type": lambda planted, slug: ["escalation.resolve"],
    "reason": lambda planted, slug: ["failed"],
    "standing": lambda planted, slug: ["superseded"],
    "actor": lambda planted, slug: ["arp"],
    "action": lambda planted, slug: ["unit.staff"],
    "verb": lambda planted, slug: ["pause"],
    "lifts": lambda planted, slug: [*planted[slug].unit.command_set.values_list("pk", flat=True)],
    "person": lambda planted, slug: [planted[slug].people[0].username],
    "permission": lambda planted, slug: ["units.view", "people.view"],
    **dict.fromkeys(("all", "waiting", "open", "mine"), lambda planted, slug: ["true"]),
    "group": lambda planted, slug: [f"zqgroup-{slug}"],
    "account": lambda planted, slug: [f"zqservice-{slug}"],
    **dict.fromkeys(("owner", "reviewer"), lambda planted, slug: [f"zqholder-{slug}"]),
    "email": lambda planted, slug: [f"zqinvited-{slug}"],
    "currency": lambda planted, slug: ["USD"],
    "office": lambda planted, slug: ["subsidiary-director"],
    "matter": lambda planted, slug: ["opex-budgeted", "staffing"],
    "on": lambda planted, slug: ["2099-01-01"],
    "version": lambda planted, slug: [1],
    "title": lambda planted, slug: ["x"],
    "stream": lambda planted, slug: ["CT_EVENTS", "request"],
    "stage": lambda planted, slug: ["schema", "delivery", "active", "replaced"],
    "rule": lambda planted, slug: ["schema"],
    "source": lambda planted, slug: [f"host/zqrefused-{slug}"],
    "until": lambda planted, slug: ["2099-01-01T00:00:00Z"],
    "since": lambda planted, slug: ["2026-01-01T00:00:00Z"],
    "limit": lambda planted, slug: [1, 500],
    "sort": lambda planted, slug: ["worst", "-replacements", "quality_score"],
    "kind": lambda planted, slug: ["replacements", "incidents", "ledger", "person", "silence"],
    "span": lambda planted, slug: ["24h", "30d"],
    "after": lambda planted, slug: [planted[slug].agents[0].pk, 0],
    "before": lambda planted, slug: [planted[slug].agents[-1].pk + 1, "2099-01-01T00:00:00Z"],
}  # fmt: skip
ELSEWHERE: Final = ("cursor",)  # tried by a test of its own
# The parameters of pages; those of the API are in its OpenAPI document.
QUERIES: Final[Mapping[str, Sequence[str]]] = {
    "overview": ("sort",),
    "palette": ("q",),
    "agents": ("unit", "role", "state", "stage", "q", "after", "before"),
    "enrol": ("after", "before"),
    "replacements": ("unit", "reason", "span", "after", "before"),
    "incidents": ("unit", "kind", "state", "after", "before"),
    "activity": ("kind", "before"),
    "escalations": ("unit", "state", "severity", "matter", "after", "before"),
    "commands": ("unit", "verb", "state", "after", "before"),
    "new-command": ("verb", "unit", "division", "role", "lifts"),
    "blueprints": ("blueprint", "state", "after", "before"),
    "new-blueprint": ("blueprint",),
    "rollouts": ("unit", "state", "after", "before"),
    "rollout": ("failed", "after", "before"),
    "new-rollout": ("version", "unit"),
    "export-agents": ("unit", "role", "state", "stage", "q"),
    "access": ("person", "unit", "permission", "after", "before"),
    "access-grant": ("person", "unit"),
    "access-emergencies": ("after", "before"),
    "access-reviews": ("after", "before"),
    "access-services": ("after", "before"),
    "access-groups": ("after", "before"),
    "approvals": ("state", "matter", "unit", "after", "before"),
    "new-approval": ("matter", "unit", "title"),
    "authority": ("on", "version", "unit"),
    "rates": ("after", "before"),
    "quarantine": (
        "stream",
        "stage",
        "rule",
        "source",
        "unit",
        "state",
        "since",
        "until",
        "after",
        "before",
    ),
}


def _held(model: type[Model], planted: Planted, slug: str, of: str = "person") -> Sequence[Arguments]:
    """Return what the holder of an office of the unit holds or declared."""
    return [{"pk": one.pk} for one in model._default_manager.filter(**{of: planted[slug].people[0]})]


def _first(model: type[Model]) -> Any:
    return model._default_manager.order_by("pk").values_list("pk", flat=True)[0]


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern of the URL map: its name with namespaces (or its own text), and its arguments."""

    name: str
    path: str
    arguments: tuple[str, ...]


def routes(resolver: URLResolver | None = None, prefix: str = "", spaces: str = "") -> Iterator[Route]:
    """Yield every pattern of the URL map."""
    for pattern in (resolver or get_resolver()).url_patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            inner = f"{spaces}{pattern.namespace}:" if pattern.namespace else spaces
            yield from routes(pattern, path, inner)
        elif isinstance(pattern, URLPattern):
            name = f"{spaces}{pattern.name}" if pattern.name else path
            found = (*pattern.pattern.regex.groupindex,)
            yield Route(name, path, tuple(found))


def doors(planted: Planted) -> list[Door]:
    """Return every door. Fails for a route, a list or a parameter that the tables know nothing of."""
    found: dict[str, Door] = {}
    for route in routes():
        if (listed := _listed(route)) is not None:
            continue_with: Iterator[Door] = _of_list(route, listed, planted)
        else:
            continue_with = _of_route(route, planted)
        for door in continue_with:
            found.setdefault(f"{door.kind} {door.path}", door)
    return list(found.values())


def _kind(route: Route) -> str:
    return {"api": "api", "admin": "admin"}.get(route.path.split("/", maxsplit=1)[0], "page")


def _of_route(route: Route, planted: Planted) -> Iterator[Door]:
    if _kind(route) == "admin" and not route.name.startswith("admin:"):
        return  # Django's catch-all and the old address of a change: both redirect to what is tried by name
    assert route.name in ROUTES, (
        f"The route {route.name!r} ({route.path}) has no rule: add it to ROUTES in tests/access_rules.py, with the "
        "permission that it asks for."
    )
    kind, rule = _kind(route), ROUTES[route.name]
    if not route.arguments or route.name == "api-not-found":
        path = "/api/v1/nothing/" if route.name == "api-not-found" else reverse(route.name)
        yield Door(route.name, kind, rule, path, MISSING if route.name == "api-not-found" else "")
        yield from _queried(Door(route.name, kind, rule, path, queried=True), planted)
        return
    if route.name in FOREIGN:
        yield Door(route.name, kind, rule, reverse(route.name, kwargs=FOREIGN[route.name]()), MISSING)
    elif route.name in COMMON:
        yield Door(route.name, kind, rule, reverse(route.name, kwargs=COMMON[route.name](planted)))
    else:
        assert route.name in ARGUMENTS, (
            f"The route {route.name!r} takes {', '.join(route.arguments)}: say in ARGUMENTS (or COMMON) of "
            "tests/doors.py what they are for a unit."
        )
        for slug in UNITS:
            for arguments in ARGUMENTS[route.name](planted, slug):
                yield Door(route.name, kind, rule, reverse(route.name, kwargs=arguments), slug)
    if route.name not in ALWAYS_THERE:
        missing = {argument: ABSENT[argument] for argument in route.arguments}
        yield Door(route.name, kind, rule, reverse(route.name, kwargs=missing), MISSING)


def _queried(door: Door, planted: Planted) -> Iterator[Door]:
    names = parameters().get(door.path, ()) if door.kind == "api" else QUERIES.get(door.name, ())
    for name in names:
        if name in ELSEWHERE:
            continue
        assert name in PARAMETERS, (
            f"{door.path} takes {name!r}: say in PARAMETERS of tests/doors.py what values it has."
        )
        for slug in UNITS:
            for value in PARAMETERS[name](planted, slug):
                query = urlencode({name: value})
                yield Door(door.name, door.kind, door.rule, f"{door.path}?{query}", queried=True)


_parameters: dict[str, tuple[str, ...]] = {}


def parameters() -> Mapping[str, tuple[str, ...]]:
    """Return the query parameters of each address of the API, by its OpenAPI document."""
    if not _parameters:
        for path, operations in document()["paths"].items():
            named = [one["name"] for one in operations.get("get", {}).get("parameters", []) if one["in"] == "query"]
            _parameters[path] = tuple(named)
    return _parameters


_document: dict[str, Any] = {}


def document(client: Client | None = None) -> dict[str, Any]:
    """Return the OpenAPI document, once it was read by a client that may."""
    if client is not None:
        _document.update(json.loads(client.get("/api/schema/").content))
    return _document


# --- the administration ------------------------------------------------------------------------------------


def _listed(route: Route) -> type[Model] | None:
    """Return the model whose list in the administration a route belongs to."""
    if not route.name.startswith("admin:"):
        return None
    app, _, rest = route.name.removeprefix("admin:").partition("_")
    for model in admin.site._registry:
        meta = model._meta
        pages = [f"{meta.model_name}_{page}" for page in ("changelist", "add", "history", "delete", "change")]
        if app == meta.app_label and rest in pages:
            return model
    return None


def _of_list(route: Route, model: type[Model], planted: Planted) -> Iterator[Door]:
    label, page = model._meta.label_lower, route.name.rpartition("_")[2]
    assert label in LISTS, (
        f"The administration lists {label}: add it to LISTS in tests/access_rules.py, with the permissions to "
        "look and to write (CLOSED: nobody)."
    )
    look, write = LISTS[label]
    rule = write if page in ("add", "delete") else look
    if page == "delete" and label in KEPT:
        rule = CLOSED
    if page == "add":
        yield Door(route.name, "admin", rule, reverse(route.name))
    elif page == "changelist":
        path = reverse(route.name)
        yield Door(route.name, "admin", rule, path)
        for query in _admin_queries(admin.site._registry[model], planted):
            yield Door(route.name, "admin", rule, f"{path}?{query}", queried=True)
    else:
        for slug, key in _rows(model, planted):
            yield Door(route.name, "admin", rule, reverse(route.name, args=[key]), slug)


def _rows(model: type[Model], planted: Planted) -> Iterator[tuple[str, Any]]:
    """Yield rows of a model: of every unit where they belong to units, else one; and one that does not exist."""
    place = getattr(model, "UNIT", None)
    rows = model._default_manager.order_by("-pk")
    if place is None:
        first = rows.first()
        if first is not None:
            yield "", first.pk
    else:
        for slug in UNITS:
            for row in rows.filter(**{place: planted[slug].unit.pk})[:2]:
                yield slug, row.pk
    if model._meta.pk is not None and model._meta.pk.get_internal_type() != "UUIDField":
        yield MISSING, NOBODY


def _admin_queries(listed: "ModelAdmin[Any]", planted: Planted) -> Iterator[str]:
    """Yield the queries of a list: its search, its filters with every unit, orders, and a guessed column."""
    words = [value for slug in UNITS for value in PARAMETERS["q"](planted, slug)] if listed.search_fields else []
    yield from (urlencode({"q": word}) for word in words)
    filters = [one for one in listed.list_filter if isinstance(one, str)]
    for name, slug in product(filters, UNITS):
        if name == "unit":
            yield urlencode({"unit__id__exact": planted[slug].unit.pk})
    for slug in UNITS:
        yield urlencode({"unit__slug__startswith": slug[:2]})
    yield from (urlencode({"o": order}) for order in ("1", "-2"))
    yield "all="
