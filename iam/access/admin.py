"""Access in the admin. Every write is a service's, so the ledger knows who did what; the rest is read only."""

import secrets
from typing import Any, cast

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.translation import gettext as _

from iam.access import services
from iam.access.forms import PersonForm, TokenForm
from iam.access.models import (
    AccessReview,
    AccessRole,
    ApiToken,
    EmergencyAccess,
    GroupMapping,
    Invitation,
    ReviewItem,
    RoleBinding,
    User,
)
from iam.access.rights import beyond
from iam.access.roles import map_group, unmap_group

TOKEN_BYTES = 32
for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession):
    if admin.site.is_registered(model):
        admin.site.unregister(model)  # people change these on their own pages; some hold secrets


def actor(request: HttpRequest) -> str:
    """Return who acts, for the ledger."""
    return request.user.get_username()


def acting(request: HttpRequest) -> User:
    """Return who acts."""
    return cast(User, request.user)


@admin.register(User)
class PersonAdmin(admin.ModelAdmin):
    """People. Nobody is deleted, since the ledger names them; somebody who leaves is made inactive."""

    permission = "people.view"
    write_permission = "people.manage"
    writes_by_services = True
    form = PersonForm
    fields = (
        "username", "first_name", "last_name", "email", "language", "password", "is_active", "is_staff", "cleared",
        "is_superuser", "last_login", "date_joined", "state",
    )  # fmt: skip
    readonly_fields = ("is_superuser", "last_login", "date_joined")
    list_display = ("username", "first_name", "last_name", "is_active", "is_staff", "cleared", "last_login")
    list_filter = ("is_active", "is_staff", "cleared")
    search_fields = ("username__istartswith", "first_name__istartswith", "last_name__istartswith")
    ordering = ("username",)

    def get_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Return the fields; where nothing may be set without those of a form only: one would show the hash."""
        fields = super().get_fields(request, obj)
        may_set = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return fields if may_set else [name for name in fields if name not in ("password", "state")]

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **options: Any) -> Any:
        """Return the form, which knows who fills it in."""
        form: Any = super().get_form(request, obj, change, **options)  # a class of this request
        form.by = acting(request)
        return form

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return whether whoever asks may change people, and could give all that this one holds."""
        may, by = super().has_change_permission(request, obj), acting(request)
        return may and (obj is None or obj.pk == by.pk or not beyond(by=by, account=obj))

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Return False."""
        return False

    def save_model(self, request: HttpRequest, obj: User, form: PersonForm, change: bool) -> None:
        """Create or change the person by its service."""
        password = form.cleaned_data["password"]
        if change:
            by = acting(request)
            services.update_person(
                user_id=obj.pk, password=password, actor=by.username, by=by, **form.changed_state()
            )
            return
        obj.pk = services.create_person(password=password, actor=actor(request), **form.changed_state()).pk


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    """Tokens of the API, one's own and those of services and agents: issued, shown once, revoked, never changed."""

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
            user=obj.user,
            name=obj.name,
            token=token,
            expires_at=obj.expires_at,
            actor=actor(request),
            permissions=obj.permissions,
            unit=obj.unit,
            by=acting(request),
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


@admin.register(AccessRole)
class AccessRoleAdmin(admin.ModelAdmin):
    """Sets of permissions; they are defined in `/iam/roles/`, where what changes is shown first."""

    permission = "people.view"
    list_display = ("slug", "name_es", "name_en", "built_in")
    list_filter = ("built_in",)
    ordering = ("slug",)


@admin.register(RoleBinding)
class RoleBindingAdmin(admin.ModelAdmin):
    """Who holds which role; granted and revoked in `/iam/`, with a reason."""

    permission = "people.view"
    list_display = ("user", "role", "unit", "starts_at", "expires_at", "revoked_at", "source", "granted_by")
    list_filter = ("source", "role")
    list_select_related = ("user", "role", "unit", "granted_by")
    search_fields = ("user__username__istartswith",)
    ordering = ("-id",)


@admin.register(GroupMapping)
class GroupMappingAdmin(admin.ModelAdmin):
    """What groups of the identity provider give: made and taken away, never changed."""

    permission = "people.view"
    write_permission = "bindings.grant"
    writes_by_services = True
    list_display = ("group", "role", "unit")
    list_select_related = ("role", "unit")
    search_fields = ("group__istartswith",)
    ordering = ("-id",)

    def has_change_permission(self, request: HttpRequest, obj: GroupMapping | None = None) -> bool:
        """Return False."""
        return False

    def save_model(self, request: HttpRequest, obj: GroupMapping, form: ModelForm, change: bool) -> None:
        """Let the group give the role."""
        obj.pk = map_group(by=acting(request), group=obj.group, role=obj.role, unit=obj.unit).pk

    def delete_model(self, request: HttpRequest, obj: GroupMapping) -> None:
        """Let the group give the role no more."""
        unmap_group(by=acting(request), mapping=obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[GroupMapping]) -> None:
        """Let none of the groups give its role any more."""
        for mapping in queryset:
            self.delete_model(request, mapping)


@admin.register(EmergencyAccess)
class EmergencyAccessAdmin(admin.ModelAdmin):
    """Emergency access; asked for and decided in `/iam/emergency/`."""

    permission = "people.view"
    list_display = ("user", "role", "unit", "minutes", "state", "requested_at", "decided_by", "decided_at")
    list_filter = ("state",)
    list_select_related = ("user", "role", "unit", "decided_by")
    ordering = ("-id",)


@admin.register(AccessReview)
class AccessReviewAdmin(admin.ModelAdmin):
    """Access reviews; opened and closed in `/iam/reviews/`."""

    permission = "people.view"
    list_display = ("unit", "reviewer", "opened_by", "opened_at", "due_at", "closed_at")
    list_select_related = ("unit", "reviewer", "opened_by")
    ordering = ("-id",)


@admin.register(ReviewItem)
class ReviewItemAdmin(admin.ModelAdmin):
    """What reviewers said of bindings."""

    permission = "people.view"
    list_display = ("review", "binding", "verdict", "note", "decided_at")
    list_filter = ("verdict",)
    list_select_related = ("review__reviewer", "binding__user", "binding__unit")
    ordering = ("-id",)


@admin.register(Invitation)
class InvitationAdmin(admin.ModelAdmin):
    """Invitations, without what opens them."""

    permission = "people.view"
    list_display = ("email", "role", "unit", "invited_by", "created_at", "expires_at", "accepted_by", "revoked_at")
    list_select_related = ("role", "unit", "invited_by", "accepted_by")
    search_fields = ("email__istartswith",)
    ordering = ("-id",)
    exclude = ("digest",)
