"""``lamina demo --tiers`` with the real model: text and cache as they are; the training, which is slow, is stubbed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import Result

from lamina.demo import story, tiers
from lamina.kernel import migration
from lamina.kernel.replying import Reply
from lamina.llm.causal import CausalLM
from lamina.parameter.distillation import Distilled, fresh
from lamina.parameter.recall import Gate, Verdict

pytestmark = pytest.mark.model
Run = Callable[..., Result]


def said(fidelity: float, reason: str = "") -> Verdict:
    return Verdict(gain=fidelity, in_context=1.0, guard=0.0, spoken=fidelity, in_context_spoken=1.0, reason=reason)


@pytest.fixture(scope="module")
def loaded() -> CausalLM:
    return CausalLM.load()


@pytest.fixture
def untrained(loaded: CausalLM, monkeypatch: pytest.MonkeyPatch) -> Callable[[Verdict], None]:
    """An adapter that was taught nothing, and a gate that says ``verdict``; all else is real."""
    monkeypatch.setattr(CausalLM, "load", classmethod(lambda *_, **__: loaded))

    def distill(lm: CausalLM, *_: Any, progress: Callable[[int, int, float], None], **more: Any) -> Distilled:
        lora = fresh(lm, ("q_proj",), 2, 4.0, torch.Generator().manual_seed(0))
        progress(8, more["steps"], 1.0)
        return Distilled(lora.to_payload(lm.fingerprint), (1.0,), 0.0)

    def verdict(given: Verdict) -> None:
        monkeypatch.setattr(migration, "distill", distill)
        monkeypatch.setattr(Gate, "judge", lambda *_, **__: given)
        monkeypatch.setattr(tiers, "_TIMES", 1)
        monkeypatch.setattr(tiers, "_WORDS", 14)

    return verdict


def test_all_forms_answer_and_none_knows_it_afterwards(
    lamina: Run, untrained: Callable[[Verdict], None], tmp_path: Path
) -> None:
    untrained(said(0.95))
    kept = tmp_path / "demo.db"
    result = lamina("demo", "--tiers", "--json", "--keep", str(kept), db=None)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    alone, text, cache, adapter = report["forms"]
    assert [row["form"] for row in report["forms"]] == ["no memory", "text", "activation", "parameter"]
    assert not alone["knows"] and text["knows"] and cache["knows"]
    assert tiers.SECRET in text["answer"] and tiers.SECRET in cache["answer"]
    assert cache["read"] < text["read"] and cache["reused"] > 0 == text["reused"]
    assert adapter["read"] == alone["read"] and adapter["reused"] == 0 and adapter["fidelity"] == 0.95
    assert not adapter["knows"], "an adapter that was taught nothing answers nothing, and the demo says so"
    assert text["nbytes"] < adapter["nbytes"] and cache["fidelity"] > 0.999
    assert cache["nbytes"] == 2 * 30 * 3 * 64 * 4 * cache["reused"], (
        "keys and values, 30 layers, 3 heads of 64, float32"
    )
    assert report["adapter"]["accepted"] and abs(report["adapter"]["recall_gap"]) < 1e-6

    gone = report["forgotten"]
    assert gone["kinds"] == {"text": 2, "activation": 1, "parameter": 1} and gone["adapters_dropped"] == 1
    assert gone["places_before"] > 0 == gone["places_after"] == gone["found"]
    assert gone["stored_before"] > cache["nbytes"] and gone["stored_after"] == 0
    assert tiers.SECRET not in gone["answer"] and gone["recall_gap"] is None
    assert story.occurrences(kept, tiers.SECRET) == 0 < story.occurrences(kept, "Harrow Glassworks")
    assert "step 8 of" in result.stderr, "training shows that it goes on"


def test_a_refused_adapter_is_told_with_its_figures(lamina: Run, untrained: Callable[[Verdict], None]) -> None:
    untrained(said(0.4, "fidelity 0.400 < 0.9"))
    result = lamina("demo", "--tiers", db=None)
    assert result.exit_code == 0, result.output
    told = " ".join(result.stdout.split())
    assert "refused: fidelity 0.400 < 0.9" in told and "served from text and cache" in told
    assert "parameter" not in told and "now at 0" in told


def test_a_cache_that_answers_wrongly_fails_the_demo(
    lamina: Run, untrained: Callable[[Verdict], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(said(0.4, "refused"))
    real = tiers.MemOS.chat

    def chat(self: tiers.MemOS, *said: Any, **more: Any) -> Reply:
        found = real(self, *said, **more)
        wrong = "I do not know." if "activation" in map(str, found.tiers) else found.text
        return Reply(wrong, found.used, found.first_token, found.seconds, found.read, found.reused)

    monkeypatch.setattr(tiers.MemOS, "chat", chat)
    result = lamina("demo", "--tiers", "--json", db=None)
    assert result.exit_code == 1 and json.loads(result.stdout)["error"]["code"] == "DEMO_FAILED"


def test_a_memory_that_stays_fails_the_demo(
    lamina: Run, untrained: Callable[[Verdict], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(said(0.4, "refused"))
    real = tiers.occurrences
    monkeypatch.setattr(tiers, "occurrences", lambda database, secret: 1 + real(database, secret))
    result = lamina("demo", "--tiers", "--json", db=None)
    assert result.exit_code == 1 and "still there" in json.loads(result.stdout)["error"]["message"]


def test_tiers_needs_a_model(lamina: Run) -> None:
    assert lamina("demo", "--tiers", "--fast", db=None).exit_code == 2


def test_the_secret_is_said_once() -> None:
    assert sum(tiers.SECRET in said for said in tiers.SAID) == 1 and tiers.SECRET not in tiers.QUESTION
