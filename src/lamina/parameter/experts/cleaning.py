"""Which traces are fit to learn from, and why the others are not.

A student learns a teacher's mistakes faithfully, so each trace is checked by what it would *do*: is it the asked
form, do its memories exist, is what it says made of what it was given. Answers that say "nothing" stay at their
natural rate: without them a student extracts from chatter. The counts of what was rejected are part of the result;
a teacher with none has probably not been checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lamina.parameter.experts.operations import NOT_MENTIONED, Exchange, Inquiry, MemoryOp, Request
from lamina.parameter.experts.prompts import read, written
from lamina.parameter.experts.traces import Trace, TraceSet
from lamina.store.analysis import terms

Reason = Literal["malformed", "empty", "repeated", "ungrounded", "duplicate"]
GROUNDED = 0.6  # share of a statement's content words that must have been given


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left, in order, and how many were rejected for which reason."""

    traces: TraceSet
    rejected: dict[Reason, int]


def clean(traces: Iterable[Trace]) -> Cleaned:
    """Keep the traces that are well-formed, executable, grounded and not seen before.

    What is kept is written anew in the one layout that students are taught.
    """
    kept: list[Trace] = []
    rejected: Counter[Reason] = Counter()
    seen: set[tuple[Request, str]] = set()
    for trace in traces:
        normal, reason = _normal(trace)
        if reason is None and (normal.request, normal.output) in seen:
            reason = "duplicate"
        if reason is not None:
            rejected[reason] += 1
            continue
        seen.add((normal.request, normal.output))
        kept.append(normal)
    return Cleaned(TraceSet(tuple(kept)), dict(rejected))


def _normal(trace: Trace) -> tuple[Trace, Reason | None]:
    try:
        output = read(trace.request, trace.output)
    except ValueError:
        return trace, "malformed"
    if isinstance(output, str):
        statements = [output] if terms(output) and output.casefold() != NOT_MENTIONED else []  # "yes" is no claim
    else:
        statements = [item.text or "" if isinstance(item, MemoryOp) else item for item in output]
        if any(not text.strip() for text, item in zip(statements, output, strict=True) if not _silent(item)):
            return trace, "empty"
        statements = [text for text in statements if text.strip()]
        if len({text.casefold() for text in statements}) < len(statements):
            return trace, "repeated"
    given = _given(trace.request)
    if any(not _grounded(text, given) for text in statements):
        return trace, "ungrounded"
    text = trace.output.strip() if not output else written(output)
    return Trace(trace.request, text, trace.teacher), None


def _silent(item: object) -> bool:
    """Whether an item needs no text."""
    return isinstance(item, MemoryOp) and item.event in ("DELETE", "NONE")


def _given(request: Request) -> frozenset[str]:
    match request:
        case Exchange(said, context):
            texts = [f"{speaker} {text}" for speaker, text in (*context, *said)]
        case Inquiry(question, memories, _):
            texts = [question, *(each.text for each in memories)]
        case _:
            texts = [*request.facts, *request.memories]
    return frozenset(terms(" ".join(texts)))


def _grounded(text: str, given: frozenset[str]) -> bool:
    words = terms(text)
    return bool(words) and sum(word in given for word in words) >= GROUNDED * len(words)
