"""How far a student does what its teacher did, on traces it has not learnt from.

This is agreement and nothing more: the teacher may be wrong, and a student that is right against it counts as wrong.
Facts are matched one to one and agree if 70% of their words do (token F1); operations agree if event and memory are
the same and the text agrees; answers agree but for case, articles and punctuation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from lamina.parameter.experts.operations import MemoryOp, Output
from lamina.parameter.experts.prompts import read
from lamina.parameter.experts.serving import Attempt
from lamina.parameter.experts.traces import TraceSet

ALIKE = 0.7


@dataclass(frozen=True, slots=True)
class Agreement:
    """``value`` in [0, 1]: fact F1 of ``extract``, else the share of requests answered alike. ``valid`` is the share
    of first replies in the asked form, ``failed`` the number of requests that got no answer at all."""

    value: float
    valid: float
    failed: int
    requests: int


def agreement(traces: TraceSet, attempts: Sequence[Attempt]) -> Agreement:
    """Of ``attempts`` with the cleaned ``traces`` of one operation, whose requests they answer, in order."""
    taught = [read(trace.request, trace.output) for trace in traces]
    said = [attempt.output for attempt in attempts]
    if traces and traces.traces[0].op == "extract":
        value = _fact_f1(said, taught)
    else:
        value = sum(_alike(s, t) for s, t in zip(said, taught, strict=True)) / len(taught) if taught else 1.0
    valid = sum(attempt.valid_at_once for attempt in attempts) / len(attempts) if attempts else 1.0
    return Agreement(value, valid, sum(output is None for output in said), len(taught))


def _fact_f1(said: Sequence[Output | None], taught: Sequence[Output]) -> float:
    hits = made = wanted = 0
    for ours, theirs in zip(said, taught, strict=True):
        left = [str(fact) for fact in theirs]
        wanted, made = wanted + len(left), made + len(ours or ())
        for fact in ours or ():
            match = next((other for other in left if texts_agree(str(fact), other)), None)
            if match is not None:
                left.remove(match)
                hits += 1
    return 2 * hits / (made + wanted) if made + wanted else 1.0


def _alike(said: Output | None, taught: Output) -> bool:
    if said is None or isinstance(said, str) or isinstance(taught, str):
        return said is not None and words(str(said)) == words(str(taught))
    pairs = [(a, b) for a, b in zip(said, taught, strict=False) if isinstance(a, MemoryOp) and isinstance(b, MemoryOp)]
    same = (
        a.event == b.event and a.id == b.id and (a.text == b.text or texts_agree(a.text or "", b.text or ""))
        for a, b in pairs
    )
    return len(said) == len(taught) == len(pairs) and all(same)


def texts_agree(text: str, other: str) -> bool:
    """Whether 70% of the words of two texts are the same."""
    return token_f1(words(text), words(other)) >= ALIKE


def token_f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Of two lists of words."""
    both = sum((Counter(said) & Counter(wanted)).values())
    return 2 * both / (len(said) + len(wanted)) if said or wanted else 1.0


def words(text: str) -> list[str]:
    """In lower case, without articles and punctuation."""
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ("a", "an", "the")]
