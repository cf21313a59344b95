"""The kernel: talk to the model with what is remembered, move memories between forms, govern single ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import Field

from lamina.errors import InvalidInput, NotPermitted
from lamina.kernel.governance import granted
from lamina.kernel.memos import MemOS
from lamina.kernel.tiering.census import census
from lamina.server.caller import Caller, needs
from lamina.server.routes.memories import Answer, Body, Changer, Owner, Reader
from lamina.server.routes.service_of import Served, asks
from lamina.text import arguments
from lamina.text.results import memory_dict

router = APIRouter(tags=["system"])
Admin = Annotated[Caller, needs("admin")]
Eraser = Annotated[Caller, needs("write", "forget")]


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    content: str


class ChatBody(Body):
    messages: str | Annotated[list[ChatMessage], Field(min_length=1)] = Field(examples=["Which nuts must I avoid?"])
    user_id: str | None = Field(None, examples=["alice"])
    agent_id: str | None = None
    run_id: str | None = None
    memory: bool = True
    k: int = Field(10, ge=1, le=100)
    max_tokens: int = Field(64, ge=1, le=1024)
    session: str = ""


class MoveBody(Body):
    ids: list[str] = Field(min_length=1, max_length=100, examples=[["019c0000-0000-7000-8000-000000000000"]])
    to: Literal["activation", "text"] = "activation"


class FeedbackBody(Body):
    good: bool = Field(examples=[False])
    correction: str | None = Field(None, examples=["My boat is called Zenith."])
    reason: str = ""


class ResetBody(Body):
    confirm: str = Field(description="the name of the tenant, so that nobody does it by accident", examples=["acme"])


class ReasonBody(Body):
    reason: str = Field("", max_length=1000, examples=["asked by legal"])


@router.post("/chat", summary="Ask the local model, with memories in the cheapest form")
@asks("model")
def chat(body: ChatBody, caller: Changer, service: Served) -> Answer:
    """Answers the text, and which memories served in which form."""
    told = caller.owner(body.model_dump())
    reply = service.system(caller).chat(told.pop("messages"), **told)
    return asdict(reply) | {"tiers": [str(tier) for tier in reply.tiers]}


@router.get("/tiers", summary="Memories and bytes in each form")
def tiers(
    caller: Reader, service: Served, user_id: Owner = None, agent_id: Owner = None, run_id: Owner = None
) -> list[Answer]:
    """Text, caches, adapters."""
    owner = caller.owner({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})
    scope = arguments.scope_of(caller.tenant, owner, required=False)
    return [asdict(count) for count in census(service.memory(caller).store, scope)]


@router.post("/tiers/move", summary="Make memories ready as a cache, or go back to text")
@asks("model")
def move(body: MoveBody, caller: Changer, service: Served) -> list[Answer]:
    """Answers in which form each is now. Adapters take minutes: they are jobs (``POST /jobs``)."""
    for id in body.ids:
        if body.to == "activation":
            service.changeable(caller, id, "promote", form="activation")
        elif not granted(caller.principal, "promote", service.readable(caller, id)):  # back, whatever its state
            raise NotPermitted(f"this key may not move memory {id}")
    system = service.system(caller)
    if body.to == "text":
        system.demote(body.ids)
    else:
        system.promote(body.ids, "activation")
    return [_explained(system, id) for id in body.ids]


@router.get("/memories/{memory_id}/explain", summary="Where a memory is, and why")
def explain(memory_id: str, caller: Reader, service: Served) -> Answer:
    """Its form, its heat, and the reasons of its last moves."""
    service.readable(caller, memory_id)
    return _explained(service.system(caller), memory_id)


@router.post("/memories/{memory_id}/feedback", summary="Say that a memory is right, wrong, or what is right")
@asks("change")
def feedback(memory_id: str, body: FeedbackBody, caller: Changer, service: Served) -> Answer:
    """Right: it becomes active. Wrong: it is retracted, or corrected."""
    service.changeable(caller, memory_id)
    said = service.system(caller).feedback(memory_id, body.good, correction=body.correction, reason=body.reason)
    return memory_dict(said)


@router.post("/memories/{memory_id}/{verb}", summary="Archive, freeze or unfreeze a memory")
def govern(
    memory_id: str, verb: Literal["archive", "freeze", "unfreeze"], body: ReasonBody, caller: Admin, service: Served
) -> Answer:
    """What is frozen cannot be changed until it is unfrozen."""
    service.readable(caller, memory_id)
    system = service.system(caller)
    verbs: dict[str, Callable[..., Any]] = {
        "archive": system.archive,
        "freeze": system.freeze,
        "unfreeze": system.unfreeze,
    }
    return memory_dict(verbs[verb](memory_id, reason=body.reason))


@router.post("/reset", summary="Erase everything of the tenant")
@asks("removal")
def reset(body: ResetBody, caller: Eraser, service: Served) -> Answer:
    """Of all its users: text, versions, caches, adapters and our copies. Nothing goes if some of it is frozen."""
    if caller.user is not None:
        raise NotPermitted("this key speaks for one user alone, and this erases what is remembered of all of them")
    if body.confirm != caller.tenant:
        raise InvalidInput(f"confirm={arguments.short(body.confirm)}: give the tenant's name, {caller.tenant!r}")
    return {"forgotten": list(service.system(caller).reset().ids)}


@router.get("/log", summary="What happened, oldest first")
def log(
    caller: Reader,
    service: Served,
    memory_id: Annotated[str, Query(max_length=255)],
) -> list[Answer]:
    """The rows of the hash-chained log about a memory."""
    service.readable(caller, memory_id)
    rows = service.memory(caller).store.events(cube=memory_id)
    return [asdict(row) | {"at": row.at.isoformat(), "details": dict(row.details)} for row in rows]


def _explained(system: MemOS, id: str) -> Answer:
    found = system.explain(id)
    return asdict(found) | {"tier": str(found.tier)}
