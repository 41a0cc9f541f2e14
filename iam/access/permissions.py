"""What may be done: one code for each kind of act, and the roles that the portal brings.

A permission is held for units (a role binding names the unit it is for). Those marked `wide` are about the
holding as a whole and count only when they are bound for the whole holding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Permission:
    """A kind of act: its name for people, and whether it is about the holding as a whole."""

    name: str | Promise
    wide: bool = False


PERMISSIONS: Final[Mapping[str, Permission]] = {
    "units.view": Permission(_("see units: staffing, agents, KPIs, replacements")),
    "agents.enrol": Permission(_("bring agents of one's own: give seats to them, and take them back")),
    "staffing.manage": Permission(_("change the rules of replacement"), wide=True),
    "commands.pause": Permission(_("pause and resume agents, ask hosts for a full report")),
    "commands.issue": Permission(_("retire agents, hand divisions over, set what hosts go by")),
    "blueprints.manage": Permission(_("draft, submit and revoke blueprint versions"), wide=True),
    "rollouts.manage": Permission(_("roll blueprint versions out, pause them and roll them back")),
    "exports.create": Permission(_("export data")),
    "people.view": Permission(_("see people and what they may do")),
    "people.manage": Permission(_("invite, change and deactivate people"), wide=True),
    "bindings.grant": Permission(_("grant and revoke roles that one holds oneself")),
    "roles.manage": Permission(_("define roles"), wide=True),
    "tokens.manage": Permission(_("issue and revoke tokens of service accounts"), wide=True),
    "reviews.conduct": Permission(_("review who has access")),
    "break-glass.request": Permission(_("ask for emergency access")),
    "break-glass.approve": Permission(_("approve emergency access"), wide=True),
    "authority.view": Permission(_("see the delegation of authority")),
    "authority.manage": Permission(_("appoint to offices, draft the matrix"), wide=True),
    "approvals.request": Permission(_("ask for approvals")),
    "approvals.decide": Permission(_("decide approvals, within one's authority")),
    "escalations.decide": Permission(_("take and decide escalations")),
    "ledger.view": Permission(_("read the ledger"), wide=True),
    "bus.view": Permission(_("see messages of the bus and its quarantine"), wide=True),
    "quarantine.view": Permission(_("see refused messages and suspect sources")),
    "quarantine.decide": Permission(_("send refused messages again, or discard them")),
    "mail.view": Permission(_("see outgoing mail kept on this machine"), wide=True),
    "admin.use": Permission(_("open the administration"), wide=True),
}

_EVERYBODY: Final = ("units.view", "authority.view", "people.view")
BUILT_IN: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    # Spanish and English name, permissions
    "administrator": ("Administración", "Administrator", tuple(PERMISSIONS)),
    "executive": (
        "Alta dirección",
        "Executive",
        (
            *_EVERYBODY,
            "commands.pause",
            "commands.issue",
            "blueprints.manage",
            "rollouts.manage",
            "exports.create",
            "reviews.conduct",
            "break-glass.request",
            "break-glass.approve",
            "approvals.request",
            "approvals.decide",
            "escalations.decide",
            "ledger.view",
            "quarantine.view",
        ),
    ),
    "auditor": (
        "Auditoría",
        "Auditor",
        (*_EVERYBODY, "exports.create", "reviews.conduct", "ledger.view", "bus.view", "quarantine.view"),
    ),
    "subsidiary-head": (
        "Dirección de filial",
        "Head of a subsidiary",
        (
            *_EVERYBODY,
            "commands.pause",
            "commands.issue",
            "rollouts.manage",
            "exports.create",
            "bindings.grant",
            "reviews.conduct",
            "break-glass.request",
            "approvals.request",
            "approvals.decide",
            "escalations.decide",
            "quarantine.view",
            "quarantine.decide",
        ),
    ),
    "supervisor": (
        "Supervisión humana",
        "Human supervisor",
        (
            *_EVERYBODY,
            "commands.pause",
            "approvals.request",
            "approvals.decide",
            "escalations.decide",
            "quarantine.view",
        ),
    ),
    "viewer": ("Consulta", "Viewer", ("units.view",)),
    "integration": ("Integración", "Integration", ("units.view",)),
}
