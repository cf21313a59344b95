"""Memories: ``POST /memories``, ``POST /search`` and the rest of ``Memory``'s verbs, on mem0's paths."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field

from lamina.errors import InvalidInput, NotFound, NotPermitted
from lamina.server.caller import Caller, needs
from lamina.server.routes.service_of import Served, asks
from lamina.text import arguments
from lamina.text.results import memory_dict

router = APIRouter(tags=["memories"])

Reader = Annotated[Caller, needs("read")]
Writer = Annotated[Caller, needs("write")]
Changer = Annotated[Caller, needs("read", "write")]  # the answer tells what is remembered
Owner = Annotated[str | None, Query(max_length=255)]
Conditions = Annotated[
    str | None,
    Query(description="conditions as of a search, as JSON", examples=['{"metadata.topic": "travel"}']),
]
Answer = dict[str, Any]
_UNREAD = ("id", "event", "semantic_type")  # of what was done, told to a key that may not read


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AddBody(Body):
    messages: str | dict[str, Any] | list[dict[str, Any]] = Field(examples=["I moved to Denver in June."])
    user_id: str | None = Field(None, examples=["alice"])
    agent_id: str | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None
    timestamp: str | float | None = Field(None, examples=["2026-06-12T09:30:00Z"])
    expiration_date: str | None = None
    infer: bool = True
    sensitivity: list[str] = Field(
        default_factory=list, max_length=64, description="kinds of what was taken out before; keeps it out of weights"
    )
    redacted: bool = Field(False, description="take out keys, card numbers, addresses and the like before it is kept")


class SearchBody(Body):
    query: str = Field(examples=["Where does Alice live?"])
    filters: dict[str, Any] = Field(default_factory=dict, examples=[{"user_id": "alice"}])
    top_k: int = 20
    threshold: float = 0.1
    rerank: bool = False
    explain: bool = False
    as_of: str | None = None
    reference_date: str | None = None


class UpdateBody(Body):
    text: str | None = Field(None, examples=["I moved to Boulder."])
    metadata: dict[str, Any] | None = None
    expiration_date: str | None = Field(None, description="null: never", examples=["2027-01-01"])


class RestoreBody(Body):
    version: int | None = Field(None, ge=1, description="say again what this version said", examples=[None])
    reason: str = Field("", max_length=1000)


class AcceptBody(Body):
    text: str | None = Field(None, description="the statement in other words", examples=["Ada likes tea."])


@router.post("/memories", summary="Remember messages")
@asks("reading")
def add(
    body: AddBody,
    caller: Writer,
    service: Served,
    idempotency_key: Annotated[str | None, Header(max_length=255)] = None,
) -> Answer:
    """Answers what was stored, updated or superseded, without the words if the key may not read. The same request with
    the same ``Idempotency-Key`` writes once, whatever happened to the first."""
    told = caller.owner(body.model_dump())
    answer = service.system(caller).remember(told.pop("messages"), idempotency_key=idempotency_key, **told)
    if caller.may("read"):
        return answer
    return {"results": [{name: row[name] for name in _UNREAD} for row in answer["results"]]}


@router.post("/memories/retry", summary="Read what waits for a model")
@asks("reading")
def retry(caller: Writer, service: Served) -> dict[str, int]:
    """Messages of the tenant that wait for a language model which could not be reached are read now."""
    if caller.user is not None:
        raise NotPermitted("this key speaks for one user alone, and this reads what waits of all of them")
    return service.memory(caller).retry()


@router.get("/memories", summary="List memories, newest first")
def list_memories(
    caller: Reader,
    service: Served,
    user_id: Owner = None,
    agent_id: Owner = None,
    run_id: Owner = None,
    top_k: int = 100,
    cursor: str | None = None,
    as_of: str | None = None,
    filters: Conditions = None,
) -> Answer:
    """``cursor`` of one answer continues it in the next."""
    asked = _conditions(filters)
    for name, id in {"user_id": user_id, "agent_id": agent_id, "run_id": run_id}.items():
        if id is not None and asked.setdefault(name, id) != id:
            raise InvalidInput(f"{name} is given twice: {arguments.short(id)}, and another in filters")
    return service.memory(caller).get_all(filters=caller.owner(asked), top_k=top_k, cursor=cursor, as_of=as_of)


def _conditions(filters: str | None) -> dict[str, Any]:
    try:
        asked = json.loads(filters or "{}")
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        raise InvalidInput(f"filters={arguments.short(filters)}: pass an object as JSON, as for a search")
    return asked


@router.get("/memories/quarantined", summary="List statements that were set aside")
def quarantined(
    caller: Reader, service: Served, user_id: Owner = None, agent_id: Owner = None, run_id: Owner = None
) -> Answer:
    """Accept or delete each."""
    owner = caller.owner({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
    return service.memory(caller).quarantined(**owner)


@router.delete("/memories", summary="Delete everything of an owner")
@asks("removal")
def delete_all(
    caller: Writer, service: Served, user_id: Owner = None, agent_id: Owner = None, run_id: Owner = None
) -> Answer:
    """Taken out of use; the history stays."""
    owner = caller.owner({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
    return service.memory(caller).delete_all(**owner)


@router.post("/search", summary="Find the memories that answer a query")
async def search(body: SearchBody, caller: Reader, service: Served) -> Answer:
    """Best first."""
    told = body.model_dump()
    told["filters"] = caller.owner(told["filters"])
    return await service.asking("reading" if body.rerank else "search", lambda: service.memory(caller).search(**told))


@router.get("/memories/{memory_id}", summary="One memory")
def get(memory_id: str, caller: Reader, service: Served, as_of: str | None = None) -> Answer:
    """Deleted or not; with ``as_of`` the version that was current then."""
    cube = service.readable(caller, memory_id)
    moment = arguments.moment("as_of", as_of, end_of_day=True)
    then = cube if moment is None else service.system(caller).as_of(cube.id, moment)
    if then is None:
        raise NotFound(f"memory {arguments.short(memory_id)} was not known, or closed, at {as_of}")
    return memory_dict(then)


@router.get("/memories/{memory_id}/history", summary="Every change of a memory")
def history(memory_id: str, caller: Reader, service: Served) -> list[Answer]:
    """Oldest first, with the reasons."""
    service.readable(caller, memory_id)
    return service.memory(caller).history(memory_id)


@router.put("/memories/{memory_id}", summary="Write a new version of a memory")
@asks("change")
def update(memory_id: str, body: UpdateBody, caller: Changer, service: Served) -> Answer:
    """The old version stays in the history."""
    service.changeable(caller, memory_id)
    told = body.model_dump(include=body.model_fields_set & {"expiration_date"})  # null is not the same as not said
    return service.memory(caller).update(memory_id, body.text, metadata=body.metadata, **told)


@router.delete("/memories/{memory_id}", summary="Take a memory out of use, or erase it")
@asks("removal")
def delete(
    memory_id: str,
    caller: Writer,
    service: Served,
    forget: Annotated[bool, Query(description="erase it everywhere instead of keeping its history")] = False,
    reason: Annotated[str, Query(max_length=1000, description="of forgetting; the log keeps it")] = "asked to forget",
    legal_override: Annotated[bool, Query(description="also what is frozen; needs the right admin")] = False,
) -> Answer:
    """With ``?forget=true`` (the right "forget") its text, versions, caches, adapters and our copies are erased."""
    if not forget:
        service.changeable(caller, memory_id)
        return service.memory(caller).delete(memory_id)
    if not caller.may("forget"):
        raise NotPermitted("this key may not erase memories: the right 'forget' is needed")
    if legal_override and not caller.may("admin"):
        raise NotPermitted("this key may not erase what is frozen: the right 'admin' is needed")
    if legal_override:
        service.readable(caller, memory_id)
    else:
        service.changeable(caller, memory_id, "forget")
    gone = service.system(caller).forget(memory_id, reason=reason, legal_override=legal_override)
    return {"forgotten": list(gone.ids)}


@router.post("/memories/{memory_id}/restore", summary="Take back a deletion or a supersession")
@asks("change")
def restore(memory_id: str, caller: Changer, service: Served, body: RestoreBody | None = None) -> Answer:
    """What was closed with it is open again too. With a ``version`` it says again, as its next, what it said then."""
    service.changeable(caller, memory_id)
    if body is None or (body.version is None and not body.reason):
        return service.memory(caller).restore(memory_id)
    return memory_dict(service.system(caller).restore(memory_id, version=body.version, reason=body.reason))


@router.post("/memories/{memory_id}/accept", summary="Believe a statement that was set aside")
@asks("change")
def accept(memory_id: str, body: AcceptBody, caller: Changer, service: Served) -> Answer:
    """As it stands, or in other words."""
    service.changeable(caller, memory_id)
    return service.memory(caller).accept(memory_id, body.text)
