"""How MemoryFormer's claims are measured; what is claimed is said in ``bench.systems.memoryformer``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.bench.card import Measurement, Scale
from lamina.bench.corpora import Bytes, library_sources
from lamina.bench.systems.memoryformer import (
    DECODING,
    GRADIENT,
    LOCALITY,
    MACS,
    MAGNITUDE,
    PROBABILITY,
    READ,
    STORED,
)

if TYPE_CHECKING:
    from lamina.bench.experiments.architectures.table_language import Taught
    from lamina.nn.decoder import LaminaForCausalLM

RATE = 3e-3  # tables learn three times as fast by their own rule
DENSE_RATES = (1e-3, 3e-3)  # of which the better on what is reported counts
_COUNTED = 192  # channels of the models that are counted: 8/3 of it is whole


@dataclass(frozen=True, slots=True)
class Size:
    """Of the models: width, steps, rows of a batch, how many seeds, bytes of text, the width of a dense model of about
    the bytes of the tables (0: none). Of the timing: width, batches, runs."""

    width: int
    steps: int
    rows: int
    seeds: int
    text: int
    wider: int
    timed_width: int
    batches: tuple[int, ...]
    runs: int


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(32, 3, 2, 1, 20_000, 0, 64, (1, 4), 5),
    "laptop": Size(128, 600, 16, 1, 4_000_000, 0, 1024, (1, 4, 16, 64, 256), 200),
    "full": Size(128, 600, 16, 2, 4_000_000, 592, 1024, (1, 4, 16, 64, 256), 400),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    require("torch", "the proof of MemoryFormer")
    size = SIZES[scale]
    return [*_quality(seed, size), *_counted(), _timed(seed, size)]


def _quality(seed: int, size: Size) -> list[Measurement]:
    from lamina.bench.experiments.architectures import table_language as language

    text = library_sources(size.text)
    arms = {f"dense {rate:g}": (language.dense(size.width), rate, None) for rate in DENSE_RATES} | {
        "magnitude": (language.tables(size.width), RATE, None),
        "probability": (language.tables(size.width, "probability"), RATE, None),
        "no gradient": (language.tables(size.width), RATE, language.without_gradient),
    }
    found: dict[str, list[Taught]] = {name: [] for name in arms}
    for own in range(seed, seed + size.seeds):
        for name, (config, rate, change) in arms.items():
            found[name].append(language.taught(config, text, own, size.steps, size.rows, rate, change))
    loss = {name: fmean(each.loss for each in every) for name, every in found.items()}
    notes = {name: every[0].costs for name, every in found.items()}
    dense = min((name for name in arms if name.startswith("dense")), key=loss.__getitem__)
    tried = ", ".join(f"{name} {loss[name]:.3f}" for name in arms)
    if size.wider:
        wide = language.taught(language.dense(size.wider), text, seed, size.steps, size.rows, min(DENSE_RATES))
        tried += f"; as many bytes dense, {size.wider} wide: {wide.costs}"
    ours = found["magnitude"][0].model
    even = ", ".join(f"{name} {share:.2f}" for name, share in language.evenness(ours, text[1]).items())
    note = f"{dense}: {notes[dense]}; tables: {notes['magnitude']}; {size.seeds} seed(s): {tried}; evenness: {even}"
    return [
        MAGNITUDE.measured(loss[dense] - loss["magnitude"], None, note),
        PROBABILITY.measured(loss[dense] - loss["probability"], None, f"tables {notes['probability']}"),
        GRADIENT.measured(loss["magnitude"], loss["no gradient"], f"without: {notes['no gradient']}"),
        _locality(ours, text[1], seed),
    ]


def _locality(model: LaminaForCausalLM, text: Bytes, seed: int) -> Measurement:
    """The model as it was taught, read at random, and with nothing in its tables."""
    import torch

    from lamina.bench.experiments.architectures import table_language as language

    torch.manual_seed(seed)
    bare = language.asked(language.biases_alone(model), text)
    random = language.asked(language.with_codes(copy.deepcopy(model), language.at_random), text)
    return LOCALITY.measured(random - bare, None, f"nats a byte: random rows {random:.3f}, biases alone {bare:.3f}")


def _counted() -> list[Measurement]:
    import torch

    from lamina.bench.experiments.architectures import table_costs as counts
    from lamina.bench.experiments.architectures.table_language import BITS, layers, tables
    from lamina.nn.decoder import LaminaForCausalLM

    share, formula = counts.share_of_multiply_adds(_COUNTED, BITS), counts.formula_of_multiply_adds(BITS)
    torch.manual_seed(0)
    model = LaminaForCausalLM(tables(_COUNTED))
    found = layers(model)
    blocks = model.config.num_hidden_layers
    stored, read = (4 * blocks * elements for elements in counts.formula_of_elements(_COUNTED, BITS))
    live, touched = counts.live_bytes(found), counts.touched_bytes(model.model, found)
    hashing = sum(each.hashing_per_token() for each in found) // blocks
    dense = 12 * _COUNTED**2
    return [
        MACS.measured(
            abs(float(share - formula)), None, f"{float(share):.4f} of {dense}; beside them {hashing} single operations"
        ),
        STORED.measured(abs(live - stored), None, f"{live} B; dense {4 * blocks * dense} B"),
        READ.measured(abs(touched - read), None, f"{touched} B; dense {4 * blocks * dense} B"),
    ]


def _timed(seed: int, size: Size) -> Measurement:
    from lamina.bench.experiments.architectures import table_costs as counts
    from lamina.bench.experiments.architectures.table_language import BITS

    found = counts.times(size.timed_width, BITS, size.batches, seed, size.runs)
    table = "; ".join(
        f"batch {batch}: tables {each['tables']:.0f}, dense {each['dense']:.0f}, dense of bytes {each['int8']:.0f} us"
        for batch, each in found.items()
    )
    slower = counts.crossover(found)
    where = "at none of these" if slower is None else f"from batch {slower} on"
    first = found[min(size.batches)]
    note = f"dense float32; {size.timed_width} channels, {table}; tables are slower {where}"
    return DECODING.measured(first["tables"], first["dense"], note)
