"""The card measures every claim it can at toy size, and its parts would notice what they look for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lamina.activation.cache import KVCube
from lamina.bench.experiments.tiers import memos_experiments, memos_systems, tenant_accesses
from lamina.bench.synthetic import WordVectors
from lamina.bench.systems import memos
from lamina.bench.systems.memos import CARD
from lamina.kernel import governance
from lamina.kernel.memos import MemOS
from lamina.llm.causal import CausalLM
from lamina.memory import Memory

pytestmark = pytest.mark.model
SLOW = {memos.T256_LONG, memos.T1024_LONG, memos.T2000, memos.T2048}  # and what takes minutes to teach
SLOW |= {memos.GAIN, memos.FIDELITY, memos.GUARD, memos.UNLOADED, memos.REFUSED}
EXACT = (memos.SAME, memos.LOGITS, memos.UNCHANGED, memos.BYTES, memos.BUDGET, memos.FRESH, memos.SAMPLED)
EXACT += (memos.PROCESS, memos.CANARY, memos.REBUILT, memos.APART, memos.LEAKS, memos.STALE)


def test_a_toy_run_measures_every_claim_and_what_must_be_exact_is() -> None:
    found = {one.claim: one for one in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert {claim for claim, one in found.items() if one.ours is None} == SLOW
    assert [claim.claim for claim in EXACT if not found[claim].holds] == []
    assert found[memos.OPTIMUM_ZIPF].baseline < found[memos.LAW_ZIPF].baseline  # type: ignore[operator]


def test_another_cube_another_digest_and_half_a_reply_half_the_agreement() -> None:
    lm = CausalLM.load()
    one, other = KVCube.build(lm, lm.encode("The boat is red.")), KVCube.build(lm, lm.encode("The boat is tan."))
    assert memos_experiments.digest(one) == memos_experiments.digest(KVCube.build(lm, lm.encode("The boat is red.")))
    assert memos_experiments.digest(one) != memos_experiments.digest(other)
    assert memos_experiments.digest(one) != memos_experiments.digest(one.extend(lm, lm.encode(" It")))
    assert memos_experiments.agreement([1, 2, 3, 4], [1, 2]) == 0.5
    assert memos_experiments.agreement([1, 2], [1, 2]) == memos_experiments.agreement([], []) + 1 == 1.0


def test_memories_and_questions_have_the_length_asked_for() -> None:
    lm = CausalLM.load()
    texts = memos_experiments.memory_of(lm, 3, 256)
    assert 256 <= sum(len(lm.encode(f"- {text}\n")) for text in texts) + 40 < 300
    assert texts == memos_experiments.memory_of(lm, 3, 256) != memos_experiments.memory_of(lm, 4, 256)
    for tokens in (20, 150):
        ((message,)) = memos_experiments.question(texts, tokens, lm)
        assert abs(len(lm.encode(message["content"])) - tokens) < 25


def test_a_canary_is_found_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "one").write_bytes(b"\0canary\0")
    (tmp_path / "two").write_text("nothing")
    (tmp_path / "three").write_bytes(b"\0" + np.array([7, 301, 12], np.int32).tobytes())
    assert memos_systems._holding(tmp_path, (b"canary",)) == 1
    assert memos_systems._holding(tmp_path, (b"canary", np.array([301, 12], np.int32).tobytes())) == 2


def test_a_leak_through_any_verb_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with MemOS(Memory(tmp_path / "m.db", embedder=WordVectors()), model=CausalLM.load()) as system:
        for user in ("ann", "cleo", "dan"):
            system.remember("Ilvane keeps bees at the mill.", user_id=user, infer=False)
        assert tenant_accesses.leaks(system, 0, 300) == 0
        monkeypatch.setattr(governance, "_granted", lambda *_: True)  # whoever is of the tenant
        assert tenant_accesses.leaks(system, 0, 300) > 0
