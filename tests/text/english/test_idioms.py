"""Attributes said in whole phrases: what is read, what is denied, and what is only a hint."""

from __future__ import annotations

import pytest

from lamina.text.english.clause import expand, parse
from lamina.text.english.idioms import by_wording
from lamina.text.english.qualifiers import is_qualified
from lamina.text.english.readings import Found


def read(text: str) -> Found | None:
    expanded = expand(text)
    clause = parse(expanded)
    assert clause is not None
    return by_wording(expanded, clause)


@pytest.mark.parametrize(
    ("said", "slot", "value"),
    [
        ("We signed the lease on a flat in Porto.", "residence", "porto"),
        ("Porto is where I live.", "residence", "porto"),
        ("Airbus took me on after school.", "employer", "airbus"),
        ("I'm on the payroll of Airbus.", "employer", "airbus"),
        ("I make my living as a baker.", "title", "baker"),
        ("I have a husband now.", "marital", "married"),
        ("We called off the wedding.", "marital", "engaged"),
        ("I left Clara for Irene.", "switch.clara", "irene"),
        ("I abandoned Vim in favour of Emacs.", "switch.vim", "emacs"),
        ("Of all dishes I like ramen best.", "favourite.dish", "ramen"),
        ("There are three cats in my flat.", "count.cat", "3"),
        ("I rely on Emacs for everything.", "uses.editor", "emacs"),
    ],
)
def test_read(said: str, slot: str, value: str) -> None:
    found = read(said)
    assert found is not None
    assert (found.slot, found.value) == (slot, value)


@pytest.mark.parametrize(
    "said",
    [
        "I'm not on the payroll of Airbus.", "I have been in Toastmasters for a week.", "I rely on Tom for everything.",
        "I write in Lisbon.", "I make my living as a whole.", "My two favourite cats sleep.",
        "We called off the search.", "I left Rome in March for May.",
    ],
)  # fmt: skip
def test_not_read(said: str) -> None:
    assert read(said) is None


@pytest.mark.parametrize(
    ("told", "slot"),
    [
        ("Ann ended up in Rome.", "residence"),
        ("Ann is in love with Paris.", "partner"),
        ("Tom hired Ann.", "employer"),
        ("Ann's wife and Ann are happy.", "marital"),
    ],
)
def test_a_hint_replaces_nothing(told: str, slot: str) -> None:
    assert is_qualified(told, slot)
