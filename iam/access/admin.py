"""People and tokens in the admin. Every write is a service's, so the ledger knows who did what."""

import secrets

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from iam.access import services
from iam.access.forms import PersonForm, TokenForm
from iam.access.models import ApiToken, User

TOKEN_BYTES = 32
for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)  # people change these on their own pages; some hold secrets


def actor(request: HttpRequest) -> str:
    """Return who acts, for the ledger."""
    return request.user.get_username()


@admin.register(User)
class PersonAdmin(admin.ModelAdmin):
    """People. Nobody is deleted, since the ledger names them; somebody who leaves is made inactive."""

    permission = "people.view"
    write_permission = "people.manage"
    writes_by_services = True
    form = PersonForm
    fields = (
        "username", "first_name", "last_name", "email", "language", "password", "is_active", "is_staff", "cleared",
        "is_superuser", "last_login", "date_joined",
    )  # fmt: skip
    readonly_fields = ("is_superuser", "last_login", "date_joined")
    list_display = ("username", "first_name", "last_name", "is_active", "is_staff", "cleared", "last_login")
    list_filter = ("is_active", "is_staff", "cleared")
    search_fields = ("username__istartswith", "first_name__istartswith", "last_name__istartswith")
    ordering = ("username",)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return False."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: PersonForm, change: bool) -> None:
        """Create or change the person by its service."""
        password = form.cleaned_data["password"]
        if change:
            services.update_person(user_id=obj.pk, password=password, actor=actor(request), **form.changed_state())
            return
        obj.pk = services.create_person(password=password, actor=actor(request), **form.changed_state()).pk


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Tokens of the API: issued, shown once, revoked; never changed."""

    permission = "tokens.manage"
    write_permission = "tokens.manage"
    writes_by_services = True
    form = TokenForm
    autocomplete_fields = ("user",)
    list_display = ("name", "user", "created_at", "expires_at")
    list_select_related = ("user",)
    search_fields = ("name__istartswith", "user__username__istartswith")
    ordering = ("-id",)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        """Return False."""
        return False

    def save_model(self, request: HttpRequest, obj: ApiToken, form: TokenForm, change: bool) -> None:
        """Issue a token and show it this once."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        issued = services.issue_token(
            user=obj.user, name=obj.name, token=token, expires_at=obj.expires_at, actor=actor(request)
        )
        obj.pk = issued.pk
        messages.warning(request, _("This is the token. It is shown only now: %(token)s") % {"token": token})

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        """Revoke the token."""
        services.revoke_token(token=obj, actor=actor(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Revoke each token."""
        for token in queryset:
            self.delete_model(request, token)
