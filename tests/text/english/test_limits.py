"""What stands around a denied value: harmless, or a limit that leaves room for the value."""

from __future__ import annotations

import pytest

from lamina.text.english.clause import expand, parse
from lamina.text.english.limits import is_limited, leaves_room


@pytest.mark.parametrize(
    "tail",
    [
        "",
        ".",
        " anymore",
        " any more!",
        " at all.",
        " these days",
        " because of my hands",
        ", thank God.",
        " since March",
    ],
)
def test_words_that_take_nothing_back(tail: str) -> None:
    assert not leaves_room(tail, dated=False)
    assert not leaves_room(tail, dated=True)


@pytest.mark.parametrize(
    "tail",
    [" in small amounts", " carrier", "-flap", " with me", " at home", " for money", " in Lent", " as much as pasta",
     " at five", ", only wine", ", except on Sundays", " until Friday", " when it rains"],
)  # fmt: skip
def test_words_that_limit(tail: str) -> None:
    assert leaves_room(tail, dated=False)
    assert leaves_room(tail, dated=True)


@pytest.mark.parametrize("tail", [" today", " on Monday", " last week", " in March", " yesterday", " two years ago"])
def test_a_date_limits_a_state_but_not_an_event(tail: str) -> None:
    assert leaves_room(tail, dated=False)
    assert not leaves_room(tail, dated=True)


@pytest.mark.parametrize(
    ("said", "limited"),
    [("I don't smoke", False), ("I don't always smoke", True), ("I haven't smoked", True),
     ("at home I don't smoke", True), ("honestly, I don't smoke", False)],
)  # fmt: skip
def test_the_words_before(said: str, limited: bool) -> None:
    clause = parse(expand(said))
    assert clause is not None
    assert is_limited(clause, "", happened=False) is limited
