"""`/authority/`: the matrix, who holds office, and what each person lends, leaves and declares."""

from collections.abc import Callable
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.dateparse import parse_date
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding import clock, scope
from iam.access.models import User
from iam.access.rules import needs
from iam.authority import services
from iam.authority.models import Appointment, Delegation, Interest, MatrixVersion, Substitution
from portal.agents import unit_choices
from portal.authority import matrix
from portal.forms import AppointmentForm, DelegationForm, InterestForm, SubstitutionForm
from portal.views.answers import answer

VIEW = "authority.view"


@needs(VIEW)
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the matrix in force now, on a day, or by its number; and who holds office."""
    return _show(request)


def _show(request: HttpRequest, *, form: AppointmentForm | None = None, status: int = 200) -> HttpResponse:
    now, may = clock.now(), scope.current()
    day = _day(request.GET.get("on", ""))
    number = request.GET.get("version", "")
    when = min(now, datetime.combine(day, time.max, UTC)) if day else now
    version = services.matrix_at(when)
    if number.isascii() and number.isdigit() and len(number) <= 6:
        version = MatrixVersion.objects.filter(number=int(number)).first()
        if version is None:
            raise Http404(_("There is no version %(number)s of the matrix.") % {"number": number})
    manages = may.has("authority.manage")
    context = {
        "matrix": matrix(version),
        "versions": MatrixVersion.objects.all(),
        "day": day.isoformat() if day else "",
        "unit": request.GET.get("unit", "")[:24].replace("\x00", ""),
        "units": unit_choices(),
        "may_manage": manages,
        "form": form or (AppointmentForm(prefix="appoint") if manages else None),
    }
    context["holders"] = services.holders(at=when, unit=str(context["unit"]), units=may.units(VIEW))
    return answer(request, "authority/matrix.html", context, as_of=when, status=status)


def _day(text: str) -> Any:
    try:
        return parse_date(text[:10])
    except ValueError:
        return None


@needs("authority.manage")
@require_POST
def appoint(request: HttpRequest) -> HttpResponse:
    """Give somebody an office."""
    form = AppointmentForm(request.POST, prefix="appoint")
    if form.is_valid() and _done(form, lambda given: _appoint(request, given)):
        return redirect("authority")
    return _show(request, form=form, status=422)


def _appoint(request: HttpRequest, given: dict[str, Any]) -> None:
    services.appoint_to_office(
        office=given["office"].slug,
        person=given["person"],
        unit=given["unit"],
        valid_to=given["valid_to"],
        actor=request.user.get_username(),
    )


@needs("authority.manage")
@require_POST
def end_appointment(request: HttpRequest, pk: int) -> HttpResponse:
    """End an appointment now."""
    services.end_appointment(appointment=get_object_or_404(Appointment, pk=pk), actor=request.user.get_username())
    messages.success(request, _("The appointment has ended."))
    return redirect("authority")


# --- one's own ---------------------------------------------------------------------------------------------


@needs(VIEW)
@require_http_methods(["GET", "HEAD", "POST"])
def mine(request: HttpRequest) -> HttpResponse:
    """Show one's titles, and lend an office, name a substitute or declare an interest."""
    person, now = _person(request), clock.now()
    made: dict[str, Callable[[Any], forms.Form]] = {
        "delegation": lambda data: DelegationForm(
            data, prefix="delegation", held=services.lendable(person=person, at=now)
        ),
        "substitution": lambda data: SubstitutionForm(data, prefix="substitution"),
        "interest": lambda data: InterestForm(data, prefix="interest"),
    }
    writes: dict[str, Callable[[dict[str, Any]], object]] = {
        "delegation": lambda given: services.delegate(
            delegator=person, **{**given, "matters": [matter.slug for matter in given["matters"]]}
        ),
        "substitution": lambda given: services.substitute(person=person, actor=person.username, **given),
        "interest": lambda given: services.declare_interest(person=person, actor=person.username, **given),
    }
    sent = request.POST.get("form", "")
    shown = {name: make(request.POST if name == sent else None) for name, make in made.items()}
    status = 200
    if request.method == "POST":
        form: Any = shown.get(sent)
        if form is not None and form.is_valid() and _done(form, writes[sent]):
            messages.success(request, _("It is noted."))
            return redirect("my-authority")
        status = 422
    context = {"mine": services.mine(person=person, at=now), "person": person, "forms": shown}
    return answer(request, "authority/mine.html", context, as_of=now, status=status)


@needs(VIEW)
@require_POST
def end(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    """End one's own delegation, substitution or interest now."""
    person = _person(request)
    actor = person.get_username()
    if kind == "delegation":
        services.revoke_delegation(delegation=get_object_or_404(Delegation, pk=pk, delegator=person), actor=actor)
    elif kind == "substitution":
        services.end_substitution(substitution=get_object_or_404(Substitution, pk=pk, person=person), actor=actor)
    elif kind == "interest":
        services.end_interest(interest=get_object_or_404(Interest, pk=pk, person=person), actor=actor)
    else:
        raise Http404(_("There is nothing of this kind."))
    messages.success(request, _("It has ended."))
    return redirect("my-authority")


def _done(form: forms.Form, write: Callable[[dict[str, Any]], object]) -> bool:
    """Write what the form says; a refusal becomes the form's mistake."""
    try:
        write(form.cleaned_data)
    except services.HolderError as error:
        form.add_error(None, str(error))
        return False
    return True


def _person(request: HttpRequest) -> User:
    """Return who asks; the gate has let nobody else through."""
    if not isinstance(request.user, User):
        raise TypeError("The gate lets only people with an account through.")
    return request.user
