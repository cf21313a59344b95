"""mem0 behind HTTP, as thin as it can be: what mem0's own server does for the verbs of a load, and no more.

That server is a FastAPI application whose endpoints are plain functions (so they run in threads) around one
``mem0.Memory`` a process; so is this, on the same paths. Unlike it, this has no keys and no accounts, which flatters
mem0, and takes its vectors from our encoder, in the process, as Lamina does (``mem0_peer``).

Embedded Qdrant belongs to one process and is not made for threads: calls of it take turns, those of the encoder do not.
With PostgreSQL (mem0's pgvector store) there may be several processes.

Run as ``python -m lamina.bench.load.mem0_face PORT WORKERS FOLDER [URL]``.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from lamina.bench.mem0_peer import open_mem0
from lamina.llm import embedder

_FOLDER, _URL = "LAMINA_LOAD_FOLDER", "LAMINA_LOAD_URL"
_EVERYTHING = 1_000_000  # mem0 lists without cursors


class AddBody(BaseModel):
    messages: str
    user_id: str
    infer: bool


class SearchBody(BaseModel):
    query: str
    filters: dict[str, Any] = Field(default_factory=dict)
    top_k: int


class UpdateBody(BaseModel):
    text: str


class OneAtATime:
    """An object whose methods are called by one thread after another."""

    def __init__(self, inner: Any) -> None:
        self._inner, self._lock = inner, threading.Lock()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._locked(found) if callable(found) else found

    def _locked(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                return method(*arguments, **options)

        return called


def create() -> FastAPI:
    """The application of one worker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        url = os.environ.get(_URL)
        with open_mem0(Path(os.environ[_FOLDER]), embedder("minilm"), url=url) as memory:
            store = memory.vector_store
            memory.vector_store = store if url else OneAtATime(store)
            app.state.memory = memory
            yield
            memory.vector_store = store

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/memories")
    def add(body: AddBody) -> Any:
        return app.state.memory.add(body.messages, user_id=body.user_id, infer=body.infer)

    @app.post("/search")
    def search(body: SearchBody) -> Any:
        return app.state.memory.search(body.query, filters=body.filters, top_k=body.top_k)

    @app.get("/memories")
    def list_memories(user_id: str, top_k: int = 100) -> Any:
        return app.state.memory.get_all(filters={"user_id": user_id}, top_k=_EVERYTHING if top_k > 100 else top_k)

    @app.get("/memories/{memory_id}")
    def get(memory_id: str) -> Any:
        return app.state.memory.get(memory_id)

    @app.put("/memories/{memory_id}")
    def update(memory_id: str, body: UpdateBody) -> Any:
        return app.state.memory.update(memory_id, text=body.text)

    @app.delete("/memories/{memory_id}")
    def delete(memory_id: str) -> Any:
        app.state.memory.delete(memory_id)
        return {}

    return app


def main(port: int, workers: int, folder: Path, url: str | None) -> None:
    """Serve until told to stop. The tables of a database are made first: workers would make them at the same time."""
    import uvicorn

    os.environ[_FOLDER] = str(folder)
    if url:
        os.environ[_URL] = url
        with open_mem0(folder, embedder("minilm"), url=url) as memory:
            memory.add("warm", user_id="nobody", infer=False)
    where = "lamina.bench.load.mem0_face:create"
    uvicorn.run(where, factory=True, host="127.0.0.1", port=port, workers=workers, log_level="warning")


if __name__ == "__main__":
    number, processes, home, *rest = sys.argv[1:]
    main(int(number), int(processes), Path(home), rest[0] if rest else None)
