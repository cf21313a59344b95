"""How well a strategy answers before anybody has checked: a prior from the curves that ConvoMem released.

``convomem_curves.json`` holds accuracy, time and cost of 54 runs by number of conversations (aggregate numbers,
Apache-2.0, Copyright Salesforce, Inc.; notice in the file). Three things are taken from it:

* ``full``: accuracy of a released reader, linear in log T, where T is tokens of history. A reader that was not
  released is taken to begin as well as the reference; its ``trusted_tokens``, the T at which it is 5 points worse
  than with one conversation, set its slope. How much of a long prompt is used is a property of the reader;
* ``rag`` and ``hybrid``: how far they were from full context *on the same questions*, linear in log n. Paired,
  because categories differ in difficulty and not every strategy ran on each. What competes with the evidence
  in a search is the number of conversations, whoever reads.

The released ``hybrid`` extracts from the whole history; Lamina's from what it retrieves. So its expected accuracy lies
between ``rag`` (it sees as little as that) and the released one (it sees every turn), by the logarithm of what it sees.

``leave_out`` names categories that are not to be looked at: a prior is judged on categories it has not seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

import numpy as np

from lamina.errors import InvalidInput
from lamina.text.context_costs import HistoryStats, ReaderProfile, Recall, Strategy

REFERENCE = "gemini-2.5-flash"  # the reader that ran under every strategy
CONVERSATION = 1_215  # tokens: where "5 points worse" is counted from
_DROP = 0.05


@dataclass(frozen=True, slots=True)
class Point:
    """One measured cell. ``accuracy`` is in [0, 1], ``seconds`` a median, ``tokens`` those of the answer call."""

    conversations: int
    accuracy: float
    questions: int
    seconds: float
    seconds_p90: float
    usd: float
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: a strategy of a reader on questions of one category and number of evidence messages."""

    reader: str
    category: str
    evidence: int
    strategy: Strategy
    points: tuple[Point, ...]

    def at(self, conversations: int) -> Point | None:
        return next((point for point in self.points if point.conversations == conversations), None)


@lru_cache(maxsize=1)
def released() -> tuple[Curve, ...]:
    """The released curves, read once."""
    text = (resources.files("lamina.text") / "convomem_curves.json").read_text(encoding="utf-8")
    return tuple(
        Curve(
            row["reader"],
            row["category"],
            row["evidence"],
            row["strategy"],
            tuple(Point(*values) for values in row["points"]),
        )
        for row in json.loads(text)["curves"]
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """``level + slope * log(x)``."""

    level: float
    slope: float

    def __call__(self, x: float) -> float:
        return self.level + self.slope * math.log(max(x, 1.0))


class QualityPrior:
    """Expected accuracy of a strategy; see the module's docstring. Raises ``InvalidInput`` if nothing is left."""

    def __init__(self, curves: Sequence[Curve] | None = None, *, leave_out: Collection[str] = ()) -> None:
        self._curves = [c for c in (released() if curves is None else curves) if c.category not in leave_out]
        self._full = _fit(list(_full(self._of(REFERENCE))), "full context", leave_out)
        self._own = {name: line for name in self._readers() if (line := self._line_of(name)) is not None}
        self._gaps = {
            (strategy, multi): self._gap(strategy, multi, leave_out)
            for strategy in ("rag", "hybrid")
            for multi in (True, None)
        }

    def quality(
        self, strategy: Strategy, stats: HistoryStats, reader: ReaderProfile, *, multi: bool | None = None
    ) -> float:
        """Expected accuracy in [0, 1]; ``multi`` says that the evidence is spread (``None``: not known)."""
        length = stats.tokens / CONVERSATION
        if strategy == "full":
            expected = self._line(reader)(length)
        else:
            gap = self._gap_at(strategy, stats, multi)
            if strategy == "hybrid":
                seen = _seen(stats.turns, reader.recall)
                gap = seen * gap + (1 - seen) * self._gap_at("rag", stats, multi)
            expected = self._full(length) + gap
        return min(1.0, max(0.0, expected))

    def _line(self, reader: ReaderProfile) -> _Line:
        """A released reader's own; else the reference's, with the slope that ``trusted_tokens`` say."""
        if reader.name in self._own:
            return self._own[reader.name]
        if reader.trusted_tokens is None:
            return self._full
        return _Line(self._full.level, -_DROP / math.log(max(reader.trusted_tokens / CONVERSATION, 1.05)))

    def knows(self, reader: str) -> bool:
        """Whether the reader itself was measured, over several sizes."""
        return reader in self._own

    def _readers(self) -> list[str]:
        return sorted({curve.reader for curve in self._curves})

    def _line_of(self, reader: str) -> _Line | None:
        runs = [run for run in _full(self._of(reader)) if len(run) > 1]
        return _fit(runs, reader, ()) if runs else None

    def _gap_at(self, strategy: Strategy, stats: HistoryStats, multi: bool | None) -> float:
        return self._gaps[strategy, True if multi else None](stats.conversations)

    def trusted_tokens(self, reader: str) -> float:
        """Tokens of history at which ``reader`` was 5 points worse. Raises ``InvalidInput`` if it was not measured."""
        line = _fit(list(_full(self._of(reader))), f"reader {reader!r}", ())
        return CONVERSATION * math.exp(_DROP / -line.slope) if line.slope < 0 else math.inf

    def _of(self, reader: str) -> list[Curve]:
        return [curve for curve in self._curves if curve.reader == reader]

    def _gap(self, strategy: Strategy, multi: bool | None, leave_out: Collection[str]) -> _Line:
        pairs = list(_pairs(self._of(REFERENCE), strategy))
        chosen = [rows for evidence, rows in pairs if multi is None or evidence > 1]
        return _fit(chosen or [rows for _, rows in pairs], strategy, leave_out)


def _seen(turns: int, recall: Recall) -> float:
    """Where between ``k`` turns (0) and all of them (1) generous retrieval lies, in logarithms."""
    if turns <= recall.generous:
        return 1.0
    return max(0.0, math.log(recall.generous / recall.k)) / math.log(turns / min(recall.k, recall.generous))


def _full(curves: Sequence[Curve]) -> Iterator[list[tuple[float, float]]]:
    """Of each full-context curve: (history in conversations' worth of tokens, accuracy)."""
    for curve in curves:
        if curve.strategy == "full":
            yield [(p.tokens / CONVERSATION, p.accuracy) for p in curve.points if p.tokens]


def _pairs(curves: Sequence[Curve], strategy: Strategy) -> Iterator[tuple[int, list[tuple[float, float]]]]:
    """Of each curve with a full-context twin: its evidence, and (conversations, accuracy less the twin's)."""
    twins = {(curve.category, curve.evidence): curve for curve in curves if curve.strategy == "full"}
    for curve in curves:
        twin = twins.get((curve.category, curve.evidence))
        if curve.strategy == strategy and twin is not None:
            both = [(p, q) for p in curve.points if (q := twin.at(p.conversations)) is not None]
            yield curve.evidence, [(p.conversations, p.accuracy - q.accuracy) for p, q in both]


def _fit(runs: Sequence[Sequence[tuple[float, float]]], what: str, leave_out: Collection[str]) -> _Line:
    """Least squares in log x; every run weighs the same, however many sizes it has."""
    runs = [run for run in runs if len(run) > 1]
    if not runs:
        raise InvalidInput(f"no released curve of {what} is left without {sorted(leave_out)}: leave out less")
    x = np.log(np.maximum([x for run in runs for x, _ in run], 1.0))
    y = np.asarray([y for run in runs for _, y in run])
    weight = np.sqrt([1 / len(run) for run in runs for _ in run])
    slope, level = np.polyfit(x, y, 1, w=weight)
    return _Line(float(level), float(slope))
