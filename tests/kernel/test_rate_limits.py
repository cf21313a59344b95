"""Rate limits: never more than a naive bucket would give, told when to come again, each principal for itself."""

from __future__ import annotations

import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput, NotPermitted, RateLimited
from lamina.kernel.governance import Principal
from lamina.kernel.governing import limits
from lamina.kernel.governing.limits import Rate, RateLimits

ANN, BOB = Principal(user="ann"), Principal(user="bob")
SECOND = 10**9


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


def passes(held: RateLimits, who: Principal = ANN) -> bool:
    try:
        held.spend(who, "read")
    except RateLimited:
        return False
    return True


@given(
    st.integers(1, 5),
    st.integers(1, 1000),
    st.lists(st.integers(0, 3000), max_size=60),
)
def test_it_is_the_naive_token_bucket(burst: int, every: int, waits: list[int]) -> None:
    """Against tokens counted as fractions, refilled at every ask and capped."""
    clock = Clock()
    held = RateLimits({"read": Rate(burst, every)}, clock=clock)
    tokens, last = Fraction(burst), clock.now
    for wait in waits:
        clock.now += wait
        tokens, last = min(Fraction(burst), tokens + Fraction(clock.now - last, every)), clock.now
        allowed = tokens >= 1
        tokens -= allowed
        assert passes(held) == allowed


@given(st.integers(1, 4), st.integers(1, 10**10), st.integers(0, 10**11))
def test_it_says_when_and_is_right_to_the_nanosecond(burst: int, every: int, wait: int) -> None:
    clock = Clock()
    held = RateLimits({"read": Rate(burst, every)}, clock=clock)
    while passes(held):
        clock.now += min(wait, every // (burst + 1))
    with pytest.raises(RateLimited) as refused:
        held.spend(ANN, "read")
    after = round(refused.value.retry_after * SECOND)
    assert 0 < after <= every
    clock.now += after - 1
    assert not passes(held), "asking in vain costs nothing, and a nanosecond early is early"
    clock.now += 1
    assert passes(held)


def test_each_principal_and_action_has_its_own_and_roles_make_no_other() -> None:
    held = RateLimits({"read": Rate(1, SECOND), "forget": Rate(1, SECOND)}, clock=Clock())
    assert passes(held) and not passes(held)
    assert passes(held, BOB) and passes(held, Principal("other", "ann"))
    assert not passes(held, Principal(user="ann", roles=frozenset({"admin"})))
    assert not passes(held, Principal(user="ann", agent="x")), "another agent's name is no way round"
    assert passes(held, Principal(agent="x")) and passes(held, Principal(agent="y")) and passes(held, Principal())
    held.spend(ANN, "forget")
    for _ in range(100):
        held.spend(ANN, "write")  # not named, not limited


def test_the_error_is_a_refusal_with_a_time() -> None:
    held = RateLimits({"read": Rate.per_minute(4, burst=1)}, clock=Clock())
    held.spend(ANN, "read")
    with pytest.raises(
        NotPermitted, match=r"user:ann may read 1 times at once.*every 15 s: try again in 15 s"
    ) as refused:
        held.spend(ANN, "read")
    assert refused.value.code == "RATE_LIMITED"


def test_full_buckets_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MANY", 50)
    clock = Clock()
    held = RateLimits({"read": Rate(2, SECOND)}, clock=clock)
    for n in range(1000):
        clock.now += SECOND // 10
        held.spend(Principal(user=f"u{n}"), "read")
        assert held.remembered <= 51
    assert held.remembered >= 10, "those that are not full are kept"


def test_threads_together_get_no_more_than_one_bucket() -> None:
    held, got = RateLimits({"read": Rate(100, SECOND)}, clock=Clock()), []
    threads = [threading.Thread(target=lambda: got.append(sum(passes(held) for _ in range(50)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(got) == 100


def test_a_clock_that_goes_back_gives_nothing_away() -> None:
    clock = Clock()
    held = RateLimits({"read": Rate(1, SECOND)}, clock=clock)
    assert passes(held)
    clock.now -= SECOND
    assert not passes(held)


def test_rates_are_checked() -> None:
    assert Rate.per_minute(7).every * 7 >= 60 * SECOND, "rounded to the strict side"
    for wrong in (lambda: Rate(0, 1), lambda: Rate(1, 0), lambda: Rate.per_minute(0)):
        with pytest.raises(InvalidInput):
            wrong()
    with pytest.raises(InvalidInput, match="no actions"):
        RateLimits({"fly": Rate(1, 1)})  # type: ignore[dict-item]
