"""Asking every system every question, and what of the answers is kept: ids, tokens, times.

Conversations come one at a time and are dropped when all systems are done with them, so that a file larger than
memory can be measured; every system meets the same conversation before the next one comes. Before the first, every
system is built over a few turns and asked once, so that nobody's clock runs while models and packages load. Vectors
are computed once and charged to every system that uses them (``charged``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from lamina.bench.conversations.baselines import Build, Found, Ranker
from lamina.bench.conversations.charged import ChargedEmbedder
from lamina.bench.conversations.dataset import Conversation, DialogueTurn, Question
from lamina.llm.embed import LocalEmbedder

TURNS = 20  # turns that a question is first answered with
SESSIONS = 10  # distinct sessions that the longer ranking reaches
DEEP = 50  # turns the longer ranking holds at least, if there are so many
_WARMING = 8  # turns that a system is warmed with

Note = Callable[[str], None]
Listen = Callable[[str, Conversation, Question, Sequence[Found]], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one system returned for one question.

    ``turns`` are the ids of the first ``TURNS`` results; ``deep`` those of a longer ranking, at least ``DEEP`` and
    until ``SESSIONS`` distinct sessions are seen, with ``tokens`` for each; ``sessions`` are all sessions in order
    of their first appearance in it.
    """

    conversation: str
    question: Question
    turns: tuple[str, ...]
    turn_tokens: tuple[int, ...]
    deep: tuple[str, ...]
    tokens: tuple[int, ...]
    sessions: tuple[str, ...]


@dataclass(slots=True)
class Run:
    """One system over all conversations: its answers, and the seconds that storing and asking took."""

    asked: list[Asked] = field(default_factory=list)
    storing: float = 0.0
    asking: float = 0.0


def evaluate(
    talks: Iterable[Conversation],
    systems: Mapping[str, Build],
    embedder: LocalEmbedder,
    *,
    session: Callable[[DialogueTurn], str] = lambda turn: turn.session,
    note: Note | None = None,
    listen: Listen | None = None,
) -> dict[str, Run]:
    """Every question of every conversation, to every system.

    ``session`` names the session a turn counts for; ``listen`` hears the first results of each question.
    """
    runs = {name: Run() for name in systems}
    count = lru_cache(maxsize=65_536)(embedder.count_tokens)
    charged = ChargedEmbedder(embedder)
    for number, talk in enumerate(talks):
        if number == 0:
            for build in systems.values():
                _warm(build, talk, embedder)
        session_of = {turn.dia_id: session(turn) for turn in talk.turns}
        for name, build in systems.items():
            if note:
                note(f"{name}: {talk.name} ({len(talk.turns)} turns, {len(talk.questions)} questions)")
            run = runs[name]
            with tempfile.TemporaryDirectory(prefix="lamina-bench-") as folder:
                begin = _seconds(charged)
                with build(talk, charged, Path(folder)) as ranker:
                    run.storing += _seconds(charged) - begin
                    for question in talk.questions:
                        begin = _seconds(charged)
                        found = ranker.rank(question.text, TURNS)
                        run.asking += _seconds(charged) - begin
                        if listen:
                            listen(name, talk, question, found)
                        run.asked.append(_asked(talk.name, question, found, ranker, session_of, count))
    return runs


def _seconds(charged: ChargedEmbedder) -> float:
    """The clock, and what is owed for vectors that were there already."""
    return time.perf_counter() + charged.owed


def _warm(build: Build, talk: Conversation, embedder: LocalEmbedder) -> None:
    few = replace(talk, turns=talk.turns[:_WARMING])
    with tempfile.TemporaryDirectory(prefix="lamina-bench-") as folder, build(few, embedder, Path(folder)) as ranker:
        ranker.rank("Who said what?", 1)


def _asked(
    conversation: str,
    question: Question,
    found: Sequence[Found],
    ranker: Ranker,
    session_of: Mapping[str, str],
    count: Callable[[str], int],
) -> Asked:
    deep = deepened(ranker, question.text, session_of)
    return Asked(
        conversation=conversation,
        question=question,
        turns=tuple(hit.dia_id for hit in found),
        turn_tokens=tuple(count(hit.text) for hit in found),
        deep=tuple(hit.dia_id for hit in deep),
        tokens=tuple(count(hit.text) for hit in deep),
        sessions=tuple(dict.fromkeys(session_of[hit.dia_id] for hit in deep)),
    )


def deepened(ranker: Ranker, query: str, session_of: Mapping[str, str]) -> list[Found]:
    """A ranking of turns long enough to hold ``SESSIONS`` distinct sessions, or all that the system returns."""
    wanted, ask = min(SESSIONS, len(set(session_of.values()))), DEEP
    while True:
        found = ranker.rank(query, ask)
        if len(found) < ask or len({session_of[hit.dia_id] for hit in found}) >= wanted:
            return found
        ask *= 2
