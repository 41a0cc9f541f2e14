"""Samples that were refused and are sent again: their numbers count as received, and they have their effect."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.utils import timezone

from bus.models import QuarantinedMessage
from bus.quarantine import replay
from holding.tests.factories import make_holding
from subsidiaries.performance import intake
from subsidiaries.performance.intake import Intake
from subsidiaries.performance.models import KpiMinute, KpiSample
from subsidiaries.performance.tests.factories import make_body, make_headers, make_raw

pytestmark = pytest.mark.django_db
SEQ = "pricing.1.7.1"


@pytest.mark.parametrize("headers", [make_headers(seq=SEQ), make_headers()], ids=["numbered", "unnumbered"])
def test_a_sample_that_was_refused_is_stored_once_when_it_is_sent_again(
    ingest_role: Callable[[], None], monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    make_holding(subsidiaries=("pricing",))
    ingest_role()
    now, body = timezone.now(), make_body()
    taker = Intake()
    with monkeypatch.context() as patch:
        patch.setattr(intake, "MAX_VALUE", 1.0)  # a check that is too strict, mended afterwards
        assert len(taker.record([make_raw(body, headers, seq=1)], now).rejected) == 1
    kept = QuarantinedMessage.objects.get()
    assert taker.record([make_raw(body, headers, seq=2)], now).duplicates == 1, "its number, or digest, is known"
    replay(number=kept.pk, actor="ada")
    again = headers | {"Claytom-Replay": str(kept.pk)}
    for seq in (3, 4):  # delivered twice
        taker.record([make_raw(body, again, seq=seq)], now + timedelta(seconds=seq))
    assert (KpiSample.objects.count(), KpiMinute.objects.get().n) == (1, 1)
    assert KpiSample.objects.get().ordinal == 31
