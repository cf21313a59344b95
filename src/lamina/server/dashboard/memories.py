"""Memories: look for them as you type, narrow them down, see the list as it was at any moment; remember something.

The address says all that is asked, so that a search can be kept, sent and gone back to. In the states that no search
sees (closed, archived, set aside) the words are looked for in the texts instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from lamina.cube.cube import MemCube, Scope, State, now
from lamina.errors import LaminaError
from lamina.kernel.lifecycle import state_of
from lamina.server.caller import Caller
from lamina.server.dashboard.shell import PageRoute, asks_for_part, go, instead, render
from lamina.server.dashboard.stops import MEMORIES, stops
from lamina.server.dashboard.visitor import ROOT, Changer, Reader
from lamina.server.failures import status_of
from lamina.server.routes.service_of import Served, asks
from lamina.server.service import Service
from lamina.store.base import Filter, Store
from lamina.text import arguments
from lamina.text.base import Hit
from lamina.text.decisions import QUARANTINED
from lamina.text.prompted import quarantine

router = APIRouter(route_class=PageRoute)

PAGE = 25  # entries
MOST = 200  # hits of a search; owners to choose from
SCANNED = 20  # pages looked through for words before "show more" is asked
STATES = {"open": "In use", "closed": "Deleted or replaced", "archived": "Archived", "aside": "Set aside"}
KINDS = {
    "turn": "Words as they were said",
    "fact": "Facts",
    "event": "Events",
    "preference": "Preferences",
    "plan": "Plans",
    "procedure": "Procedures",
    "persona": "Personas",
    "prompt": "Prompts",
    "note": "Notes",
    "summary": "Summaries",
}
# Parts of a score by name: what a person reads, and its colour; any other name is read as it is.
PARTS = {
    "dense": ("meaning", 1),
    "lexical": ("words", 2),
    "session": ("session", 3),
    "speaker": ("speaker", 4),
    "period": ("time", 5),
    "stated": ("fact", 6),
}
_IN_USE = (State.GENERATED, State.ACTIVE, State.FROZEN)

Owner = Annotated[str, Field(max_length=255)]


class Asked(BaseModel):
    """What the address asks for. ``tag``: a tag, or ``key=value`` of the metadata; ``k``: hits of a search."""

    q: str = Field("", max_length=2000)
    user_id: Owner = ""
    agent_id: Owner = ""
    run_id: Owner = ""
    kind: str = Field("", max_length=100)
    tag: str = Field("", max_length=500)
    state: Literal["open", "closed", "archived", "aside"] = "open"
    as_of: str = Field("", max_length=40)
    cursor: str = Field("", max_length=200)
    k: int = Field(PAGE, ge=1, le=MOST)

    def address(self, **other: Any) -> str:
        """This page's address without what is as usual, or with ``other`` values."""
        told = {name: value for name, value in (self.model_dump(exclude_defaults=True) | other).items() if value}
        return f"{ROOT}/memories" + (f"?{urlencode(told)}" if told else "")

    @property
    def moment(self) -> datetime | None:
        return arguments.moment("as_of", self.as_of or None, end_of_day=True)

    @property
    def narrowed(self) -> bool:
        """Whether it asks for less than everything in use."""
        return bool(self.model_dump(exclude_defaults=True, exclude={"cursor", "k"}))


class Typed(BaseModel):
    """The form to remember something."""

    text: str
    user_id: str = ""
    infer: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a score: a piece of a bar that is 100 long for the best hit."""

    name: str
    colour: int
    value: float
    start: float
    length: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the list. ``tier`` is where it is now, ``None`` for what is not in use."""

    cube: MemCube
    tier: str | None
    reason: str
    hit: Hit | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """``count``: how many there are in all, if that is known; ``more``: the address of what follows."""

    entries: list[Entry]
    count: int | None
    more: str | None


@router.get("/memories")
async def memories(request: Request, asked: Annotated[Asked, Query()], caller: Reader, service: Served) -> Response:
    if asked.q.strip():
        return await service.asking("search", lambda: _answer(request, service, caller, asked))
    return await run_in_threadpool(_answer, request, service, caller, asked)


def _answer(request: Request, service: Service, caller: Caller, asked: Asked) -> Response:
    if not asks_for_part(request):
        return _page(request, service, caller, asked)
    found = find(service, caller, asked)
    if asked.cursor:
        return render(request, "memories_entries.html", found=found, asked=asked)
    answer = render(request, "memories_found.html", found=found, asked=asked, part=True)
    answer.headers[_history(request, asked)] = asked.address()
    return answer


def _page(
    request: Request,
    service: Service,
    caller: Caller,
    asked: Asked,
    typed: Typed | None = None,
    wrong: str = "",
    status: int = 200,
) -> Response:
    """``typed``: what was typed into the form to remember something; ``wrong``: why it was refused."""
    store, everyone = service.memory(caller).store, _scope(caller, Asked())
    return render(
        request,
        "memories.html",
        status=status,
        found=find(service, caller, asked),
        asked=asked,
        part=False,
        stops=stops(store, everyone),
        owners=_owners(store, everyone),
        states=STATES,
        kinds=KINDS,
        typed=typed or Typed(text="", user_id=asked.user_id, infer=True),
        wrong=wrong,
    )


@router.post("/memories")
@asks("reading")
def add(request: Request, typed: Annotated[Typed, Form()], caller: Changer, service: Served) -> Response:
    """Refused, the form comes back with what was typed."""
    try:
        owner = caller.owner({"user_id": typed.user_id.strip() or None})
        text = arguments.memory_text(lines(typed.text))
        told = service.system(caller).remember(text, infer=typed.infer, **owner)
    except LaminaError as error:
        status, wrong = status_of(error), str(error)
        if not asks_for_part(request):
            return _page(request, service, caller, Asked(), typed, wrong, status)
        owners = _owners(service.memory(caller).store, _scope(caller, Asked()))
        form = render(request, "memories_remember.html", status=status, typed=typed, wrong=wrong, owners=owners)
        return instead(form, "#remember", "outerHTML")
    new = any(row["event"] != "NONE" for row in told["results"])
    return go(request, "memories", said="added" if new else "nothing")


def lines(text: str) -> str:
    """``text`` with the ends of lines that a person means: forms send others."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def find(service: Service, caller: Caller, asked: Asked) -> Found:
    """What ``asked`` finds of what ``caller`` may see. Raises ``InvalidInput``."""
    memory, scope, where = service.memory(caller), _scope(caller, asked), _where(asked)
    if asked.state == "open" and asked.q.strip():
        hits = memory.hits(asked.q, scope, top_k=asked.k, where={"AND": where}, as_of=asked.moment)
        full = len(hits) == asked.k < MOST
        more = asked.address(k=min(MOST, asked.k + PAGE)) if full else None
        stands = forms(service, caller, [hit.cube for hit in hits])
        return Found(_scored(hits, stands), None if full else len(hits), more)
    cubes, cursor = _listed(memory.store, scope, where, asked)
    stands = forms(service, caller, cubes)
    entries = [_entry(cube, stands) for cube in cubes]
    if asked.state == "open" and not asked.as_of:
        count: int | None = len(memory.store.keys(scope, {"AND": [*where, *_now()]}))
    else:
        count = None if cursor or asked.cursor else len(cubes)
    return Found(entries, count, asked.address(cursor=cursor) if cursor else None)


def _scope(caller: Caller, asked: Asked) -> Scope:
    ids = {name: getattr(asked, name).strip() or None for name in arguments.IDENTITY}
    return arguments.scope_of(caller.tenant, caller.owner(ids), required=False)


def _where(asked: Asked) -> list[Filter]:
    where = list(MEMORIES)
    if asked.kind:
        where.append({"semantic_type": asked.kind})
    key, equals, value = asked.tag.strip().partition("=")
    if key and equals:
        where.append({f"metadata.{key.strip()}": {"in": _readings(value.strip())}})
    elif key:
        where.append({"tags": {"contains": key}})
    if asked.state in ("archived", "aside"):
        where.append({"state": {"in": ["archived", "merged"]}})
        held: Filter = {"tags": {"contains": QUARANTINED}}
        where.append(held if asked.state == "aside" else {"NOT": [held]})
    if asked.state == "closed":
        where.append({"superseded": {"lte": asked.moment} if asked.moment else "*"})
    if asked.state == "closed" or asked.as_of:  # what expired is nobody's to read, not even of the past
        where.append({"OR": [{"expires": None}, {"expires": {"gt": now()}}]})
    return where


def _now() -> list[Filter]:
    """Open now, as a filter: so they can be counted without reading them."""
    at = now()
    lives = [{"expires": None}, {"expires": {"gt": at}}]
    holds = [{"valid_to": None}, {"valid_to": {"gt": at}}, {"semantic_type": {"in": ["event", "turn"]}}]
    return [{"superseded": None}, {"state": {"in": list(_IN_USE)}}, {"OR": lives}, {"OR": holds}]


def _readings(value: str) -> list[Any]:
    """What a person may mean who writes ``3`` or ``true``: the text, or the number."""
    try:
        other = json.loads(value)
    except (ValueError, RecursionError):
        return [value]
    return [value, other] if isinstance(other, int | float) and abs(other) < 2**63 else [value]


def _listed(store: Store, scope: Scope, where: list[Filter], asked: Asked) -> tuple[list[MemCube], str | None]:
    """At least a page of what there is, and where it goes on."""
    closed = asked.state == "closed"
    words = asked.q.casefold().split()
    found: list[MemCube] = []
    cursor: str | None = asked.cursor or None
    for _ in range(SCANNED):
        page = store.query(scope, {"AND": where}, as_of=asked.moment, closed=closed, limit=PAGE, cursor=cursor)
        cursor = page.cursor
        found += [
            cube
            for cube in page.cubes
            if all(word in cube.text.casefold() for word in words)
            and not (closed and _went_on(store, cube, asked.moment))
        ]
        if cursor is None or len(found) >= PAGE:
            break
    return found, cursor


def _went_on(store: Store, cube: MemCube, at: datetime | None) -> bool:
    """Whether a closed version was only followed by the next one of the same memory (by ``at``)."""
    if cube.header.superseded_by == cube.id:
        return True
    known = [one.header.version for one in store.versions(cube.id) if at is None or one.header.recorded <= at]
    return max(known, default=0) != cube.header.version


def forms(service: Service, caller: Caller, cubes: Sequence[MemCube]) -> dict[str, str]:
    """The form in which each memory in use stands: ready in this process or kept in the store. A cache or an adapter is
    read once, and only where one was made of them."""
    system, scope = service.system(caller), Scope(caller.tenant)
    loaded = system.loaded.residents.all().values() if system.loaded else ()
    ready = {member.id for members in loaded for member in members}
    made = {cube.id: system.store.derived(cube.id) for cube in cubes if state_of(cube) in _IN_USE}
    every = sorted({id for ids in made.values() for id in ids})
    tensors: Filter = {"AND": [{"kind": {"in": ["activation", "parameter"]}}, {"id": {"in": every}}]}
    some = bool(every) and len(system.store.keys(scope, tensors)) > 0
    kinds = {id: one.header.kind for id in every if some and (one := system.store.get(id)) is not None}
    found = {}
    for id, ids in made.items():
        kept = {kinds.get(one) for one in ids}
        cached = id in ready or "activation" in kept
        found[id] = "activation" if cached else "parameter" if "parameter" in kept else "text"
    return found


def _entry(cube: MemCube, stands: Mapping[str, str]) -> Entry:
    return Entry(cube, stands.get(cube.id), quarantine.reason(cube) if quarantine.is_quarantined(cube) else "")


def _scored(hits: Sequence[Hit], stands: Mapping[str, str]) -> list[Entry]:
    best = max((sum(max(0.0, value) for value in hit.parts.values()) for hit in hits), default=0.0) or 1.0
    return [replace(_entry(hit.cube, stands), hit=hit, parts=tuple(_parts(hit.parts, best))) for hit in hits]


def _parts(parts: Mapping[str, float], best: float) -> Iterator[Part]:
    """In the order of their colours. Negative ones have no length; what is subtracted shows in the figures."""
    start = 0.0
    named = [(*PARTS.get(name, (name, len(PARTS))), value) for name, value in parts.items()]
    for name, colour, value in sorted(named, key=lambda part: part[1]):
        length = 100 * max(0.0, value) / best
        yield Part(name, colour, value, start, length)
        start += length


def _owners(store: Store, scope: Scope) -> dict[str, list[str]]:
    """Whose memories there are to choose from, for each field: the first ``MOST`` names."""
    known = [one for one, _ in store.scopes(scope.tenant) if scope.user in (None, one.user)]
    fields = {"user_id": "user", "agent_id": "agent", "run_id": "run"}
    return {
        name: sorted({owner for one in known if (owner := getattr(one, field)) is not None})[:MOST]
        for name, field in fields.items()
    }


def _history(request: Request, asked: Asked) -> str:
    """The header that moves the address. Words that are being typed, or a slider that is being moved, are one step back
    and not one for each pause."""
    urls = request.headers.get("hx-current-url", ""), asked.address()
    before, after = (dict(parse_qsl(urlsplit(url).query)) for url in urls)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    typing = changed in ({"q"}, {"as_of"}) and changed <= before.keys() & after.keys()
    return "HX-Replace-Url" if typing else "HX-Push-Url"
