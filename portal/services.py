"""Writes of the portal itself: exports of lists."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from audit import services as audit
from iam.access.models import User
from iam.authority.models import Approval
from portal.exports import needs_approval
from portal.models import Export


class NeedsApprovalError(Exception):
    """More rows than leave the portal in a day without an approval."""


@transaction.atomic
def record_export(*, person: User, filters: Mapping[str, Any], rows: int, approval: Approval | None) -> Export:
    """Note that a person exports a list, and use up its approval.

    Raises IntegrityError for a used one, NeedsApprovalError without one for more than a day's free rows.
    """
    User.objects.select_for_update(no_key=True).get(pk=person.pk)  # two files at once count together
    if approval is None and needs_approval(person, rows, now=timezone.now()):
        raise NeedsApprovalError
    export = Export.objects.create(
        at=timezone.now(), person=person, filters=dict(filters), rows=rows, approval=approval
    )
    audit.record(
        actor=person.get_username(),
        action="export.create",
        object=f"export/{export.pk}",
        after={"filters": dict(filters), "rows": rows},
        details={"filters": dict(filters), "rows": rows, "approval": approval.pk if approval else None},
    )
    return export
