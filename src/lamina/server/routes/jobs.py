"""Jobs: what takes minutes is asked for here, and followed by polling or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from lamina.llm.patience import left, within
from lamina.server.caller import Caller
from lamina.server.jobs import Job, Report
from lamina.server.routes.memories import Answer, Body, Reader, Writer
from lamina.server.routes.service_of import Served
from lamina.server.service import Service

router = APIRouter(tags=["jobs"], prefix="/jobs")
_POLL = 0.3  # seconds
_BATCH = 100  # items stored at once, where no chat model reads each
_PATIENCE = 60.0  # seconds that models are waited for at each batch: so soon a job hears that it was cancelled
_SILENT = 10.0  # the same, once they did not answer a batch in time: what is not read waits for a later "retry"


class LearnBody(Body):
    """Teach an adapter these memories, all of one owner; refused if it does not know them well enough then."""

    kind: Literal["learn"]
    ids: list[str] = Field(min_length=1, max_length=100, examples=[["019c0000-0000-7000-8000-000000000000"]])


class AddManyBody(Body):
    """Remember many messages: items as for ``POST /memories``, each with its owner."""

    kind: Literal["add"]
    items: list[dict[str, Any]] = Field(
        min_length=1, max_length=100_000, examples=[[{"messages": "I moved to Denver in June.", "user_id": "alice"}]]
    )
    infer: bool = True


JobBody = Annotated[LearnBody | AddManyBody, Field(discriminator="kind")]


@router.post("", status_code=202, summary="Start a job")
def start(body: JobBody, caller: Writer, service: Served) -> Answer:
    """Jobs of a process run one after another."""
    work = _learn(body, caller, service) if isinstance(body, LearnBody) else _add(body, caller, service)
    return asdict(service.jobs.start(body.kind, caller.tenant, caller.actor, work))


def _found(job_id: str, caller: Reader, service: Served) -> Job:
    return service.jobs.get(job_id, caller.tenant, _asker(caller))


Found = Annotated[Job, Depends(_found)]


@router.get("/{job_id}", summary="How a job stands")
def get(job: Found) -> Answer:
    """Its state, progress in [0, 1], and in the end its result or error. A key of one user sees its own jobs alone."""
    return asdict(job)


@router.delete("/{job_id}", summary="Cancel a job")
def cancel(job_id: str, caller: Writer, service: Served) -> Answer:
    """It ends at its next report; what it committed stays."""
    return asdict(service.jobs.cancel(job_id, caller.tenant, _asker(caller)))


@router.get("/{job_id}/events", summary="Follow a job", response_class=EventSourceResponse)
async def events(job: Found, caller: Reader, service: Served) -> AsyncIterator[ServerSentEvent]:
    """An event whenever it moved on; the stream ends when the job is over."""
    yield ServerSentEvent(data=asdict(job), event="job")
    while not job.over:
        await asyncio.sleep(_POLL)
        told, job = job, await run_in_threadpool(service.jobs.get, job.id, caller.tenant)
        if job != told:
            yield ServerSentEvent(data=asdict(job), event="job")


def _asker(caller: Caller) -> str | None:
    """Whose jobs it may see: a key of one user, its own; others, the tenant's."""
    return caller.actor if caller.user is not None else None


def _learn(body: LearnBody, caller: Caller, service: Service) -> Callable[[Report], Answer]:
    for id in body.ids:
        service.changeable(caller, id, "promote", form="parameter")

    def work(report: Report) -> Answer:
        report(0.0, f"learning {len(body.ids)} memories")
        made = service.system(caller).promote(
            body.ids, "parameter", progress=lambda step, steps, _: report(step / steps, f"step {step} of {steps}")
        )
        assert made is not None
        return {"accepted": made.cube is not None, "reason": made.reason, **made.figures}

    return work


def _add(body: AddManyBody, caller: Caller, service: Service) -> Callable[[Report], Answer]:
    items = [caller.owner(item) for item in body.items]

    def work(report: Report) -> Answer:
        memory, written, patience = service.memory(caller), 0, _PATIENCE
        size = 1 if body.infer and memory.llm is not None else _BATCH
        for start in range(0, len(items), size):
            report(start / len(items), f"{start} of {len(items)} items")
            with within(patience):
                rows = memory.add_batch(items[start : start + size], infer=body.infer)
                patience = _PATIENCE if left() else _SILENT
            written += sum(len(row["results"]) for row in rows)
        return {"items": len(items), "results": written}

    return work
