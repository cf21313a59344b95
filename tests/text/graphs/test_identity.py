"""Names: what is one entity, and the traps that a cosine falls into."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.graphs.identity import ORGANISATION, PERSON, PLACE, THING, UNKNOWN, is_part, key, may_blend, parts

TYPES = (PERSON, PLACE, ORGANISATION, THING, UNKNOWN)
WORDS = st.lists(st.sampled_from(["ana", "reed", "bob", "de", "2019", "may", "acme"]), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Acme", "acme"),
        ("Acme’s", "Acme"),
        ("US", "United States"),
        ("U.K.", "Great Britain"),
        ("ＡＣＭＥ", "Acme"),
    ],
)
def test_spellings_of_one_name_share_a_key(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"), [("Monday", "Friday"), ("2019", "2021"), ("Bob", "Robert"), ("York", "New York"), ("us", "US")]
)
def test_different_names_do_not(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_a_first_or_last_name_stands_for_a_person_and_a_head_for_a_firm() -> None:
    assert is_part("alice", "alice johnson", PERSON)
    assert is_part("johnson", "alice johnson", PERSON)
    assert is_part("kelvor", "kelvor labs", ORGANISATION)
    assert not is_part("labs", "kelvor labs", ORGANISATION)
    assert not is_part("ali", "alice johnson", PERSON)
    assert not is_part("alice johnson", "alice johnson", PERSON)


@pytest.mark.parametrize(("short", "long"), [("york", "new york"), ("paris", "paris texas")])
def test_places_and_unknown_names_have_no_parts(short: str, long: str) -> None:
    assert not any(is_part(short, long, type) for type in (PLACE, THING, UNKNOWN))


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize(("one", "other"), [("2019", "2021"), ("monday", "friday"), ("two cats", "three cats")])
def test_numbers_and_dates_never_blend(one: str, other: str, type: str) -> None:
    assert not may_blend(one, other, type)


def test_people_never_blend() -> None:
    assert not may_blend("bob", "bobby", PERSON)
    assert may_blend("lgbtq centre", "lgbtq center", PLACE)


@given(WORDS, st.sampled_from(TYPES))
def test_parts_are_exactly_the_keys_that_are_part(words: list[str], type: str) -> None:
    whole = " ".join(words)
    runs = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    assert set(parts(whole, type)) == {run for run in runs if is_part(run, whole, type)}


@given(st.text(max_size=40))
def test_a_key_is_its_own_key(text: str) -> None:
    assert key(key(text)) == key(text)
