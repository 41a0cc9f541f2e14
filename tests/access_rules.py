"""Who may do what, written by hand: the expectation of the access matrix. The portal's code is not asked.

A new route, list of the administration or parameter fails the matrix until it has a line here.
"""

from collections.abc import Mapping
from typing import Final

OPEN: Final = "open"
SIGNED_IN: Final = "signed-in"
CLEARED: Final = "cleared"
CLOSED: Final = "closed"  # to everybody

Rule = str | Mapping[str, str]
"""What an address asks for: to be read, when it is nothing else; or by method, where others are offered."""


def _post(rule: str) -> Rule:
    return {"POST": rule}


def _form(rule: str) -> Rule:
    return {"GET": rule, "POST": rule}


ROUTES: Final[Mapping[str, Rule]] = {
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
    "replacement": "units.view",
    "incidents": "units.view",
    "incident": "units.view",
    "acknowledge-incident": _post("escalations.decide"),
    "note-incident": _post("escalations.decide"),
    "release-brake": _post("commands.issue"),
    "activity": "units.view",
    "escalations": "units.view",
    "escalation": "units.view",
    "take-escalation": _post("escalations.decide"),
    "assign-escalation": _post("escalations.decide"),
    "resolve-escalation": _post("escalations.decide"),
    "commands": "units.view",
    "command": "units.view",
    "new-command": _form("commands.pause"),  # the service asks for what the command itself needs
    "halt-command": _post("commands.pause"),
    "continue-command": _post("commands.pause"),
    "abort-command": _post("commands.pause"),
    "blueprints": "units.view",
    "blueprint": "units.view",
    "new-blueprint": _form("blueprints.manage"),
    "edit-blueprint": _form("blueprints.manage"),
    **dict.fromkeys(
        ("submit-blueprint", "withdraw-blueprint", "revoke-blueprint", "release-blueprint"),
        _post("blueprints.manage"),
    ),
    "rollouts": "units.view",
    "rollout": "units.view",
    "new-rollout": _form("rollouts.manage"),  # the service asks for it where the rollout is
    **dict.fromkeys(
        ("pause-rollout", "resume-rollout", "return-rollout", "abort-rollout"), _post("rollouts.manage")
    ),
    "staffing": "units.view",
    "staffing-unit": "units.view",
    "staffing-change": _form("approvals.request"),  # the service asks for it in that unit
    "staffing-cap": _form("approvals.request"),
    "staffing-retire": _form("commands.issue"),
    "revoke-cap": _post("commands.issue"),
    "act-on-retirement": _post("commands.issue"),
    "enrol": "units.view",
    "offer-seat": _form("agents.enrol"),
    "enrolment": "units.view",
    "withdraw-enrolment": _post("agents.enrol"),
    "isolate-agent": _post("commands.issue"),
    "release-agent": _post("commands.issue"),
    "order-succession": _post("commands.issue"),
    "export-agents": "exports.create",
    "ask-export": _post("approvals.request"),
    # pages about access: to look, one must see people; who grants, reviews or decides holds that as well
    "access": "people.view",
    "access-person": "people.view",
    "access-grant": _form("bindings.grant"),
    "access-revoke": _post("bindings.grant"),
    "access-roles": "people.view",
    "access-role-define": _form("roles.manage"),
    "access-role": _form("roles.manage"),
    "access-emergencies": "people.view",
    "access-emergency": "people.view",
    "access-emergency-ask": _post("break-glass.request"),
    "access-emergency-decide": _post("break-glass.approve"),
    "access-emergency-end": _post("people.view"),  # one's own; the service asks for more
    "access-groups": "people.view",
    "access-group-add": _post("bindings.grant"),
    "access-group-remove": _post("bindings.grant"),
    "access-services": "people.view",
    "access-service-create": _post("people.manage"),
    "access-service": "people.view",
    "access-service-deactivate": _post("people.manage"),
    "access-service-token": _form("tokens.manage"),
    "access-service-token-revoke": _post("tokens.manage"),
    "access-reviews": "reviews.conduct",
    "access-review": "reviews.conduct",
    "access-review-open": _post("reviews.conduct"),
    "access-review-close": _post("reviews.conduct"),
    "access-review-decide": _post("reviews.conduct"),
    # the quarantine
    "quarantine": "quarantine.view",
    "quarantined": "quarantine.view",
    "quarantine-replay": _post("quarantine.decide"),
    "quarantine-discard": _post("quarantine.decide"),
    "quarantined-message-list": {"GET": "quarantine.view"},
    "quarantined-message-detail": {"GET": "quarantine.view"},
    "quarantined-message-replay": _post("quarantine.decide"),
    "quarantined-message-discard": _post("quarantine.decide"),
    "suspect-list": {"GET": "quarantine.view"},
    # approvals and authority
    "approvals": "authority.view",
    "approval": "authority.view",
    "new-approval": _form("approvals.request"),
    "decide-approval": _post("approvals.decide"),
    "withdraw-approval": _post("approvals.request"),
    "authority": "authority.view",
    "rates": "authority.view",
    "record-rate": _post("authority.manage"),
    "my-authority": _form("authority.view"),
    "end-authority": _post("authority.view"),  # one's own
    "draft-matrix": _form("authority.manage"),
    "adopt-matrix": _form("authority.manage"),
    "appoint": _post("authority.manage"),
    "end-appointment": _post("authority.manage"),
    # sign-in: to strangers
    **dict.fromkeys(
        (
            "account_login", "mfa_authenticate", "passkey", "provider", "openid_connect_login",
            "openid_connect_callback", "reset-ask", "reset-password", "reset", "invitation",
        ),
        OPEN,
    ),
    # one's own account: also without the clearance, so that somebody can make ready to get it
    "second-steps": SIGNED_IN,
    **dict.fromkeys(
        (
            "account", "email", "confirm-email", "password", "confirm", "add-app", "add-key", "codes",
            "remove-step", "sessions", "tokens",
        ),
        _form(SIGNED_IN),
    ),
    "revoke-token": _post(SIGNED_IN),
    "invitations": _form("people.manage"),
    "revoke-invitation": _post("people.manage"),
    "mail": "mail.view",
    "message": "mail.view",
    # API
    "api-schema": CLEARED,
    "asyncapi": CLEARED,
    "message-schema": CLEARED,
    "api-not-found": CLEARED,
    "overview-api": "units.view",
    "unit-list": "units.view",
    "unit-detail": "units.view",
    "seat-list": "units.view",
    "seat-detail": "units.view",
    "agent-list": {"GET": "units.view"},
    "agent-detail": {"GET": "units.view"},
    "agent-quarantine": _post("commands.issue"),
    "agent-release": _post("commands.issue"),
    "enrol-api": _post("agents.enrol"),
    "agent-credentials": _post(OPEN),  # what opens is the token, or the proof of a key
    "enrolment-list": {"GET": "units.view"},
    "enrolment-detail": {"GET": "units.view"},
    "enrolment-withdraw": _post("agents.enrol"),
    "replacement-list": "units.view",
    "replacement-detail": "units.view",
    "fenced-host-list": "units.view",
    "incident-api-list": {"GET": "units.view"},
    "incident-api-detail": {"GET": "units.view"},
    "incident-api-acknowledge": _post("escalations.decide"),
    "incident-api-note": _post("escalations.decide"),
    "incident-api-release": _post("commands.issue"),
    "service-level-list": "units.view",
    "back-off-list": "units.view",
    "kpi-list": "units.view",
    "message-api-list": "units.view",
    "message-api-detail": "units.view",
    "escalation-api-list": {"GET": "units.view"},
    "escalation-api-detail": {"GET": "units.view"},
    "escalation-api-take": _post("escalations.decide"),
    "escalation-api-assign": _post("escalations.decide"),
    "escalation-api-resolve": _post("escalations.decide"),
    "blueprint-version-list": {"GET": "units.view", "POST": "blueprints.manage"},
    "blueprint-version-detail": {"GET": "units.view", "PATCH": "blueprints.manage"},
    **dict.fromkeys(
        (
            "blueprint-version-submit", "blueprint-version-withdraw", "blueprint-version-revoke",
            "blueprint-version-release",
        ),
        _post("blueprints.manage"),
    ),
    "rollout-api-list": {"GET": "units.view", "POST": "rollouts.manage"},
    "rollout-api-detail": {"GET": "units.view"},
    "rollout-api-seats": {"GET": "units.view"},
    **{f"rollout-api-{act}": _post("rollouts.manage") for act in ("preview", "pause", "resume", "back", "abort")},
    "command-api-list": {"GET": "units.view", "POST": "commands.pause"},
    "command-api-detail": {"GET": "units.view"},
    "command-api-halt": _post("commands.pause"),  # the service asks for what the command itself needs
    "command-api-proceed": _post("commands.pause"),
    "command-api-abort": _post("commands.pause"),
    "staffing-api-list": {"GET": "units.view"},
    "staffing-api-detail": {"GET": "units.view"},
    "staffing-api-change": _post("approvals.request"),
    "staffing-api-cap": _post("approvals.request"),
    "staffing-api-retire": _post("commands.issue"),
    "retirement-api-list": {"GET": "units.view"},
    "retirement-api-detail": {"GET": "units.view"},
    "retirement-api-pause": _post("commands.issue"),
    "retirement-api-resume": _post("commands.issue"),
    "retirement-api-abort": _post("commands.issue"),
    "cap-api-list": {"GET": "units.view"},
    "cap-api-revoke": _post("commands.issue"),
    "ledger-list": "ledger.view",
    "ledger-detail": "ledger.view",
    "binding-list": {"GET": "people.view", "POST": "bindings.grant"},
    "binding-detail": {"GET": "people.view"},
    "binding-revoke": _post("bindings.grant"),
    "access-role-list": {"GET": "people.view", "POST": "roles.manage"},
    "access-role-detail": {"GET": "people.view", "PATCH": "roles.manage"},
    "group-list": {"GET": "people.view", "POST": "bindings.grant"},
    "group-detail": {"DELETE": "bindings.grant"},
    "service-account-list": {"GET": "people.view", "POST": "people.manage"},
    "service-account-detail": {"GET": "people.view"},
    "service-account-deactivate": _post("people.manage"),
    "account-token-list": {"GET": "tokens.manage", "POST": "tokens.manage"},
    "account-token-detail": {"DELETE": "tokens.manage"},
    "own-token-list": {"GET": CLEARED, "POST": CLEARED},
    "own-token-detail": {"DELETE": CLEARED},
    "emergency-list": {"GET": "people.view", "POST": "break-glass.request"},
    "emergency-detail": {"GET": "people.view"},
    "emergency-decide": _post("break-glass.approve"),
    "emergency-end": _post("people.view"),  # one's own; the service asks for more
    "review-list": {"GET": "reviews.conduct", "POST": "reviews.conduct"},
    "review-detail": {"GET": "reviews.conduct"},
    "review-close": _post("reviews.conduct"),
    "review-item-list": {"GET": "reviews.conduct"},
    "review-item-decide": _post("reviews.conduct"),
    "open-invitation-list": {"GET": "people.manage", "POST": "people.manage"},
    "open-invitation-revoke": _post("people.manage"),
    "person-list": "people.view",
    "person-detail": "people.view",
    "matrix-api": "authority.view",
    "approval-api-list": {"GET": "authority.view", "POST": "approvals.request"},
    "approval-api-detail": {"GET": "authority.view"},
    "approval-api-decide": _post("approvals.decide"),
    "approval-api-withdraw": _post("approvals.request"),
    "approval-api-titles": {"GET": "approvals.decide"},
    "matrix-version-list": {"GET": "authority.view", "POST": "authority.manage"},
    "matrix-version-detail": {"GET": "authority.view"},
    "matrix-version-adopt": _post("authority.manage"),
    "rate-list": {"GET": "authority.view", "POST": "authority.manage"},
    "office-list": "authority.view",
    "appointment-list": {"GET": "authority.view", "POST": "authority.manage"},
    "appointment-detail": {"GET": "authority.view"},
    "appointment-end": _post("authority.manage"),
    **{
        name: rule
        for kind, end in (("delegation", "revoke"), ("substitution", "end"), ("interest", "end"))
        for name, rule in {
            f"{kind}-list": _form("authority.view"),  # one's own are made
            f"{kind}-detail": {"GET": "authority.view"},
            f"{kind}-{end}": _post("authority.view"),  # and ended
        }.items()
    },
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
}  # fmt: skip

# The permission for a unit by which the object of an address is seen; of all others: units.view.
SEEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "access-person", "access-revoke", "access-emergency", "access-emergency-decide", "access-emergency-end",
            "binding-detail", "binding-revoke", "person-detail", "access-group-remove", "group-detail",
            "access-service", "access-service-deactivate", "access-service-token", "access-service-token-revoke",
            "service-account-detail", "service-account-deactivate", "emergency-detail", "emergency-decide",
            "emergency-end",
        ),
        "people.view",
    ),
    **dict.fromkeys(
        (
            "quarantined", "quarantine-replay", "quarantine-discard", "quarantined-message-detail",
            "quarantined-message-replay", "quarantined-message-discard",
        ),
        "quarantine.view",
    ),
    **dict.fromkeys(
        (
            "access-review", "access-review-close", "access-review-decide", "review-detail", "review-close",
            "review-item-list", "review-item-decide",
        ),
        "reviews.conduct",
    ),
    **dict.fromkeys(
        (
            "approval", "decide-approval", "withdraw-approval", "approval-api-detail", "approval-api-decide",
            "approval-api-withdraw", "approval-api-titles", "appointment-detail", "appointment-end",
            "delegation-detail", "delegation-revoke", "substitution-detail", "substitution-end", "interest-detail",
            "interest-end",
        ),
        "authority.view",
    ),
}  # fmt: skip

KEPT: Final = frozenset({"access.user"})
"""Lists of the administration whose rows nobody deletes, whoever may write them: the ledger names them."""

# Lists of the administration: what one must hold to look, and to write (CLOSED: nobody writes). Only units.view
# is enough for a part of the holding, since only rows of units are cut to what is in view.
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
    "bus.directedmessage": ("bus.view", CLOSED),
    "escalations.escalation": ("people.view", CLOSED),  # it names who has it
    "escalations.step": ("people.view", CLOSED),
    "bus.quarantinedmessage": ("bus.view", CLOSED),
    "bus.suspect": ("bus.view", CLOSED),
    "bus.faileddelivery": ("bus.view", CLOSED),
    "bus.refusalwindow": ("bus.view", CLOSED),
    "bus.counter": ("bus.view", CLOSED),
    "access.groupmapping": ("people.view", "bindings.grant"),
    **{
        f"access.{model}": ("people.view", CLOSED)
        for model in ("accessrole", "rolebinding", "emergencyaccess", "accessreview", "reviewitem", "invitation")
    },
    **{
        f"authority.{model}": ("authority.view", CLOSED)
        for model in (
            "matter", "office", "matrixversion", "rule", "appointment", "delegation", "substitution", "interest",
            "approval", "level", "decision", "exchangerate",
        )
    },
    "replacement.incidentstep": ("people.view", CLOSED),  # it names people
    "replacement.allowance": ("authority.view", CLOSED),  # it names the approval
    "portal.export": ("ledger.view", CLOSED),  # who took what out is of the same kind as the ledger
    "bus.watermark": ("bus.view", CLOSED),
    "bus.lease": ("bus.view", CLOSED),
    "performance.samplekey": ("bus.view", CLOSED),
    **{
        f"{app}.{model}": ("units.view", CLOSED)
        for app, models in {
            "enrolment": ("enrolment",),
            "holding": (
                "holding", "sector", "unit", "body", "role", "division", "blueprint", "blueprintversion", "seat",
                "agent", "incumbency", "stagechange", "mandate", "architecture", "suspension",
            ),
            "commands": ("command", "target"),
            "performance": ("kpisample", "kpilatest", "kpiminute", "kpicoverage"),
            "replacement": (
                "divisionstate", "seatstate", "census", "unitfloor", "monitor", "staffingrule", "replacement",
                "incident", "fencedhost", "successor", "rollout", "rolloutunit", "rolloutseat", "surgeseat",
                "crashrule", "staffingplan", "capdelegation", "retirement", "retiree", "seatbackoff",
                "versionstanding", "floorbreach", "doubleholder", "servicelevel",
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
    "authority_appointment": "about people: who may decide is judged for units that whoever acts need not see",
    "authority_interest": "about people: whoever has an interest is recused, whatever is in view of who judges",
}
