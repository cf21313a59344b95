"""What a question describes through somebody, whatever the noun."""

from __future__ import annotations

import pytest

from lamina.text.description import Described, described, owners


@pytest.mark.parametrize(
    ("query", "owner", "words"),
    [
        ("Where does Ana's mentor work?", "ana", ("mentor", "work")),
        ("where does ana's new idol work?", "ana", ("new", "idol", "work")),
        ("Who employs the muse of Ana?", "ana", ("muse",)),
        ("Where does my rival live?", None, ("rival", "live")),
        ("Ana has a patron, where is their office?", "ana", ("patron",)),
        ("Which firm does the patron Ana has work for?", "ana", ("patron",)),
        ("Wo ist Élodie's muse?", "élodi", ("muse",)),
        ("Где Анна's idol?", "анна", ("idol",)),
    ],
)
def test_the_noun_and_its_owner(query: str, owner: str | None, words: tuple[str, ...]) -> None:
    assert described(query) == [Described(owner, words)]


@pytest.mark.parametrize("query", ["What has Ana read?", "What's Ana up to?", "Where is the station?", "", "it's mine"])
def test_no_description(query: str) -> None:
    assert described(query) == []


def test_descriptions_may_nest() -> None:
    assert described("my boss's mentor") == [Described(None, ("boss",)), Described("boss", ("mentor",))]
    assert owners("what is ana's boss's name") == ["ana", "boss"]
