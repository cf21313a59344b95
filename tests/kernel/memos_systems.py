"""What the tests of MemOS are made of: SmolLM2 loaded once, small random models that read its template, and systems."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lamina import Memory, MemOS
from lamina.bench.synthetic import WordVectors
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import DAY, Costs
from lamina.llm.causal import CausalLM

MINUTE = 60 * 10**9
START = 2_000_000_000 * 10**9  # nanoseconds since 1970, later than any test's records
BYTES_PER_TOKEN = 2 * 2 * 16 * 4 * 2  # of ``tiny``: keys and values, 2 heads of 16, float32, 2 layers


@cache
def smollm2() -> CausalLM:
    return CausalLM.load()


def tiny(seed: int = 0, **changes: Any) -> CausalLM:
    """Random, 32 wide, with the tokenizer and template of SmolLM2."""
    torch.manual_seed(seed)
    settings = {"vocab_size": 49152, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 4096}
    settings |= {"initializer_range": 0.3, "eos_token_id": 2, "tie_word_embeddings": True} | changes
    return CausalLM(LlamaForCausalLM(LlamaConfig(**settings)).eval(), smollm2().tokenizer, f"tiny{seed}")


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        return self.now

    def forward(self, nanoseconds: int = MINUTE) -> None:
        self.now += nanoseconds


def eager(**settings: Any) -> HeatPolicy:
    """The default policy, for costs at which a cache pays as soon as it is used at all."""
    return HeatPolicy(costs=Costs(prefill=1.0, attend=0.0, generated=1), **settings)


def system(path: Path, lm: CausalLM, **settings: Any) -> MemOS:
    return MemOS(Memory(path, embedder=WordVectors()), model=lm, **{"clock": Clock(), "policy": eager()} | settings)


def tell(os: MemOS, text: str, user: str = "ann", **options: Any) -> str:
    """Remember one sentence as it stands; its id."""
    told = os.remember(text, **{"user_id": user, "infer": False} | options)
    return str(told["results"][0]["id"])


def ask(os: MemOS, question: str, user: str = "ann", **options: Any) -> Any:
    return os.chat(question, **{"user_id": user, "max_tokens": 4} | options)


__all__ = ["BYTES_PER_TOKEN", "DAY", "MINUTE", "START", "Clock", "ask", "eager", "smollm2", "system", "tell", "tiny"]
