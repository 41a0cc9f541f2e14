"""Addresses of the pages."""

from django.urls import URLPattern, path

from portal.views import (
    activity,
    agents,
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
    path("org/", organisation.show, name="organisation"),
    path("org/field.bin", organisation.field, name="field"),
    path("org/under/<slug:kind>/<slug:key>/", organisation.children, name="children"),
    path("arp/", replacements.listing, name="replacements"),
    path("activity/", activity.show, name="activity"),
]
