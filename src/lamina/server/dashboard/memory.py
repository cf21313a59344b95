"""One memory: what it says and where it came from, every change of it, what it is linked with, where it is now and why;
to be edited, taken out of use and back, frozen, or forgotten after a look at all that goes with it."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from lamina.cube.cube import MemCube, Scope, State
from lamina.errors import Conflict, InvalidInput, NotPermitted
from lamina.kernel.forgetting import BEYOND, LATER, reach
from lamina.kernel.governance import check, granted
from lamina.kernel.lifecycle import state_of
from lamina.server.caller import Caller
from lamina.server.dashboard.memories import lines
from lamina.server.dashboard.shell import PageRoute, go, render
from lamina.server.dashboard.visitor import Changer, Eraser, Reader, needs
from lamina.server.routes.service_of import Served
from lamina.server.service import Service
from lamina.store.base import Edge, Event, Store
from lamina.text import arguments
from lamina.text.prompted import quarantine

router = APIRouter(route_class=PageRoute)
Admin = Annotated[Caller, needs("admin")]

LAST = 200  # rows of the log
LINKS = 100
COMPARED = 20_000  # pairs of equal words that are compared of two texts: time grows with them, and more than once
COMPARED_ON_A_PAGE = 100_000
WORD = "forget"
ACTIONS = {
    "add": "Recorded",
    "update": "Changed",
    "augment": "Said again, with more detail",
    "noop": "Said again",
    "evolve": "Developed",
    "supersede": "Replaced by a newer one",
    "close": "Ended",
    "delete": "Taken out of use",
    "retract": "Retracted",
    "reject": "Rejected",
    "accept": "Accepted",
    "restore": "Brought back",
    "activate": "Confirmed",
    "archive": "Archived",
    "freeze": "Frozen",
    "unfreeze": "Unfrozen",
    "merge": "Merged",
    "promote": "Moved to a faster form",
    "demote": "Moved back",
    "refuse": "Not moved",
}
Words = list[tuple[Literal["same", "ins", "del"], str]]


@dataclass(frozen=True, slots=True)
class Step:
    """A row of the log in words, and what the version it wrote changed."""

    event: Event
    title: str
    text: Words | None
    notes: Words | None


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
    cube = service.readable(caller, memory_id)
    store, seen = service.memory(caller).store, partial(_seen, service, caller)
    versions = store.versions(cube.id)
    header = cube.header
    edges = store.edges(Scope(caller.tenant), [cube.id])
    return render(
        request,
        "memory.html",
        cube=cube,
        state=state_of(cube),
        reason=quarantine.reason(cube) if quarantine.is_quarantined(cube) else None,
        where=service.system(caller).explain(cube.id),
        turns=[_quoted(turn, one.start, one.end) for one in header.provenance.sources if (turn := seen(one.id))],
        made=[one for id in store.derived(cube.id)[:LINKS] if (one := seen(id))],
        successor=seen(header.superseded_by) if header.superseded_by else None,
        links=list(_links(edges, seen)),
        edges=len(edges),
        steps=list(_steps(store, cube.id, versions))[::-1],
        versions=versions[::-1][:LAST],
        notes=_json(cube),
        may=_may(caller, cube),
    )


@router.post("/memories/{memory_id}")
def edit(
    request: Request,
    memory_id: str,
    caller: Changer,
    service: Served,
    text: Annotated[str, Form()],
    version: Annotated[int, Form()],
    metadata: Annotated[str, Form()] = "",
) -> Response:
    """A new version; ``version`` is the one that was read, so that nobody overwrites what they did not see."""
    cube = service.changeable(caller, memory_id)
    if cube.header.version != version:
        raise Conflict("This memory was changed meanwhile. Load the page again, look at what is new, then edit it.")
    notes = _parsed(metadata)
    changed = notes if notes != dict(cube.header.metadata) else None
    told = lines(text) if lines(text) != lines(cube.text) else cube.text
    if told == cube.text and changed is None:
        return _to(request, cube, "unchanged")
    service.memory(caller).update(cube.id, arguments.memory_text(told), metadata=changed)
    return _to(request, cube, "changed")


@router.post("/memories/{memory_id}/delete")
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
def restore(request: Request, memory_id: str, caller: Changer, service: Served) -> Response:
    cube = service.changeable(caller, memory_id)
    archived = state_of(cube) is State.ARCHIVED and cube.header.superseded is None
    if archived and not quarantine.is_quarantined(cube):
        service.system(caller).restore(cube.id)
    else:
        service.memory(caller).restore(cube.id)
    return _to(request, cube, "restored")


@router.post("/memories/{memory_id}/accept")
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


def compared(old: str, new: str) -> Words:
    """What became of the words of ``old`` in ``new``; both as they are if that would take too long to find out."""
    before, after = _words(old), _words(new)
    if _pairs(old, new) > COMPARED:
        return [("del", old), ("ins", new)]
    found: Words = []
    for tag, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(("same", "".join(before[i:j])))
            continue
        gone, came = "".join(before[i:j]), "".join(after[k:m])
        found += [("del", gone)] if gone else []
        found += [("ins", came)] if came else []
    return found


def _pairs(old: str, new: str) -> int:
    """Pairs of equal words, one of each text."""
    before, after = Counter(_words(old)), Counter(_words(new))
    return sum(count * after[word] for word, count in before.items())


def _words(text: str) -> list[str]:
    """Words and single signs with the blanks behind them, and ends of lines: together the text."""
    return re.findall(r"\w+[^\S\n]*|[^\w\s][^\S\n]*|\s", text)


def _steps(store: Store, id: str, versions: Sequence[MemCube]) -> Iterator[Step]:
    """The last rows of the log, oldest first."""
    known, written, left = {one.header.version: one for one in versions}, set[int](), COMPARED_ON_A_PAGE
    for event in deque(store.events(cube=id), maxlen=LAST):
        new, old = known.get(event.version), known.get(event.version - 1)
        text: Words | None = None
        notes: Words | None = None
        if new and old and event.version not in written:
            changed = new.header.kind == "text" and old.sha256 != new.sha256
            left -= _pairs(old.text, new.text) if changed else 0
            text = None if not changed else compared(old.text, new.text) if left > 0 else [("ins", new.text)]
            left -= _pairs(_json(old), _json(new))
            noted = old.header.metadata != new.header.metadata and left > 0
            notes = compared(_json(old), _json(new)) if noted else None
        written.add(event.version)
        yield Step(event, ACTIONS.get(event.action, event.action), text, notes)


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


def _json(cube: MemCube) -> str:
    return json.dumps(dict(cube.header.metadata), ensure_ascii=False, indent=2) if cube.header.metadata else ""


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
