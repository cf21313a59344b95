"""A tenant that is let go of, for newer ones: nothing of it stays in the process, and all of it in the store."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from lamina import Memory
from lamina.cube.cube import Scope
from lamina.llm.base import Embedder
from lamina.llm.causal import CausalLM
from lamina.server import service as services
from lamina.server.caller import operator
from lamina.server.service import Service

pytestmark = pytest.mark.model


def test_an_evicted_tenant_leaves_no_cache_and_no_index(
    tmp_path: Path, minilm: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "TENANTS", 2)
    tokenizer = CausalLM.load().tokenizer
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = CausalLM(LlamaForCausalLM(shape).eval(), tokenizer, "tiny")  # type: ignore[no-untyped-call]
    with Memory(tmp_path / "m.db", embedder=minilm) as memory:
        service = Service(memory, model=model)
        system = service.system(operator("one"))
        told = system.remember("I am allergic to walnuts.", user_id="ann", infer=False)
        id = told["results"][0]["id"]
        system.promote(id, "activation")
        system.recall("walnuts", user_id="ann")
        bundle = system.tiers.bundle(Scope("one", "ann"))
        assert bundle is not None
        index = system.memory.indexes.get(system.store, Scope("one", "ann"))
        kept: list[Any] = [weakref.ref(bundle.cube.keys[0]), weakref.ref(system.tiers), weakref.ref(index)]
        del system, bundle, index
        service.system(operator("two"))
        assert all(one() is not None for one in kept)
        service.system(operator("three"))
        assert [one() for one in kept] == [None, None, None]  # at once, not when the collector comes by
        again = service.system(operator("one"))
        assert [hit.cube.id for hit in again.recall("walnuts", user_id="ann")] == [id]
        with service.running():
            pass
        assert not service._systems
        assert service.memory(operator("one")).get(id) is not None  # the store is open
