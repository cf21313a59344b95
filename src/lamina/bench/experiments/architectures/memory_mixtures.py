"""How MoM's claims are measured; what is claimed is said in ``bench.systems.mom``."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.architectures import crowded_recall as crowded
from lamina.bench.experiments.architectures.crowded_recall import ARMS, FAR, KEY, MANY, Lessons
from lamina.bench.systems import mom as card
from lamina.nn import costs
from lamina.nn.context import DecodingCache
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.routing.routed_segments import Segments, remember

MEMORIES, VALUES = 4, 32
PAIRS = (8, 16, 32, 64)


@dataclass(frozen=True, slots=True)
class Size:
    """Lessons; rows asked; sets of pairs of a capacity; tokens before a timed one, and how many are timed."""

    lessons: Lessons = field(default_factory=Lessons)
    rows: int = 512
    sets: int = 200
    texts: tuple[int, int] = (64, 4096)
    timed: int = 200


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(Lessons(3, 4, 5e-3, 3, 4, 5e-3), 8, 5, (16, 48), 5),
    "laptop": Size(),
    "full": Size(Lessons(1600, 64, 1.5e-2, 1600, 64, 5e-3), 2048, 1000, (64, 16_384), 1000),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Right answers of one seed's arms on as many pairs as there are keys, ``before`` and ``after`` the second lesson;
    ``shares`` of MoM's memories; the trained MoM."""

    before: Mapping[str, float]
    after: Mapping[str, float]
    shares: list[float]
    model: LaminaForCausalLM
    notes: str


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    size = SIZES[scale]
    outcomes = [learned(each, size) for each in (2 * seed, 2 * seed + 1)]
    last = outcomes[-1].model
    return [*_capacity(seed, size), *_recall(outcomes), *_costs(last, size), *_agreement(last, seed)]


def learned(seed: int, size: Size) -> Outcome:
    """All arms from one checkpoint, and attention."""
    lessons, rows = size.lessons, size.rows
    single = crowded.base(seed, lessons)
    before, after, notes, models = {}, {}, [], {}
    for arm in ARMS:
        model = models[arm] = crowded.grown(single, arm, seed)
        before[arm] = crowded.right(model, MANY[-1], seed, rows)
        seconds = crowded.go_on(model, seed, lessons)
        answers = [crowded.right(model, kv, seed, rows) for kv in MANY]
        after[arm] = answers[-1]
        state = sum(layer.mixer.state_bytes(FAR) for layer in model.model.layers)
        weights = sum(each.numel() for each in model.parameters())
        of_pairs = ", ".join(f"{kv} pairs {answer:.3f}" for kv, answer in zip(MANY, answers, strict=True))
        told = f"{weights} parameters, {state} B of state, {costs.macs_per_token(model, FAR)} multiply-adds a token"
        notes.append(f"{arm}: before {before[arm]:.3f}, after {of_pairs}; {told}, {seconds:.0f} s")
    after["attention"] = crowded.right(crowded.solvable(seed, lessons), MANY[-1], seed, rows)
    shares = crowded.shares(models["mom"], seed)
    notes.append(f"shares {' '.join(f'{share:.2f}' for share in shares)}")
    return Outcome(before, after, shares, models["mom"], f"seed {seed}: " + "; ".join(notes))


def _recall(outcomes: list[Outcome]) -> list[Measurement]:
    mean = {arm: statistics.fmean(each.after[arm] for each in outcomes) for arm in outcomes[0].after}
    notes = " | ".join(each.notes for each in outcomes)
    shares = [share for each in outcomes for share in each.shares]
    return [
        card.SOLVED.measured(mean["attention"]),
        card.OVER_SINGLE.measured(mean["mom"] - mean["single"], mean["single"], notes),
        card.OVER_WIDE.measured(
            mean["mom"] - mean["wide values"], mean["wide values"], f"wide keys {mean['wide keys']:.3f}"
        ),
        card.LEAST.measured(min(shares)),
        card.MOST.measured(max(shares)),
    ]


def kept(keys: Tensor, values: Tensor, memories: int) -> Tensor:
    """What is read ``(sets, n, dv)`` for ``keys`` ``(sets, n, dk)`` after all pairs were written, pair ``i`` to memory
    ``i % memories``, through the routed rule that MoM runs: fully, without fading."""
    sets, pairs, _ = keys.shape
    chosen = (torch.arange(2 * pairs) % pairs % memories).expand(sets, -1)[..., None]
    segments = Segments.of(chosen, torch.ones(sets, 2 * pairs, dtype=torch.bool), memories)
    twice = torch.cat([keys, keys], 1)
    writes = torch.cat([torch.ones(sets, pairs), torch.zeros(sets, pairs)], 1)
    entries = [segments.take(each) for each in (twice, torch.cat([values, values], 1), writes[..., None])]
    k, v, b = (segments.pack(each)[..., None, :] for each in entries)
    read, _ = remember(k, k, v, b[..., 0], torch.zeros_like(b[..., 0]), segments)
    return segments.add(read.flatten(1))[:, pairs:]


def _capacity(seed: int, size: Size) -> list[Measurement]:
    drawn = torch.Generator().manual_seed(seed)

    def cosine(pairs: int, width: int, memories: int) -> float:
        keys = F.normalize(torch.randn(size.sets, pairs, width, generator=drawn), dim=-1)
        values = torch.randn(size.sets, pairs, VALUES, generator=drawn)
        return float(F.cosine_similarity(kept(keys, values, memories), values, dim=-1).mean())

    found = {n: (cosine(n, KEY, 1), cosine(n, KEY, MEMORIES), cosine(n, KEY * MEMORIES, 1)) for n in PAIRS}
    single, routed, large = found[32]
    notes = "; ".join(
        f"{n} pairs: one {one:.3f}, routed {several:.3f}, one of {KEY * MEMORIES} keys {wide:.3f}"
        for n, (one, several, wide) in found.items()
    )
    bases = torch.linalg.qr(torch.randn(size.sets, MEMORIES, KEY, KEY, generator=drawn)).Q
    keys = bases.transpose(1, 2).flatten(1, 2)  # pair i is of the basis of memory i % memories
    values = torch.randn(size.sets, KEY * MEMORIES, VALUES, generator=drawn)
    return [
        card.CAPACITY.measured(routed - single, single, notes),
        card.LARGE.measured(abs(routed - large), large),
        card.EXACT.measured(float((kept(keys, values, MEMORIES) - values).abs().max())),
    ]


@torch.no_grad()
def _costs(model: LaminaForCausalLM, size: Size) -> list[Measurement]:
    caches = {length: DecodingCache(model.config.num_hidden_layers) for length in size.texts}
    formula = sum(layer.mixer.state_bytes(1) for layer in model.model.layers)
    drawn = torch.Generator().manual_seed(0)
    apart = []
    for length, cache in caches.items():
        model(torch.randint(crowded.VOCABULARY, (1, length), generator=drawn), past_key_values=cache)
        apart.append(abs(cache.nbytes / formula - 1))
    spent: dict[int, list[float]] = {length: [] for length in size.texts}
    for _ in range(size.timed):  # in turns, so that what else the machine does meets both
        for length, cache in caches.items():
            token = torch.randint(crowded.VOCABULARY, (1, 1), generator=drawn)
            begin = time.perf_counter()
            model(token, past_key_values=cache)
            spent[length].append(time.perf_counter() - begin)
    short, long = (1000 * statistics.median(spent[length]) for length in size.texts)
    return [
        card.STATE.measured(max(apart), formula, f"{formula} B a row"),
        card.FLAT.measured(long / short, short, f"{short:.3f} ms and {long:.3f} ms"),
    ]


@torch.no_grad()
def _agreement(model: LaminaForCausalLM, seed: int) -> list[Measurement]:
    ids = crowded.many(MANY[-1]).sample(8, torch.Generator().manual_seed(seed)).ids
    plain = model(ids, use_cache=False).logits
    cache = DecodingCache(model.config.num_hidden_layers)
    steps = torch.cat([model(ids[:, [t]], past_key_values=cache).logits for t in range(ids.shape[1])], dim=1)
    pads = 20
    padded, mask = F.pad(ids, (pads, 0)), F.pad(torch.ones_like(ids), (pads, 0))
    padded[0], mask[0] = F.pad(ids[0, :pads], (FAR, 0)), F.pad(torch.ones_like(ids[0, :pads]), (FAR, 0))
    within = model(padded, attention_mask=mask, use_cache=False).logits
    behind = max(_apart(within[1:, pads:], plain[1:]), _apart(within[0, FAR:], plain[0, :pads]))
    later = []
    for place in (1, FAR // 2, FAR - 1):
        other = ids.clone()
        other[:, place] = (other[:, place] + 7) % crowded.VOCABULARY
        later.append(_apart(model(other, use_cache=False).logits[:, :place], plain[:, :place]))
    wide, other = copy.deepcopy(model).double(), ids.clone()
    other[3] = (other[3] + 7) % crowded.VOCABULARY
    left = [row for row in range(len(ids)) if row != 3]
    first, second = wide(ids, use_cache=False).logits, wide(other, use_cache=False).logits
    return [
        card.STEPPED.measured(_apart(steps, plain)),
        card.PADDED.measured(behind),
        card.CAUSAL.measured(max(later)),
        card.APART.measured(_apart(first[left], second[left])),
    ]


def _apart(first: Tensor, second: Tensor) -> float:
    return float((first - second).abs().max())
