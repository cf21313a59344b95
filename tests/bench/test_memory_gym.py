"""The gym against the real memory: the same actions, call after call, give the same features, answers and rewards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pytest

from lamina.bench.experiments.text import memory_gym as gym
from lamina.bench.experiments.text.memory_gym import HistoryEnv
from lamina.bench.experiments.text.memory_histories import _NAMES, _SAID, KINDS, SHARES, History, answered, make_history
from lamina.bench.experiments.text.memory_policies import CONSTANT, evaluate, gold_rules, random_actions
from lamina.text.construction_policy import DEFAULT_ACTIONS, compose
from lamina.text.policy.features import FEATURES, assemble, count_tokens, match, read, retell
from lamina.text.policy.tools import TypedMemory, valid_form

Played = tuple[list[np.ndarray], list[float], TypedMemory]


def reference(history: History, actions: Sequence[int], retold: bool) -> Played:
    """Play one history on a ``TypedMemory``; features seen, calls that worked, and the memory at the end."""
    memory, seen, worked = TypedMemory(gym.CORE_LIMIT), [], []
    for text, action in zip(history.texts, actions, strict=True):
        chunk = retell(read(text)) if retold else read(text)
        found = match(chunk, [read(entry.text) for entry in memory.entries])
        seen.append(assemble(chunk, found, memory.core_fill))
        worked.append(float(memory.call(compose(DEFAULT_ACTIONS[action], memory, text, found)).ok))
    return seen, worked, memory


@pytest.mark.parametrize(
    ("split", "chunks", "retold"), [("train", 24, 0.0), ("validation", 120, 0.0), ("validation", 24, 1.0)]
)
def test_the_arrays_do_what_the_tools_do(split: str, chunks: int, retold: float) -> None:
    env, rng = HistoryEnv(split, retold=retold), np.random.default_rng(5)
    features = env.reset(seeds := [3, 4, 5], chunks, rollouts := 3)
    seen, taken = [], []
    while features is not None:
        seen.append(features)
        # Mostly writing: a memory with something in it.
        taken.append(rng.choice(6, features.shape[:2], p=[0.1, 0.3, 0.2, 0.2, 0.15, 0.05]))
        features = env.step(taken[-1])
    parts, share = env.reward(), env.memory_share()
    for place in range(len(seeds)):
        history = env.histories[place]
        for play in range(rollouts):
            actions = [int(step[place, play]) for step in taken]
            expected, worked, memory = reference(history, actions, bool(retold))
            np.testing.assert_allclose([step[place, play] for step in seen], expected, atol=1e-9)
            assert parts.r2[place, play].tolist() == worked
            assert env.answers[place][play].tolist() == [answered(question, memory) for question in history.questions]
            assert parts.r1[place, play] == pytest.approx(history.score(memory))
            read_words = sum(map(count_tokens, history.texts))
            assert share[place, play] == pytest.approx(memory.tokens / read_words)
            assert parts.r3[place, play] == pytest.approx(1 - memory.tokens / read_words)


def test_form_is_judged_by_the_store_that_is_written_to() -> None:
    env = HistoryEnv()
    for action, kind in ((gym.INSERT_SEMANTIC, "semantic"), (gym.INSERT_EPISODIC, "episodic"), (gym.CORE, "core")):
        evaluate(env, CONSTANT[DEFAULT_ACTIONS[action].name], [1], 24)
        expected = [float(valid_form(kind, text)) for text in env.histories[0].texts]
        assert env.reward().r4[0, 0].tolist() == expected
    for name in ("skip", "delete-best"):
        evaluate(env, CONSTANT[name], [1], 24)
        assert env.reward().r4.tolist() == [[[1.0] * 24]]


def test_actions_have_their_places() -> None:
    places = (gym.SKIP, gym.INSERT_SEMANTIC, gym.INSERT_EPISODIC, gym.UPDATE, gym.CORE, gym.DELETE)
    names = ["skip", "insert-semantic", "insert-episodic", "update-best", "core-write", "delete-best"]
    assert [DEFAULT_ACTIONS[place].name for place in places] == names


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "fresh"), ("validation", "fresh")])
def test_splits_share_no_sentence_and_no_name(one: str, other: str) -> None:
    """Only counts are compared: a failure must not show what is in the fresh split."""
    names = len(_plain(_NAMES[one]) & _plain(_NAMES[other]))
    assert names == 0
    said, told = (_plain(s for sentences in _SAID[split].values() for s in sentences) for split in (one, other))
    sentences = len(said & told)
    assert sentences == 0
    texts, others = (
        {text for seed in range(20) for text in make_history(seed, 24, split).texts} for split in (one, other)
    )
    shared = len(texts & others)
    assert shared == 0


@pytest.mark.parametrize(("split", "least"), [("train", 25), ("validation", 6)])
def test_every_kind_is_said_in_many_ways(split: str, least: int) -> None:
    needed = {"fact": "eav", "change": "eav", "event": "exd", "trait": "pv", "chatter": ""}
    assert set(_SAID[split]) == set(needed)
    for kind, sentences in _SAID[split].items():
        assert len(_plain(sentences)) == len(sentences) >= least
        for sentence in sentences:
            gaps = re.findall(r"\{(\w)\}(.{0,1})", sentence)
            assert {gap for gap, _ in gaps} >= set(needed[kind])
            assert {after for _, after in gaps} <= {"", " ", ",", ".", "?"}  # the reader compares whole words
            assert kind != "chatter" or not {gap for gap, _ in gaps} & {"v", "d"}


def test_histories_are_mixed_as_said_and_repeat_by_seed() -> None:
    long = make_history(1, 3000 // 8, "validation")
    assert long == make_history(1, 3000 // 8, "validation")
    kinds = [chunk.kind for seed in range(12) for chunk in make_history(seed, 312, "train").chunks]
    shares = [kinds.count(kind) / len(kinds) for kind in KINDS]
    assert shares == pytest.approx(SHARES, abs=0.02)
    assert not any(chunk.kind == "chatter" for chunk in make_history(1, 100, "train", chatter=False).chunks)
    entities = {question.entity for question in long.questions if question.entity}
    wanted = round(len(long.chunks) / 8)
    assert 0.8 * wanted < len(entities) <= wanted  # some are only chattered about


def test_questions_ask_for_what_holds_at_the_end() -> None:
    """Every question is answered by a memory that holds, of each subject, only the last thing said."""
    history = make_history(2, 60, "train")
    for question in history.questions:
        about = [c.text for c in history.chunks if c.kind != "chatter" and {*question.terms} <= set(_words(c.text))]
        assert set(question.answer) <= set(_words(about[-1]))
    asked = [question.terms for question in history.questions]
    assert len(asked) == len(set(asked))


def test_features_do_not_grow_with_the_history() -> None:
    """Every feature stays in the same bounds however long the history and full the memory."""
    for chunks in (12, 200):
        env = HistoryEnv("validation")
        features, high = env.reset([1, 2], chunks, 1), 0.0
        act = random_actions(0)
        while features is not None:
            assert features.shape == (2, 1, len(FEATURES))
            high = max(high, float(np.abs(features).max()))
            features = env.step(act(env, features))
        assert high <= 1.0 + 1e-9


def test_who_is_told_the_kinds_answers_nearly_all_and_stale_entries_do_harm() -> None:
    env, seeds = HistoryEnv("validation"), range(100, 108)
    rules = evaluate(env, gold_rules, seeds, 48)
    assert rules.accuracy > 0.9 and rules.memory < 0.6
    everything = evaluate(env, CONSTANT["insert-episodic"], seeds, 48)
    assert everything.event > 0.9 and everything.trait == 0.0
    assert everything.fact < rules.fact - 0.1  # the first of equals is believed, and it is out of date
    assert evaluate(env, CONSTANT["insert-semantic"], seeds, 48).event == 0.0  # dates are lost
    assert evaluate(env, CONSTANT["skip"], seeds, 48).accuracy == 0.0


def test_the_ablation_blanks_what_it_says_it_blanks() -> None:
    env = HistoryEnv(matching="overlap", lengths=(24,))
    features = env.reset([1], 24, 1)
    blank = [FEATURES.index(name) for name in ("margin", "novelty")]
    while features is not None:
        assert not features[..., blank].any()
        features = env.step(np.full((1, 1), gym.INSERT_SEMANTIC))


def _words(text: str) -> list[str]:
    return [word.strip(".,?") for word in text.lower().split()]


def _plain(texts: Iterable[str]) -> set[str]:
    """Without capitals and punctuation, so that a comma does not make a sentence another."""
    return {" ".join(re.findall(r"[\w{}]+", text.lower())) for text in texts}
