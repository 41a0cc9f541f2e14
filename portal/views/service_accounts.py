"""`/iam/services/`: accounts of services and agents, and their tokens."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from holding import scope
from iam.access.confirmation import recently_confirmed
from iam.access.forms import AccountForm, AccountTokenForm
from iam.access.models import RoleBinding, User
from iam.access.rights import RefusedError
from iam.access.rules import needs
from iam.access.service_accounts import (
    accounts_in_view,
    create_agent_account,
    create_service_account,
    deactivate_account,
    new_token,
)
from iam.access.services import revoke_token
from portal.keyset import page, position
from portal.views.access import tabs
from portal.views.answers import acting, answer, with_query

PAGE_SIZE = 50
MAKERS = {User.Kind.SERVICE: create_service_account, User.Kind.AGENT: create_agent_account}


@needs("people.view")
@require_safe
def listing(request: HttpRequest) -> HttpResponse:
    """Show the services and agents in view, and the form that creates one."""
    return _listing(request, AccountForm())


def _listing(request: HttpRequest, form: AccountForm, *, status: int = 200) -> HttpResponse:
    found = page(accounts_in_view(), position(request), size=PAGE_SIZE)
    roles: dict[int, list[RoleBinding]] = {account.pk: [] for account in found.rows}
    bindings = RoleBinding.objects.in_force().in_view().filter(user__in=list(roles))
    for binding in bindings.select_related("role", "unit").order_by("role__slug", "pk"):
        roles[binding.user_id].append(binding)
    context = {
        "accounts": [(account, roles[account.pk]) for account in found.rows],
        "form": form,
        "may_create": scope.current().has("people.manage"),
        "previous": status == 200
        and found.previous
        and with_query(request, before=str(found.previous), after=None),
        "next": status == 200 and found.next and with_query(request, after=str(found.next), before=None),
        "tabs": tabs(request),
    }
    return answer(request, "access/services.html", context, as_of=timezone.now(), status=status)


@needs("people.manage")
@require_POST
def create(request: HttpRequest) -> HttpResponse:
    """Create an account of a service or an agent."""
    form = AccountForm(request.POST)
    if form.is_valid():
        wanted = dict(form.cleaned_data)
        make = MAKERS[wanted.pop("kind")]
        try:
            account = make(by=acting(request), **wanted)
        except RefusedError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, _("Created: %(name)s. Now grant it a role.") % {"name": account.username})
            return _back(account)
    return _listing(request, form, status=422)


@needs("people.view")
@require_safe
def show(request: HttpRequest, username: str) -> HttpResponse:
    """Show an account: who answers for it, its roles, its tokens."""
    return _show(request, _found(username))


def _found(username: str) -> User:
    account = accounts_in_view().filter(username=username.replace("\x00", "")).first()
    if account is None:
        raise Http404(_("There is no such service or agent."))
    return account


def _show(request: HttpRequest, account: User, *, error: str = "", status: int = 200) -> HttpResponse:
    held = scope.current()
    context = {
        "account": account,
        "bindings": account.bindings.in_force().in_view().for_listing(),
        "tokens": account.tokens.select_related("unit").order_by("-id"),
        "now": timezone.now(),
        "error": error,
        "may_grant": held.has("bindings.grant"),
        "may_issue": held.has("tokens.manage"),
        "may_deactivate": held.has("people.manage"),
        "tabs": tabs(request),
    }
    return answer(request, "access/service.html", context, as_of=timezone.now(), status=status)


@needs("people.manage")
@require_POST
def deactivate(request: HttpRequest, username: str) -> HttpResponse:
    """Deactivate an account; its tokens are revoked."""
    account = _found(username)
    try:
        deactivate_account(by=acting(request), account=account)
    except RefusedError as error:
        return _show(request, account, error=str(error), status=422)
    return _back(account)


@needs("tokens.manage")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@recently_confirmed()
def issue(request: HttpRequest, username: str) -> HttpResponse:
    """Ask for a new token of an account, and issue it; it is shown this once."""
    account = _found(username)
    form = AccountTokenForm(request.POST if request.method == "POST" else None)
    issued, status = "", 422 if request.method == "POST" else 200
    if request.method == "POST" and form.is_valid():
        try:
            _token, issued = new_token(by=acting(request), account=account, **form.wanted())
            status = 200
        except RefusedError as error:
            form.add_error(None, str(error))
    context = {"account": account, "form": form, "issued": issued, "tabs": tabs(request)}
    return answer(request, "access/service_token.html", context, status=status)


@needs("tokens.manage")
@require_POST
def revoke(request: HttpRequest, username: str, number: int) -> HttpResponse:
    """Revoke a token of an account."""
    account = _found(username)
    token = account.tokens.filter(pk=number).first()
    if token is None:
        raise Http404(_("There is no such token."))
    revoke_token(token=token, actor=acting(request).username)
    return _back(account)


def _back(account: User) -> HttpResponse:
    """Lead to the account's page, or to the list from whoever does not see it."""
    if accounts_in_view().filter(pk=account.pk).exists():
        return HttpResponseRedirect(reverse("access-service", args=[account.username]))
    return HttpResponseRedirect(reverse("access-services"))
