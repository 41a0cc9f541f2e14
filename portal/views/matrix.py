"""`/authority/matrix/`: the next version of the matrix, drafted by one person and adopted by another."""

from datetime import UTC, date, datetime, time

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from holding import clock
from iam.access.rules import needs
from iam.authority import services
from iam.authority.models import MatrixVersion
from portal.forms import AdoptionForm, DraftForm
from portal.views.answers import acting, answer

MANAGE = "authority.manage"
MISTAKES = 50  # shown at once


@needs(MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def draft(request: HttpRequest) -> HttpResponse:
    """Propose other rules: first the difference is shown, and that difference is saved."""
    if request.method != "POST":
        base = services.matrix_at(clock.now())
        return _draft(request, DraftForm(initial={"text": services.text_of(base)}))
    form = DraftForm(request.POST, request.FILES)
    if not form.is_valid():
        return _draft(request, form, status=422)
    try:
        proposal = services.propose_text(text=form.cleaned_data["text"])
    except services.MatrixError as error:
        return _draft(request, form, mistakes=error.mistakes, status=422)
    if proposal.changes and not request.POST.get("save"):
        return _draft(request, form, proposal=proposal)
    return _save(request, form, proposal)


def _save(request: HttpRequest, form: DraftForm, proposal: services.Proposal) -> HttpResponse:
    """Save the difference that was shown, and no other."""
    if not proposal.changes:
        return _draft(request, form, mistakes=(_("It says the same as the matrix before it."),), status=422)
    if request.POST["save"] != proposal.seen:
        mistake = _("It has changed since the difference was shown: look at it again.")
        return _draft(request, form, proposal=proposal, mistakes=(mistake,), status=422)
    version = services.draft_matrix(
        author=acting(request).get_username(), rules=proposal.rules, reason=form.cleaned_data["reason"]
    )
    messages.success(request, _("%(version)s is a draft. Somebody else adopts it.") % {"version": version})
    return redirect(f"{reverse('authority')}?version={version.number}")


def _draft(
    request: HttpRequest,
    form: DraftForm,
    *,
    proposal: services.Proposal | None = None,
    mistakes: tuple[str, ...] = (),
    status: int = 200,
) -> HttpResponse:
    context = {
        "form": form,
        "proposal": proposal,
        "mistakes": mistakes[:MISTAKES],
        "more": max(0, len(mistakes) - MISTAKES),
    }
    return answer(request, "authority/draft.html", context, as_of=clock.now(), status=status)


@needs(MANAGE)
@require_http_methods(["GET", "HEAD", "POST"])
def adopt(request: HttpRequest, number: int) -> HttpResponse:
    """Put a draft of somebody else in force, now or from a later day."""
    version = MatrixVersion.objects.filter(number=number).first()
    if version is None:
        raise Http404(_("There is no version %(number)s of the matrix.") % {"number": number})
    if request.method != "POST":
        return _adopt(request, version, AdoptionForm())
    form = AdoptionForm(request.POST)
    if not form.is_valid():
        return _adopt(request, version, form, status=422)
    try:
        done = services.adopt_matrix(
            number=number, approver=acting(request).get_username(), valid_from=_start(form.cleaned_data["day"])
        )
    except ValueError as error:
        form.add_error(None, str(error))
        return _adopt(request, version, form, status=422)
    messages.success(request, _("%(version)s is adopted.") % {"version": done})
    return redirect(f"{reverse('authority')}?version={number}")


def _start(day: date | None) -> datetime | None:
    """The beginning of a day (UTC); None, which is now, for today and for no day."""
    if day is None or day == clock.now().date():
        return None
    return datetime.combine(day, time.min, UTC)


def _adopt(request: HttpRequest, version: MatrixVersion, form: AdoptionForm, *, status: int = 200) -> HttpResponse:
    draft = version.status == MatrixVersion.Status.DRAFT
    context = {
        "version": version,
        "changes": services.changes_of(version),
        "form": form,
        "is_draft": draft,
        "may_adopt": draft and version.author != acting(request).get_username(),
    }
    return answer(request, "authority/adopt.html", context, as_of=clock.now(), status=status)
