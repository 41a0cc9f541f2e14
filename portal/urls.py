"""Addresses of the pages."""

from django.urls import URLPattern, path

from portal.views import (
    activity,
    agents,
    approvals,
    authority,
    exports,
    organisation,
    overview,
    palette,
    preferences,
    replacements,
    sign_in,
    units,
)

urlpatterns: list[URLPattern] = [
    path("", overview.show, name="overview"),
    path("sign-in/", sign_in.sign_in, name="sign-in"),
    path("sign-out/", sign_in.sign_out, name="sign-out"),
    path("language/", preferences.language, name="language"),
    path("theme/", preferences.theme, name="theme"),
    path("palette/", palette.hits, name="palette"),
    path("s/<slug:slug>/", units.show, name="unit"),
    path("a/<slug:unit>/<str:agent>/", agents.show, name="agent"),
    path("agents/", agents.listing, name="agents"),
    path("agents/export.csv", exports.agents, name="export-agents"),
    path("agents/export/ask/", exports.ask, name="ask-export"),
    path("org/", organisation.show, name="organisation"),
    path("org/field.bin", organisation.field, name="field"),
    path("org/under/<slug:kind>/<slug:key>/", organisation.children, name="children"),
    path("arp/", replacements.listing, name="replacements"),
    path("activity/", activity.show, name="activity"),
    path("approvals/", approvals.listing, name="approvals"),
    path("approvals/new/", approvals.new, name="new-approval"),
    path("approvals/<int:pk>/", approvals.show, name="approval"),
    path("approvals/<int:pk>/decide/", approvals.decide, name="decide-approval"),
    path("approvals/<int:pk>/withdraw/", approvals.withdraw, name="withdraw-approval"),
    path("authority/", authority.show, name="authority"),
    path("authority/mine/", authority.mine, name="my-authority"),
    path("authority/mine/end/<slug:kind>/<int:pk>/", authority.end, name="end-authority"),
    path("authority/appoint/", authority.appoint, name="appoint"),
    path("authority/appoint/<int:pk>/end/", authority.end_appointment, name="end-appointment"),
]
