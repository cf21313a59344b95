"""Tiers: how much is kept in each form, what stands in caches and adapters and why, what is hot; and moving it by hand.

What a visitor sees is what the store holds and, where the model was loaded, what stands ready in this process; looking
loads nothing. Heat is folded from the same rows of the log as the kernel's, with its half-life. A cache is made while
one waits; an adapter takes minutes, so it is a job.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from lamina.cube.cube import MemCube, Scope
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.governance import check
from lamina.kernel.rhythms.upkeep_log import CALL, UpkeepLog
from lamina.kernel.tiering.account import HALF_LIFE
from lamina.kernel.tiering.census import census
from lamina.kernel.tiering.explaining import explain
from lamina.kernel.tiering.heat import Heat
from lamina.kernel.tiering.residents import bundle_name, refused, shared_scope
from lamina.server.caller import Caller
from lamina.server.dashboard.shell import PageRoute, asks_for_part, go, render
from lamina.server.dashboard.visitor import Changer, Reader
from lamina.server.jobs import Job
from lamina.server.routes import jobs, system
from lamina.server.routes.service_of import Served
from lamina.server.service import Service
from lamina.store.base import Filter, Store
from lamina.text import arguments

router = APIRouter(route_class=PageRoute)

SHOWN = 20  # caches and adapters; hot texts
MEMBERS = 50  # memories of one cache that are shown
LOOKED_BACK = 50_000  # rows of the log that heat is folded from, at most
CANDIDATES = 500  # of the hottest, that are looked at to find those that may be shown
WIDTH = 1000.0  # of the bar, in its own units
SLIVER = 6.0  # what little there is is seen, too
NAMES = {"text": "Text", "activation": "Caches", "parameter": "Adapters"}
COSTS = {
    "text": "read by the model at every use",
    "activation": "attached ready-made, not read again",
    "parameter": "learnt: costs nothing to use",
}
_TENSORS: Filter = {"kind": {"in": ["activation", "parameter"]}}
_TEXTS: Filter = {"AND": [{"kind": "text"}, {"semantic_type": {"ne": "entity"}}]}
_SECOND = 10**9


class Whose(BaseModel):
    """Whose memories; empty for everyone's. ``before`` and ``after``: bytes of what was moved just now."""

    user_id: str = Field("", max_length=255)
    agent_id: str = Field("", max_length=255)
    job: str = Field("", max_length=64)
    before: int | None = Field(None, ge=0, le=2**62)
    after: int | None = Field(None, ge=0, le=2**62)

    @property
    def owner(self) -> dict[str, str]:
        return {name: value for name in ("user_id", "agent_id") if (value := getattr(self, name).strip())}


class Move(BaseModel):
    """The form: which memories, whereto."""

    ids: list[str] = Field(default_factory=list, max_length=100)
    to: Literal["text", "activation", "parameter"]
    user_id: str = Field("", max_length=255)
    agent_id: str = Field("", max_length=255)


@dataclass(frozen=True, slots=True)
class Part:
    """One form, as a piece of the bar."""

    form: str
    cubes: int
    bytes: int
    memories: int
    start: float
    width: float


@dataclass(slots=True)
class Use:
    """How much a memory is used: fading, ever (as far as the log was read), and when last."""

    heat: Heat
    uses: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """A memory with its use. ``why``: of its last move; ``refused``: why it may be no cache."""

    cube: MemCube
    heat: float
    uses: int
    last: datetime | None
    why: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Made:
    """A cache or an adapter of the memories ``ids``, with those that may be shown. ``kept``: it is in the store."""

    form: str
    owner: Scope
    bytes: int
    rows: list[Row]
    ids: list[str]
    kept: bool


@router.get("/tiers")
def tiers(request: Request, whose: Annotated[Whose, Query()], caller: Reader, service: Served) -> Response:
    scope = arguments.scope_of(caller.tenant, caller.owner(whose.owner), required=False)
    store, uses = service.memory(caller).store, _uses(service.memory(caller).store, caller.tenant)
    parts = bar([asdict(count) for count in census(store, scope)])
    made = _made(service, caller, scope, uses)
    held = {row.cube.id for one in made for row in one.rows}
    hot = list(_hot(service, caller, scope, uses, held))
    loaded = service.system(caller).loaded if caller.user is None else None
    return render(
        request,
        "tiers.html",
        parts=parts,
        names=NAMES,
        costs=COSTS,
        made=made[:SHOWN],
        many=sum(part.cubes for part in parts if part.form != "text"),
        hot=hot,
        anything=any(part.cubes for part in parts),
        whose=whose,
        job=_job(service, caller, whose.job) if whose.job else None,
        room=loaded and (loaded.residents.nbytes, loaded.residents.budget),
    )


@router.post("/tiers/move")
async def move(request: Request, move: Annotated[Move, Form()], caller: Changer, service: Served) -> Response:
    """Into a cache, or back to text, at once; into an adapter by a job."""
    ids = list(dict.fromkeys(move.ids))
    if not ids:
        raise InvalidInput("Choose at least one memory first.")
    back = {name: value for name in ("user_id", "agent_id") if (value := getattr(move, name))}
    if move.to == "parameter":
        started = await run_in_threadpool(jobs.start, jobs.LearnBody(kind="learn", ids=ids), caller, service)
        return go(request, "tiers", job=started["id"], **back)
    before = await run_in_threadpool(_tensor_bytes, service, caller, ids)
    await system.move(body=system.MoveBody(ids=ids, to=move.to), caller=caller, service=service)
    after = await run_in_threadpool(_tensor_bytes, service, caller, ids, save=True)
    return go(request, "tiers", said="moved", before=str(before), after=str(after), **back)


@router.get("/tiers/jobs/{job_id}")
def job(request: Request, job_id: str, whose: Annotated[Whose, Query()], caller: Reader, service: Served) -> Response:
    """How a lesson stands; once it is over, the whole page is new."""
    found = _job(service, caller, job_id)
    if found.over or not asks_for_part(request):
        return go(request, "tiers", job=job_id, **whose.owner)
    return render(request, "tiers_job.html", job=found, whose=whose)


@router.post("/tiers/jobs/{job_id}/cancel")
def cancel(
    request: Request, job_id: str, whose: Annotated[Whose, Query()], caller: Changer, service: Served
) -> Response:
    jobs.cancel(job_id, caller, service)
    return go(request, "tiers", job=job_id, **whose.owner)


def bar(counts: Sequence[Mapping[str, Any]]) -> list[Part]:
    """Pieces that fill ``WIDTH`` by their bytes; what is there at all is at least a ``SLIVER`` wide."""
    total = sum(count["bytes"] for count in counts)
    free = WIDTH - SLIVER * sum(count["bytes"] > 0 for count in counts)
    parts, start = [], 0.0
    for count in counts:
        width = SLIVER + free * count["bytes"] / total if count["bytes"] else 0.0
        parts.append(Part(count["tier"], count["cubes"], count["bytes"], count["memories"], start, width))
        start += width
    return parts


def _made(service: Service, caller: Caller, scope: Scope, uses: Mapping[str, Use]) -> list[Made]:
    """What the store holds, newest first; before that, caches that stand in this process alone, or in another state."""
    store, loaded = service.memory(caller).store, service.system(caller).loaded
    ready: dict[str, Made] = {}
    for name, members in loaded.residents.all().items() if loaded else ():
        bundle = loaded.residents.get(name) if loaded else None
        texts = [cube for member in members if (cube := store.get(member.id)) is not None]
        if bundle is not None and texts and _within(texts[0].header.scope, scope):
            rows = _rows(service, caller, texts, uses)
            owner = shared_scope(texts[0].header.scope)
            ids = [member.id for member in members]
            ready[name] = Made("activation", owner, bundle.nbytes, rows, ids, kept=False)
    found = []
    for cube in store.query(scope, _TENSORS, limit=SHOWN).cubes:
        owner, form = shared_scope(cube.header.scope), cube.header.kind
        parents = [id for id, _ in cube.header.lineage.derived_from]
        here = ready.get(bundle_name(owner)) if form == "activation" else None
        if here is not None:  # as it stands here is what is served here
            if here.ids == parents:
                ready[bundle_name(owner)] = replace(here, bytes=cube.nbytes, kept=True)
            continue
        texts = [text for id in parents[:MEMBERS] if (text := store.get(id)) is not None]
        rows = _rows(service, caller, texts, uses)
        found.append(Made(form, owner, cube.nbytes, rows, parents, kept=True))
    return [*ready.values(), *found]


def _hot(service: Service, caller: Caller, scope: Scope, uses: Mapping[str, Use], held: set[str]) -> Iterator[Row]:
    """The hottest texts, then the newest, that stand in no other form."""
    store, at = service.memory(caller).store, time.time_ns()
    ranked = sorted(uses, key=lambda id: -uses[id].heat.at(at))[:CANDIDATES]
    warm = (cube for id in ranked if (cube := store.get(id)) is not None and _within(cube.header.scope, scope))
    newest = store.query(scope, _TEXTS, limit=SHOWN).cubes if len(ranked) < SHOWN else ()
    shown, many = set(held), 0
    for cube in (*warm, *newest):
        is_text = cube.header.kind == "text" and cube.header.superseded is None
        if many < SHOWN and is_text and cube.id not in shown and check(caller.principal, "read", cube):
            shown.add(cube.id)
            many += 1
            yield from _rows(service, caller, [cube], uses)


def _rows(service: Service, caller: Caller, cubes: Iterable[MemCube], uses: Mapping[str, Use]) -> list[Row]:
    """Of ``cubes``, those that are texts and that the caller may read."""
    store, at = service.memory(caller).store, time.time_ns()
    rows: list[Row] = []
    for cube in cubes:
        if len(rows) == MEMBERS or cube.header.kind != "text" or not check(caller.principal, "read", cube):
            continue
        use = uses.get(cube.id) or Use(Heat(HALF_LIFE))
        moves = explain(store, cube.id, None, 0.0, at, last=1).decisions
        last = datetime.fromtimestamp(use.last / _SECOND, UTC) if use.last else None
        why_not = refused(cube.header, "activation", at / _SECOND)
        rows.append(Row(cube, use.heat.at(at), use.uses, last, moves[0] if moves else "", why_not))
    return rows


def _uses(store: Store, tenant: str) -> dict[str, Use]:
    """What the calls in the log say of each memory: a use counts one, being found along with others a quarter."""
    log, found = UpkeepLog(store, tenant), dict[str, Use]()
    for row in store.events(cube=log.id, since=max(0, log.head() - LOOKED_BACK)):
        if row.action != CALL:
            continue
        at = int(row.details["at"])
        for part, weight in (("used", 1.0), ("found", 0.25)):
            for id, _ in row.details[part]:
                use = found.setdefault(id, Use(Heat(HALF_LIFE)))
                use.heat = use.heat.touched(at, weight)
                if part == "used":
                    use.uses, use.last = use.uses + 1, at
    return found


def _within(one: Scope, scope: Scope) -> bool:
    return scope.user in (None, one.user) and scope.agent in (None, one.agent)


def _tensor_bytes(service: Service, caller: Caller, ids: Iterable[str], *, save: bool = False) -> int:
    """What caches and adapters of the owners of ``ids`` take in the store; with ``save``, as they are ready now."""
    scopes = {shared_scope(service.readable(caller, id).header.scope) for id in ids}
    for scope in scopes if save else ():
        service.system(caller).tiers.save(scope)
    store = service.memory(caller).store
    return sum(count.bytes for scope in scopes for count in census(store, scope) if count.tier != "text")


def _job(service: Service, caller: Caller, id: str) -> Job:
    """A lesson that the caller may know of. Raises ``NotFound``."""
    found = service.jobs.get(id, caller.tenant, caller.actor if caller.user is not None else None)
    if found.kind != "learn":
        raise NotFound(f"there is no lesson {arguments.short(id)}")
    return found
