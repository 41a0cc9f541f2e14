"""Nobody is called as the ledger calls the portal itself, whatever way an account is made."""

from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.core.exceptions import ValidationError
from django.utils import translation

from iam.access import claims
from iam.access.account_forms import AcceptForm
from iam.access.forms import AccountForm, PersonForm
from iam.access.models import User
from iam.access.serializers_accounts import NewAccountSerializer
from iam.access.service_accounts import create_service_account
from iam.access.services import create_person, ensure_administrator, update_person
from iam.access.tests.factories import PASSWORD, TOKEN, make_person

pytestmark = pytest.mark.django_db
NAMES = ("operator", "Portal", "arp", "identity-provider")


@pytest.mark.parametrize("name", NAMES)
def test_services_refuse_it(name: str) -> None:
    root = make_person("root", role="administrator")
    with pytest.raises(ValidationError):
        create_person(username=name, password=PASSWORD, actor="test")
    with pytest.raises(ValidationError):
        update_person(user_id=root.pk, actor="test", username=name)
    with pytest.raises(ValidationError):
        create_service_account(by=root, username=name, owner=root)
    with pytest.raises(ValidationError):
        ensure_administrator(username=name, password=PASSWORD, token=TOKEN, actor="operator")
    assert not User.objects.filter(username__iexact=name).exists()


@pytest.mark.parametrize("name", NAMES)
def test_forms_and_api_say_so(name: str) -> None:
    told: dict[str, Any] = {
        "username": name,
        "password": PASSWORD,
        "kind": "service",
        "owner": make_person().username,
    }
    with translation.override("en"):
        for form in (PersonForm(told), AccountForm(told), AcceptForm(told)):
            assert "The ledger uses this name" in str(form.errors["username"])
        serializer = NewAccountSerializer(data=told)
        assert not serializer.is_valid()
        assert "The ledger uses this name" in str(serializer.errors["username"])


def test_the_identity_provider_brings_another(settings: Any) -> None:
    told = {"email": "x@example.com", "email_verified": True, "preferred_username": "Portal", "sub": "1"}
    account = SocialAccount(provider="provider", uid="1")
    assert claims.admit(account=account, claims=told).username == "Portal-2"
