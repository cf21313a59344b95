"""The steps of the demo, each a function that does it and returns what it measured. Printing is the caller's.

Every figure comes from the run itself. A step that does not show what it is there to show raises
``DemoFailed``: the demo then ends with an error rather than with a nice picture.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lamina.cube.cube import MemCube, Scope
from lamina.demo.conversation import Change, Conversation
from lamina.errors import LaminaError
from lamina.llm.base import ChatModel
from lamina.memory import Memory
from lamina.text.answering import Answer, Quote, answer, quotes
from lamina.text.base import Hit

USER = "demo"
TOP_K = 8


class DemoFailed(LaminaError):
    """A step did not do what the demo says it does."""

    code = "DEMO_FAILED"


@dataclass(frozen=True, slots=True)
class Replacement:
    """A fact that took another one's place (or just ended it: then ``new`` is empty), and the rule's reason."""

    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class Ingested:
    turns: int
    facts: int
    replaced: tuple[Replacement, ...]
    seconds: float


def ingest(memory: Memory, conversation: Conversation, advance: Callable[[int], None]) -> Ingested:
    """Remember the conversation, session by session, as it would have happened. ``advance`` is told the turns."""
    memory.embedder.encode(["warm up"])  # loading the model is not ingestion
    facts, replaced = 0, []
    start = time.perf_counter()
    for session in conversation.sessions:
        rows = memory.add(list(session), user_id=USER)["results"]
        facts += sum(row["semantic_type"] != "turn" and row["event"] != "NONE" for row in rows)
        replaced += [
            Replacement(row["previous_memory"], row["memory"] if row["event"] == "UPDATE" else "", row["reason"])
            for row in rows
            if row["event"] in ("UPDATE", "DELETE")
        ]
        advance(len(session))
    return Ingested(conversation.turns, facts, tuple(replaced), time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, the memories found for it, and the model's answer if there was a model."""

    question: str
    found: tuple[Quote, ...]
    answer: Answer | None
    seconds: float


def ask(memory: Memory, model: ChatModel | None, question: str, now: datetime) -> Asked:
    """Find memories and let the model answer from them."""
    start = time.perf_counter()
    hits = find(memory, question, as_of=None)
    if not hits:
        raise DemoFailed(f"{question!r} found nothing.")
    reply = answer(question, hits, model, now=now) if model else None
    return Asked(question, tuple(quotes(hits, question=question)), reply, time.perf_counter() - start)


def find(memory: Memory, question: str, *, as_of: datetime | None) -> list[Hit]:
    return memory.hits(question, Scope(memory.settings.tenant, USER), top_k=TOP_K, as_of=as_of)


@dataclass(frozen=True, slots=True)
class Changed:
    """What was known on two days, and the history of the memory that changed."""

    question: str
    before: MemCube
    after: MemCube
    history: Sequence[Mapping[str, Any]]


def follow(memory: Memory, change: Change) -> Changed:
    """Ask the same question about two days; the earlier answer must have been closed by the later one."""
    before = _facts(find(memory, change.question, as_of=change.before))
    after = {cube.id: cube for cube in _facts(find(memory, change.question, as_of=change.after))}
    for cube in before:
        now = memory.store.get(cube.id)
        successor = after.get(now.header.superseded_by or "") if now else None
        if successor is not None:
            return Changed(change.question, cube, successor, memory.history(cube.id))
    raise DemoFailed(f"{change.question!r} has no memory that was replaced between the two days.")


def _facts(hits: Sequence[Hit]) -> list[MemCube]:
    return [cube for hit in hits for cube in (hit.cube, *hit.facts) if cube.header.semantic_type != "turn"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    text: str
    erased: int
    places_before: int  # where the database files held the secret
    places_after: int


def forget(memory: Memory, conversation: Conversation, database: Path) -> Forgotten:
    """Erase the secret, then look for it: by search, and byte by byte in every file of the database."""
    secret = conversation.secret
    holding = [hit for hit in find(memory, conversation.forget, as_of=None) if secret in _words_of(hit)]
    before = occurrences(database, secret)
    if not holding or not before:
        raise DemoFailed("the secret was not found before it was forgotten: there is nothing to prove.")
    text = (holding[0].source or holding[0].cube).text
    erased = memory.forget(holding[0].cube.id, reason="asked to forget")["forgotten"]
    after = occurrences(database, secret)
    if after or any(secret in _words_of(hit) for hit in find(memory, conversation.forget, as_of=None)):
        raise DemoFailed(f"the forgotten text is still there: {after} places in the files of {database}.")
    return Forgotten(text, len(erased), before, after)


def _words_of(hit: Hit) -> str:
    cubes = (hit.cube, *hit.facts, *([hit.source] if hit.source else []))
    return "\n".join(cube.text for cube in cubes)


def occurrences(database: Path, secret: str) -> int:
    """How often the bytes of ``secret`` occur in the database's files, whatever the case of its letters."""
    needle = secret.lower().encode()
    return sum(file.read_bytes().lower().count(needle) for file in database_files(database))


def database_files(database: Path) -> list[Path]:
    """The file, what SQLite keeps beside it, and its blobs: all have names that start with the file's."""
    beside = sorted(database.parent.glob(f"{database.name}*"))
    return [file for path in beside for file in (path, *path.rglob("*")) if file.is_file()]


def search_ms(memory: Memory, conversation: Conversation, count: int = 40) -> float:
    """Median milliseconds of ``count`` searches with questions that were never asked, so never cached."""
    said = [message for session in conversation.sessions for message in session]
    times = []
    for message in said[:: max(1, len(said) // count)][:count]:
        question = f"What did {message['name']} mean by {' '.join(message['content'].split()[:6])}?"
        start = time.perf_counter()
        find(memory, question, as_of=None)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)
