"""Did the ranking find the sessions that answer? The retrieval protocol of MemGAS's table, and its usual variants.

MemGAS (arXiv 2505.19549) ranks the sessions of a conversation and reports, over *all* of LoCoMo's questions,
adversarial ones included:

* gold: the sessions its evidence ids name (``D3:11`` is ``session_3``). An id whose second part is no integer is
  skipped (joined lists, a bare ``D``); ``D:11:26`` names the impossible ``session_``, so it is never found;
* recall: 1 only if *every* gold session is among the first k (``recall_all``), and 1 for no gold;
* NDCG with the discount of LongMemEval's code: ``rel_1 + sum_{i >= 2} rel_i / log2(i)``, where the first two ranks
  count alike; 0 for no gold. It is higher than Järvelin and Kekäläinen's ``1 / log2(i + 1)``, given beside it.

Definitions differ by more than systems do, so each number carries its name: ``recall_any`` (one gold session is
enough), ``recall_fraction``, ``ndcg_memgas``, ``ndcg``. All are functions of ranked session ids.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass

from lamina.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SessionScore:
    """All metrics of one question, or their means, at one cut-off, each in [0, 1]."""

    recall_all: float
    recall_any: float
    recall_fraction: float
    ndcg_memgas: float
    ndcg: float


def gold_sessions(evidence: Iterable[object]) -> frozenset[str]:
    """Names of the sessions that LoCoMo's evidence ids, as published, stand for under MemGAS's reading."""
    parts = [str(entry).split(":") for entry in evidence]
    return frozenset(f"session_{part[0][1:]}" for part in parts if len(part) > 1 and _is_integer(part[1]))


def score_sessions(ranking: Sequence[str], gold: Collection[str], k: int) -> SessionScore:
    """Metrics of ``ranking``: all sessions of the conversation, best first, or at least its first ``k``.

    The ideal ranking of the NDCG knows the sessions in ``ranking`` only, as the corpus labels of the original do.
    Raises ``InvalidInput`` for ``k < 1`` or a session ranked twice.
    """
    if k < 1:
        raise InvalidInput(f"k={k!r}: pass a positive number of sessions")
    if len(set(ranking)) != len(ranking):
        raise InvalidInput("ranking holds a session twice: rank distinct sessions")
    wanted = frozenset(gold)
    if not wanted:
        return SessionScore(1.0, 1.0, 1.0, 0.0, 0.0)
    relevant = [session in wanted for session in ranking]
    found = sum(relevant[:k])
    ideal = sorted(relevant, reverse=True)
    return SessionScore(
        recall_all=float(found == len(wanted)),
        recall_any=float(found > 0),
        recall_fraction=found / len(wanted),
        ndcg_memgas=_ratio(_gain_memgas(relevant[:k]), _gain_memgas(ideal[:k])),
        ndcg=_ratio(_gain(relevant[:k]), _gain(ideal[:k])),
    )


def mean_score(scores: Sequence[SessionScore]) -> SessionScore:
    """The average of each metric over questions. Raises ``InvalidInput`` for no scores."""
    if not scores:
        raise InvalidInput("scores is empty: there is nothing to average")
    return SessionScore(*(math.fsum(column) / len(scores) for column in zip(*map(astuple, scores), strict=True)))


def _is_integer(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _gain_memgas(relevant: Sequence[bool]) -> float:
    return sum((1.0 if rank < 2 else 1 / math.log2(rank)) for rank, hit in enumerate(relevant, start=1) if hit)


def _gain(relevant: Sequence[bool]) -> float:
    return sum(1 / math.log2(rank + 1) for rank, hit in enumerate(relevant, start=1) if hit)


def _ratio(value: float, ideal: float) -> float:
    return value / ideal if ideal else 0.0
