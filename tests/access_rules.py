"""Who may do what, written by hand: the expectation of the access matrix. The portal's code is not asked.

A new route, list of the administration or parameter fails the matrix until it has a line here.
"""

from collections.abc import Mapping
from typing import Final

OPEN: Final = "open"
SIGNED_IN: Final = "signed-in"
CLEARED: Final = "cleared"
CLOSED: Final = "closed"  # to everybody

ROUTES: Final[Mapping[str, str]] = {
    # pages
    "overview": "units.view",
    "sign-in": OPEN,
    "sign-out": OPEN,
    "language": OPEN,
    "theme": OPEN,
    "palette": "units.view",
    "unit": "units.view",
    "agent": "units.view",
    "agents": "units.view",
    "organisation": "units.view",
    "field": "units.view",
    "children": "units.view",
    "replacements": "units.view",
    "activity": "units.view",
    # API
    "api-schema": CLEARED,
    "api-not-found": CLEARED,
    "overview-api": "units.view",
    "unit-list": "units.view",
    "unit-detail": "units.view",
    "seat-list": "units.view",
    "seat-detail": "units.view",
    "agent-list": "units.view",
    "agent-detail": "units.view",
    "replacement-list": "units.view",
    "replacement-detail": "units.view",
    "kpi-list": "units.view",
    "ledger-list": "ledger.view",
    "ledger-detail": "ledger.view",
    # the administration, besides its lists
    "admin:index": "admin.use",
    "admin:login": "admin.use",
    "admin:logout": "admin.use",
    "admin:password_change": "admin.use",
    "admin:password_change_done": "admin.use",
    "admin:autocomplete": "admin.use",
    "admin:jsi18n": "admin.use",
    "admin:view_on_site": "admin.use",
    "admin:app_list": "admin.use",
}

# Lists of the administration: what one must hold to look, and to write (CLOSED: nobody writes).
LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "access.user": ("people.view", "people.manage"),
    "access.apitoken": ("tokens.manage", "tokens.manage"),
    "auth.group": (CLOSED, CLOSED),
    "audit.ledgerentry": ("ledger.view", CLOSED),
    "audit.unsealedentry": ("ledger.view", CLOSED),
    "audit.leaf": ("ledger.view", CLOSED),
    "audit.treehead": ("ledger.view", CLOSED),
    "bus.outboxmessage": ("bus.view", CLOSED),
    "bus.handledmessage": ("bus.view", CLOSED),
    "bus.quarantinedmessage": ("bus.view", CLOSED),
    "bus.counter": ("bus.view", CLOSED),
    "performance.watermark": ("bus.view", CLOSED),
    "performance.samplekey": ("bus.view", CLOSED),
    **{
        f"{app}.{model}": ("units.view", CLOSED)
        for app, models in {
            "holding": (
                "holding", "sector", "unit", "body", "role", "division", "blueprint", "blueprintversion", "seat",
                "agent", "incumbency", "mandate", "architecture",
            ),
            "performance": ("kpisample", "kpilatest", "kpiminute", "kpicoverage"),
            "replacement": (
                "divisionstate", "seatstate", "census", "unitfloor", "monitor", "staffingrule", "replacement",
                "incident",
            ),
        }.items()
        for model in models
    },
}  # fmt: skip

# Tables that name a unit, seat, division or agent and are not protected by row-level security, and why.
UNPROTECTED: Final[Mapping[str, str]] = {
    "holding_mandate": "mandates are the holding's, known to all; a seat of the parent company owns each",
    "holding_architecture": "architectures are the holding's, known to all; a seat of the parent company owns each",
    "access_rolebinding": "read before any unit is in view, to find out which are",
    "access_apitoken": "read before any unit is in view; its unit narrows it",
    "access_groupmapping": "what a group of the identity provider gives: read while somebody signs in",
    "access_emergencyaccess": "about people, not about the unit's rows",
    "access_accessreview": "about people, not about the unit's rows",
    "access_invitation": "about people; read by a stranger who accepts it",
}
