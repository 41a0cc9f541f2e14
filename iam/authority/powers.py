"""Told to access: whoever decides under an office, of their own or for somebody, now or later."""

from django.db.models import Q

from holding import clock
from iam.access.models import User
from iam.access.powers import register_power
from iam.authority.models import Appointment, Delegation, Substitution


def holds_authority(user: User) -> bool:
    """Return whether the person has an appointment, a delegation or a substitution that has not ended."""
    lasting = Q(valid_to=None) | Q(valid_to__gt=clock.now())
    return (
        Appointment.objects.filter(lasting, person=user).exists()
        or Delegation.objects.filter(lasting, person=user).exists()
        or Substitution.objects.filter(lasting, substitute=user).exists()
    )


register_power(holds_authority)
