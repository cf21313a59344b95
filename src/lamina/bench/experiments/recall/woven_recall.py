"""How the claims of Contextual Memory Reweaving are measured; the claims are in ``bench.systems.memory_reweaving``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina._optional import require
from lamina.activation.state_reweaving import MemoryReweaver, read, reweave
from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.recall.planted_bindings import Documents, documents
from lamina.bench.experiments.recall.reweaving_arms import (
    CODE,
    FAR,
    LENGTH,
    MIDDLE,
    NEAR,
    SINKS,
    SLOTS,
    WINDOW,
    Answered,
    Arm,
    Course,
    RandomSalience,
    agreement,
    ask,
    backbone,
    copied,
    further,
    kept,
    learn_to_look_up,
    overhead,
    table,
    token_bytes,
)
from lamina.bench.systems.memory_reweaving import (
    BYTES,
    CONSISTENT,
    EMPTIED,
    EQUAL,
    LAYERED,
    RECALL,
    SALIENT,
    TEXT,
    TIME,
    UNSEEN,
    UNTAUGHT,
)
from lamina.train.loop import without_denormals

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RATE = 3e-3


CAPTURE, INJECT = (1, 2, 3), (2, 4)


ONE, AFTER_ONE = (2,), (3, 4)  # the single captured layer, and two inject layers that may follow it


REWOVEN, ALONE, WIDER, SUNK = "reweaving", "window", "wider window", "sinks and window"


UNREBUILT, SINGLE, RANDOM = "without reconstruction", "one layer", "random slots"


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of drills and of documents for the base, the course of each arm; documents asked; tokens of the two texts
    whose state is weighed; rounds of timing; width."""

    drilled: int
    mixed: int
    course: Course
    asked: int
    lengths: tuple[int, int] = (256, 4096)
    rounds: int = 7
    width: int = 128


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(2, 1, Course(1, 1, 1), 8, (256, 320), 1, width=32),
    "laptop": Size(350, 900, Course(160, 100, 60), 64),
    "full": Size(600, 2000, Course(600, 600, 600), 400),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    size = SIZES[scale]
    with without_denormals():
        return _run(seed, size)


def _run(seed: int, size: Size) -> list[Measurement]:
    base = backbone(seed, width=size.width)
    learn_to_look_up(base, seed, drilled=size.drilled, mixed=size.mixed, lr=RATE)
    rng = np.random.default_rng((seed, 2))
    untaught, bytes_ = _untaught(base, documents(rng, 2, LENGTH)), _bytes(base, size.lengths)
    arms = made(base, seed)
    for arm in arms.values():
        further(arm, seed, size.course)
    asked = documents(rng, size.asked, LENGTH, part="ask", distances=(NEAR, MIDDLE, FAR))
    twice = documents(rng, size.asked // 2, LENGTH, part="ask", distances=((WINDOW + 1, 2 * WINDOW),), again=100)
    answers = {name: ask(arm, asked) for name, arm in arms.items()}
    emptied = ask(arms[REWOVEN], asked, forget=True)
    return [
        *_recall(answers, emptied, arms, {name: kept(arms[name], asked) for name in (REWOVEN, RANDOM)}),
        TIME.measured(overhead(arms[REWOVEN], asked, size.rounds)),
        bytes_,
        untaught,
        _consistent(arms[REWOVEN], twice),
    ]


def made(base: PreTrainedModel, seed: int) -> dict[str, Arm]:
    """All arms before they are taught, each with its own copy of ``base``."""
    width = base.config.hidden_size
    sizes: dict[str, Any] = {"window": WINDOW, "code_dim": CODE, "seed": seed}
    three = {**sizes, "capture": CAPTURE, "inject": INJECT, "slots": SLOTS}
    one = {**sizes, "capture": ONE, "inject": AFTER_ONE, "slots": 3 * SLOTS}
    reweaver = MemoryReweaver(width, **three)
    wider = WINDOW + round(reweaver.empty().nbytes / token_bytes(base))
    return {
        REWOVEN: Arm(copied(base), WINDOW, reweaver),
        ALONE: Arm(copied(base), WINDOW),
        WIDER: Arm(copied(base, wider), wider),
        SUNK: Arm(copied(base, None), wider - SINKS, sinks=SINKS),
        UNREBUILT: Arm(copied(base), WINDOW, MemoryReweaver(width, **three), reconstruction=0.0),
        SINGLE: Arm(copied(base), WINDOW, MemoryReweaver(width, **one)),
        RANDOM: Arm(copied(base), WINDOW, RandomSalience(width, **three)),
    }


def _recall(
    answers: Mapping[str, Answered], emptied: Answered, arms: Mapping[str, Arm], held: Mapping[str, tuple[float, float]]
) -> list[Measurement]:
    ours = answers[REWOVEN]
    rare = f"nats of answers beyond it: {ours.beyond:.2f}, window alone {answers[ALONE].beyond:.2f}"
    slots = "number, name in a slot when asked: " + "; ".join(f"{n} {h[0]:.2f}, {h[1]:.2f}" for n, h in held.items())
    wide = f"{arms[WIDER].window} tokens {answers[WIDER].recall:.3f}; {SUNK} {answers[SUNK].recall:.3f}"
    one = f"one layer {answers[SINGLE].recall:.3f}, {UNREBUILT} {answers[UNREBUILT].recall:.3f}"
    return [
        RECALL.measured(ours.recall, None, f"{table(answers)}; {slots}; {rare}"),
        UNSEEN.measured(answers[ALONE].recall),
        EMPTIED.measured(emptied.recall, None, f"within the window {emptied.share(*NEAR):.3f}"),
        EQUAL.measured(ours.recall - answers[WIDER].recall, None, wide),
        SALIENT.measured(ours.recall - answers[RANDOM].recall, None, f"by lot {answers[RANDOM].recall:.3f}"),
        LAYERED.measured(answers[SINGLE].recall - ours.recall, None, one),
        TEXT.measured(ours.ordinary - answers[ALONE].ordinary, None, f"window alone {answers[ALONE].ordinary:.3f}"),
    ]


def _consistent(arm: Arm, twice: Documents) -> Measurement:
    same, right = agreement(arm, twice)
    return CONSISTENT.measured(same - right, None, f"equal {same:.3f}, right the first time {right:.3f}")


def _untaught(base: PreTrainedModel, given: Documents) -> Measurement:
    """Logits with a fresh reweaver against those without."""
    torch = require("torch", "the proof of memory reweaving")
    ids = torch.from_numpy(given.ids)
    reweaver = _fresh(base)
    with torch.inference_mode():
        plain, _ = read(base, ids, WINDOW)
        with reweave(base, reweaver, reweaver.empty(len(ids))):
            woven, _ = read(base, ids, WINDOW)
    return UNTAUGHT.measured(float((woven - plain).abs().max()))


def _bytes(base: PreTrainedModel, lengths: tuple[int, int]) -> Measurement:
    """Storages of the state after a short and after a long text, against the formula; the larger of the errors."""
    torch = require("torch", "the proof of memory reweaving")
    reweaver = _fresh(base)
    formula = (SLOTS + WINDOW) * (len(CAPTURE) * CODE * 4 + 16) + 4 * base.config.hidden_size + 20
    found = []
    for length in lengths:
        ids = torch.from_numpy(documents(np.random.default_rng(length), 1, length).ids)
        with torch.inference_mode(), reweave(base, reweaver, reweaver.empty()) as session:
            read(base, ids, WINDOW)
        found.append(session.state.nbytes)
    weighed = ", ".join(f"{each} B after {length} tokens" for each, length in zip(found, lengths, strict=True))
    note = f"{weighed}; a token of cache is {token_bytes(base)} B"
    return BYTES.measured(max(abs(each - formula) for each in found), None, note)


def _fresh(base: PreTrainedModel) -> MemoryReweaver:
    width = base.config.hidden_size
    return MemoryReweaver(width, window=WINDOW, capture=CAPTURE, inject=INJECT, slots=SLOTS, code_dim=CODE)
