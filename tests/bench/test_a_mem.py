"""The card of A-MEM: its corpora are what they say, and the experiment runs at toy size."""

from __future__ import annotations

import pytest

from lamina.bench.note_corpora import bridging, evolution
from lamina.bench.systems.a_mem import CARD
from lamina.store.analysis import terms


def test_bridging_says_in_the_question_nothing_of_the_bridge() -> None:
    corpus = bridging(3)
    assert len(corpus.entries) == 480 and len(corpus.questions) == 120
    namesakes = bare = 0
    for question in corpus.questions:
        bridge, place = corpus.entries[question.via].text, corpus.entries[question.wanted].text
        person = question.text.split("'s ")[0].removeprefix("Where does ")
        assert person in bridge and person not in place.split()
        shared = set(terms(bridge)) & set(terms(place))
        assert shared and not shared & set(terms(question.text))
        namesakes += bool(question.wrong)
        bare += len(shared) == 1
    assert namesakes == 12 and 20 <= bare <= 55
    assert bridging(3) == corpus != bridging(4)


def test_evolution_asks_in_words_the_early_note_does_not_have() -> None:
    corpus = evolution(3)
    assert len(corpus.entries) == 800 and len(corpus.questions) == 120
    for question in corpus.questions:
        early, late = corpus.entries[question.wanted], corpus.entries[question.via]
        assert early.time < late.time
        person = next(word for word in early.text.split() if word[0].isupper())
        assert person in question.text and person not in late.text.split()
        news = set(terms(question.text)) - set(terms(early.text))
        assert news & set(terms(late.text))
    assert evolution(3) == corpus != evolution(4)


@pytest.mark.usefixtures("minilm")
def test_the_card_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    found = {m.claim.metric + m.claim.claim: m for m in CARD.measure(seed=1, scale="smoke")}
    assert len(found) == len(CARD.claims)
    measured = [m for m in found.values() if m.ours is not None]
    assert len(measured) == len(CARD.claims) - 2, "all but the two that need LoCoMo"
    words = next(m for m in measured if m.claim.unit == "words")
    assert words.holds, "no arm gets more context than cosine"
