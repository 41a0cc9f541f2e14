"""Access reviews: somebody who neither granted nor holds a binding says whether it stays."""

from datetime import datetime

from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from audit import services as audit
from holding import scope
from holding.models import Unit
from iam.access.bindings import withdraw
from iam.access.models import AccessReview, ReviewItem, RoleBinding, User
from iam.access.rights import NotHeldError, RefusedError, namespace, place, rights_of, subtree

Verdict = ReviewItem.Verdict


def visible_to(person: User) -> QuerySet[AccessReview]:
    """Return one's own reviews, and those of units where one may review; all for the whole holding."""
    rows = AccessReview.objects.select_related("unit", "reviewer", "opened_by")
    units = scope.current().units("reviews.conduct")
    return rows if units is None else rows.filter(Q(reviewer=person) | Q(unit_id__in=units))


def counted(reviews: QuerySet[AccessReview]) -> QuerySet[AccessReview]:
    """Return the reviews, each with its number of `bindings`, how many are `undecided`, and how many `revoked`."""
    return reviews.annotate(
        bindings=Count("items"),
        undecided=Count("items", filter=Q(items__verdict="")),
        revoked=Count("items", filter=Q(items__verdict=Verdict.REVOKE)),
    )


@transaction.atomic
def open_review(*, by: User, unit: Unit | None = None, reviewer: User, due_at: datetime) -> AccessReview:
    """Open a review of every binding in force for the unit and all below it (None: of the whole holding).

    Those that the reviewer granted or holds, and those of accounts that they own, are left out: another review, by
    somebody else, must see them.
    Raises NotHeldError unless both hold `reviews.conduct` there, RefusedError for a due time that is past, for a
    review of the same that is open, or when nothing is left to review.
    """
    unit, now = place(unit), timezone.now()
    rights_of(by).require("reviews.conduct", unit)
    if not rights_of(reviewer).account.allows("reviews.conduct", unit.pk if unit else None):
        raise NotHeldError(
            _("%(name)s may not review %(where)s: choose somebody who holds reviews.conduct there.")
            % {"name": reviewer.username, "where": namespace(unit)}
        )
    if due_at <= now:
        raise RefusedError(_("The review must be due in the future."))
    reviewer = User.objects.select_for_update().get(pk=reviewer.pk)
    if AccessReview.objects.filter(unit=unit, reviewer=reviewer, closed_at=None).exists():
        raise RefusedError(_("This person reviews the same already: close that review first."))
    bindings = RoleBinding.objects.in_force(now).exclude(user=reviewer).exclude(granted_by=reviewer)
    bindings = bindings.exclude(user__owner=reviewer)
    if unit is not None:
        bindings = bindings.filter(unit_id__in=subtree(unit))
    found = list(bindings.order_by("pk").values_list("pk", flat=True))
    if not found:
        raise RefusedError(_("There is nothing to review: every binding there is the reviewer's, or by them."))
    review = AccessReview.objects.create(unit=unit, reviewer=reviewer, opened_by=by, due_at=due_at, opened_at=now)
    ReviewItem.objects.bulk_create([ReviewItem(review=review, binding_id=pk) for pk in found], batch_size=1000)
    audit.record(
        actor=by.username,
        action="review.open",
        object=f"review/{review.pk}",
        after={"reviewer": reviewer.username, "where": namespace(unit), "bindings": found},
        details={"reviewer": reviewer.username, "where": namespace(unit), "count": len(found)},
    )
    return review


@transaction.atomic
def decide_item(*, by: User, item: ReviewItem, verdict: str, note: str = "") -> ReviewItem:
    """Say whether a binding stays; `revoke` ends it at once.

    Raises NotHeldError for anybody but the reviewer, and when they hold `reviews.conduct` there no more;
    RefusedError for an item decided already, a closed review, a revocation without a note;
    LastAdministratorError.
    """
    review = AccessReview.objects.select_for_update().get(pk=item.review_id)
    _require_reviewer(review, by)
    item = ReviewItem.objects.select_for_update().get(pk=item.pk)
    if review.closed_at is not None or item.verdict:
        raise RefusedError(_("This has been decided already."))
    if verdict not in Verdict.values:
        raise RefusedError(_("Say “keep” or “revoke”."))
    note = note.strip()[:200]
    if verdict == Verdict.REVOKE and not note:
        raise RefusedError(_("Say why it is revoked: its holder will ask."))
    item.verdict, item.note, item.decided_at = verdict, note, timezone.now()
    item.save(update_fields=["verdict", "note", "decided_at"])
    audit.record(
        actor=by.username,
        action="review.decide",
        object=f"review/{review.pk}",
        details={"binding": item.binding_id, "verdict": verdict, "note": note},
    )
    if verdict == Verdict.REVOKE and item.binding.revoked_at is None:
        withdraw(binding_id=item.binding_id, actor=by.username, reason=note)
    return item


@transaction.atomic
def close_review(*, by: User, review: AccessReview) -> AccessReview:
    """Close a review whose every item is decided. Raises NotHeldError (see `decide_item`), RefusedError."""
    review = AccessReview.objects.select_for_update().get(pk=review.pk)
    _require_reviewer(review, by)
    if review.closed_at is not None:
        raise RefusedError(_("This review is closed already."))
    if missing := review.items.filter(verdict="").count():
        sentence = ngettext("%(count)d binding is undecided.", "%(count)d bindings are undecided.", missing)
        raise RefusedError(sentence % {"count": missing})
    review.closed_at = timezone.now()
    review.save(update_fields=["closed_at"])
    revoked = review.items.filter(verdict=Verdict.REVOKE).count()
    audit.record(
        actor=by.username,
        action="review.close",
        object=f"review/{review.pk}",
        details={"items": review.items.count(), "revoked": revoked},
    )
    return review


def _require_reviewer(review: AccessReview, by: User) -> None:
    if review.reviewer_id != by.pk:
        raise NotHeldError(_("Only %(name)s decides this review.") % {"name": review.reviewer.username})
    rights_of(by).require("reviews.conduct", review.unit)
