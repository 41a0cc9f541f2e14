"""People with tokens, and how they call the API about access."""

from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from holding.models import Unit
from holding.tests.factories import make_holding
from iam.access.models import (
    AccessReview,
    AccessRole,
    EmergencyAccess,
    GroupMapping,
    Invitation,
    ReviewItem,
    User,
)
from iam.access.tests.factories import make_binding, make_person, make_token

IAM = "/api/v1/iam/"


def make_callers() -> None:
    """Make an administrator, a second person, the heads of two units, a viewer, and somebody without a role."""
    make_holding(subsidiaries=("pricing", "tax"))
    pricing, tax = (Unit.objects.get(slug=slug) for slug in ("pricing", "tax"))
    for person in (
        make_person("root", role="administrator", is_staff=True, email="root@example.org"),
        make_person("chief", role="executive"),
        make_person("head", role="subsidiary-head", unit=pricing),
        make_person("other", role="subsidiary-head", unit=tax),
        make_person("eva", role="viewer", unit=pricing),
        make_person("none", role=""),
    ):
        make_token(person, token=f"token-of-{person.username}")


def as_(name: str) -> Client:
    """Return a program that shows somebody's token."""
    return Client(headers={"Authorization": f"Bearer token-of-{name}", "Accept-Language": "en"})


def call(name: str, method: str, path: str, status: int, /, **body: Any) -> Any:
    """Ask under `/api/v1/iam/` and return the answer's document (None: it has none); fails with another status."""
    given = {"data": body, "content_type": "application/json"} if method != "GET" else {"data": body}
    response = getattr(as_(name), method.lower())(f"{IAM}{path}", **given)
    assert response.status_code == status, (response.status_code, response.content)
    return response.json() if response.content else None


def listed(name: str, path: str, key: str, /, **query: str) -> list[Any]:
    """Return one field of each row that somebody is shown."""
    return sorted(row[key] for row in call(name, "GET", path, 200, **query)["results"])


def make_access_rows(person: User) -> AccessReview:
    """Make one row of every kind that the lists about access show; return the review."""
    viewer, later = AccessRole.objects.get(slug="viewer"), timezone.now() + timedelta(days=1)
    service = User.objects.create(username="erp", kind="service", owner=person, cleared=True)
    make_token(service, token="token-of-the-service", expires_at=later)
    GroupMapping.objects.create(group="readers", role=viewer)
    Invitation.objects.create(email="x@example.org", role=viewer, digest="x", invited_by=person, expires_at=later)
    EmergencyAccess.objects.create(user=person, role=viewer, minutes=30, reason="x")
    review = AccessReview.objects.create(reviewer=person, due_at=later)
    ReviewItem.objects.create(review=review, binding=make_binding(service))
    return review
