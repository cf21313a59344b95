"""Baselines that rank whole sessions and hand over their turns in order: retrieval of documents, as it is usual.

They are what a memory has to beat where sessions are counted: the best of them is better there than published
systems. As rankers of turns they pay for the turns around what was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from lamina._optional import require
from lamina.bench.conversations.baselines import Found, Okapi, Ranker, line
from lamina.bench.conversations.dataset import Conversation, DialogueTurn
from lamina.llm.base import Embedder
from lamina.store.analysis import terms

_WORD = re.compile(r"\w+")


@contextmanager
def session_bm25(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Okapi BM25 as ``rank-bm25`` computes it with its own defaults, on the lower-cased words of each session."""
    sessions = _sessions(talk)
    okapi = require("rank_bm25", "the BM25 baseline").BM25Okapi([_words(_text(turns)) for turns in sessions])
    yield _BySession(sessions, lambda query: okapi.get_scores(_words(query)))


@contextmanager
def session_bm25_stemmed(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """BM25 over Lamina's own index terms of each session."""
    sessions = _sessions(talk)
    okapi = Okapi([terms(_text(turns)) for turns in sessions])
    yield _BySession(sessions, lambda query: okapi.scores(terms(query)))


@contextmanager
def session_dense(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Cosine with the vector of each session's text, encoded in windows and averaged where it is long."""
    sessions = _sessions(talk)
    vectors = embedder.encode([_text(turns) for turns in sessions])
    yield _BySession(sessions, lambda query: vectors @ embedder.encode([query])[0])


class _BySession:
    """The turns of the best session in order, then those of the next; ties go to the earlier session."""

    def __init__(self, sessions: Sequence[Sequence[DialogueTurn]], score: Callable[[str], Any]) -> None:
        self._sessions = sessions
        self._score = score

    def rank(self, query: str, k: int) -> list[Found]:
        order = np.argsort(-np.asarray(self._score(query), np.float64), kind="stable")
        return [Found(turn.dia_id, line(turn)) for place in order for turn in self._sessions[place]][:k]


def _sessions(talk: Conversation) -> list[list[DialogueTurn]]:
    return [list(turns) for _, turns in groupby(talk.turns, key=lambda turn: turn.session)]


def _text(turns: Sequence[DialogueTurn]) -> str:
    return "\n".join(line(turn) for turn in turns)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
