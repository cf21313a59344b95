"""mem0 (package ``mem0ai``) as a live peer: the real library, wholly local, with an encoder of our choice.

Mem0: Building Production-Ready AI Agents with Scalable Long-Term Memory, arXiv 2504.19413. It runs with
``infer=False`` (turns verbatim, no language model), embedded Qdrant in a folder, telemetry off. Its keyword
part needs fastembed's BM25 model and its entity part spaCy's, both of which it downloads, so without a
network, and by default, it ranks by cosine alone.

It takes no encoder object in its configuration: it is built with its OpenAI classes, which open no
connection until used, and its public attribute ``embedding_model`` is then replaced.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lamina._optional import available, require
from lamina.errors import InvalidInput
from lamina.llm.base import Embedder

MISSING = "mem0 is not installed, so nothing was compared with it: pip install mem0ai"


def installed() -> bool:
    return available("mem0")


def name() -> str:
    """The peer with its version, as results state it."""
    return f"mem0ai {version('mem0ai')} + embedded Qdrant"


@contextmanager
def open_mem0(folder: Path, embedder: Embedder, *, url: str | None = None) -> Iterator[Any]:
    """A ``mem0.Memory`` whose files are in ``folder``; released at the end, files kept.

    Vectors are in embedded Qdrant, or with ``url`` in that PostgreSQL database (pgvector).

    Raises ``MissingDependency`` without the package, ``InvalidInput`` if it was imported with telemetry on.
    """
    mem0 = _quiet_import(folder)
    place = {"connection_string": url} if url else {"path": str(folder / "qdrant")}
    memory = mem0.Memory.from_config(
        {
            "vector_store": {
                "provider": "pgvector" if url else "qdrant",
                "config": {**place, "embedding_model_dims": embedder.dimension},
            },
            "embedder": {"provider": "openai", "config": {"api_key": "unused", "embedding_dims": embedder.dimension}},
            "llm": {"provider": "openai", "config": {"api_key": "unused"}},
            "history_db_path": str(folder / "history.db"),
        }
    )
    memory.embedding_model = Encoder(embedder)
    try:
        yield memory
    finally:
        memory.close()
        (memory.vector_store.connection_pool if url else memory.vector_store.client).close()


class Encoder:
    """Our encoder behind mem0's interface of one (``mem0.embeddings.base.EmbeddingBase``)."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:  # noqa: ARG002 - mem0's signature
        vector: list[float] = self._embedder.encode([text])[0].tolist()
        return vector

    def embed_batch(self, texts: Sequence[str], memory_action: str = "add") -> list[list[float]]:  # noqa: ARG002
        rows: list[list[float]] = self._embedder.encode(list(texts)).tolist()
        return rows


def _quiet_import(folder: Path) -> Any:
    """mem0 reads these at import: without them it writes to the home folder and calls its vendor."""
    loaded = sys.modules.get("mem0.memory.telemetry")
    if loaded is not None and loaded.MEM0_TELEMETRY:
        raise InvalidInput("mem0 was already imported with telemetry on: set MEM0_TELEMETRY=False before importing it")
    os.environ["MEM0_TELEMETRY"] = "False"
    os.environ.setdefault("MEM0_DIR", str(folder))
    mem0 = require("mem0", "the comparison with mem0")
    logging.getLogger("mem0").setLevel(logging.ERROR)  # warns at each start that spaCy and fastembed are missing
    return mem0
