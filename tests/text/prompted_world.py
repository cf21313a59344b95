"""A memory whose model is a scripted server: built as the pipelines are, on a real store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lamina.bench.scripted_llm import Step, said
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import MemCube, Scope
from lamina.llm.openai import OpenAIChat
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Outcome, Pipeline, Turn
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.prompted.mem0 import additive, two_phase

T0 = datetime(2025, 6, 13, 10, tzinfo=UTC)  # a Friday
ALICE = Scope(user="alice", run="chat")


def noted(*facts: tuple[str, Sequence[int]], about: str = "") -> Step:
    """A valid answer of the extraction phase."""
    return said(json.dumps({"facts": [{"text": text, "about": about, "turns": list(at)} for text, at in facts]}))


def added(*entries: tuple[str, Sequence[int], Sequence[int]]) -> Step:
    """A valid answer of the ADD-only pipeline: text, turns, linked memories."""
    rows = [{"text": t, "attributed_to": "", "turns": list(at), "linked_memory_ids": list(to)} for t, at, to in entries]
    return said(json.dumps({"memory": rows}))


def decided(*decisions: dict[str, Any]) -> Step:
    return said(json.dumps({"decisions": list(decisions)}))


class World:
    """Writes turns of one session, a minute apart, and looks at what came of them."""

    def __init__(self, path: Path, url: str, *, kind: str = "mem0", timeout: float = 5.0, **parts: Any) -> None:
        self.embedder = WordVectors()
        self.store = SqliteStore(path, embedder=self.embedder.name)
        self.chat = OpenAIChat("m", base_url=url, timeout=timeout, retries=0)
        build = two_phase if kind == "mem0" else additive
        self.pipeline: Pipeline = build(self.chat, self.store, self.embedder, IndexCache(), **parts)
        self.ingestion = Ingestion(self.store, self.embedder, self.pipeline, IndexCache())
        self.clock = 0

    def say(self, *texts: str, role: str = "user", speaker: str = "Alice", day: int = 0, **more: Any) -> list[Outcome]:
        turns = [self.turn(text, role=role, speaker=speaker, day=day) for text in texts]
        return self.ingestion.write([Batch(ALICE, turns, **more)])[0]

    def turn(self, text: str, *, role: str = "user", speaker: str = "Alice", day: int = 0) -> Turn:
        self.clock += 1
        at = T0 + timedelta(days=day, minutes=self.clock)
        return Turn(text, speaker, role, at, "chat", self.clock - 1)

    def retry(self) -> dict[str, int]:
        return self.ingestion.pending.retry("default")

    def turns(self) -> list[MemCube]:
        return self._query({"semantic_type": "turn"})

    def facts(self) -> list[str]:
        return [cube.text for cube in self._query({"semantic_type": {"nin": ["turn", "summary"]}})]

    def cubes(self) -> list[MemCube]:
        return self._query({"semantic_type": {"nin": ["turn", "summary"]}})

    def quarantined(self) -> list[MemCube]:
        return self._query({"tags": {"contains": "quarantined"}, "state": "archived"})

    def waiting(self) -> list[str]:
        return [cube.text for cube in self._query({"tags": {"contains": "pending"}})]

    def _query(self, where: dict[str, Any]) -> list[MemCube]:
        return self.store.query(ALICE, where, limit=1000, newest_first=False).cubes
