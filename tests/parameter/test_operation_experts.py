"""MemLoRA on a tiny model that learnt a few requests by heart: the loop, cubes, failures, and who waits for whom."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Claim, Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.errors import FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.grammar import Grammar
from lamina.parameter.experts.loop import FACTS
from lamina.parameter.experts.lora import Shape
from lamina.parameter.experts.operations import Exchange, Inquiry, MemoryOp, Remembered, Request, Revision
from lamina.parameter.experts.prompts import Facts
from lamina.parameter.experts.serving import OperationFailed
from lamina.parameter.experts.traces import Trace, TraceSet
from lamina.parameter.experts.training import Recipe
from lamina.parameter.operation_experts import MemLoRA
from lamina.settings import Settings
from lamina.store.base import Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Fact, Hit, Pipeline, Turn
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.prompted.restoring import is_waiting
from lamina.text.retrieval import HybridRetriever

T0 = datetime(2024, 5, 3, tzinfo=UTC)
ADA = Scope(user="ada")
OSLO, ROME, GONE = "Ada lives in Oslo.", "Ada lives in Rome.", "Ada no longer lives in Oslo."
WHERE = "Where does Ada live?"


def _said(text: str) -> Exchange:
    return Exchange((("Ada", text),))


def _asked(*memories: str) -> Inquiry:
    return Inquiry(WHERE, tuple(Remembered(text, T0.date()) for text in memories), date(2024, 5, 9))


LEARNT: list[tuple[Request, str]] = [
    (_said("I live in Oslo."), '{"facts": ["Ada lives in Oslo."]}'),
    (_said("I live in Rome now."), '{"facts": ["Ada lives in Rome."]}'),
    (_said("Hello!"), '{"facts": []}'),
    (_said("Say it plainly."), "I will not write JSON"),
    (Revision((OSLO,)), '[{"event": "ADD", "id": null, "text": "Ada lives in Oslo."}]'),
    (Revision((ROME,), (OSLO,)), '[{"event": "UPDATE", "id": 0, "text": "Ada lives in Rome."}]'),
    (Revision((OSLO,), (OSLO,)), '[{"event": "NONE", "id": 0, "text": null}]'),
    (Revision((GONE,), (OSLO,)), '[{"event": "DELETE", "id": 0, "text": null}]'),
    (Revision((GONE,)), '[{"event": "NONE", "id": null, "text": null}]'),
    (_asked(ROME), "Rome"),
    (_asked(), "not mentioned"),
]
TRACES = TraceSet(tuple(Trace(request, output, "heart") for request, output in LEARNT))


def _tiny(tokenizer: object, seed: int = 0) -> CausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=2, max_position_embeddings=512, tie_word_embeddings=True,
        initializer_range=0.1,
    )  # fmt: skip
    return CausalLM(LlamaForCausalLM(config).eval(), tokenizer, "tiny")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def learnt(smollm2: CausalLM) -> MemLoRA:
    recipe = Recipe(lr=1e-2, batch=8, epochs=100, dropout=0.0)
    return MemLoRA.distill(_tiny(smollm2.tokenizer), TRACES, shape=Shape(16, 32), recipe=recipe)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "m.db")
    yield store
    store.close()


def _ingestion(store: SqliteStore, memlora: MemLoRA) -> Ingestion:
    indexes = IndexCache()
    return Ingestion(store, WordVectors(), Pipeline(memlora, memlora, HybridRetriever(indexes)), indexes)


def _turn(text: str, session: str) -> Turn:
    return Turn(text, "Ada", "user", T0, session, 0, named=True)


def _fact(text: str) -> Fact:
    return Fact(text=text, start=0, end=len(text), semantic_type="fact", claim=Claim("Ada"))


def _cube(text: str) -> MemCube:
    return MemCube(Header(recorded=T0, created=T0, claim=Claim("Ada")), TextPayload(text))


def test_each_expert_knows_its_own_operation(learnt: MemLoRA) -> None:
    attempts = learnt.experts.attempt([request for request, _ in LEARNT])
    assert [attempt.replies[0] for attempt in attempts] == [output for _, output in LEARNT]
    assert [attempt.valid_at_once for attempt in attempts] == [i != 3 for i in range(len(LEARNT))]
    assert learnt.experts.extract(_said("Hello!")) == ()
    assert learnt.experts.update(Revision((ROME,), (OSLO,))) == (MemoryOp("UPDATE", 0, ROME),)


def test_a_malformed_reply_is_asked_for_once_more_within_its_grammar_and_kept(learnt: MemLoRA, tmp_path: Path) -> None:
    journal = tmp_path / "failed.jsonl"
    short = MemLoRA.from_cubes(
        learnt.lm, learnt.cubes(), adapters=learnt.adapters, max_tokens={"extract": 9}, journal=journal
    )
    request = _said("Say it plainly.")
    with pytest.raises(OperationFailed, match="no valid answer in 2 replies") as failed:
        short.experts.extract(request)
    free, constrained = failed.value.attempt.replies
    assert failed.value.code == "OPERATION_FAILED" and free == "I will not write JSON"
    grammar = Grammar(Facts)
    assert grammar.advance(grammar.start, constrained)
    row = json.loads(journal.read_text())
    assert row["op"] == "extract" and row["replies"] == [free, constrained]
    assert row["prompt"][-1]["content"] == "Ada: Say it plainly."


def test_the_loop_on_a_real_store(learnt: MemLoRA, store: SqliteStore) -> None:
    ingestion = _ingestion(store, learnt)
    events = [["ADD", "ADD"], ["ADD"], ["ADD", "UPDATE"]]
    for number, text in enumerate(["I live in Oslo.", "Hello!", "I live in Rome now."]):
        outcomes = ingestion.write([Batch(ADA, [_turn(text, f"s{number}")])])[0]
        assert [outcome.event for outcome in outcomes] == events[number]
    page = store.query(ADA, {"semantic_type": {"ne": "turn"}})
    facts = [cube for cube in page.cubes if cube.header.utterance is None]
    assert [cube.text for cube in facts] == [ROME]
    assert facts[0].header.provenance.extractor == "memlora"
    old = [cube for cube in store.query(ADA, closed=True).cubes if cube.text == OSLO]
    assert old and old[0].header.superseded is not None  # what was replaced is in history


def _memory(path: Path, experts: MemLoRA) -> Memory:
    settings = Settings(tenant="default", pipeline="hybrid")
    return Memory(path, embedder=WordVectors(), extractor=experts, updater=experts, settings=settings)


def _told(text: str) -> dict[str, str]:
    return {"role": "user", "name": "Ada", "content": text}


def _texts(memory: Memory, as_of: str | None = None) -> set[str]:
    return {row["memory"] for row in memory.get_all(filters={"user_id": "ada"}, as_of=as_of)["results"]}


def test_the_front_door_keeps_a_memory_with_experts(learnt: MemLoRA, tmp_path: Path) -> None:
    with _memory(tmp_path / "m.db", learnt) as memory:
        events = []
        for day, text in enumerate(["I live in Oslo.", "Hello!", "I live in Rome now."], 1):
            rows = memory.add(_told(text), user_id="ada", timestamp=f"2024-05-0{day}")["results"]
            events.append([row["event"] for row in rows])
        assert events == [["ADD", "ADD"], ["ADD"], ["ADD", "UPDATE"]]
        assert OSLO in [
            row["memory"] for row in memory.get_all(filters={"user_id": "ada"}, as_of="2024-05-01")["results"]
        ]
        now = datetime(2024, 5, 9, tzinfo=UTC)
        answer = learnt.answer(WHERE, memory.hits(WHERE, ADA, where=FACTS), now=now)
        assert answer.text == "Rome" and [quote.text for quote in answer.cited] == [ROME]


def test_at_the_front_door_a_failure_is_an_error_and_the_message_is_kept_and_read_later(
    learnt: MemLoRA, tmp_path: Path
) -> None:
    short = MemLoRA.from_cubes(learnt.lm, learnt.cubes(), adapters=learnt.adapters, max_tokens={"extract": 9})
    with _memory(tmp_path / "m.db", short) as memory:
        with pytest.raises(OperationFailed):
            memory.add(_told("I live in Oslo."), user_id="ada")
        assert _texts(memory) == {"I live in Oslo."}
    with _memory(tmp_path / "m.db", learnt) as memory:
        assert memory.retry() == {"extracted": 1, "waiting": 0}
        assert {row["memory"] for row in memory.get_all(filters={"user_id": "ada"})["results"]} == {
            "I live in Oslo.",
            OSLO,
        }


def test_a_failed_turn_is_in_the_store_and_waits(learnt: MemLoRA, store: SqliteStore) -> None:
    ingestion = _ingestion(store, learnt)
    short = MemLoRA.from_cubes(learnt.lm, learnt.cubes(), adapters=learnt.adapters, max_tokens={"extract": 9})
    with pytest.raises(OperationFailed):
        _ingestion(store, short).write([Batch(ADA, [_turn("I live in Oslo.", "s")])])
    (kept,) = store.query(ADA).cubes
    assert kept.text == "I live in Oslo." and is_waiting(kept)
    assert ingestion.pending.retry("default") == {"extracted": 1, "waiting": 0}
    assert {cube.text for cube in store.query(ADA).cubes} == {"I live in Oslo.", OSLO}


@pytest.mark.parametrize(
    ("text", "known", "kind"),
    [
        (OSLO, (), "add"),
        (ROME, (OSLO,), "supersede"),
        (OSLO, (OSLO,), "noop"),
        (GONE, (OSLO,), "close"),
        (GONE, (), "skip"),
    ],
)
def test_decisions_are_the_experts_in_the_words_of_the_store(
    learnt: MemLoRA, text: str, known: tuple[str, ...], kind: str
) -> None:
    near = [_cube(each) for each in known]
    operation = learnt.decide(_fact(text), T0, [], [(cube, 1.0) for cube in near])
    assert operation.kind == kind and operation.fact.text == text
    assert operation.target is (near[0] if kind in ("supersede", "noop", "close") else None)
    assert learnt.decide_ahead([(_fact(text), T0)] * 2, [near] * 2) == [operation, operation]


def test_what_was_decided_ahead_is_not_asked_again_inside_the_transaction(
    learnt: MemLoRA, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt._ahead.clear()
    asked: list[int] = []
    attempt = learnt.experts.attempt
    monkeypatch.setattr(learnt.experts, "attempt", lambda each: asked.append(len(each)) or attempt(each))
    near = [_cube(OSLO)]
    (ahead,) = learnt.decide_ahead([(_fact(ROME), T0)], [near])
    assert learnt.decide(_fact(ROME), T0, [], [(near[0], 1.0)]) == ahead and asked == [1]
    assert learnt.decide(_fact(ROME), T0, [], [(near[0], 1.0)]) == ahead and asked == [1, 1]  # used up
    assert learnt.decide(_fact(OSLO), T0, [], []).kind == "add" and asked == [1, 1, 1]
    other = replace(near[0], header=replace(near[0].header, version=2))
    for changed in ([other], [_cube(OSLO), *near], []):  # a new version, news, something that went: asked again
        learnt.decide_ahead([(_fact(ROME), T0)], [near])
        before = len(asked)
        learnt.decide(_fact(ROME), T0, [], [(cube, 1.0) for cube in changed])
        assert asked[before:] == [1]


def test_only_memories_of_the_same_subject_are_shown_and_those_far_off_are_no_news(
    learnt: MemLoRA, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    attempt = learnt.experts.attempt
    monkeypatch.setattr(learnt.experts, "attempt", lambda each: asked.extend(each) or attempt(each))
    mine, far = _cube(OSLO), _cube("Ada plays chess.")
    others = [replace(_cube("Ben lives in Oslo."), header=Header(claim=Claim("Ben"))) for _ in range(9)]
    (ahead,) = learnt.decide_ahead([(_fact(ROME), T0)], [[others[0], mine, *others[1:]]])
    assert ahead is not None and ahead.target is mine and asked == [Revision((ROME,), (OSLO,))]
    assert learnt.decide(_fact(ROME), T0, [], [(mine, 1.0), (far, 0.1)]) == ahead and len(asked) == 1


def test_answers_cite_what_they_rest_on(learnt: MemLoRA) -> None:
    now = datetime(2024, 5, 9, tzinfo=UTC)
    answer = learnt.answer(WHERE, [Hit(_cube(ROME), 1.0, {})], now=now)
    assert answer.text == "Rome" and [quote.text for quote in answer.cited] == [ROME]
    nothing = learnt.answer(WHERE, [], now=now)
    assert nothing.text == "not mentioned" and nothing.cited == () and nothing.prompt_tokens > 0


def test_an_expert_is_a_cube_that_survives_the_store(learnt: MemLoRA, store: SqliteStore, smollm2: CausalLM) -> None:
    cubes = learnt.cubes(ADA)
    with store.transaction() as tx:
        tx.insert([Write(cube) for cube in cubes])
    back = [cube for cube in (store.get(each.id) for each in cubes) if cube is not None]
    told = back[0].header.metadata
    assert (told["op"], told["rank"], told["teacher"]) == ("extract", 16, "heart")
    assert told["traces"] == TRACES.of("extract").sha256 and told["steps"] == 100
    twin = _tiny(smollm2.tokenizer)  # the same base, loaded elsewhere
    again = MemLoRA.from_cubes(twin, back)
    requests = [request for request, _ in LEARNT]
    assert [a.replies for a in again.experts.attempt(requests)] == [a.replies for a in learnt.experts.attempt(requests)]
    assert [cube.payload for cube in again.cubes()] == [cube.payload for cube in cubes]


def test_another_base_refuses_an_expert(learnt: MemLoRA, smollm2: CausalLM) -> None:
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        MemLoRA.from_cubes(_tiny(smollm2.tokenizer, seed=1), learnt.cubes())


def test_what_is_no_expert_is_refused(learnt: MemLoRA) -> None:
    first, *_ = learnt.cubes()
    other_prompts = replace(first.header, provenance=replace(first.header.provenance, prompt_hash="0"))
    for cubes, problem in (
        ([_cube("text")], "no operation expert"),
        ([first, first], "two experts"),
        ([], "holds no expert"),
        ([MemCube(other_prompts, first.payload)], "other prompts"),
        ([MemCube(first.header, TextPayload("x"))], "holds text"),
    ):
        with pytest.raises(InvalidInput, match=problem):
            MemLoRA.from_cubes(learnt.lm, cubes, adapters=learnt.adapters)
    with pytest.raises(InvalidInput, match="nothing to learn"):
        MemLoRA.distill(learnt.lm, TraceSet(()), adapters=learnt.adapters)
    with pytest.raises(InvalidInput, match="learns its own"):
        learnt.learn("update", TRACES, Shape(2, 4), Recipe())


def test_threads_with_different_operations_do_not_disturb_each_other(learnt: MemLoRA) -> None:
    requests = [LEARNT[0], LEARNT[5], LEARNT[9]]
    found: dict[int, list[str]] = {0: [], 1: [], 2: []}
    ids = torch.tensor([learnt.lm.encode("Ada lives in")])
    with torch.inference_mode():
        bare = learnt.lm.model(ids).logits

    def ask(number: int) -> None:
        for _ in range(5):
            found[number].append(learnt.experts.attempt([requests[number][0]])[0].replies[0])

    threads = [threading.Thread(target=ask, args=(number,)) for number in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(set(said) == {requests[number][1]} for number, said in found.items())
    with torch.inference_mode():
        assert torch.equal(learnt.lm.model(ids).logits, bare)  # outside of a call the model is the base


def test_use_nests_and_restores(learnt: MemLoRA) -> None:
    ids = torch.tensor([learnt.lm.encode("Ada lives in")])

    def logits() -> torch.Tensor:
        with torch.inference_mode():
            return learnt.lm.model(ids).logits

    bare = logits()
    with learnt.use("extract"):
        outer = logits()
        with learnt.use("update"):
            assert not torch.equal(logits(), outer)
        assert torch.equal(logits(), outer) and not torch.equal(outer, bare)
    assert torch.equal(logits(), bare)
