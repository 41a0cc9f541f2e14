"""Only what the lease bucket gave is believed."""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator
from io import StringIO
from typing import Any, TypeVar

import pytest
from django.core.management import call_command
from django.db import transaction

from bus.leases import Claim, LeaseBook, LeasesUnavailableError, Standing
from bus.models import Lease
from claytom_agent.client import Bus

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "pricing.1"
T = TypeVar("T")


class Bucket:
    """The lease bucket of a real server, and a book that looks into it, on a loop of their own."""

    def __init__(self, url: str) -> None:
        self.book = LeaseBook()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._bus = self._do(Bus.connect(url, name="test", inbox_prefix="_INBOX_test", timeout_s=10))
        self._loop.call_soon_threadsafe(self.book.use, self._bus)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def put(self, host: str, *, epoch: int = 0, key: str = KEY) -> int:
        value = {"host": host, "since": "2026-01-01T00:00:00Z", "run": "r", "epoch": epoch}
        return self._do(self._bus.kv_put("CT_LEASES", key, json.dumps(value).encode()))

    def delete(self) -> int:
        return self._do(self._bus.kv_delete("CT_LEASES", KEY))

    def judge(self, epoch: int, host: str = "", key: str = KEY) -> Standing:
        claim = Claim(key, epoch, host)
        with transaction.atomic():
            return self.book.judge([claim])[claim].standing

    def cut(self) -> None:
        self._do(self._bus.close())

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


@pytest.fixture
def bucket(nats_clean: str) -> Iterator[Bucket]:
    call_command("ensure_streams", stdout=StringIO())
    made = Bucket(nats_clean)
    yield made
    made.close()


def test_an_acquired_lease_holds_and_a_made_up_epoch_does_not(bucket: Bucket) -> None:
    epoch = bucket.put("host-a")
    assert bucket.judge(10**15, "host-a") == Standing.UNKNOWN
    assert bucket.judge(epoch + 1, "host-a") == Standing.UNKNOWN
    assert bucket.judge(epoch, "host-a") == Standing.HOLDS
    assert bucket.judge(10**15) == Standing.UNKNOWN
    assert bucket.judge(epoch) == Standing.HOLDS, "nobody was fenced out"
    assert list(Lease.objects.values_list("division", "epoch", "host")) == [(KEY, epoch, "host-a")]


def test_a_renewed_lease_is_known_by_the_epoch_that_it_tells(bucket: Bucket) -> None:
    epoch = bucket.put("host-a")
    bucket.put("host-a", epoch=epoch)
    revision = bucket.put("host-a", epoch=epoch)
    assert bucket.judge(revision, "host-a") == Standing.UNKNOWN, "a revision of a renewal is no epoch"
    assert bucket.judge(epoch, "host-a") == Standing.HOLDS


def test_a_lease_that_claims_more_than_the_bucket_has_reached_is_not_believed(bucket: Bucket) -> None:
    bucket.put("host-a", epoch=10**12)
    assert bucket.judge(10**12, "host-a") == Standing.UNKNOWN


def test_another_host_may_not_use_the_epoch(bucket: Bucket) -> None:
    epoch = bucket.put("host-a")
    assert bucket.judge(epoch, "host-b") == Standing.UNKNOWN
    assert bucket.judge(epoch, "host-a") == Standing.HOLDS
    assert bucket.judge(epoch, "host-b") == Standing.IMPOSTOR


def test_a_takeover_supersedes(bucket: Bucket) -> None:
    first = bucket.put("host-a")
    assert bucket.judge(first, "host-a") == Standing.HOLDS
    second = bucket.put("host-b")
    assert bucket.judge(second, "host-b") == Standing.HOLDS
    assert bucket.judge(first, "host-a") == Standing.SUPERSEDED


def test_a_lease_that_ran_out_before_anybody_looked_is_believed_up_to_what_was_given(bucket: Bucket) -> None:
    epoch = bucket.put("host-a")
    marker = bucket.delete()
    assert bucket.judge(marker + 1) == Standing.UNKNOWN
    assert bucket.judge(epoch) == Standing.HOLDS
    assert bucket.judge(bucket.put("host-b"), "host-b") == Standing.HOLDS, "and keeps nobody out"


def test_a_book_whose_bucket_is_away_waits_rather_than_guess(bucket: Bucket) -> None:
    epoch = bucket.put("host-a")
    assert bucket.judge(epoch) == Standing.HOLDS
    bucket.cut()
    assert bucket.judge(epoch) == Standing.HOLDS, "what is known needs no bucket"
    with pytest.raises(LeasesUnavailableError):
        bucket.judge(epoch + 5)


def test_a_book_without_a_bucket_believes_the_table_only() -> None:
    book = LeaseBook()
    claim = Claim(KEY, 5)
    with transaction.atomic():
        assert book.judge([claim])[claim].standing == Standing.UNKNOWN
