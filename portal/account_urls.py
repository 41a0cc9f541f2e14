"""Addresses of sign-in and of the pages about oneself."""

from django.urls import URLPattern, path

from portal.views import account, invitations, mail, reset, second_steps, sign_in

# django-allauth leads to account_login, mfa_authenticate, openid_connect_login and openid_connect_callback.
urlpatterns: list[URLPattern] = [
    # open to strangers
    path("sign-in/", sign_in.sign_in, name="account_login"),
    path("sign-in/second-step/", sign_in.second_step, name="mfa_authenticate"),
    path("sign-in/passkey/", sign_in.passkey, name="passkey"),
    path("sign-in/provider/", sign_in.provider, name="provider"),
    path("sign-in/oidc/<slug:provider_id>/", sign_in.provider, name="openid_connect_login"),
    path("sign-in/oidc/<slug:provider_id>/callback/", sign_in.provider_back, name="openid_connect_callback"),
    path("sign-in/reset/", reset.ask, name="reset-ask"),
    path("sign-in/reset/new/", reset.choose, name="reset-password"),
    path("sign-in/reset/<str:number>/<str:token>/", reset.follow, name="reset"),
    path("sign-in/invitation/<str:token>/", invitations.accept, name="invitation"),
    # about oneself
    path("account/", account.edit, name="account"),
    path("account/email/", account.email, name="email"),
    path("account/email/<str:token>/", account.confirm_email, name="confirm-email"),
    path("account/password/", account.password, name="password"),
    path("account/confirm/", second_steps.confirm, name="confirm"),
    path("account/second-step/", second_steps.listing, name="second-steps"),
    path("account/second-step/app/", second_steps.add_app, name="add-app"),
    path("account/second-step/key/", second_steps.add_key, name="add-key"),
    path("account/second-step/codes/", second_steps.codes, name="codes"),
    path("account/second-step/<int:number>/remove/", second_steps.remove, name="remove-step"),
    path("account/sessions/", account.sessions, name="sessions"),
    path("account/tokens/", account.tokens, name="tokens"),
    path("account/tokens/<int:number>/revoke/", account.revoke_token, name="revoke-token"),
    path("account/invitations/", invitations.listing, name="invitations"),
    path("account/invitations/<int:number>/revoke/", invitations.revoke, name="revoke-invitation"),
    path("account/mail/", mail.listing, name="mail"),
    path("account/mail/<str:name>/", mail.message, name="message"),
]
