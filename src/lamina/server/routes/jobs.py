"""Jobs: what takes minutes is asked for here, and followed by polling or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field

from lamina.server.caller import Caller
from lamina.server.jobs import Jobs, Report
from lamina.server.routes.memories import Answer, Body, Reader, Writer
from lamina.server.routes.service_of import Served
from lamina.server.service import Service

router = APIRouter(tags=["jobs"], prefix="/jobs")
_POLL = 0.3  # seconds


class LearnBody(Body):
    """Teach an adapter these memories, all of one owner; refused if it does not know them well enough then."""

    kind: Literal["learn"]
    ids: list[str] = Field(min_length=1, max_length=100)


class AddManyBody(Body):
    """Remember many messages: items as for ``POST /memories``, each with its owner."""

    kind: Literal["add"]
    items: list[dict[str, Any]] = Field(min_length=1, max_length=100_000)
    infer: bool = True


JobBody = Annotated[LearnBody | AddManyBody, Field(discriminator="kind")]


@router.post("", status_code=202, summary="Start a job")
def start(body: JobBody, caller: Writer, service: Served) -> Answer:
    """Jobs of a process run one after another."""
    work = _learn(body, caller, service) if isinstance(body, LearnBody) else _add(body, caller, service)
    return asdict(_jobs(service).start(body.kind, caller.tenant, f"key:{caller.id}", work))


@router.get("/{job_id}", summary="How a job stands")
def get(job_id: str, caller: Reader, service: Served) -> Answer:
    """Its state, progress in [0, 1], and in the end its result or error."""
    return asdict(_jobs(service).get(job_id, caller.tenant))


@router.delete("/{job_id}", summary="Cancel a job")
def cancel(job_id: str, caller: Writer, service: Served) -> Answer:
    """It ends at its next report; what it committed stays."""
    return asdict(_jobs(service).cancel(job_id, caller.tenant))


@router.get("/{job_id}/events", summary="Follow a job", response_class=EventSourceResponse)
async def events(job_id: str, caller: Reader, service: Served) -> AsyncIterator[ServerSentEvent]:
    """An event whenever it moved on; the stream ends when the job is over."""
    told: Answer | None = None
    while told is None or not _over(told):
        found = asdict(await asyncio.to_thread(_jobs(service).get, job_id, caller.tenant))
        if found != told:
            told = found
            yield ServerSentEvent(data=told, event="job")
        else:
            await asyncio.sleep(_POLL)


def _over(job: Answer) -> bool:
    return job["state"] in ("done", "failed", "cancelled", "lost")


def _jobs(service: Service) -> Jobs:
    return service.jobs


def _learn(body: LearnBody, caller: Caller, service: Service) -> Callable[[Report], Answer]:
    for id in body.ids:
        service.changeable(caller, id, "promote")

    def work(report: Report) -> Answer:
        report(0.0, f"learning {len(body.ids)} memories")
        made = service.system(caller).promote(body.ids, "parameter")
        assert made is not None
        return {"accepted": made.cube is not None, "reason": made.reason, **made.figures}

    return work


def _add(body: AddManyBody, caller: Caller, service: Service) -> Callable[[Report], Answer]:
    items = [caller.owner(item) for item in body.items]

    def work(report: Report) -> Answer:
        memory, written = service.memory(caller), 0
        for start in range(0, len(items), 100):
            report(start / len(items), f"{start} of {len(items)} items")
            rows = memory.add_batch(items[start : start + 100], infer=body.infer)
            written += sum(len(row["results"]) for row in rows)
        return {"items": len(items), "results": written}

    return work
