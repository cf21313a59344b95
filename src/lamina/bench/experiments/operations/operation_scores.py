"""How well attempts at memory operations answer traces whose outputs are the truth: one score an operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lamina.bench.experiments.operations.operation_loop import abstention, change_f1, fact_f1, is_right, token_f1
from lamina.bench.experiments.operations.operation_truth import statement_of
from lamina.parameter.experts.operations import MemoryOp, Op, Output, Revision
from lamina.parameter.experts.prompts import read
from lamina.parameter.experts.serving import Attempt
from lamina.parameter.experts.traces import TraceSet


@dataclass(slots=True)
class Score:
    """What an arm did with the requests of one operation; ``value`` is the one that gates look at."""

    value: float
    valid: float
    details: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.2f}" for name, value in (("score", self.value), *self.details.items()))


def scored(op: Op, tests: TraceSet, attempts: Sequence[Attempt]) -> Score:
    """How well ``attempts`` answer ``tests``, whose outputs are the truth."""
    valid = float(np.mean([attempt.valid_at_once for attempt in attempts]))
    truth = [read(trace.request, trace.output) for trace in tests]
    if op == "extract":
        stated = [[s for text in right if isinstance(text, str) and (s := statement_of(text))] for right in truth]
        return Score(fact_f1([_texts(attempt) for attempt in attempts], stated), valid)
    if op == "update":
        return _scored_update(tests, attempts, [_changes(right) for right in truth], valid)
    said, wanted = [str(attempt.output or "") for attempt in attempts], [str(right) for right in truth]
    close = [token_f1(o.casefold().split(), t.casefold().split()) for o, t in zip(said, wanted, strict=True)]
    details = {"token F1": float(np.mean(close)), "abstention": abstention(said, wanted)}
    return Score(float(np.mean([is_right(o, t) for o, t in zip(said, wanted, strict=True)])), valid, details)


def _scored_update(
    tests: TraceSet, attempts: Sequence[Attempt], truth: Sequence[list[MemoryOp]], valid: float
) -> Score:
    revisions = [trace.request for trace in tests if isinstance(trace.request, Revision)]
    said = [_changes(attempt.output or ()) for attempt in attempts]
    first = [ops[0] if ops else None for ops in said]
    right = [ops[0] for ops in truth]
    named = [(o, t) for o, t in zip(first, right, strict=True) if t.id is not None]
    details = {
        "operation": float(np.mean([o is not None and o.event == t.event for o, t in zip(first, right, strict=True)])),
        "id": float(np.mean([o is not None and o.id == t.id for o, t in named])) if named else 1.0,
    }
    return Score(change_f1(revisions, said, truth), valid, details)


def _texts(attempt: Attempt) -> list[str]:
    return [item for item in attempt.output or () if isinstance(item, str)]


def _changes(output: Output) -> list[MemoryOp]:
    return [item for item in output if isinstance(item, MemoryOp)]
