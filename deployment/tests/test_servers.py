"""The embedded servers: durable settings, passwords, recovery."""

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection


@pytest.mark.django_db
def test_tests_run_as_the_application_role() -> None:
    with connection.cursor() as cursor:
        cursor.execute("select current_user")
        assert cursor.fetchone() == ("claytom_app",)


@pytest.mark.django_db(transaction=True)
def test_a_committed_row_is_gone_after_its_test() -> None:
    ContentType.objects.create(app_label="x", model="y")
    assert ContentType.objects.filter(app_label="x").exists()


@pytest.mark.django_db
def test_migrated_rows_remain() -> None:
    assert ContentType.objects.exists()
    assert not ContentType.objects.filter(app_label="x").exists()
