"""The memories that conversation benchmarks compare, by name: Lamina, its published pipelines, and baselines.

``lamina`` and the pipelines go through the front door as a user's program would: sessions of messages with their
timestamps into ``Memory.add_batch`` on a file, facts inferred, questions through ``Memory.hits``. The pipelines
are those of ``lamina.text.pipelines``, each under its own name, without a chat model: rules do its work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from lamina.bench import mem0_peer
from lamina.bench.catalog import unknown
from lamina.bench.conversations import baselines
from lamina.bench.conversations.baselines import Build, Found, Ranker, distinct_turns, line
from lamina.bench.conversations.dataset import Conversation, DialogueTurn
from lamina.bench.conversations.mem0_ranking import mem0_ranker
from lamina.bench.conversations.session_rankers import session_bm25, session_bm25_stemmed, session_dense
from lamina.cube.cube import Scope
from lamina.errors import NotFound
from lamina.llm.base import Embedder
from lamina.text.base import Hit
from lamina.text.pipelines import DEFAULT, PIPELINES

ALL = "all"

BASELINES: dict[str, Build] = {
    "bm25": baselines.bm25,
    "bm25-stemmed": baselines.bm25_stemmed,
    "dense": baselines.dense,
    "rrf": baselines.rrf,
    "plain-hybrid": baselines.plain_hybrid,
    "mem0-ranker": mem0_ranker,
    "mem0ai": baselines.mem0ai,
    "session-bm25": session_bm25,
    "session-bm25-stemmed": session_bm25_stemmed,
    "session-dense": session_dense,
    "random": baselines.chance,
}


def front_door(pipeline: str) -> Build:
    """Lamina with the pipeline of that name, in a file of its own."""

    @contextmanager
    def build(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:
        from lamina.memory import Memory
        from lamina.settings import Settings

        # All named, so that nobody's settings change the result.
        settings = Settings(tenant="default", durable=True, llm="local:smollm2", llm_base_url=None)
        with Memory(folder / "memory.db", pipeline=pipeline, embedder=embedder, settings=settings) as memory:
            yield _FrontDoor(memory, talk, _ingest(memory, talk))

    return build


lamina: Build = front_door(DEFAULT)

SYSTEMS: dict[str, Build] = {
    "lamina": lamina,
    **{name: front_door(name) for name in PIPELINES if name != DEFAULT},
    **BASELINES,
}


def chosen(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Systems to run and what to say about them. Raises ``NotFound``.

    Each of ``names`` may hold several, with commas between; none means Lamina and the baselines, ``all`` adds the
    published pipelines. mem0's package is left out of either where it is not installed.
    """
    named = [part.strip() for name in names for part in name.split(",") if part.strip()]
    for name in named:
        if name not in SYSTEMS and name != ALL:
            raise NotFound(unknown(name, dict.fromkeys((*SYSTEMS, ALL)), "memory to compare"))
    wanted = list(SYSTEMS) if ALL in named else list(dict.fromkeys(named)) or ["lamina", *BASELINES]
    if "mem0ai" in wanted and "mem0ai" not in named and not mem0_peer.installed():
        wanted.remove("mem0ai")
        return wanted, [mem0_peer.MISSING]
    return wanted, [f"mem0ai: {mem0_peer.name()}, infer=False, semantic only"] if "mem0ai" in wanted else []


class _FrontDoor:
    def __init__(self, memory: Any, talk: Conversation, source: Mapping[str, DialogueTurn]) -> None:
        self._memory = memory
        self._scope = Scope("default", user=talk.name)
        self._source = source

    def rank(self, query: str, k: int) -> list[Found]:
        return distinct_turns(lambda n: [self._turns(hit) for hit in self._search(query, n)], k)

    def _search(self, query: str, n: int) -> list[Hit]:
        hits: list[Hit] = self._memory.hits(query, self._scope, top_k=n)
        return hits

    def _turns(self, hit: Hit) -> list[Found]:
        """The turn of a hit; for a note or a summary, the turns that it was made from."""
        turn = (hit.source or hit.cube).id
        sources = [id for id, _ in hit.cube.header.lineage.derived_from]
        turns = [self._source[id] for id in ([turn] if turn in self._source else sources) if id in self._source]
        return [Found(turn.dia_id, line(turn)) for turn in turns]


def _ingest(memory: Any, talk: Conversation) -> dict[str, DialogueTurn]:
    """One ``add_batch`` item a session; which stored turn is which of the conversation."""
    sessions = [list(turns) for _, turns in groupby(talk.turns, key=lambda turn: turn.session)]
    items = [
        {
            "messages": [_message(turn) for turn in turns],
            "user_id": talk.name,
            "timestamp": turns[0].at,
        }
        for turns in sessions
    ]
    source: dict[str, DialogueTurn] = {}
    for turns, answer in zip(sessions, memory.add_batch(items), strict=True):
        rows = [row for row in answer["results"] if row["event"] == "ADD"]  # a skipped fact names its turn again
        stored = [row["id"] for row in rows if row["semantic_type"] == "turn"]
        source |= dict(zip(stored, turns, strict=True))
    return source


def _message(turn: DialogueTurn) -> dict[str, str]:
    """Names where the data has them; a role alone is no name."""
    named = {"name": turn.speaker} if turn.speaker.casefold() != turn.role else {}
    return {"role": turn.role, "content": turn.text, **named}
