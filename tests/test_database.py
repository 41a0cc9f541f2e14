"""The fixtures that every other test stands on."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection


@pytest.mark.django_db
def test_tests_run_as_the_application_role() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == ("claytom_app",)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_what_a_test_commits_is_gone_for_the_next(turn: int) -> None:
    assert not ContentType.objects.filter(app_label="nowhere").exists()
    ContentType.objects.create(app_label="nowhere", model=f"turn{turn}")


@pytest.mark.django_db
def test_what_migrations_wrote_stays() -> None:
    assert ContentType.objects.exists()
