"""What a memory has to beat on conversations: BM25, cosine per turn, and mem0 itself.

Every ranker is built over one conversation and returns distinct turns, best first. All of them get the
same line per turn, ``Speaker: text`` with image captions, and the encoder that Lamina uses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lamina._optional import require
from lamina.bench.conversations.dataset import Conversation, DialogueTurn
from lamina.bench.mem0_peer import open_mem0
from lamina.llm.base import Embedder

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Found:
    """A turn that was found, and the text that the hit hands to a prompt."""

    dia_id: str
    text: str


class Ranker(Protocol):
    def rank(self, query: str, k: int) -> list[Found]:
        """At most ``k`` distinct turns, best first."""


Build = Callable[[Conversation, Embedder, Path], AbstractContextManager[Ranker]]


def line(turn: DialogueTurn) -> str:
    """A turn as every baseline indexes it and hands it to a prompt."""
    return f"{turn.speaker}: {turn.text}"


def distinct_turns(search: Callable[[int], list[Found]], k: int) -> list[Found]:
    """The first ``k`` distinct turns of ``search(n)``, asking for more hits while they share turns."""
    ask = k
    while True:
        hits = search(ask)
        first: dict[str, Found] = {}
        for hit in hits:
            first.setdefault(hit.dia_id, hit)
        if len(first) >= k or len(hits) < ask:
            return list(first.values())[:k]
        ask *= 2


@contextmanager
def bm25(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001 - the common signature
    """Okapi BM25 as ``rank-bm25`` computes it with its own defaults (k1 1.5, b 0.75), on lower-cased words."""
    okapi = require("rank_bm25", "the BM25 baseline").BM25Okapi([_words(line(turn)) for turn in talk.turns])
    yield _Scored(talk, lambda query: okapi.get_scores(_words(query)))


@contextmanager
def dense(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:  # noqa: ARG001
    """Cosine between the question and each turn: what a plain vector store does."""
    vectors = embedder.encode([line(turn) for turn in talk.turns])
    yield _Scored(talk, lambda query: vectors @ embedder.encode([query])[0])


@contextmanager
def mem0(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:
    """The mem0 package with ``infer=False``, one ``add`` a turn; its metadata names the turn."""
    with open_mem0(folder, embedder) as memory:
        for turn in talk.turns:
            message = {"role": turn.role, "name": turn.speaker, "content": line(turn)}
            memory.add([message], user_id=talk.name, metadata={"dia_id": turn.dia_id}, infer=False)
        yield _Mem0(memory, talk.name)


BASELINES: dict[str, Build] = {"bm25": bm25, "dense": dense, "mem0": mem0}


class _Scored:
    """Ranks by a score per turn; ties go to the earlier turn."""

    def __init__(self, talk: Conversation, score: Callable[[str], Any]) -> None:
        self._turns = talk.turns
        self._score = score

    def rank(self, query: str, k: int) -> list[Found]:
        order = np.argsort(-np.asarray(self._score(query), np.float64), kind="stable")[:k]
        return [Found(self._turns[i].dia_id, line(self._turns[i])) for i in order]


class _Mem0:
    def __init__(self, memory: Any, user: str) -> None:
        self._memory = memory
        self._user = user

    def rank(self, query: str, k: int) -> list[Found]:
        return distinct_turns(lambda n: self._search(query, n), k)

    def _search(self, query: str, n: int) -> list[Found]:
        rows = self._memory.search(query, filters={"user_id": self._user}, top_k=n)["results"]
        return [Found(row["metadata"]["dia_id"], row["memory"]) for row in rows]


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
