"""Writes of the portal itself: exports of lists."""

from collections.abc import Mapping

from django.db import transaction
from django.utils import timezone

from audit import services as audit
from iam.access.models import User
from iam.authority.models import Approval
from portal.models import Export


@transaction.atomic
def record_export(*, person: User, filters: Mapping[str, str], rows: int, approval: Approval | None) -> Export:
    """Note that a person exports a list, and use up its approval. Raises IntegrityError for a used one."""
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
