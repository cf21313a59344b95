"""Lamina and mem0 behind one face, each as its own users call it, so that a harness can time both alike."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lamina.bench.mem0_peer import open_mem0
from lamina.llm.base import Embedder

USER = "somebody"  # the one scope that everything is in
BATCH = 1_000  # messages written at a time


class Meter:
    """An ``Embedder`` that counts the seconds its encoder takes, and can hand out again what it computed."""

    def __init__(self, encoder: Embedder, *, keep: bool = False) -> None:
        self.name = encoder.name
        self.dimension = encoder.dimension
        self.seconds = 0.0
        self._kept: dict[str, NDArray[np.float32]] | None = {} if keep else None
        self._encoder = encoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        begin = time.perf_counter()
        vectors = self._encoder.encode(texts)
        self.seconds += time.perf_counter() - begin
        if self._kept is not None:
            self._kept |= zip(texts, vectors, strict=True)
        return vectors

    def again(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts that were encoded before; needs ``keep``."""
        assert self._kept is not None
        return np.stack([self._kept[text] for text in texts])

    def forget(self, texts: Iterable[str]) -> None:
        self._encoder.forget(texts)


class Contender(Protocol):
    name: str

    def add_batch(self, texts: Sequence[str]) -> None:
        """Many messages, the fastest way there is."""

    def add_one(self, text: str) -> None: ...

    def search(self, query: str, k: int) -> list[str]:
        """Texts of the ``k`` best memories, best first."""

    def close(self) -> None: ...


class Lamina:
    """The front door on a file, durable writes, turns verbatim unless ``infer``."""

    name = "lamina"

    def __init__(self, folder: Path, embedder: Embedder, *, infer: bool = False) -> None:
        from lamina.memory import Memory
        from lamina.settings import Settings

        # Named here, so that nobody's own settings change what is measured.
        settings = Settings(tenant="default", durable=True, pipeline="hybrid")
        self._memory = Memory(folder / "memory.db", embedder=embedder, settings=settings)
        self._infer = infer

    def add_batch(self, texts: Sequence[str]) -> None:
        self._memory.add_batch([{"messages": text, "user_id": USER} for text in texts], infer=self._infer)

    def add_one(self, text: str) -> None:
        self._memory.add(text, user_id=USER, infer=self._infer)

    def search(self, query: str, k: int) -> list[str]:
        return [row["memory"] for row in self._memory.search(query, filters={"user_id": USER}, top_k=k)["results"]]

    def close(self) -> None:
        self._memory.close()


class Mem0:
    """mem0 with ``infer=False``. A list of messages is its batch: it embeds and writes them one after another."""

    name = "mem0"

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        self._open = open_mem0(folder, embedder)
        self._memory: Any = self._open.__enter__()

    def add_batch(self, texts: Sequence[str]) -> None:
        self._memory.add([{"role": "user", "content": text} for text in texts], user_id=USER, infer=False)

    def add_one(self, text: str) -> None:
        self._memory.add(text, user_id=USER, infer=False)

    def fill(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Put memories straight into its vector store, in batches, as ``add`` would have written them.

        For sizes at which ``add`` would take an hour; it leaves the history out, so it flatters mem0.
        """
        for start in range(0, len(texts), BATCH):
            part = texts[start : start + BATCH]
            rows = vectors[start : start + BATCH].tolist()
            identities = [str(uuid.uuid4()) for _ in part]
            self._memory.vector_store.insert(rows, [_payload(text) for text in part], identities)

    def search(self, query: str, k: int) -> list[str]:
        return [row["memory"] for row in self._memory.search(query, filters={"user_id": USER}, top_k=k)["results"]]

    def close(self) -> None:
        self._open.__exit__(None, None, None)


def _payload(text: str) -> dict[str, str]:
    stamp = datetime.now(UTC).isoformat()
    return {
        "data": text,
        "text_lemmatized": text,
        "hash": hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(),
        "user_id": USER,
        "role": "user",
        "created_at": stamp,
        "updated_at": stamp,
    }
