"""Who knocks at the doors of the access matrix: each kind of account, and what it may do by its bindings."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from django.test import Client
from django.utils import timezone

from holding.models import Unit
from holding.scope import VIEW
from iam.access.confirmation import CONFIRMED
from iam.access.models import AccessRole, ApiToken, User
from iam.access.permissions import PERMISSIONS
from iam.access.services import token_digest
from iam.access.tests.factories import make_binding

OWN: Final = "pricing"
OTHER: Final = "tax"
THIRD: Final = "cloud"
PARENT: Final = "corporate"
UNITS: Final = (PARENT, OWN, OTHER, THIRD)
DAY: Final = timedelta(days=1)
CLERK: Final = ("admin.use", "bus.view")

Held = dict[str, frozenset[str] | None]
"""Slugs of the units of each permission; None for the whole holding."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A binding: its role, its unit (empty: the whole holding), and whether it is one that counts now."""

    role: str
    unit: str = ""
    state: str = ""  # "expired", "revoked", "future"; empty: it counts


@dataclass(frozen=True, slots=True)
class Shown:
    """A token: the permissions and the unit that it is narrowed to, and whether it has expired."""

    permissions: tuple[str, ...] = ()
    unit: str = ""
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """What an account is made of."""

    bound: tuple[Bound, ...] = ()
    token: Shown | None = None
    kind: str = "person"
    cleared: bool = True
    active: bool = True
    staff: bool = False
    superuser: bool = False


ACCOUNTS: Final[Mapping[str, Account | None]] = {
    "anonymous": None,
    "uncleared": Account((Bound("executive"),), cleared=False, staff=True),
    "inactive": Account((Bound("administrator"),), active=False, staff=True, superuser=True),
    "unbound": Account(),
    "administrator": Account((Bound("administrator"),), staff=True, superuser=True),
    "administrator-by-role": Account((Bound("administrator"),), staff=True),
    "executive": Account((Bound("executive"),)),
    "auditor": Account((Bound("auditor"),)),
    "head": Account((Bound("subsidiary-head", OWN),)),
    "head-of-another": Account((Bound("subsidiary-head", OTHER),)),
    "head-of-the-parent": Account((Bound("subsidiary-head", PARENT),)),
    "supervisor": Account((Bound("supervisor", OWN),)),
    "viewer": Account((Bound("viewer", OWN),)),
    "viewer-of-two": Account((Bound("viewer", OWN), Bound("viewer", THIRD))),
    "administrator-of-a-unit": Account((Bound("administrator", OWN),), staff=True),
    "clerk": Account((Bound("clerk"), Bound("viewer", OWN)), staff=True),
    "supervising-clerk": Account((Bound("clerk"), Bound("supervisor", OWN)), staff=True),
    "supervisor-and-viewer": Account((Bound("supervisor", OWN), Bound("viewer", THIRD))),
    "expired": Account((Bound("executive", state="expired"),)),
    "revoked": Account((Bound("subsidiary-head", OWN, "revoked"), Bound("executive", state="revoked"))),
    "tomorrow": Account((Bound("administrator", state="future"),), staff=True),
    "narrowed-by-time": Account((Bound("executive", state="expired"), Bound("viewer", OWN))),
    "service": Account((Bound("integration", OWN),), Shown(), kind="service"),
    "agent": Account((Bound("integration", OTHER),), Shown(), kind="agent"),
    "token-of-the-ledger": Account((Bound("executive"),), Shown(("ledger.view",))),
    "token-of-a-unit": Account((Bound("administrator"),), Shown(unit=OWN), superuser=True),
    "token-of-a-foreign-unit": Account((Bound("viewer", OWN),), Shown(unit=OTHER)),
    "token-expired": Account((Bound("executive"),), Shown(expired=True)),
    "token-uncleared": Account((Bound("executive"),), Shown(), cleared=False),
}


@dataclass(slots=True)
class Principal:
    """Somebody who asks: with a session, with a token, or with nothing."""

    name: str
    account: Account | None
    held: Held = field(default_factory=dict)
    user: User | None = None
    token: str = ""

    def client(self) -> Client:
        """Return a browser that is signed in, or a program that shows its token."""
        headers = {"Accept-Language": "en"} | ({"Authorization": f"Bearer {self.token}"} if self.token else {})
        client = Client(headers=headers)
        if self.user and not self.token:
            client.force_login(self.user)
            session = client.session
            session[CONFIRMED] = time.time() + DAY.total_seconds()  # else pages of the account only lead elsewhere
            session.save()
            client.get("/theme/")  # begins the session's limits here, where no attempt takes them back
        return client

    def standing(self, kind: str) -> str:
        """Return what it is to doors of a kind: "stranger", "uncleared" or "cleared"."""
        account = self.account
        if account is None or not account.active:
            return "stranger"
        if account.token is None:
            return "cleared" if account.cleared else "uncleared"
        usable = kind == "api" and account.cleared and not account.token.expired
        return "cleared" if usable else "stranger"

    @property
    def staff(self) -> bool:
        """Whether it has the mark that the administration asks for."""
        return bool(self.account and self.account.staff and not self.account.token)

    def holds(self, code: str | None) -> bool:
        """Return whether it holds the permission for anything."""
        return code is not None and code in self.held

    def sees(self, unit: str) -> bool:
        """Return whether the unit is in its view."""
        return self.reaches(unit, VIEW)

    def reaches(self, unit: str, code: str) -> bool:
        """Return whether it holds the permission for the unit."""
        seen = self.held.get(code, frozenset())
        return seen is None or unit in seen

    def holds_everywhere(self, code: str | None) -> bool:
        """Return whether it holds the permission for the whole holding."""
        return self.holds(code) and self.held[code or ""] is None


def make_principals() -> list[Principal]:
    """Create every account of `ACCOUNTS` with its bindings and its token."""
    owner = User.objects.create(username="owner-of-accounts")
    AccessRole.objects.create(slug="clerk", name_es="x", name_en="x", permissions=list(CLERK))
    return [_make(name, account, owner) for name, account in ACCOUNTS.items()]


def _make(name: str, account: Account | None, owner: User) -> Principal:
    if account is None:
        return Principal(name, None)
    user = User.objects.create(  # without a password: to hash so many takes longer than all the rest
        username=name,
        cleared=account.cleared,
        is_active=account.active,
        is_staff=account.staff,
        is_superuser=account.superuser,
        kind=account.kind,
        owner=None if account.kind == "person" else owner,
    )
    for bound in account.bound:
        _bind(user, bound)
    held = _held(account) if account.active and account.cleared else {}
    principal = Principal(name, account, held, user)
    if account.token:
        principal.token = f"token-of-{name}"
        ApiToken.objects.create(
            user=user,
            name="matrix",
            digest=token_digest(principal.token),
            permissions=list(account.token.permissions),
            unit=_unit(account.token.unit),
            expires_at=timezone.now() - DAY if account.token.expired else None,
        )
    return principal


def _unit(slug: str) -> Unit | None:
    return Unit.objects.get(slug=slug) if slug else None


def _bind(user: User, bound: Bound) -> None:
    now = timezone.now()
    times = {
        "": {},
        "expired": {"starts_at": now - 2 * DAY, "expires_at": now - DAY},
        "revoked": {"starts_at": now - 2 * DAY, "revoked_at": now - DAY},
        "future": {"starts_at": now + DAY},
    }[bound.state]
    make_binding(user, bound.role, _unit(bound.unit), **times)


def _held(account: Account) -> Held:
    """What follows from the bindings that count, narrowed by the token; said here without the portal's code."""
    held: Held = dict.fromkeys(PERMISSIONS) if account.superuser else {}
    for bound in account.bound:
        if bound.state:
            continue
        for code in AccessRole.objects.get(slug=bound.role).permissions:
            before = held.get(code, frozenset())
            held[code] = None if before is None or not bound.unit else before | _below(bound.unit)
    if account.token and account.token.permissions:
        held = {code: units for code, units in held.items() if code in account.token.permissions}
    if account.token and account.token.unit:
        narrow = _below(account.token.unit)
        held = {code: narrow if units is None else units & narrow for code, units in held.items()}
    return {code: units for code, units in held.items() if units is None or not PERMISSIONS[code].wide}


def _below(unit: str) -> frozenset[str]:
    return frozenset(UNITS if unit == PARENT else (unit,))


def named(principals: Iterable[Principal], name: str) -> Principal:
    """Return the principal of that name."""
    return next(principal for principal in principals if principal.name == name)
