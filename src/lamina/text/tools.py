"""What pipelines are built from."""

from __future__ import annotations

from dataclasses import dataclass

from lamina.llm.base import ChatModel, Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache


@dataclass(frozen=True, slots=True)
class Tools:
    """What pipelines are built from. ``llm`` is ``None`` unless a capable model was configured: then rules work."""

    store: Store
    embedder: Embedder
    indexes: IndexCache
    llm: ChatModel | None = None
    instructions: str | None = None  # what the owner asks a model to note or to leave out
