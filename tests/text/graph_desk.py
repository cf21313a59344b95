"""A store with a graph pipeline over it, told sentences by tests: real parts, and vectors that need no model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.llm.base import ChatModel
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text import removal
from lamina.text.base import Hit, Outcome, Pipeline, Turn
from lamina.text.extraction import RulesExtractor
from lamina.text.graph import Graph, GraphRetriever, Mem0Graph
from lamina.text.graphs.directory import Directories
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.retrieval import HybridRetriever
from lamina.text.update import RulesUpdater

T0 = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
DANA, EVAN = Scope(user="dana"), Scope(user="evan")


class Desk:
    def __init__(self, path: Path, llm: ChatModel | None = None) -> None:
        self.path = path
        self.store = SqliteStore(path, durable=False)
        self.vectors, self.indexes, self.directories = WordVectors(), IndexCache(), Directories()
        self.graph = Graph(self.store, self.directories)
        self.hybrid = HybridRetriever(self.indexes, self.vectors)
        self.retriever = GraphRetriever(self.indexes, self.vectors, self.directories)
        connector = Mem0Graph(self.store, self.vectors, llm, self.directories)
        pipeline = Pipeline(RulesExtractor(), RulesUpdater(), self.retriever, (connector,))
        self.ingestion = Ingestion(self.store, self.vectors, pipeline, self.indexes)
        self.told = 0

    def tell(self, *texts: str, at: datetime = T0, scope: Scope = DANA, speaker: str = "Dana") -> list[Outcome]:
        """One turn a text, each in a session of its own, an hour apart."""
        turns = []
        for n, text in enumerate(texts):
            self.told += 1
            moment = at + timedelta(hours=n)
            turns.append(Turn(text, speaker, "user", moment, f"session {self.told}", 0, named=True))
        return self.ingestion.write([Batch(scope, turns)])[0]

    def said(self, scope: Scope = DANA, **how: Any) -> set[str]:
        return {each.text for each in self.graph.relations(scope, **how)}

    def names(self, scope: Scope = DANA) -> list[str]:
        return [entity.name for entity in self.graph.entities(scope)]

    def ask(self, query: str, *, scope: Scope = DANA, k: int = 10, plain: bool = False, **how: Any) -> list[Hit]:
        vector = self.vectors.encode([query])[0]
        retriever = self.hybrid if plain else self.retriever
        return retriever.search(query, vector, self.store, scope, k=k, **how)

    def texts(self, query: str, **how: Any) -> list[str]:
        return [(hit.source or hit.cube).text for hit in self.ask(query, **how)]

    def forget(self, outcome: Outcome) -> list[str]:
        return removal.forget(self.store, self.vectors, [outcome.cube.id], reason="test")
