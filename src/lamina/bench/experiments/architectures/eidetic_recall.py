"""How B'MOJO's claims are measured; what is claimed is said in ``bench.systems.b_mojo``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.bench.card import Measurement, Scale
from lamina.bench.systems.b_mojo import (
    CONSTANT,
    OVER_FADING,
    OVER_RANDOM,
    OVER_RECENT,
    PRECISION,
    RECALLED,
    SEEN,
    SOLVABLE,
)

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.nn.decoder import LaminaForCausalLM

TIME, PAIRS, IDS = 48, 4, 64
STATED = 2 * PAIRS
WINDOW, KEPT = 8, 8
LONGER = 4 * TIME  # the same questions after more filler
RATE = 4e-3
LEARNED = 0.03  # mean loss of the answers in nats under which no more is taught: 0.99 of them are right long before

_STATE = {"heads": 2, "key_dim": 8, "value_dim": 24, "taps": 0}
_BMOJO = {"window": WINDOW, "ssm_settings": _STATE}
_EIDETIC = _BMOJO | {"eidetic": KEPT}
# mixer, its settings, and the width of a head, by which the arms come to as many parameters
ARMS: Mapping[str, tuple[str, dict[str, Any], int]] = {
    "full attention": ("attention", {}, 26),
    "window": ("attention", {"window": WINDOW}, 26),
    "gated delta": ("gated_delta", {"key_dim": 8, "value_dim": 29, "taps": 0}, 12),
    "B'MOJO-F": ("bmojo", _BMOJO | {"ssm_settings": _STATE | {"value_dim": 26}}, 14),
    "innovation": ("bmojo", _EIDETIC, 12),
    "random": ("bmojo", _EIDETIC | {"select": "random"}, 12),
    "recent": ("bmojo", _EIDETIC | {"select": "recent"}, 12),
}


@dataclass(frozen=True, slots=True)
class Size:
    """Steps at most, rows of a step and of the test, and how many beginnings."""

    steps: int
    rows: int
    tested: int
    beginnings: int


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(2, 4, 8, 1),
    "laptop": Size(450, 48, 512, 3),
    "full": Size(700, 48, 2048, 5),
}


@dataclass(frozen=True, slots=True)
class Result:
    """Of one arm from one beginning; ``precision`` by layer, ``longer`` by how positions of kept tokens are seen."""

    right: float
    steps: int
    milliseconds: float
    parameters: int
    nbytes: tuple[int, int]  # of a row after TIME and LONGER
    precision: tuple[float, ...] = ()
    seen: int = 0
    longer: Mapping[str, float] | None = None


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    require("torch", "the proof of B'MOJO")
    size = SIZES[scale]
    found = {arm: [measured(arm, seed + beginning, size) for beginning in range(size.beginnings)] for arm in ARMS}
    right = {arm: fmean(each.right for each in results) for arm, results in found.items()}
    ours, name = right["innovation"], "innovation"
    kept = [fmean(each.precision[layer] for each in found[name]) for layer in range(len(found[name][0].precision))]
    chance = STATED / _candidates()
    layers = f"chance; by layer {', '.join(f'{share:.2f}' for share in kept)}"
    nbytes = found[name][0].nbytes
    return [
        SOLVABLE.measured(right["full attention"], None, _told(found["full attention"])),
        RECALLED.measured(ours, None, f"{_told(found[name])}; {_lengths(found[name])}; window {right['window']:.3f}"),
        OVER_FADING.measured(ours - right["B'MOJO-F"], None, _told(found["B'MOJO-F"])),
        OVER_RANDOM.measured(ours - right["random"], None, _told(found["random"])),
        OVER_RECENT.measured(ours - right["recent"], None, _told(found["recent"])),
        PRECISION.measured(kept[0], chance, layers),
        SEEN.measured(
            max(each.seen for each in found[name]), None, f"gated delta alone: {_told(found['gated delta'])}"
        ),
        CONSTANT.measured(
            nbytes[1] / nbytes[0], None, f"{nbytes[0]} B a row; a window alone: {_told(found['window'])}"
        ),
    ]


def measured(arm: str, seed: int, size: Size) -> Result:
    """Teach ``arm`` from the beginning ``seed`` and ask it."""
    import torch

    from lamina.nn.tasks import MQAR

    task = MQAR(TIME, PAIRS, IDS, power=1.0)
    began = time.process_time()
    model, steps = _taught(arm, seed, size)
    spent = 1e3 * (time.process_time() - began) / steps
    batch = task.sample(size.tested, torch.Generator().manual_seed(2_000_000 + seed))
    right, stats = _right(model, batch.ids, batch.targets)
    filler = torch.zeros(len(batch), LONGER - TIME, dtype=torch.int64)
    ids, targets = (
        torch.cat([each[:, :STATED], filler + empty, each[:, STATED:]], 1)
        for each, empty in ((batch.ids, 0), (batch.targets, -100))
    )
    nbytes = (_row_bytes(model, ids[:1, :TIME]), _row_bytes(model, ids[:1]))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    places = [stats[f"{layer}.positions"][:, -1] for layer in range(2) if f"{layer}.positions" in stats]
    return Result(
        right,
        steps,
        spent,
        parameters,
        nbytes,
        tuple(float((kept < STATED).double().mean()) for kept in places),
        max((int(value.max()) for name, value in stats.items() if name.endswith(".seen")), default=0),
        _by_position(model, ids, targets) if arm == "innovation" else None,
    )


def _taught(arm: str, seed: int, size: Size) -> tuple[LaminaForCausalLM, int]:
    import torch

    from lamina.nn.config import LaminaConfig
    from lamina.nn.decoder import LaminaForCausalLM
    from lamina.nn.tasks import MQAR
    from lamina.train.loop import parameter_groups, train, warmup_cosine

    mixer, settings, head_dim = ARMS[arm]
    torch.manual_seed(seed)
    config = LaminaConfig(
        IDS, 48, 2, 4, head_dim=head_dim, mixer=mixer, ffn="none", short_conv=4, block={mixer: settings}
    )
    model = LaminaForCausalLM(config).train()
    task, generator = MQAR(TIME, PAIRS, IDS, power=1.0), torch.Generator().manual_seed(1_000_000 + seed)
    answers = [float(torch.tensor(IDS).log())]  # exponential mean of the loss without what P learns by

    def loss(_: int) -> Tensor:
        batch = task.sample(size.rows, generator)
        out = model(batch.ids, shift_labels=batch.targets)
        asked = out.loss if out.aux_loss is None else out.loss - out.aux_loss
        answers.append(0.9 * answers[-1] + 0.1 * float(asked.detach()))
        found: Tensor = out.loss
        return found

    losses = train(
        parameter_groups(model, RATE),
        loss,
        steps=size.steps,
        lr=RATE,
        schedule=warmup_cosine(),
        stop=lambda *_: answers[-1] < LEARNED,
    )
    return model.eval(), len(losses)


def _right(model: LaminaForCausalLM, ids: Tensor, targets: Tensor) -> tuple[float, dict[str, Tensor]]:
    import torch

    with torch.no_grad():
        out = model(ids, use_cache=False)
    asked = targets >= 0
    assert out.stats is not None
    return float((out.logits.argmax(-1) == targets)[asked].double().mean()), out.stats


def _row_bytes(model: LaminaForCausalLM, ids: Tensor) -> int:
    import torch

    from lamina.nn.context import DecodingCache

    cache = DecodingCache(2)
    with torch.no_grad():
        model(ids, past_key_values=cache)
    return cache.nbytes


def _by_position(model: LaminaForCausalLM, ids: Tensor, targets: Tensor) -> dict[str, float]:
    """Right answers in longer texts, with kept tokens where they stood and never further away than two windows."""
    from lamina.nn.eidetic_fading import BMojo

    found = {}
    for position in ("clamp", "absolute"):
        for block in model.modules():
            if isinstance(block, BMojo):
                block.position = position
        found[position] = _right(model, ids, targets)[0]
    return found


def _candidates() -> int:
    """Tokens that have left the window when the last chunk begins: what is kept is chosen among these."""
    return TIME // WINDOW * WINDOW - WINDOW - WINDOW + 1


def _told(results: list[Result]) -> str:
    right = ", ".join(f"{each.right:.3f}" for each in results)
    steps, cost = fmean(each.steps for each in results), fmean(each.milliseconds for each in results)
    first = results[0]
    size = f"{first.parameters} parameters, {first.nbytes[0]} B of state"
    return f"right {right}; {steps:.0f} steps of {cost:.0f} ms; {size}"


def _lengths(results: list[Result]) -> str:
    means = {name: fmean((each.longer or {})[name] for each in results) for name in ("absolute", "clamp")}
    return f"in texts of {LONGER} {', '.join(f'{share:.3f} ({name})' for name, share in means.items())}"
