"""One memory: what it says and where it came from, every change of it, what it is linked with, where it is now and why;
to be edited, taken out of use and back, frozen, or forgotten after a look at all that goes with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel

from lamina.cube.cube import MemCube, Scope, State
from lamina.errors import Conflict, InvalidInput, LaminaError, NotFound, NotPermitted
from lamina.kernel.forgetting import BEYOND, LATER, reach
from lamina.kernel.governance import check, granted
from lamina.kernel.lifecycle import state_of
from lamina.server.caller import Caller
from lamina.server.dashboard.history import notes_of, steps
from lamina.server.dashboard.memories import lines
from lamina.server.dashboard.shell import PageRoute, asks_for_part, go, instead, render
from lamina.server.dashboard.visitor import Changer, Eraser, Reader, needs
from lamina.server.failures import status_of
from lamina.server.routes.service_of import Served, asks
from lamina.server.service import Service
from lamina.store.base import Edge
from lamina.text import arguments
from lamina.text.prompted import quarantine

router = APIRouter(route_class=PageRoute)
Admin = Annotated[Caller, needs("admin")]

LAST = 200  # rows of the log
LINKS = 100
WORD = "forget"


class Typed(BaseModel):
    """The form of an edit. ``version`` is the one that was read, so that nobody overwrites what they did not see."""

    text: str
    version: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A turn that a memory was taken from: what stands before, in and after the quoted span."""

    turn: MemCube
    before: str
    quoted: str
    after: str


@dataclass(frozen=True, slots=True)
class Link:
    """An edge, seen from one of its ends or from the memory that says it."""

    edge: Edge
    source: MemCube
    target: MemCube


@router.get("/memories/{memory_id}")
def memory(request: Request, memory_id: str, caller: Reader, service: Served) -> Response:
    return _page(request, service, caller, service.readable(caller, memory_id))


def _page(
    request: Request,
    service: Service,
    caller: Caller,
    cube: MemCube,
    status: int = 200,
    told: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """``told``: what is to be said of a refused edit."""
    store, seen = service.memory(caller).store, partial(_seen, service, caller)
    versions = store.versions(cube.id)
    header = cube.header
    edges = store.edges(Scope(caller.tenant), [cube.id])
    return render(
        request,
        "memory.html",
        status=status,
        state=state_of(cube),
        where=service.system(caller).explain(cube.id),
        turns=[_quoted(turn, one.start, one.end) for one in header.provenance.sources if (turn := seen(one.id))],
        made=[one for id in store.derived(cube.id)[:LINKS] if (one := seen(id))],
        successor=seen(header.superseded_by) if header.superseded_by else None,
        links=list(_links(edges, seen)),
        edges=len(edges),
        steps=list(steps(store, cube.id, versions, last=LAST))[::-1],
        versions=versions[::-1][:LAST],
        notes=notes_of(cube),
        **_form(caller, cube) | dict(told),
    )


def _form(caller: Caller, cube: MemCube) -> dict[str, Any]:
    """What the form to edit it needs; nothing was typed into it yet."""
    typed = Typed(
        text=cube.text if cube.header.kind == "text" else "", version=cube.header.version, metadata=notes_of(cube)
    )
    reason = quarantine.reason(cube) if quarantine.is_quarantined(cube) else None
    return {"cube": cube, "may": _may(caller, cube), "reason": reason, "typed": typed, "wrong": "", "stale": False}


@router.post("/memories/{memory_id}")
@asks("change")
def edit(
    request: Request, memory_id: str, typed: Annotated[Typed, Form()], caller: Changer, service: Served
) -> Response:
    """A new version. Refused, the form comes back with what was typed."""
    cube = service.changeable(caller, memory_id)
    try:
        said = _edited(service, caller, cube, typed)
    except NotFound:
        raise
    except LaminaError as error:
        cube = service.readable(caller, memory_id)
        typed = typed.model_copy(update={"version": cube.header.version})
        told = {"typed": typed, "wrong": str(error), "stale": isinstance(error, Conflict)}
        if not asks_for_part(request):
            return _page(request, service, caller, cube, status_of(error), told)
        form = _form(caller, cube) | told
        return instead(render(request, "memory_edit.html", status=status_of(error), **form), "#edit", "outerHTML")
    return _to(request, cube, said)


def _edited(service: Service, caller: Caller, cube: MemCube, typed: Typed) -> str:
    """What came of it, as a code of ``words.SAID``. Raises ``Conflict``, ``InvalidInput``."""
    if cube.header.version != typed.version:
        raise Conflict("This memory was changed meanwhile. Your words are still here; save them again to replace it.")
    notes = _parsed(typed.metadata)
    changed = notes if notes != dict(cube.header.metadata) else None
    told = lines(typed.text) if lines(typed.text) != lines(cube.text) else cube.text
    if told == cube.text and changed is None:
        return "unchanged"
    service.memory(caller).update(cube.id, arguments.memory_text(told), metadata=changed)
    return "changed"


@router.post("/memories/{memory_id}/delete")
@asks("removal")
def delete(
    request: Request,
    memory_id: str,
    caller: Changer,
    service: Served,
    back: Annotated[Literal["", "aside"], Form()] = "",
) -> Response:
    """``back``: to the list of what is set aside."""
    cube = service.changeable(caller, memory_id)
    service.memory(caller).delete(cube.id)
    return go(request, "memories", state=back, said="deleted") if back else _to(request, cube, "deleted")


@router.post("/memories/{memory_id}/restore")
@asks("change")
def restore(request: Request, memory_id: str, caller: Changer, service: Served) -> Response:
    cube = service.changeable(caller, memory_id)
    archived = state_of(cube) is State.ARCHIVED and cube.header.superseded is None
    if archived and not quarantine.is_quarantined(cube):
        service.system(caller).restore(cube.id)
    else:
        service.memory(caller).restore(cube.id)
    return _to(request, cube, "restored")


@router.post("/memories/{memory_id}/accept")
@asks("change")
def accept(
    request: Request,
    memory_id: str,
    caller: Changer,
    service: Served,
    back: Annotated[Literal["", "aside"], Form()] = "",
) -> Response:
    cube = service.changeable(caller, memory_id)
    accepted = service.memory(caller).accept(cube.id)["id"]
    if back:
        return go(request, "memories", state=back, said="accepted")
    return go(request, f"memories/{quote(accepted, safe='')}", said="accepted")


@router.get("/memories/{memory_id}/forget")
def before_forgetting(request: Request, memory_id: str, caller: Reader, service: Served) -> Response:
    """All that would go, asked of what will erase it; nothing is written by looking."""
    if not caller.may("forget"):
        raise NotPermitted("This key may not erase memories: it has not the right 'forget'.")
    cube = service.changeable(caller, memory_id, "forget")
    system = service.system(caller)
    ids = reach(system.store, [cube.id], erasable=partial(granted, system.principal, "forget"))
    readable = [one for id in ids if id != cube.id and (one := _seen(service, caller, id))]
    frozen = any(one.header.state is State.FROZEN for one in readable)
    return render(
        request,
        "memory_forget.html",
        cube=cube,
        others=readable[:LAST],
        count=len(ids),
        hidden=len(ids) - 1 - len(readable[:LAST]),
        frozen=frozen,
        sentences=(LATER, BEYOND),
        word=WORD,
    )


@router.post("/memories/{memory_id}/forget")
@asks("removal")
def forget(
    request: Request, memory_id: str, caller: Eraser, service: Served, word: Annotated[str, Form()] = ""
) -> Response:
    cube = service.changeable(caller, memory_id, "forget")
    if word.strip().casefold() != WORD:
        raise InvalidInput(f"Nothing was erased: type the word {WORD} to confirm.")
    receipt = service.system(caller).forget(cube.id)
    return go(request, "memories", said="forgotten_but" if receipt.unreached else "forgotten")


@router.post("/memories/{memory_id}/{verb}")
def govern(
    request: Request,
    memory_id: str,
    verb: Literal["archive", "freeze", "unfreeze"],
    caller: Admin,
    service: Served,
) -> Response:
    cube = service.readable(caller, memory_id)
    system = service.system(caller)
    verbs = {"archive": system.archive, "freeze": system.freeze, "unfreeze": system.unfreeze}
    verbs[verb](cube.id, reason="by a person")
    return _to(request, cube, {"archive": "archived", "freeze": "frozen", "unfreeze": "unfrozen"}[verb])


def _links(edges: Sequence[Edge], seen: Any) -> Iterator[Link]:
    """The strongest edges whose ends may both be read."""
    for edge in sorted(edges, key=lambda one: -one.weight)[:LINKS]:
        source, target = seen(edge.source), seen(edge.target)
        if source and target:
            yield Link(edge, source, target)


def _seen(service: Service, caller: Caller, id: str) -> MemCube | None:
    """A memory that may be read; ``None`` for any other, as if there were none."""
    cube = service.memory(caller).store.get(id)
    return cube if cube is not None and check(caller.principal, "read", cube) else None


def _quoted(turn: MemCube, start: int, end: int) -> Said:
    return Said(turn, turn.text[:start], turn.text[start:end], turn.text[end:])


def _parsed(metadata: str) -> dict[str, Any]:
    """What a person typed. Raises ``InvalidInput``."""
    try:
        told = json.loads(metadata) if metadata.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f'Nothing was changed: the metadata is not JSON such as {{"city": "Berlin"}} ({error}).'
        ) from error
    if not isinstance(told, dict):
        raise InvalidInput('Nothing was changed: the metadata must be a JSON object such as {"city": "Berlin"}.')
    return told


def _may(caller: Caller, cube: MemCube) -> dict[str, bool]:
    """Which buttons there are."""
    state, aside = state_of(cube), quarantine.is_quarantined(cube)
    write = caller.may("write") and bool(check(caller.principal, "write", cube))
    is_open, admin = cube.header.superseded is None, caller.may("admin")
    text = cube.header.kind == "text"
    return {
        "edit": write and is_open and text,
        "delete": write and is_open,
        "restore": write and (not is_open or (state is State.ARCHIVED and not aside)),
        "accept": write and aside and bool(cube.header.provenance.sources),
        "archive": admin and is_open and state in (State.GENERATED, State.ACTIVE),
        "freeze": admin and is_open and state is not State.FROZEN,
        "unfreeze": admin and state is State.FROZEN,
        "forget": caller.may("forget") and bool(check(caller.principal, "forget", cube)),
    }


def _to(request: Request, cube: MemCube, said: str) -> Response:
    return go(request, f"memories/{quote(cube.id, safe='')}", said=said)
