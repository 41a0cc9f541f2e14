from hypothesis import given
from hypothesis import strategies as st

from claytom_agent.placement import FreeDivision, HostCard, choose
from claytom_agent.tests.conftest import keys_of

KEYS = keys_of("pricing", "sales", "tax", "risk", "legal", "data", "cloud")


def card(name: str, capacity: int = 100, *, full: bool = False, only: list[str] | None = None) -> HostCard:
    return HostCard(name, "r", capacity, full, only or [])


def free(keys: list[str], last: str | None = None) -> list[FreeDivision]:
    return [FreeDivision(key, 0.0, last) for key in keys]


def chosen(me: HostCard, hosts: list[HostCard], now: float = 0.1, last: str | None = None) -> list[str]:
    return choose(me, hosts, KEYS, free(KEYS, last), {}, now=now, grace_s=1.0)[0]


@given(st.integers(1, 6))
def test_hosts_that_start_together_share_all_evenly_and_spread_each_subsidiary(count: int) -> None:
    hosts = [card(f"h{number}") for number in range(count)]
    shares = [chosen(host, hosts) for host in hosts]
    assert sorted(key for share in shares for key in share) == sorted(KEYS)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    limit = -(-5 // count)
    for share in shares:
        assert all(sum(key.startswith(unit) for key in share) <= limit for unit in ("pricing", "sales"))


@given(st.integers(0, 40), st.integers(1, 4))
def test_after_the_grace_period_capacity_alone_decides(capacity: int, count: int) -> None:
    me = card("h0", capacity)
    hosts = [me, *(card(f"h{number}") for number in range(1, count))]
    assert len(chosen(me, hosts, now=1.5)) == min(capacity, len(KEYS))


def test_a_full_or_unwilling_or_departing_host_is_not_waited_for() -> None:
    me = card("a")
    assert len(chosen(me, [card("b", full=True)])) == len(KEYS)
    assert len(chosen(me, [card("b", only=["other"])])) == len(KEYS)
    assert len(chosen(me, [card("b")], last="b")) == len(KEYS)


def test_a_host_that_gave_a_division_away_waits_for_others_first() -> None:
    wanted, again = choose(card("a"), [card("b")], KEYS, free(KEYS, "a"), {}, now=0.1, grace_s=1.0)
    assert wanted == []
    assert again == 1.0


def test_a_host_takes_only_the_subsidiaries_it_serves() -> None:
    assert chosen(card("a", only=["tax"]), []) == keys_of("tax")
