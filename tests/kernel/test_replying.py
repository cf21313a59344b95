"""Answers: the same tokens with a cache as without, and nobody reads through a cache what he may not read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from memos_systems import ask, smollm2, system, tell, tiny

from lamina import MemOS
from lamina.activation.prefix import continuation
from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.kernel.governance import Principal
from lamina.kernel.tiering.decisions import Tier

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
FACT = "Ann is allergic to walnuts and her boat is called Thistle, as everybody in the harbour knows."
QUESTION = "What is Ann allergic to?"


@pytest.fixture
def os(tmp_path: Path) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", tiny()) as made:
        yield made


def test_smollm2_answers_over_a_cache_as_over_the_text(tmp_path: Path) -> None:
    lm = smollm2()
    with system(tmp_path / "m.db", lm) as os:
        id = tell(os, FACT)
        assert "walnuts" in ask(os, QUESTION, max_tokens=8).text
        os.promote(id, "activation")
        reply = ask(os, QUESTION, max_tokens=12)
        ids, rest = continuation(lm, [FACT], [{"role": "user", "content": QUESTION}])
        whole = list(lm.steps(ids + rest, 12))
        bundle = os.tiers.bundle(ANN)
        assert bundle is not None and list(lm.steps(bundle.rest(lm, [{"role": "user", "content": QUESTION}]), 12,
                                                    cache=bundle.cube.attach(lm))) == whole  # fmt: skip
        assert reply.text == lm.decode(whole).strip() and (reply.read, reply.reused) == (len(rest), len(ids))
        with torch.inference_mode():
            far = lm.model(torch.tensor([ids + rest]), logits_to_keep=1).logits[0, -1]
            near = lm.model(torch.tensor([rest]), past_key_values=bundle.cube.attach(lm), logits_to_keep=1).logits[
                0, -1
            ]
        assert float((far - near).abs().max()) <= 1e-3
        assert len(bundle.cube.ids) == len(ids), "the answer was not written into the cache"


def test_what_is_not_in_the_bundle_is_quoted_beside_it(os: MemOS) -> None:
    one, two = tell(os, FACT), tell(os, "The harbour of Ann is closed in winter, except for the ferry.")
    os.promote(one, "activation")
    reply = ask(os, "When is the harbour closed?")
    assert [(used.id, used.tier) for used in reply.used] == [(one, Tier.ACTIVATION), (two, Tier.TEXT)]
    assert reply.tiers == (Tier.ACTIVATION, Tier.TEXT) and reply.first_token <= reply.seconds


def test_without_memory_none_is_used_nor_counted(os: MemOS) -> None:
    id = tell(os, FACT)
    os.promote(id, "activation")
    reply = ask(os, QUESTION, memory=False)
    assert reply.used == () and reply.reused == 0 and os.explain(id).uses == 0
    assert ask(os, QUESTION).reused > 0 and os.explain(id).uses == 1


def test_a_cache_is_not_read_by_who_may_not_read_its_memories(os: MemOS, tmp_path: Path) -> None:
    os.promote(tell(os, FACT), "activation")
    os.tiers.save(ANN)
    bob = Principal(user="bob")
    with MemOS(os.memory, model=os.tiers.lm, principal=bob) as other:
        other._tiers = os.tiers  # one process serves both
        reply = ask(other, QUESTION)
        assert reply.used == () and reply.reused == 0
        assert ask(os, QUESTION).reused > 0


def test_another_thread_that_wears_an_adapter_disturbs_nobody(os: MemOS) -> None:
    """A cache belongs to the bare model. Who asks while the model wears something waits, and gets his cache."""
    os.promote(tell(os, FACT), "activation")
    expected = ask(os, QUESTION, max_tokens=6)
    lm, worn, stop = os.tiers.lm, threading.Event(), threading.Event()

    def wear() -> None:
        while not stop.is_set():
            with lm.lock:
                lm.overlay = "an adapter"
                worn.set()
                stop.wait(0.002)
                lm.overlay = ""

    thread = threading.Thread(target=wear)
    thread.start()
    worn.wait()
    try:
        replies = [ask(os, QUESTION, max_tokens=6) for _ in range(12)]
    finally:
        stop.set()
        thread.join()
    assert {(one.text, one.reused) for one in replies} == {(expected.text, expected.reused)}


def test_a_conversation_must_end_with_the_user(os: MemOS) -> None:
    for messages in ([], [{"role": "assistant", "content": "hi"}], "  "):
        with pytest.raises(InvalidInput):
            ask(os, messages, memory=False)
    with pytest.raises(InvalidInput, match="over the 4096"):
        ask(os, QUESTION, max_tokens=5000)
