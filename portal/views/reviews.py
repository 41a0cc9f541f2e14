"""`/iam/reviews/`: access reviews, and the decisions in each."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from iam.access import explaining
from iam.access.forms import ReviewForm
from iam.access.models import AccessReview
from iam.access.reviews import close_review, counted, decide_item, open_review, visible_to
from iam.access.rights import RefusedError
from iam.access.rules import needs
from portal.keyset import page, position
from portal.views.access import tabs
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50


@needs("reviews.conduct")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the reviews in view, the newest first, and the form that opens one."""
    return _listing(request, ReviewForm())


def _listing(request: HttpRequest, form: ReviewForm, *, status: int = 200) -> HttpResponse:
    found = page(counted(visible_to(acting(request))), position(request), size=PAGE_SIZE, newest_first=True)
    context = {
        "reviews": found.rows,
        "form": form,
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
    }
    return answer(request, "access/reviews.html", context, as_of=timezone.now(), status=status)


@needs("reviews.conduct")
@require_POST
def begin(request: HttpRequest) -> HttpResponse:
    """Open a review."""
    form = ReviewForm(request.POST)
    if form.is_valid():
        try:
            review = open_review(by=acting(request), **form.wanted())
            return HttpResponseRedirect(reverse("access-review", args=[review.pk]))
        except RefusedError as error:
            form.add_error(None, str(error))
    return _listing(request, form, status=422)


@needs("reviews.conduct")
@require_safe
def show(request: HttpRequest, number: int) -> HttpResponse:
    """Show a review: each binding, and what was said of it."""
    return _show(request, _found(request, number))


def _found(request: HttpRequest, number: int) -> AccessReview:
    review = visible_to(acting(request)).filter(pk=number).first()
    if review is None:
        raise Http404(_("There is no such review."))
    return review


def _show(
    request: HttpRequest, review: AccessReview, *, error: str = "", item: str = "", status: int = 200
) -> HttpResponse:
    rows = review.items.select_related("binding__user", "binding__role", "binding__unit", "binding__granted_by")
    found = page(rows, position(request), size=PAGE_SIZE)
    now = timezone.now()
    context = {
        "review": review,
        "items": [
            (one, explaining.is_dormant(one.binding.user), explaining.is_over_wide(one.binding))
            for one in found.rows
        ],
        "undecided": review.items.filter(verdict="").count(),
        "mine": review.reviewer_id == acting(request).pk and review.closed_at is None,
        "error": error,
        "wrong": item,
        "note": request.POST.get("note", ""),
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
    }
    return answer(request, "access/review.html", context, as_of=now, status=status)


@needs("reviews.conduct")
@require_POST
def decide(request: HttpRequest, number: int, item: int) -> HttpResponse:
    """Keep or revoke one binding."""
    review = _found(request, number)
    found = review.items.filter(pk=item).first()
    if found is None:
        raise Http404(_("There is no such binding in the review."))
    verdict, note = request.POST.get("verdict", ""), request.POST.get("note", "")
    try:
        decide_item(by=acting(request), item=found, verdict=verdict, note=note)
    except RefusedError as error:
        return _show(request, review, error=str(error), item=str(item), status=422)
    return HttpResponseRedirect(f"{reverse('access-review', args=[review.pk])}?after={max(item - 1, 0)}")


@needs("reviews.conduct")
@require_POST
def close(request: HttpRequest, number: int) -> HttpResponse:
    """Close a review."""
    review = _found(request, number)
    try:
        close_review(by=acting(request), review=review)
    except RefusedError as error:
        return _show(request, review, error=str(error), status=422)
    return HttpResponseRedirect(reverse("access-reviews"))
