"""Who answers at the end of a stream of facts (``recall_streams``): how each is taught, asked and weighed.

The backbone learns to answer within one segment; then HMT around it learns to answer over segments, by next-token loss
on the words of facts: nothing tells it which memory holds the fact. The Recurrent Memory Transformer is the same module
with its recall off and has the same lessons. Without memory there is the backbone that sees the end of the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina._optional import require
from lamina.bench.experiments.recall.recall_streams import (
    SENSORY,
    UNLABELLED,
    VOCABULARY,
    Streams,
    local_batch,
    streams,
)
from lamina.bench.experiments.recall.small_llama import small_llama
from lamina.train.loop import train

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM

    from lamina.activation.segment_memory import HMT

LOCAL_ROWS, LOCAL_RATE = 32, 5e-3
RATE, BACKBONE_RATE = 3e-3, 1e-3  # of what HMT adds, and of the backbone while it does
_SPREAD = 5.0  # times transformers' own embeddings: a token must not drown in what the first layers add to it


def backbone(seed: int, *, width: int = 128, layers: int = 4) -> LlamaForCausalLM:
    """Untrained, for the words of these streams."""
    torch = require("torch", "the backbone that reads streams of facts")
    model = small_llama(VOCABULARY, width=width, layers=layers, positions=16384, seed=seed)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(_SPREAD)
    return model


def teach_local(model: LlamaForCausalLM, rng: np.random.Generator, *, steps: int) -> None:
    """``model`` learns to answer about a fact of the segment that it sees."""
    functional = require("torch.nn.functional", "teaching the backbone")

    def loss(_: int) -> Tensor:
        ids, labels = local_batch(rng, LOCAL_ROWS)
        found: Tensor = functional.cross_entropy(_told(model, ids, labels), labels[labels != UNLABELLED])
        return found

    train(model.parameters(), loss, steps=steps, lr=LOCAL_RATE)


def local_share(model: LlamaForCausalLM, rng: np.random.Generator, rows: int) -> float:
    """Right answers about facts of the segment itself."""
    ids, labels = local_batch(rng, rows)
    with require("torch", "asking the backbone").no_grad():
        logits = model(ids, use_cache=False, logits_to_keep=2).logits
    return _share(logits[:, 0].argmax(-1) == labels[:, -1])


def teach(
    hmt: HMT, rng: np.random.Generator, *, steps: int, length: Callable[[int], int], rows: int, questions: int
) -> list[float]:
    """HMT and its backbone learn from fresh streams of ``length(step)`` segments, through all of them; the losses."""

    def loss(step: int) -> Tensor:
        lesson = streams(rng, rows, length(step), questions)
        state = hmt(lesson.told).state.rows(lesson.row)
        found: Tensor = hmt(lesson.asked, lesson.labels, state).loss
        return found

    groups: list[dict[str, Any]] = [
        {"params": list(hmt.learned())},
        {"params": list(hmt.backbone.parameters()), "lr": BACKBONE_RATE},
    ]
    return train(groups, loss, steps=steps, lr=RATE)


def recalled_share(hmt: HMT, asked: Streams, *, shuffled: bool = False) -> float:
    """Right answers at the end of the streams; ``shuffled`` gives each stream the memories of another."""
    state = hmt.read(asked.told)
    if shuffled:
        state = replace(state, memory=state.memory.roll(1, 0))
    with require("torch", "asking HMT").no_grad():
        logits = hmt(asked.asked, state=state.rows(asked.row)).logits
    return _share(logits[:, -2].argmax(-1) == asked.labels[:, -1])


def window_share(model: LlamaForCausalLM, asked: Streams, told: int = SENSORY) -> float:
    """Right answers of the backbone alone, which sees the last ``told`` tokens before the segment that asks."""
    torch = require("torch", "asking the backbone")
    ids = torch.cat([asked.told[asked.row][:, asked.told.shape[1] - told :], asked.asked], 1)
    with torch.no_grad():
        logits = model(ids, use_cache=False, logits_to_keep=2).logits
    return _share(logits[:, 0].argmax(-1) == asked.labels[:, -1])


def peak_bytes(call: Callable[[], object]) -> int:
    """Most bytes of torch's allocator that were live at once during ``call``, beyond those before it."""
    profiler = require("torch.profiler", "measuring memory")
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU], profile_memory=True) as measured:
        call()
    events = measured.profiler.kineto_results.events()
    sizes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    return int(np.cumsum([size for _, size in sorted(sizes, key=lambda size: size[0])]).max(initial=0))


def cache_bytes(model: LlamaForCausalLM, ids: Tensor) -> int:
    """Live bytes of the keys and values of ``ids``."""
    with require("torch", "measuring a cache").no_grad():
        cache = model(ids, use_cache=True, logits_to_keep=1).past_key_values
    return sum(each.untyped_storage().nbytes() for layer in cache.layers for each in (layer.keys, layer.values))


def _told(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Logits of what stands at the labels."""
    states = model.model(ids, use_cache=False).last_hidden_state[:, :-1]
    logits: Tensor = model.lm_head(states[labels[:, 1:] != UNLABELLED])
    return logits


def _share(right: Tensor) -> float:
    return float(right.float().mean())
