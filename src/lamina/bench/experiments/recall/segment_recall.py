"""How LongMem's claims are measured; what is claimed is said in ``bench.systems.longmem``."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lamina._optional import require
from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.recall.segment_facts import (
    FARTHEST,
    NEAREST,
    SEGMENT,
    Asked,
    Mixture,
    Texts,
    plain,
    texts,
)
from lamina.bench.systems.longmem import (
    BLIND,
    BYTES,
    CLOSED,
    COARSER,
    COUPLED,
    DISTANCE,
    EARLIER,
    EXACT,
    KEPT,
    LOCAL,
    PROSE,
    SHUFFLED,
    STALE,
)

if TYPE_CHECKING:
    from lamina.activation.side_retrieval import LongMem, MemoryBank
    from lamina.bench.experiments.recall.segment_readers import Answers, Recall

CHUNK, TOPK = 2, 16
CAPACITY = 48 * SEGMENT  # what is asked is up to 40 segments back
SETTINGS = {"chunk": CHUNK, "topk": TOPK, "capacity": CAPACITY, "segment": SEGMENT}
RATE = 3e-3
LENGTHS = (8, 8, 16, 24, 32, 64)  # segments of the texts in the lessons, one after the other
NEAR, FAR = (NEAREST, 10), (30, FARTHEST)
COARSE = 4


@dataclass(frozen=True, slots=True)
class Size:
    """Steps of the backbone, of the side network and after that; rows of a lesson and of the test; segments that the
    test's banks hold and that are asked after; the width."""

    backbone_steps: int
    steps: int
    further_steps: int
    rows: int
    tested_rows: int
    held: int
    asked: int
    width: int = 128


SIZES: Mapping[Scale, Size] = {
    "smoke": Size(2, 2, 1, 2, 2, 41, 2, width=32),
    "laptop": Size(300, 800, 100, 8, 8, 41, 23),
    "full": Size(500, 1500, 100, 16, 32, 41, 23),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once."""
    require("torch", "the proof of LongMem")
    from lamina.activation.side_retrieval import LongMem
    from lamina.bench.experiments.recall.segment_readers import Coupled, ask, backbone, recall, remembered

    size = SIZES[scale]
    model = backbone(seed, steps=size.backbone_steps, width=size.width)
    rng = np.random.default_rng((seed, 2))
    told = texts(rng, size.tested_rows, size.held + size.asked, Mixture(), test=True)
    prose = plain(rng, size.tested_rows, size.asked)
    # The rival keeps no keys of the model's: which layer it begins as was chosen as all was, on another seed.
    memory, rival = LongMem(model, "auto", **SETTINGS), Coupled(model, **SETTINGS)
    untaught = recall(memory, remembered(memory, told, size.held), told, size.held)
    for each in (memory, rival):
        _teach(each, seed, LENGTHS, size.rows, size.steps)
    alone = ask(lambda lesson: model(lesson.ids, use_cache=False).logits, told, size.held)
    alone_prose = ask(lambda lesson: model(lesson.ids, use_cache=False).logits, prose, 0).prose
    found = [
        *_answers(memory, told, size, alone),
        _prose(memory, prose, alone_prose),
        _chunks(memory, told, size),
        *_bank(memory, told, size, untaught),
    ]
    return [*found, *_decoupling(memory, rival, told, seed, size)]  # last: it teaches them on


def _teach(memory: LongMem, seed: int, lengths: Sequence[int], rows: int, steps: int) -> None:
    from lamina.bench.experiments.recall.segment_readers import adapt, lessons

    adapt(memory, lessons(seed, rows, lengths, memory), steps=steps, lr=RATE)


def _asked(
    memory: LongMem, banks: Sequence[MemoryBank], told: Texts, first: int, *, shift: int = 0, write: bool = True
) -> Answers:
    """Answers from copies of ``banks``."""
    from lamina.bench.experiments.recall.segment_readers import ask, with_banks

    return ask(with_banks(memory, copy.deepcopy(banks), shift=shift, write=write), told, first)


def _answers(memory: LongMem, told: Texts, size: Size, alone: Answers) -> list[Measurement]:
    from lamina.bench.experiments.recall.segment_readers import gate_closed, remembered

    banks = remembered(memory, told, size.held)
    own, others = (_asked(memory, banks, told, size.held, shift=shift) for shift in (0, 1))
    with gate_closed(memory):
        closed = _asked(memory, banks, told, size.held)
    near, far = own.share(Asked.EARLIER, *NEAR), own.share(Asked.EARLIER, *FAR)
    here = own.share(Asked.HERE)
    gates = memory.side.joint.gate
    by_head = [] if gates is None else gates.sigmoid().tolist()
    shares = f"{own.count} questions; shares of the bank by head {', '.join(f'{share:.2f}' for share in by_head)}"
    return [
        LOCAL.measured(alone.share(Asked.HERE)),
        BLIND.measured(alone.share(Asked.EARLIER)),
        EARLIER.measured(own.share(Asked.EARLIER), None, shares),
        SHUFFLED.measured(others.share(Asked.EARLIER)),
        CLOSED.measured(closed.share(Asked.EARLIER)),
        KEPT.measured(alone.share(Asked.HERE) - here, None, f"LongMem {here:.3f}"),
        DISTANCE.measured(abs(near - far), None, f"near {near:.3f}, far {far:.3f}"),
    ]


def _prose(memory: LongMem, prose: Texts, alone: float) -> Measurement:
    ours = _asked(memory, memory.banks(len(prose.ids)), prose, 0).prose
    return PROSE.measured(ours - alone, None, f"LongMem {ours:.3f}, the frozen model {alone:.3f}")


def _chunks(memory: LongMem, told: Texts, size: Size) -> Measurement:
    from lamina.bench.experiments.recall.segment_readers import recall, remembered

    right, notes = {}, {}
    for chunk in (1, COARSE):
        banks = remembered(memory, told, size.held, chunk)
        right[chunk] = _asked(memory, banks, told, size.held).share(Asked.EARLIER)
        found = recall(memory, banks, told, size.held)
        notes[chunk] = f"in chunks of {chunk} {_found(found)}"
    return COARSER.measured(right[COARSE], right[1], f"single tokens ({notes[1]}; {notes[COARSE]})")


def _found(share: Recall) -> str:
    return f"found by a head {share.head:.3f}, by any {share.any_head:.3f}"


def _bank(memory: LongMem, told: Texts, size: Size, untaught: Recall) -> list[Measurement]:
    """Search against brute force, and what it finds, which before the lessons was ``untaught``; live bytes against the
    formula, and what all layers' keys and values would take."""
    from lamina.bench.experiments.recall.segment_readers import recall, remembered

    banks = remembered(memory, told, size.held)
    found = recall(memory, banks, told, size.held)
    bank, config = banks[0], memory.backbone.config
    width = bank.kv_heads * bank.head_dim
    formula = 2 * width * (2 * CAPACITY + CAPACITY // CHUNK)
    cache = 2 * 2 * width * config.num_hidden_layers * CAPACITY
    note = f"{bank.nbytes} B; the keys and values of all layers in float16 {cache} B"
    return [
        EXACT.measured(found.exact, None, f"{_found(found)}; before the lessons {_found(untaught)}"),
        BYTES.measured(abs(bank.nbytes / formula - 1), None, note),
    ]


def _decoupling(memory: LongMem, rival: LongMem, told: Texts, seed: int, size: Size) -> list[Measurement]:
    """What an old bank is worth after further lessons, the memory's and the rival's; asked is only what it holds."""
    from lamina.bench.experiments.recall.segment_readers import remembered

    def right(each: LongMem, banks: Sequence[MemoryBank]) -> float:
        return _asked(each, banks, told, size.held, write=False).share(Asked.EARLIER, before=True)

    lost, notes = [], []
    for each in (memory, rival):
        old = remembered(each, told, size.held)
        before = right(each, old)
        _teach(each, seed + 1, LENGTHS[-1:], size.rows, size.further_steps)
        after, fresh = right(each, old), right(each, remembered(each, told, size.held))
        lost.append(before - after)
        notes.append(f"before {before:.3f}, after {after:.3f}, with a new bank {fresh:.3f}")
    least = 0.01  # that nothing is lost makes no ratio, and a point is what chance takes
    return [
        STALE.measured(lost[0], None, notes[0]),
        COUPLED.measured(max(lost[0], least), lost[1], f"the rival on the same lessons: {notes[1]}"),
    ]
