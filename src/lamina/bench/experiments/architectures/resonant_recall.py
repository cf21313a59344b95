"""How the claims of Synaptic Resonance are measured; what is claimed is said in ``bench.systems.synaptic_resonance``.

The rate, the lessons and how embeddings begin were chosen on seeds 100 and 101, with Synaptic Resonance under both
rules, and are the same for every arm; the seeds reported are others.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.architectures.contextual_recall import ContextualRecall
from lamina.bench.systems.synaptic_resonance import (
    BYTES,
    FLAT,
    FROZEN,
    NOISE,
    OVER_DELTA,
    OVER_HEBB,
    OVER_TOKEN,
    REBOUND,
    RECALL,
    SELECTS,
    SOLVABLE,
)
from lamina.nn.config import LaminaConfig
from lamina.nn.context import DecodingCache
from lamina.nn.decoder import LaminaForCausalLM, LaminaOutput
from lamina.nn.synaptic_resonance import SynapticResonance
from lamina.nn.tasks import IGNORED, Batch
from lamina.train.loop import train

KEYS, VALUES = 24, 32
WIDER = 34  # values of what lacks the trace: its state is no smaller than that of Synaptic Resonance
BLOCK, BESIDE = 9, 17  # inner channels of the block of what has no gate, of attention: as many parameters in all
RATE, ROWS = 1e-2, 64
SHORT, LONG = 128, 8192  # tokens read before a token is timed
TIMED = 64


@dataclass(frozen=True, slots=True)
class Arm:
    """``rule`` of writing and ``gate``; or attention over ``window`` tokens (0: all)."""

    rule: str = ""
    gate: str = ""
    window: int = 0


GRID = {(rule, gate): Arm(rule, gate) for rule in ("delta", "hebb") for gate in ("resonance", "token", "none")}
RESONANT = {rule: GRID[rule, "resonance"] for rule in ("delta", "hebb")}
EVERYTHING = Arm()


@dataclass(frozen=True, slots=True)
class Size:
    """Trainings of each arm, steps of each, texts of a test, and the task."""

    seeds: int
    steps: int
    texts: int
    task: ContextualRecall
    attention_steps: int


SMALL = ContextualRecall(topics=4, keys=32, values=8, relevant=4, distractors=8, queries=2)
SIZES: Mapping[Scale, Size] = {
    "smoke": Size(1, 2, 8, SMALL, 2),
    "laptop": Size(3, 300, 256, ContextualRecall(), 600),
    "full": Size(5, 300, 1024, ContextualRecall(), 600),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once; figures are means over trainings."""
    size = SIZES[scale]
    seeds = range(seed, seed + size.seeds)
    taught = {arm: [teach(arm, size.task, each, size.steps) for each in seeds] for arm in GRID.values()}
    window = matching_window()
    near = teach(Arm(window=window), size.task, seed, size.steps)
    everything = teach(EVERYTHING, size.task, seed, size.attention_steps)
    again = replace(size.task, rebound=0.25)
    rebound = {rule: [teach(arm, again, each, size.steps) for each in seeds] for rule, arm in RESONANT.items()}
    solved, beside = (recalled(made, test(size.task, seed, size.texts)[0], size.task) for made in (everything, near))
    return [
        SOLVABLE.measured(solved, None, f"a window of {window} pairs, as many bytes: {beside:.3f}"),
        *_grid(taught, size, seeds),
        _bound_anew(rebound, again, size, seeds),
        _noisy(taught, size, seeds),
        _frozen(taught[RESONANT["delta"]], size, seeds),
        *_limits(taught[RESONANT["delta"]][0]),
    ]


def model(arm: Arm, task: ContextualRecall, seed: int) -> LaminaForCausalLM:
    """One layer of one head, begun by ``seed``. Input and output embeddings are apart: a key is never an answer."""
    settings = {"key_dim": KEYS, "value_dim": VALUES if arm.gate == "resonance" else WIDER, "taps": 0}
    mixer = "synaptic_resonance" if arm.rule else "attention"
    own = settings | {"rule": arm.rule, "gate": arm.gate} if arm.rule else {"window": arm.window or None}
    config = LaminaConfig(
        vocab_size=task.V,
        num_hidden_layers=1,
        num_heads=1,
        head_dim=VALUES,
        mixer=mixer,
        ffn="swiglu" if arm.gate == "none" or not arm.rule else "none",
        ffn_size=BLOCK if arm.rule else BESIDE,
        tie_word_embeddings=False,
        block={mixer: own},
    )
    torch.manual_seed(seed)
    return LaminaForCausalLM(config)


def matching_window() -> int:
    """Pairs whose keys and values take at least the bytes of a state of Synaptic Resonance."""
    arms = [model(arm, SMALL, 0).model.layers[0].mixer for arm in (RESONANT["delta"], Arm(window=2))]
    ours, a_pair = (int(mixer.state_bytes(LONG)) for mixer in arms)
    return 1 + -(-ours // a_pair)


def teach(arm: Arm, task: ContextualRecall, seed: int, steps: int) -> LaminaForCausalLM:
    """``steps`` on fresh texts of ``task``, the first third on texts of half the pairs."""
    made = model(arm, task, seed)
    made.train()
    generator = torch.Generator().manual_seed(1000 + seed)
    short = replace(task, relevant=task.relevant // 2, distractors=task.distractors // 2)

    def loss(step: int) -> Tensor:
        lesson = short if 3 * step < steps else task
        found = read(made, lesson, lesson.sample(ROWS, generator)).loss
        assert found is not None
        return found

    train(made.parameters(), loss, steps=steps, lr=RATE, schedule=plateau)
    made.train(False)
    return made


def plateau(step: int, steps: int) -> float:
    """Share of the rate: up within a twentieth, at its height, and down over the last quarter."""
    return min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.25 * steps))


def read(made: LaminaForCausalLM, task: ContextualRecall, batch: Batch) -> LaminaOutput:
    """The batch with each pair as one input, asked where it asks."""
    targets = F.pad(batch.targets[:, -task.queries :], (1 + task.pairs, 0), value=IGNORED)
    found: LaminaOutput = made(inputs_embeds=inputs(made, task, batch.ids), shift_labels=targets, use_cache=False)
    return found


def inputs(made: LaminaForCausalLM, task: ContextualRecall, ids: Tensor) -> Tensor:
    """Embeddings ``(batch, 1 + pairs + queries, width)``: of the topic, of each pair, of each question."""
    single: Tensor = made.model.embed_tokens(ids)
    end = 1 + 2 * task.pairs
    pairs = single[:, 1:end:2] + single[:, 2:end:2]
    return torch.cat([single[:, :1], pairs, single[:, end:]], dim=1)


def test(task: ContextualRecall, seed: int, texts: int) -> tuple[Batch, Tensor]:
    """Texts that no lesson held, and which of their pairs belong to the topic."""
    return task.pieces(texts, torch.Generator().manual_seed(2000 + seed))


@torch.no_grad()
def recalled(made: LaminaForCausalLM, texts: Batch, task: ContextualRecall, asked: str | None = None) -> float:
    """Share of right answers, to all questions or those of a slice."""
    return _right(read(made, task, texts).logits, texts, task, asked)


@torch.no_grad()
def recalled_frozen(made: LaminaForCausalLM, texts: Batch, task: ContextualRecall) -> dict[str, float]:
    """Right answers about pairs of the first and of the second half, when nothing is written from half of them on."""
    mixer, cache = made.model.layers[0].mixer, DecodingCache(1)
    assert isinstance(mixer, SynapticResonance)
    whole, half = inputs(made, task, texts.ids), 1 + task.pairs // 2
    made(inputs_embeds=whole[:, :half], past_key_values=cache)
    mixer.plastic = False
    try:
        logits = made(inputs_embeds=whole[:, half:], past_key_values=cache).logits
    finally:
        mixer.plastic = True
    return {name: _right(logits, texts, task, name) for name in ("early", "late")}


@torch.no_grad()
def gates(made: LaminaForCausalLM, task: ContextualRecall, texts: Batch, relevant: Tensor) -> tuple[float, float]:
    """Mean gate at pairs of the topic and at the others."""
    stats = read(made, task, texts).stats
    assert stats is not None
    found = stats["0.gates"][:, 1 : 1 + task.pairs, 0]
    return float(found[relevant].mean()), float(found[~relevant].mean())


def _right(logits: Tensor | None, texts: Batch, task: ContextualRecall, asked: str | None) -> float:
    assert logits is not None
    right = logits[:, -task.queries :].argmax(-1) == texts.targets[:, -task.queries :]
    chosen = right if asked is None else right[texts.slices[asked][:, -task.queries :]]
    return float(chosen.double().mean())


Taught = Mapping[Arm, Sequence[LaminaForCausalLM]]


def _mean(taught: Sequence[LaminaForCausalLM], task: ContextualRecall, size: Size, seeds: range) -> float:
    shares = (recalled(made, test(task, seed, size.texts)[0], task) for made, seed in zip(taught, seeds, strict=True))
    return statistics.mean(shares)


def _grid(taught: Taught, size: Size, seeds: range) -> list[Measurement]:
    share = {key: _mean(taught[arm], size.task, size, seeds) for key, arm in GRID.items()}
    best = max(share[rule, "resonance"] for rule in RESONANT)
    said = "; ".join(f"{rule}, {gate}: {value:.3f}" for (rule, gate), value in share.items())
    opened = [
        gates(made, size.task, *test(size.task, seed, size.texts))
        for made, seed in zip(taught[RESONANT["delta"]], seeds, strict=True)
    ]
    inside, outside = (statistics.mean(each) for each in zip(*opened, strict=True))
    delta = share["delta", "resonance"]
    return [
        RECALL.measured(best, None, said),
        OVER_DELTA.measured(delta - share["delta", "none"]),
        OVER_HEBB.measured(share["hebb", "resonance"] - share["hebb", "none"]),
        OVER_TOKEN.measured(delta - share["delta", "token"]),
        SELECTS.measured(inside - outside, None, f"{inside:.3f} and {outside:.3f}, delta rule"),
    ]


def _bound_anew(
    taught: Mapping[str, Sequence[LaminaForCausalLM]], task: ContextualRecall, size: Size, seeds: range
) -> Measurement:
    share = {rule: _mean(models, task, size, seeds) for rule, models in taught.items()}
    return REBOUND.measured(
        share["delta"] - share["hebb"], None, f"delta {share['delta']:.3f}, hebb {share['hebb']:.3f}"
    )


def _noisy(taught: Taught, size: Size, seeds: range) -> Measurement:
    noisy = replace(size.task, distractors=3 * size.task.distractors, corrupted=0.1)
    lost = {
        gate: _mean(taught[GRID["delta", gate]], size.task, size, seeds)
        - _mean(taught[GRID["delta", gate]], noisy, size, seeds)
        for gate in ("resonance", "none")
    }
    return NOISE.measured(lost["resonance"], lost["none"], "delta rule without a gate")


def _frozen(taught: Sequence[LaminaForCausalLM], size: Size, seeds: range) -> Measurement:
    found = [
        recalled_frozen(made, test(size.task, seed, size.texts)[0], size.task)
        for made, seed in zip(taught, seeds, strict=True)
    ]
    late, early = (statistics.mean(each[name] for each in found) for name in ("late", "early"))
    return FROZEN.measured(late, None, f"about earlier ones: {early:.3f}")


@torch.no_grad()
def _limits(made: LaminaForCausalLM) -> list[Measurement]:
    """Bytes of the state, and the time of a token after few and after many others, timed in turns."""
    generator = torch.Generator().manual_seed(0)
    caches = {length: DecodingCache(1) for length in (SHORT, LONG)}
    for length, cache in caches.items():
        made(torch.randint(made.config.vocab_size, (1, length), generator=generator), past_key_values=cache)
    mixer = made.model.layers[0].mixer
    assert isinstance(mixer, SynapticResonance)
    over = max(abs(cache.nbytes - mixer.state_bytes(length)) for length, cache in caches.items())
    times: dict[int, list[float]] = {SHORT: [], LONG: []}
    for token in torch.randint(made.config.vocab_size, (TIMED,), generator=generator):
        for length, cache in caches.items():
            begun = time.perf_counter()
            made(token[None, None], past_key_values=cache)
            times[length].append(time.perf_counter() - begun)
    short, long = (statistics.median(times[length]) for length in (SHORT, LONG))
    return [
        BYTES.measured(over, None, f"{caches[LONG].nbytes} B at any length"),
        FLAT.measured(long / short, None, f"{1e3 * short:.2f} and {1e3 * long:.2f} ms"),
    ]
