"""How the portal writes approvals: their state, and values in the measure of their matter."""

from decimal import Decimal

from django import template
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from iam.authority.models import Approval, Matter
from iam.authority.services import RuleText
from portal.templatetags.portal import number, pill

register = template.Library()
LOOKS = {
    Approval.State.PENDING: "warn",
    Approval.State.APPROVED: "ok",
    Approval.State.EXECUTED: "ok",
    Approval.State.FAILED: "crit",
    Approval.State.REJECTED: "crit",
}


@register.simple_tag
def approval_state(approval: Approval) -> SafeString:
    """Return an approval's state as a pill."""
    return pill(LOOKS.get(Approval.State(approval.state), "idle"), approval.get_state_display())


@register.simple_tag
def measured(matter: Matter, value: Decimal, currency: str = "EUR") -> str:
    """Return a value in the matter's measure: `40,000 EUR`, `5 %`, `level 2`, `150`."""
    digits = max(0, -int(value.normalize().as_tuple().exponent))
    text = number(float(value) if digits else int(value), digits)
    if matter.measure == Matter.Measure.AMOUNT:
        return f"{text} {currency or 'EUR'}"
    if matter.measure == Matter.Measure.PERCENT:
        return f"{text} %"
    if matter.measure == Matter.Measure.LEVEL:
        return _("level %(number)s") % {"number": text}
    return text


@register.simple_tag
def rule_terms(matter: Matter, rule: RuleText) -> str:
    """Return a rule's limit and how many decide: `40,000 EUR × 2`, `without limit, by majority`."""
    limit = _("without limit") if rule.limit is None else measured(matter, rule.limit)
    if rule.required is None:
        return _("%(limit)s, by majority") % {"limit": limit}
    return f"{limit} × {rule.required}" if rule.required > 1 else limit
