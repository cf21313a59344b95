"""What a compressed cache costs while it works: the bytes it ever holds, and the time of a decoding step."""

from __future__ import annotations

import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lamina.activation.attach import CachePolicy, attach
from lamina.bench.experiments.caches.compressed_context import Passage, Prefilled, replay
from lamina.bench.experiments.recall.recall_readers import peak_bytes
from lamina.llm.causal import CausalLM

_LAYERS, _KV_HEADS, _WIDTH = 30, 2, 32


def peak_share(policy: CachePolicy, length: int, seed: int) -> float:
    """Most bytes ever held while a random model of 30 layers reads ``length`` tokens at once, as a share of the whole
    cache's; counted from live storages after each layer's attention and before its eviction."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=128,
            hidden_size=2 * _KV_HEADS * _WIDTH,
            intermediate_size=128,
            num_hidden_layers=_LAYERS,
            num_attention_heads=2 * _KV_HEADS,
            num_key_value_heads=_KV_HEADS,
            max_position_embeddings=2 * length,
        )
        model: Any = LlamaForCausalLM(config)
    ids = torch.randint(0, 128, (1, length), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad(), attach(model.eval(), policy) as attached:
        model(ids, use_cache=True, logits_to_keep=1)
    return float(attached.cache.peak_nbytes / (_LAYERS * length * 2 * _KV_HEADS * _WIDTH * 4))


def allocated_share(lm: CausalLM, policy: CachePolicy | None, length: int, seed: int) -> float:
    """Most bytes of torch's allocator that were live at once while ``lm`` read ``length`` tokens, beyond those before,
    as a share of the whole cache: the cache, what is worked out in, and what the model itself needs. ``policy``
    ``None``: the whole cache."""
    ids = torch.randint(0, lm.model.config.vocab_size, (1, length), generator=torch.Generator().manual_seed(seed))

    def read() -> None:
        with torch.no_grad(), nullcontext() if policy is None else attach(lm.model, policy):
            lm.model(ids, use_cache=True, logits_to_keep=1)

    config = lm.model.config
    token = 2 * config.num_key_value_heads * config.head_dim * lm.model.dtype.itemsize
    return float(peak_bytes(read) / (config.num_hidden_layers * length * token))


def step_times(lm: CausalLM, policy: CachePolicy, length: int, steps: int, seed: int) -> tuple[float, float]:
    """``steps_behind`` without the bytes."""
    return steps_behind(lm, policy, length, steps, seed)[:2]


def steps_behind(lm: CausalLM, policy: CachePolicy, length: int, steps: int, seed: int) -> tuple[float, float, float]:
    """Milliseconds of a decoding step behind ``length`` tokens, by ``policy`` and over the whole cache: medians of
    ``steps`` taken in turns; and the bytes that ``policy`` holds then, as a share of the whole cache's. What stands in
    the caches is random: time does not depend on it."""
    generator = torch.Generator().manual_seed(seed)
    config = lm.model.config
    shape = (1, config.num_key_value_heads, length, config.head_dim)

    def drawn(heads: int, count: int) -> Tensor:
        return torch.randn((1, heads, count, config.head_dim), generator=generator)

    layers = range(config.num_hidden_layers)
    read = Prefilled(
        Passage([], [], []),
        [drawn(shape[1], length) for _ in layers],
        [drawn(shape[1], length) for _ in layers],
        [drawn(config.num_attention_heads, 64) for _ in layers],
        [],
    )
    ours, dense = replay(policy, lm, read), DynamicCache(config=config)
    for number in layers:
        dense.update(read.keys[number], read.values[number], number)
    times: tuple[list[float], list[float]] = ([], [])
    token = torch.zeros((1, 1), dtype=torch.long)
    with torch.no_grad():
        for number in range(steps + 2):
            begin = time.perf_counter()
            lm.model(token, past_key_values=dense)
            between = time.perf_counter()
            with attach(lm.model, policy):
                lm.model(token, past_key_values=ours)
            if number >= 2:
                times[1].append(1e3 * (between - begin))
                times[0].append(1e3 * (time.perf_counter() - between))
    whole = sum(part.nbytes for part in (*read.keys, *read.values))
    return statistics.median(times[0]), statistics.median(times[1]), ours.nbytes / whole
