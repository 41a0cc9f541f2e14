"""`/account/mail/`: the mail that this machine kept because no server is named."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from iam.access import mail
from iam.access.rules import needs
from portal.views.account_page import show


@needs("mail.view")
@never_cache
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the kept messages, newest first."""
    return show(request, "account/mail.html", {"rows": mail.kept(), "kept": not settings.EMAIL_URL})


@needs("mail.view")
@never_cache
@require_safe
def message(request: HttpRequest, name: str) -> HttpResponse:
    """Show one message as text. Raises Http404."""
    found = mail.read(name)
    if found is None:
        raise Http404
    return show(request, "account/message.html", {"message": found})
