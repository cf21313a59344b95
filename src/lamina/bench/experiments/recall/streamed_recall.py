"""How HMT's claims are measured; what is claimed is said in ``bench.systems.hmt``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lamina.activation.segment_memory import HMT
from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.recall.recall_readers import (
    backbone,
    cache_bytes,
    local_share,
    peak_bytes,
    recalled_share,
    teach,
    teach_local,
    window_share,
)
from lamina.bench.experiments.recall.recall_streams import SEGMENT, SENSORY, Streams, streams
from lamina.bench.systems.hmt import CACHE, LOCAL, OVER_RMT, PEAK, RECALL_8, RECALL_32, SHUFFLED, STATE, WINDOW

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

LENGTHS = (8, 16, 32)  # segments of the streams that are asked about


SHORT, LONG = 16, 256  # segments that memory is measured over


SLOTS = 32


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of the backbone, of both stages, streams and questions in a step of the second; streams and questions of
    a test; the backbone's width and depth."""

    local_steps: int
    first_steps: int
    second_steps: int
    rows: int
    questions: int
    streams: int
    width: int = 128
    layers: int = 4


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(2, 2, 3, 2, 2, 4, width=32, layers=2),
    "laptop": Size(250, 240, 300, 8, 4, 64, width=64, layers=2),
    "full": Size(400, 1500, 1500, 64, 4, 256),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    size = SIZES[scale]
    model = backbone(seed, width=size.width, layers=size.layers)
    teach_local(model, np.random.default_rng((seed, 0)), steps=size.local_steps)
    local = local_share(model, np.random.default_rng((seed, 1)), 4 * size.streams)
    alone = copy.deepcopy(model)
    hmt = _wrapped(model, SLOTS, seed)
    teach(hmt, np.random.default_rng((seed, 2)), steps=size.first_steps, length=lambda _: 2, rows=32, questions=1)
    rmt = copy.deepcopy(hmt)
    hmt.recall = True
    for arm in (hmt, rmt):
        _second_stage(arm, seed, size)
    tests = {length: _test(seed, length, size) for length in LENGTHS}
    return [LOCAL.measured(local), *_answers(hmt, rmt, alone, tests), *_bytes(alone, seed)]


def curriculum(step: int, steps: int) -> int:
    """Segments of the streams in ``step`` of the second stage: 2, soon 4, and 8 from half its steps on."""
    return 2 if step < 0.1 * steps else 4 if step < 0.5 * steps else 8


def _second_stage(arm: HMT, seed: int, size: Size) -> None:
    teach(
        arm,
        np.random.default_rng((seed, 3)),
        steps=size.second_steps,
        length=lambda step: curriculum(step, size.second_steps),
        rows=size.rows,
        questions=size.questions,
    )


def _wrapped(model: LlamaForCausalLM, slots: int, seed: int) -> HMT:
    return HMT(model, segment=SEGMENT + SENSORY + 2, sensory=SENSORY, slots=slots, recall=False, seed=seed)


def _test(seed: int, length: int, size: Size) -> Streams:
    return streams(np.random.default_rng((seed, 4, length)), size.streams, length, 4)


def _answers(hmt: HMT, rmt: HMT, alone: LlamaForCausalLM, tests: Mapping[int, Streams]) -> list[Measurement]:
    ours, theirs = ({length: recalled_share(arm, asked) for length, asked in tests.items()} for arm in (hmt, rmt))
    window = float(np.mean([window_share(alone, asked) for asked in tests.values()]))
    strange = float(np.mean([recalled_share(hmt, asked, shuffled=True) for asked in tests.values()]))
    whole = window_share(alone, tests[8], told=tests[8].told.shape[1])
    gap = float(np.mean([ours[length] - theirs[length] for length in (16, 32)]))
    said = "; ".join(f"{length} segments: HMT {ours[length]:.3f}, RMT {theirs[length]:.3f}" for length in LENGTHS)
    return [
        WINDOW.measured(window, None, f"seeing all 8 segments, which it was never taught: {whole:.3f}"),
        RECALL_8.measured(ours[8]),
        RECALL_32.measured(ours[32]),
        OVER_RMT.measured(gap, None, said),
        SHUFFLED.measured(strange),
    ]


def _bytes(alone: LlamaForCausalLM, seed: int) -> list[Measurement]:
    """Of one stream; the weights do not matter."""
    hmt = _wrapped(alone, SHORT, seed)
    hmt.recall = True
    told = {
        n: streams(np.random.default_rng((seed, 5)), 1, SHORT + 1, 1).told.repeat(1, n // SHORT) for n in (SHORT, LONG)
    }
    peaks = {n: peak_bytes(partial(hmt.read, ids)) for n, ids in told.items()}
    caches = {n: cache_bytes(alone, ids) for n, ids in told.items()}
    state = hmt.read(told[LONG])
    formula = SHORT * (alone.config.hidden_size * 4 + 1) + 8 * SENSORY + 8  # a number a dimension, a mark a slot, ids
    note = f"peak {peaks[LONG]} B beside the weights; keys and values of the stream {caches[LONG]} B"
    return [
        PEAK.measured(peaks[LONG] / peaks[SHORT], None, note),
        STATE.measured(abs(state.nbytes - formula), None, f"{state.nbytes} B"),
        CACHE.measured(caches[LONG] / caches[SHORT]),
    ]
