"""The verbs of ``Memory`` over HTTP, on mem0's paths: ``POST /memories``, ``POST /search``, ...

Serves one trusted user on the loopback interface: there are no keys, so ``lamina serve`` refuses to
listen anywhere else. FastAPI runs the plain functions below in threads; ``Memory`` is thread-safe.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from lamina import __version__
from lamina.errors import Conflict, InvalidInput, LaminaError, NotFound, StoreUnavailable
from lamina.memory import Memory

MAX_BODY = 16 * 2**20  # bytes; one request holds at most a long conversation
_STATUS: list[tuple[type[LaminaError], int]] = [
    (NotFound, 404),
    (InvalidInput, 400),
    (Conflict, 409),
    (StoreUnavailable, 503),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AddBody(_Body):
    messages: str | dict[str, Any] | list[dict[str, Any]] = Field(examples=["I moved to Denver in June."])
    user_id: str | None = Field(None, examples=["alice"])
    agent_id: str | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None
    timestamp: str | float | None = Field(None, examples=["2026-06-12T09:30:00Z"])
    expiration_date: str | None = None
    infer: bool = True


class SearchBody(_Body):
    query: str = Field(examples=["Where does Alice live?"])
    filters: dict[str, Any] = Field(examples=[{"user_id": "alice"}])
    top_k: int = 20
    threshold: float = 0.1
    rerank: bool = False
    explain: bool = False
    as_of: str | None = None
    reference_date: str | None = None


class UpdateBody(_Body):
    text: str | None = None
    metadata: dict[str, Any] | None = None


def create_app(memory: Memory) -> FastAPI:
    """An application over one ``Memory``; whoever made the memory closes it."""
    app = FastAPI(title="Lamina", version=__version__, description="One memory for language models.")
    app.add_exception_handler(LaminaError, _error)
    app.middleware("http")(_limit_body)
    _writing(app, memory)
    _reading(app, memory)
    return app


def _writing(app: FastAPI, memory: Memory) -> None:
    @app.post("/memories")
    def add(body: AddBody) -> dict[str, Any]:
        """Remember messages; answers what was stored, updated or superseded."""
        return memory.add(**body.model_dump())

    @app.post("/memories/retry")
    def retry() -> dict[str, int]:
        """Read the messages that wait for a language model which could not be reached."""
        return memory.retry()

    @app.put("/memories/{memory_id}")
    def update(memory_id: str, body: UpdateBody) -> dict[str, Any]:
        """Write a new version of a memory."""
        return memory.update(memory_id, body.text, metadata=body.metadata)

    @app.delete("/memories/{memory_id}")
    def delete(memory_id: str, forget: Annotated[bool, Query(description="erase instead of hide")] = False) -> Any:
        """Take a memory out of use (kept in history), or erase it with ``?forget=true``."""
        return memory.forget(memory_id) if forget else memory.delete(memory_id)

    @app.post("/memories/{memory_id}/restore")
    def restore(memory_id: str) -> Any:
        """Take back a deletion or a supersession."""
        return memory.restore(memory_id)

    @app.delete("/memories")
    def delete_all(user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> Any:
        """Delete everything of one owner."""
        return memory.delete_all(user_id=user_id, agent_id=agent_id, run_id=run_id)


def _reading(app: FastAPI, memory: Memory) -> None:
    @app.post("/search")
    def search(body: SearchBody) -> dict[str, Any]:
        """The memories that answer a query, best first."""
        return memory.search(**body.model_dump())

    @app.get("/memories")
    def list_memories(
        user_id: str | None = None,
        agent_id: str | None = None,
        run_id: str | None = None,
        top_k: int = 100,
        cursor: str | None = None,
        as_of: str | None = None,
    ) -> dict[str, Any]:
        """Memories of an owner, newest first."""
        ids = {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}
        filters = {name: value for name, value in ids.items() if value is not None}
        return memory.get_all(filters=filters, top_k=top_k, cursor=cursor, as_of=as_of)

    @app.get("/memories/{memory_id}")
    def get(memory_id: str) -> dict[str, Any]:
        """One memory."""
        found = memory.get(memory_id)
        if found is None:
            raise HTTPException(404, f"no memory {memory_id}")
        return found

    @app.get("/memories/{memory_id}/history")
    def history(memory_id: str) -> list[dict[str, Any]]:
        """Every change of a memory."""
        return memory.history(memory_id)

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Alive, and the database answers."""
        return {"status": "ok", "version": __version__, **memory.store.stats()}


def _error(_: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    code = error.code if isinstance(error, LaminaError) else "ERROR"
    return JSONResponse({"error": {"code": code, "message": str(error)}}, status_code=status)


async def _limit_body(request: Request, proceed: Any) -> Any:
    """Refuse a body by its declared length, before it is read. Chunked bodies must declare one too."""
    length = request.headers.get("content-length", "")
    if request.method in {"POST", "PUT"} and not (length.isdigit() and int(length) <= MAX_BODY):
        message = f"The body must declare a Content-Length of at most {MAX_BODY:,} bytes."
        return JSONResponse({"error": {"code": "BODY_SIZE", "message": message}}, status_code=413)
    return await proceed(request)
