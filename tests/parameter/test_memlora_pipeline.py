"""``Memory(pipeline="memlora")``: read with experts; without them it waits, and a bad turn holds up no other."""

from __future__ import annotations

from pathlib import Path

import parameter_models
import pytest

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.lora import Shape, fresh
from lamina.parameter.experts.operations import Exchange, Output, Request
from lamina.parameter.experts.serving import Attempt, OperationFailed
from lamina.parameter.experts.stored import keep
from lamina.parameter.operation_experts import MemLoRA
from lamina.settings import Settings


def _memory(path: Path) -> Memory:
    return Memory(path, embedder=WordVectors(), settings=Settings(tenant="acme", pipeline="memlora"))


def test_messages_wait_for_experts_and_one_that_fails_holds_up_no_other(
    smollm2: CausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = parameter_models.tiny(smollm2.tokenizer)
    monkeypatch.setattr(CausalLM, "load", lambda _: lm)
    read: list[Request] = []

    def answer(_: object, requests: list[Request]) -> list[Output]:
        read.extend(requests)
        if any(isinstance(each, Exchange) and "bad" in each.said[0][1] for each in requests):
            raise OperationFailed(Attempt(requests[0], ("no", "JSON"), None, "not the asked JSON"))
        return [() for _ in requests]

    monkeypatch.setattr("lamina.parameter.experts.serving.OperationExperts.answer", answer)
    with _memory(tmp_path / "m.db") as memory:
        for day, text in enumerate(("A bad start.", "I live in Oslo.", "Hello!"), 1):
            (row,) = memory.add(text, user_id="ada", timestamp=f"2024-05-0{day}")["results"]
            assert "no expert for extract, update" in row["reason"]
        assert memory.retry() == {"extracted": 0, "waiting": 3} and read == []
        experts = MemLoRA(lm)
        for op in ("extract", "update"):
            experts.install(op, fresh(lm, Shape(2, 4)), {})  # type: ignore[arg-type]
        keep(memory.store, experts, "acme")
    with _memory(tmp_path / "m.db") as memory:
        assert memory.retry() == {"extracted": 2, "waiting": 1} and len(read) == 3
        assert len(memory.store.query(Scope("acme", user="ada")).cubes) == 3  # nothing is lost
        with pytest.raises(OperationFailed):
            memory.add("Another bad one.", user_id="ada")
        assert memory.retry() == {"extracted": 0, "waiting": 2}


def test_it_is_among_the_pipelines_that_there_are() -> None:
    with pytest.raises(InvalidInput, match="memlora"):
        Memory(":memory:", pipeline="telepathy")
