"""Mem-alpha as a write policy, as a file, and as the updater of a real store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from lamina import Memory
from lamina.bench.experiments.text.memory_gym import CORE_LIMIT, HistoryEnv
from lamina.bench.experiments.text.memory_histories import make_history
from lamina.bench.experiments.text.memory_policies import evaluate, greedy
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Claim, Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.errors import CorruptCube, InvalidInput, NotFound
from lamina.text import construction_policy
from lamina.text.base import Fact
from lamina.text.construction_policy import DEFAULT_ACTIONS, MemAlpha, MemAlphaUpdater, about, compose
from lamina.text.policy.features import FEATURES, match, read
from lamina.text.policy.grpo import Recipe
from lamina.text.policy.tools import TypedMemory

AT = datetime(2024, 3, 1, tzinfo=UTC)
SCOPE = Scope(user="alice")
ACTIONS = {action.name: action for action in DEFAULT_ACTIONS}


class Always(MemAlpha):
    """A policy that always does the same: what an action becomes in the store."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._place = [action.name for action in DEFAULT_ACTIONS].index(name)

    def choose(self, features: np.ndarray) -> np.ndarray:
        assert features.shape[-1] == len(FEATURES) and np.isfinite(features).all()
        return np.full(features.shape[:-1], self._place)


def _memory(path: Path, policy: MemAlpha | None = None) -> Memory:
    return Memory(path, embedder=WordVectors(), updater=MemAlphaUpdater(policy))


@pytest.fixture
def learned(tmp_path: Path) -> Iterator[Memory]:
    with _memory(tmp_path / "learned.db") as memory:
        yield memory


def _say(memory: Memory, *messages: str) -> list[tuple[str, str, str]]:
    """Say messages a day apart; event, type and text of what became of each fact."""
    found = []
    for day, message in enumerate(messages):
        rows = memory.add(message, user_id="alice", timestamp=AT + timedelta(days=day))["results"]
        found += [(row["event"], row["semantic_type"], row["memory"]) for row in rows[1:]]
    return found


def _fact(text: str) -> Fact:
    claim = Claim("Alice", "residence", "denver")
    return Fact(text=text, start=0, end=len(text), semantic_type="fact", claim=claim)


def _open(memory: Memory) -> set[tuple[str, str]]:
    cubes = memory.store.query(SCOPE).cubes
    return {(cube.header.semantic_type, cube.text) for cube in cubes if cube.header.semantic_type != "turn"}


# -- in the store ----------------------------------------------------------------------------------


def test_the_packaged_policy_keeps_a_store_current(learned: Memory) -> None:
    _say(learned, "I live in Boston.", "My favourite colour is blue.", "I went to the marathon on 12 February.")
    _say(learned, "I moved to Denver.", "My favourite colour is green now.", "I have a dog named Rex.")
    held = _open(learned)
    assert ("fact", "Alice moved to Denver.") in held and ("persona", "Alice's favourite colour is green now.") in held
    assert not any("Boston" in text or "blue" in text for _, text in held)
    assert any(kind == "event" and "marathon" in text for kind, text in held)
    assert any("Rex" in text for _, text in held)


def test_what_was_updated_is_history_and_every_turn_is_kept(learned: Memory) -> None:
    _say(learned, "I live in Boston.", "I moved to Denver.")
    old = next(c for c in learned.store.query(SCOPE, closed=True).cubes if c.text == "Alice lives in Boston.")
    assert old.header.superseded is not None
    successor = learned.store.get(old.header.superseded_by or "")
    assert successor is not None and successor.text == "Alice moved to Denver."
    before = {c.text for c in learned.store.query(SCOPE, as_of=AT + timedelta(hours=1)).cubes}
    assert before == {"I live in Boston.", "Alice lives in Boston."}
    turns = {c.text for c in learned.store.query(SCOPE).cubes if c.header.semantic_type == "turn"}
    assert turns == {"I live in Boston.", "I moved to Denver."}
    assert learned.store.verify() == []


KNOWN = MemCube(Header(scope=SCOPE, recorded=AT, claim=Claim("Alice")), TextPayload("Alice bakes bread."))


def _loose(text: str) -> Fact:
    return Fact(text=text, start=0, end=len(text), semantic_type="fact", claim=Claim("Alice"))


@pytest.mark.parametrize(
    ("action", "text", "kind", "semantic_type"),
    [
        ("skip", "Alice bakes pies.", "skip", "fact"),
        ("skip", "Alice bakes 12 pies.", "add", "fact"),  # a number of its own is not left out
        ("insert-semantic", "Alice bakes pies.", "add", "fact"),
        ("insert-episodic", "Alice bakes pies.", "add", "event"),
        ("update-best", "Alice bakes pies.", "add", "fact"),
        ("update-best", "Alice bakes dark bread slowly.", "augment", "fact"),
        ("core-write", "Alice bakes pies.", "add", "persona"),
        ("delete-best", "Alice bakes pies.", "add", "fact"),  # what may still be true is not ended
    ],
)
def test_what_each_action_does(action: str, text: str, kind: str, semantic_type: str) -> None:
    done = MemAlphaUpdater(Always(action)).decide(_loose(text), AT, [], [(KNOWN, 0.6)])
    assert (done.kind, done.fact.semantic_type) == (kind, semantic_type)


@pytest.mark.parametrize("action", ["skip", "insert-semantic", "update-best", "delete-best"])
@pytest.mark.parametrize(
    ("first", "second", "held"),
    [
        ("I live in Boston.", "I moved to Denver.", {"Alice moved to Denver."}),
        ("I speak French.", "I speak Polish.", {"Alice speaks French.", "Alice speaks Polish."}),
        ("I smoke.", "I don't smoke anymore.", {"Alice doesn't smoke anymore."}),
        ("I weigh 82 kg.", "I weigh 79 kg now.", {"Alice weighs 79 kg now."}),
    ],
)
def test_no_policy_loses_what_grammar_knows(
    tmp_path: Path, action: str, first: str, second: str, held: set[str]
) -> None:
    with _memory(tmp_path / "one.db", Always(action)) as memory:
        _say(memory, first, second)
        assert {text for _, text in _open(memory)} >= held
        if len(held) == 1 and "weigh" not in first:
            assert len(_open(memory)) == 1
        assert len(memory.store.query(SCOPE, {"semantic_type": "turn"}).cubes) == 2


def test_the_same_again_is_not_stored_twice(tmp_path: Path) -> None:
    for place, action in enumerate(("insert-semantic", "core-write", "update-best")):
        with _memory(tmp_path / f"{place}.db", Always(action)) as memory:
            assert [row[0] for row in _say(memory, "I live in Boston.", "I live in Boston.")] == ["ADD", "NONE"]
            assert len(_open(memory)) == 1


def test_fuller_statements_grow_and_happenings_and_other_people_stay(tmp_path: Path) -> None:
    with _memory(tmp_path / "grow.db", Always("update-best")) as memory:
        _say(memory, "I live in Boston.", "I live in Boston with Rex.")
        assert [event for event, *_ in _say(memory, "My sister lives in Oslo.")] == ["ADD"]
        assert {"Alice's sister lives in Oslo."} < {text for _, text in _open(memory)}
    with _memory(tmp_path / "past.db", Always("insert-episodic")) as memory:
        _say(memory, "I lived in Boston.")
        happened = memory.store.query(SCOPE, {"semantic_type": "event"}).cubes
        assert len(happened) == 1
        decided = MemAlphaUpdater(Always("update-best")).decide(_fact("Alice lives in Denver."), AT, happened, [])
        assert decided.kind == "add" and decided.target is None


def test_a_plan_ends_no_assertion(tmp_path: Path) -> None:
    with _memory(tmp_path / "plan.db", Always("insert-semantic")) as memory:
        _say(memory, "I live in Boston.")
        known = memory.store.query(SCOPE, {"semantic_type": "fact"}).cubes
    said = _fact("Alice may live in Denver.")
    plan = replace(said, semantic_type="plan", claim=replace(said.claim, modality="plan"))
    updater = MemAlphaUpdater(Always("update-best"))
    assert updater.decide(plan, AT, known, []).kind == "add"
    assert updater.decide(said, AT, known, []).target == known[0]


# -- as a policy over tools ------------------------------------------------------------------------


def test_act_on_the_tools_is_what_the_gym_plays() -> None:
    policy, history = MemAlpha.default(), make_history(77, 30, "validation")
    memory = TypedMemory(CORE_LIMIT)
    for text in history.texts:
        for call in policy.act(memory, text):
            memory.call(call)
    env = HistoryEnv("validation")
    assert evaluate(env, greedy(policy), [77], 30).accuracy == pytest.approx(history.score(memory))
    assert sum(result.ok for result in memory.results) == env.reward().r2.sum()


def test_calls_of_the_actions() -> None:
    memory = TypedMemory(core_limit=8)
    first = memory.insert("semantic", "Lena has a dog.")
    text = "On 3 May Lena had a cat."
    found = match(read(text), [read(entry.text) for entry in memory.entries])
    calls = {name: compose(action, memory, text, found) for name, action in ACTIONS.items()}
    assert calls["insert-semantic"].arguments == {"memory_type": "semantic", "content": "Lena had a cat."}
    assert calls["insert-episodic"].arguments == {"memory_type": "episodic", "content": text}
    assert calls["update-best"].arguments == {
        "memory_type": "semantic", "memory_id": first, "new_content": "Lena had a cat.",
    }  # fmt: skip
    assert calls["delete-best"].arguments == {"memory_type": "semantic", "memory_id": first}
    for sentence in ("I like tea a lot.", "I am tall.", "I am old."):
        memory.call(compose(ACTIONS["core-write"], memory, sentence, found))
    assert memory.core == "I am old.\nI am tall."  # newest first; the oldest no longer fits
    assert not memory.call(compose(ACTIONS["core-write"], memory, "I am tall.", found)).ok
    empty = TypedMemory()
    nothing = match(read(text), [])
    assert not empty.call(compose(ACTIONS["update-best"], empty, text, nothing)).ok
    assert not empty.call(compose(ACTIONS["delete-best"], empty, text, nothing)).ok


# -- as a file -------------------------------------------------------------------------------------


def test_ten_updates_are_five_saved_loaded_and_five_more(tmp_path: Path) -> None:
    env, recipe = HistoryEnv(lengths=(12,)), Recipe(histories=2, rollouts=3, baseline="chunk")
    whole, half = MemAlpha(recipe=recipe, seed=4), MemAlpha(recipe=recipe, seed=4)
    whole.fit(env, updates=10)
    half.fit(env, updates=5)
    half.save(tmp_path / "half.safetensors")
    resumed = MemAlpha.load(tmp_path / "half.safetensors")
    resumed.fit(env, updates=5)
    assert resumed.recipe == recipe and resumed.training.log.rows == whole.training.log.rows
    for name, weights in whole.training.params.items():
        assert (weights == resumed.training.params[name]).all()
    for name, moments in whole.training.adam.moments.items():
        assert (moments == resumed.training.adam.moments[name]).all()


def test_a_policy_without_its_optimizer_acts_but_does_not_learn(tmp_path: Path) -> None:
    policy = MemAlpha(seed=2)
    policy.scores["n"] = 0.5
    policy.save(tmp_path / "small.safetensors", resumable=False)
    small = MemAlpha.load(tmp_path / "small.safetensors")
    features = np.random.default_rng(0).standard_normal((20, len(FEATURES)))
    assert (small.choose(features) == policy.choose(features)).all()
    assert small.scores == {"n": 0.5} and small.training.seed == 2
    with pytest.raises(InvalidInput, match="without its optimizer"):
        small.fit(HistoryEnv(), updates=1)


def test_the_packaged_policy_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    told = about(MemAlpha.default())
    assert told["updates"] > 0 and told["recipe"]["rollouts"] == 8 and told["seed"] == 0
    assert {"chat.24", "chat.312", "retold.24", "retold.312"} < set(told["scores"])
    assert construction_policy.WEIGHTS.stat().st_size < 100_000
    monkeypatch.setattr(construction_policy, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(CorruptCube, match="not the file that was shipped"):
        MemAlpha.default()


def test_files_that_are_no_policies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="no such file"):
        MemAlpha.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("hello")
    save_file({"x": np.zeros(2)}, tmp_path / "other")
    for name in ("text", "other"):
        with pytest.raises(CorruptCube, match="no write policy"):
            MemAlpha.load(tmp_path / name)
    MemAlpha().save(tmp_path / "policy")
    with safe_open(tmp_path / "policy", framework="numpy") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors | {"out.bias": np.zeros(2)}, tmp_path / "shape", metadata=told)
    with pytest.raises(CorruptCube, match="other shapes"):
        MemAlpha.load(tmp_path / "shape")
    strange = {"mem-alpha": told["mem-alpha"].replace('"histories": 6', '"histories": "many"')}
    save_file(tensors, tmp_path / "strange", metadata=strange)
    with pytest.raises(CorruptCube, match="no write policy"):
        MemAlpha.load(tmp_path / "strange")
    monkeypatch.setattr(construction_policy, "FEATURES", ("one",))
    with pytest.raises(InvalidInput, match="other features"):
        MemAlpha.load(tmp_path / "policy")
