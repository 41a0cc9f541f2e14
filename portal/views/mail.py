"""`/account/mail/`: the mail that this machine kept because no server is named."""

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from iam.access import mail
from iam.access.bindings import may
from portal.views.account_page import person, show


@never_cache
@login_required
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the kept messages, newest first. Raises PermissionDenied."""
    if not may(person(request), "mail.view"):
        raise PermissionDenied
    return show(request, "account/mail.html", {"rows": mail.kept(), "kept": not settings.EMAIL_URL})


@never_cache
@login_required
@require_safe
def message(request: HttpRequest, name: str) -> HttpResponse:
    """Show one message as text. Raises PermissionDenied, Http404."""
    if not may(person(request), "mail.view"):
        raise PermissionDenied
    found = mail.read(name)
    if found is None:
        raise Http404
    return show(request, "account/message.html", {"message": found})
