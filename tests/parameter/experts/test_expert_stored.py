"""Experts in a real store: one an operation in use, out of sight of users, and read with by a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.errors import FingerprintMismatch, NotFound
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.loop import OperationLoop
from lamina.parameter.experts.lora import Shape, fresh
from lamina.parameter.experts.operations import Op
from lamina.parameter.experts.stored import find, keep, load, memlora
from lamina.parameter.operation_experts import MemLoRA
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Turn
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.tools import Tools

T0 = datetime(2024, 5, 3, tzinfo=UTC)
Tiny = Callable[..., CausalLM]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "m.db")
    yield store
    store.close()


def _experts(lm: CausalLM, *ops: Op, seed: int = 0) -> MemLoRA:
    made = MemLoRA(lm)
    for op in ops:
        made.install(op, fresh(lm, Shape(2, 4, (3,)), seed=seed + len(op)), {"teacher": "t", "steps": 1})
    return made


def test_a_newer_expert_takes_the_place_of_the_older_which_stays_in_history(tiny_lm: Tiny, store: SqliteStore) -> None:
    lm = tiny_lm()
    first = keep(store, _experts(lm, "extract", "update"), "acme")
    (second,) = keep(store, _experts(lm, "update", seed=9), "acme")
    found = find(store, "acme")
    assert [cube.id for cube in found.values()] == [first[0].id, second.id] and list(found) == ["extract", "update"]
    old = store.get(first[1].id)
    assert old is not None and old.header.superseded_by == second.id
    assert second.payload == found["update"].payload != old.payload
    assert find(store, "other") == {}


def test_experts_are_in_no_users_memories(tiny_lm: Tiny, store: SqliteStore) -> None:
    keep(store, _experts(tiny_lm(), "extract"), "acme")
    assert store.query(Scope("acme", user="ada"), closed=True).cubes == []
    assert [cube.header.scope for cube in store.query(Scope("acme")).cubes] == [Scope("acme", agent="memlora")]


def test_what_is_loaded_is_what_was_kept_and_what_is_missing_is_named(
    tiny_lm: Tiny, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    lm = tiny_lm()
    monkeypatch.setattr(CausalLM, "load", lambda name: asked.append(name) or lm)  # the disk
    kept = keep(store, _experts(lm, "extract", "update"), "acme")
    again = load(store, "acme", ops=("extract",))
    assert [cube.payload for cube in again.cubes()] == [cube.payload for cube in kept] and asked == ["tiny-0"]
    with pytest.raises(NotFound, match="no expert for generate"):
        load(store, "acme")
    with pytest.raises(NotFound, match="no expert for extract, update, generate"):
        load(store, "other", ops=())
    monkeypatch.setattr(CausalLM, "load", lambda _: tiny_lm(seed=1))
    with pytest.raises(FingerprintMismatch):
        load(store, "acme", ops=())


def test_a_pipeline_without_experts_lets_turns_wait_and_reads_them_when_there_are(
    tiny_lm: Tiny, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, indexes, lm = WordVectors(), IndexCache(), tiny_lm()
    pipeline = memlora(Tools(store, embedder, indexes), "default")
    assert isinstance(pipeline.extractor, OperationLoop) and pipeline.extractor is pipeline.updater
    ingestion = Ingestion(store, embedder, pipeline, indexes)
    turn = Turn("I live in Oslo.", "Ada", "user", T0, "s", 0, named=True)
    (kept,) = ingestion.write([Batch(Scope(user="ada"), [turn])])[0]
    assert "no expert for extract, update" in kept.reason
    assert ingestion.pending.retry("default") == {"extracted": 0, "waiting": 1}
    keep(store, _experts(lm, "extract", "update"), "default")
    monkeypatch.setattr(CausalLM, "load", lambda _: lm)
    read: list[str] = []
    monkeypatch.setattr(
        "lamina.parameter.experts.serving.OperationExperts.answer",
        lambda _, requests: read.extend(type(each).__name__ for each in requests) or [() for _ in requests],
    )
    assert ingestion.pending.retry("default") == {"extracted": 1, "waiting": 0} and read == ["Exchange"]
