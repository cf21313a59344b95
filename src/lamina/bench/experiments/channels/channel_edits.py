"""How the claims of Talking Heads are measured; what is claimed is said in ``bench.systems.talking_heads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.channels.laundry_list import (
    TEST_OBJECTS,
    TRAIN_OBJECTS,
    Edits,
    Laundry,
    Score,
    ask,
    attribute_laundry,
    chosen_edits,
    documentation,
    heard_by,
    laundry_list,
    nll,
    random_edits,
)
from lamina.bench.systems.talking_heads import EACH, GAIN, HEARD, PLACES, RANDOM, REVERT, TEXT, UNHEARD
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import AttributionTable, Batch, HeadSVD, WeightDelta, massive

LENGTHS = (3, 4, 5)


MOVERS = 3


@dataclass(frozen=True, slots=True)
class Size:
    """Prompts for each number of items; components doubled, and as many silenced; tokens of documentation."""

    taught: int
    tested: int
    each: int
    tokens: int


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(4, 6, 3, 64),
    "laptop": Size(16, 64, 10, 768),
    "full": Size(32, 256, 10, 4096),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    size, lm = SIZES[scale], load(scale)
    svd = HeadSVD(lm)
    found = attribute_laundry(svd, [prompts(lm, n, size.taught, (seed, 0), TRAIN_OBJECTS) for n in LENGTHS])
    edits = chosen_edits(found, size.each)
    asked = [prompts(lm, n, size.tested, (seed, 1), TEST_OBJECTS) for n in LENGTHS]
    texts = documentation(lm, size.tokens)
    probe = Batch.of([each.ids for each in asked[0][:4]])
    before, loss = _logits(lm, probe), nll(lm, texts)
    base = [ask(lm, each) for each in asked]
    with WeightDelta.of(svd, edits).applied():
        mended, changed = [ask(lm, each) for each in asked], nll(lm, texts)
    drift = float((_logits(lm, probe) - before).abs().max())
    with WeightDelta.of(svd, random_edits(svd, edits, seed)).applied():
        shaken = [ask(lm, each) for each in asked]
    return [
        *_lists(base, mended, shaken),
        TEXT.measured(changed - loss, None, f"{loss:.3f} before, {changed:.3f} after, {size.tokens} tokens"),
        *_weights(found, edits, massive(lm, probe)),
        REVERT.measured(drift),
    ]


def load(scale: Scale) -> CausalLM:
    """SmolLM2; for ``smoke`` four narrow layers of noise under its tokenizer, with which everything runs."""
    lm = CausalLM.load("smollm2")
    if scale != "smoke":
        return lm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        settings = lm.model.config.to_dict() | {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4}
        settings |= {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.3}
        noise = type(lm.model)(type(lm.model.config)(**settings))
    return CausalLM(noise.train(False), lm.tokenizer, "noise")


def prompts(lm: CausalLM, items: int, count: int, seed: tuple[int, int], objects: Sequence[str]) -> list[Laundry]:
    return laundry_list(lm.tokenizer, items, count, 2 * seed[0] + seed[1], objects)


def _lists(base: Sequence[Score], mended: Sequence[Score], shaken: Sequence[Score]) -> list[Measurement]:
    gains = [100 * (after.accuracy - before.accuracy) for before, after in zip(base, mended, strict=True)]
    none = [100 * (after.accuracy - before.accuracy) for before, after in zip(base, shaken, strict=True)]
    lost = max(100 * (b - a) for b, a in zip(base[0].by_place(), mended[0].by_place(), strict=True))
    told = f"{_row(base)} to {_row(mended)}; first of all words {_row(base, 'first')} to {_row(mended, 'first')}"
    places = f"{_places(base[0])} to {_places(mended[0])}; of five {_places(base[-1])} to {_places(mended[-1])}"
    return [
        GAIN.measured(float(np.mean(gains)), float(np.mean(none)), f"random components of the same layers ({told})"),
        EACH.measured(min(gains), None, _listed(gains)),
        PLACES.measured(lost, None, places),
        RANDOM.measured(abs(float(np.mean(none))), None, _listed(none)),
    ]


def _weights(found: AttributionTable, edits: Edits, loud: Sequence[int]) -> list[Measurement]:
    heard = heard_by(found, edits, MOVERS, loud)
    told = "; ".join(str(each) for each in heard)
    return [
        HEARD.measured(min(each.chosen for each in heard), None, told),
        UNHEARD.measured(max(abs(each.others - 50) for each in heard)),
    ]


def _logits(lm: CausalLM, batch: Batch) -> torch.Tensor:
    with lm.lock, torch.inference_mode():
        logits: torch.Tensor = batch.forward(lm).logits
    return logits


def _row(scores: Sequence[Score], what: str = "accuracy") -> str:
    return "/".join(f"{getattr(score, what):.2f}" for score in scores)


def _places(score: Score) -> str:
    return "/".join(f"{share:.2f}" for share in score.by_place())


def _listed(points: Sequence[float]) -> str:
    return ", ".join(f"{n} items {gain:+.1f}" for n, gain in zip(LENGTHS, points, strict=True))
