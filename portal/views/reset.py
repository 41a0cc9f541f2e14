"""`/sign-in/reset/`: a new password by a link that an e-mail brings."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe
from kombu.exceptions import OperationalError

from iam.access import passwords
from iam.access.account_forms import EmailForm, PasswordForm
from iam.access.rules import OPEN, needs
from iam.access.tasks import send_reset_link
from portal import attempts
from portal.addresses import client_address
from portal.views.account_page import status_of

LINK = "reset_link"  # in the session, so that the page with the form has no secret in its address
form_page = require_http_methods(["GET", "HEAD", "POST"])


@needs(OPEN)
@never_cache
@form_page
def ask(request: HttpRequest) -> HttpResponse:
    """Ask for an address; the answer is the same whether somebody has it or not, and comes as soon."""
    form = EmailForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return render(request, "access/reset.html", {"form": form}, status=status_of(form))
    email, address = form.cleaned_data["email"], client_address(request)
    name = f"reset/{email}"
    if wait := attempts.begin(name=name, address=address).wait:
        form.add_error(None, attempts.refusal(wait))
        response = render(request, "access/reset.html", {"form": form}, status=429)
        response.headers["Retry-After"] = str(wait)
        return response
    try:
        send_reset_link.delay(email, get_language() or settings.LANGUAGE_CODE)
    except OperationalError:
        form.add_error(None, _("Mail cannot be sent at the moment. Try again later."))
        return render(request, "access/reset.html", {"form": form}, status=503)
    return render(request, "access/reset_sent.html", {"email": email})


@needs(OPEN)
@never_cache
@require_safe
def follow(request: HttpRequest, number: str, token: str) -> HttpResponse:
    """Take the link out of the address and go on to the form."""
    if passwords.person_of_link(number=number, token=token) is None:
        return HttpResponseRedirect(f"{reverse('sign-in')}?problem=expired")
    request.session[LINK] = [number, token]
    return redirect("reset-password")


@needs(OPEN)
@sensitive_post_parameters("password", "again")
@never_cache
@form_page
def choose(request: HttpRequest) -> HttpResponse:
    """Ask for the new password of whose link it was."""
    number, token = request.session.get(LINK) or ("", "")
    user = passwords.person_of_link(number=number, token=token)
    if user is None:
        return HttpResponseRedirect(f"{reverse('sign-in')}?problem=expired")
    form = PasswordForm(request.POST or None, user=user)
    if request.method == "POST" and form.is_valid():
        done = passwords.reset_password(number=number, token=token, password=form.cleaned_data["password"])
        del request.session[LINK]
        if done is None:
            return HttpResponseRedirect(f"{reverse('sign-in')}?problem=expired")
        attempts.forget(name=done.username)
        return render(request, "access/reset_done.html", {"name": done.username})
    context = {"form": form, "name": user.username}
    return render(request, "access/new_password.html", context, status=status_of(form))
