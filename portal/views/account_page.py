"""The frame of the pages about oneself, and forms in the portal's look."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _

from holding import scope
from iam.access.models import User
from portal.views.answers import navigation


def person(request: HttpRequest) -> User:
    """Return who is signed in. Raises PermissionDenied for strangers, to whom no such page is open."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def show(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """Render a page about oneself, with the links to the others."""
    pages = [
        ("account", _("Profile")),
        ("second-steps", _("Second step")),
        ("sessions", _("Sessions")),
        ("tokens", _("API tokens")),
    ]
    held = scope.current()
    if held.allows("people.manage"):
        pages.append(("invitations", _("Invitations")))
    if held.allows("mail.view"):
        pages.append(("mail", _("Outgoing mail")))
    here = request.resolver_match.url_name if request.resolver_match else ""
    own = [{"url": reverse(name), "name": label, "current": name == here} for name, label in pages]
    frame = {"navigation": navigation(request), "account_pages": own}
    return render(request, template, {**frame, **context}, status=status)


def status_of(form: BaseForm) -> int:
    """Return the status of a page with this form: 422 when it was posted with mistakes."""
    return 422 if form.is_bound and form.errors else 200
