import json
from typing import Any

import pytest

from claytom_agent.manifest import ManifestError, decode_manifest, expand
from claytom_agent.tests.conftest import make_manifest


def decoded(key: str, body: dict[str, Any]) -> Any:
    return decode_manifest(key, json.dumps(body).encode())


def test_exceptions_apply_to_their_seats_only() -> None:
    body = make_manifest("pricing.1", generations={"32": 3}, desired={"33": "paused"})
    seats = {spec.key: spec for spec in expand(decoded("pricing.1", body))}
    assert len(seats) == 5
    assert (seats[32].generation, seats[31].generation) == (3, 1)
    assert (seats[33].desired, seats[31].desired) == ("paused", "run")


def test_corporate_seats_have_names_and_duties() -> None:
    seats = list(expand(decoded("corporate.c-suite", make_manifest("corporate.c-suite"))))
    assert [(seat.key, seat.duty) for seat in seats] == [("ceo", "publishes the daily brief"), ("coo", "owns ARP")]


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"division": "2"},
        {"seats": [{"role": "boss", "code": "bo"}]},
        {"seats": [{"role": "operator", "code": "di"}]},
        {"seats": [{"role": "operator", "code": "op", "ordinals": [[9, 3]]}]},
        {"seats": [{"role": "operator", "code": "op", "ordinals": [[1, 9_000_000]]}]},
        {"generations": {"31": 0}},
        {"desired": {"31": "dead"}},
        {"settings": {"kpi_interval_s": 0}},
    ],
)
def test_a_manifest_that_cannot_be_run_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        decoded("pricing.1", {**make_manifest("pricing.1"), **change})


def test_what_is_not_json_is_refused() -> None:
    with pytest.raises(ManifestError):
        decode_manifest("pricing.1", b"{")
