"""The card of A-MEM: its corpora are what they say, and the experiment runs at toy size."""

from __future__ import annotations

import re

import pytest

from lamina.bench.experiments.text.bridge_wordings import DEVELOPMENT, HELD_OUT, Wordings
from lamina.bench.experiments.text.note_corpora import (
    OUTCOMES_DEVELOPMENT,
    OUTCOMES_HELD_OUT,
    Outcomes,
    bridging,
    evolution,
)
from lamina.bench.systems.a_mem import CARD
from lamina.store.analysis import terms
from lamina.text.english.lexicon import OCCUPATIONS, RELATIONS
from lamina.text.notes.evolution import _STATE


def test_bridging_says_in_the_question_nothing_of_the_bridge() -> None:
    corpus = bridging(3)
    assert len(corpus.entries) == 480 and len(corpus.questions) == 120
    namesakes = bare = 0
    for question in corpus.questions:
        bridge, place = corpus.entries[question.via].text, corpus.entries[question.wanted].text
        asked = set(terms(question.text))
        (person,) = {word for word in re.findall(r"[A-Z]\w+", bridge) if (stems := set(terms(word))) and stems <= asked}
        assert person in bridge and person not in place.split()
        shared = {stem for word in re.findall(r"[A-Z]\w+", place) for stem in terms(word)} & set(terms(bridge))
        assert shared and not shared & asked
        namesakes += bool(question.wrong)
        bare += sum(word in bridge.split() or f"{word}." in bridge for word in re.findall(r"[A-Z]\w+", place)) == 1
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


@pytest.mark.parametrize("wordings", [DEVELOPMENT, HELD_OUT])
def test_half_of_the_relations_are_on_no_list_of_the_code(wordings: Wordings) -> None:
    known = RELATIONS | OCCUPATIONS
    assert set(wordings.listed) <= known and not set(wordings.unlisted) & known
    assert len(wordings.listed) == len(wordings.unlisted)
    assert all(len(forms) >= 4 for forms in wordings.questions.values())


def test_development_and_report_share_no_wording() -> None:
    for name in ("relations", "first"):
        assert not set(getattr(DEVELOPMENT, name)) & set(getattr(HELD_OUT, name))
    for kind in ("work", "live"):
        assert not set(DEVELOPMENT.second[kind]) & set(HELD_OUT.second[kind])
        assert not set(DEVELOPMENT.questions[kind]) & set(HELD_OUT.questions[kind])
    for name in ("outright", "otherwise"):
        assert not set(getattr(OUTCOMES_DEVELOPMENT, name)) & set(getattr(OUTCOMES_HELD_OUT, name))


@pytest.mark.parametrize("outcomes", [OUTCOMES_DEVELOPMENT, OUTCOMES_HELD_OUT])
def test_half_of_the_outcomes_are_words_of_status(outcomes: Outcomes) -> None:
    def is_status(text: str) -> bool:
        return any(status.search(text) for status in _STATE.values())

    assert len(outcomes.outright) == len(outcomes.otherwise)
    assert all(map(is_status, outcomes.outright)) and not any(map(is_status, outcomes.otherwise))


@pytest.mark.usefixtures("minilm")
def test_the_card_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    found = {m.claim.metric + m.claim.claim: m for m in CARD.measure(seed=1, scale="smoke")}
    assert len(found) == len(CARD.claims)
    measured = [m for m in found.values() if m.ours is not None]
    assert len(measured) == len(CARD.claims) - 2, "all but the two that need LoCoMo"
    words = next(m for m in measured if m.claim.unit == "words")
    assert words.holds, "no arm gets more context than cosine"
