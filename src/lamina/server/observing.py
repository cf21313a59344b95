"""What operators need to see of each request: an id, one line of log, metrics, a span; and a limit on its time.

Ids come from ``X-Request-ID`` or are made, and go back in the answer and into every line. A log line is JSON and never
holds contents, ids of users or keys' secrets. The path in metrics is the route's pattern, so that ids of memories do
not become labels. Time is limited until the answer begins: streams go on. Who still waits when the service stops is
told so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from contextlib import suppress
from contextvars import ContextVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lamina.llm.patience import within
from lamina.server import tracing
from lamina.server.failures import answer
from lamina.store.acting import on_behalf

request_id: ContextVar[str] = ContextVar("request_id", default="-")
_GIVEN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MODELS = 0.9  # of the time is the models'; the rest is for keeping and answering what there is without them
_AGAIN = 5  # seconds after which another process may answer
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

logger = logging.getLogger("lamina.server")


class Metrics:
    """Prometheus metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lamina_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "lamina_request_seconds",
            "Time until the answer began.",
            ("method", "route"),
            registry=self.registry,
            buckets=_BUCKETS,
        )
        self.running = Gauge("lamina_requests_running", "Requests being answered.", registry=self.registry)
        self.memories = Gauge("lamina_memories", "Open memories in the store.", registry=self.registry)


class Observing:
    """ASGI middleware. ``seconds``: time until an answer must begin; later it is 504, and the work may still end."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, seconds: float) -> None:
        self._app, self._metrics, self._seconds = app, metrics, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
        id = given if _GIVEN.fullmatch(given) else secrets.token_hex(8)
        token = request_id.set(id)
        started, begin, status = asyncio.Event(), time.perf_counter(), 500

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", id.encode())]
                started.set()
            await send(message)

        with tracing.span(scope, id) as span:
            try:
                with self._metrics.running.track_inprogress(), on_behalf(), within(_MODELS * self._seconds):
                    await self._limited(scope, receive, answering, started)
            except Exception:
                logger.exception("a request failed")
                if started.is_set():
                    raise  # the server cuts the connection: nobody takes what was sent for the whole
                failed = answer(500, "ERROR", "this is our fault; the log has it under X-Request-ID")
                await failed(scope, receive, answering)
            finally:
                self._account(scope, status, time.perf_counter() - begin)
                tracing.close(span, getattr(scope.get("route"), "path", None), status)
                request_id.reset(token)

    async def _limited(self, scope: Scope, receive: Receive, send: Send, started: asyncio.Event) -> None:
        """A cancelling ends here, said to who waits: it comes from a server that stops, which would log it as a fault
        of ours. A stream that had begun is cut."""
        over = False

        async def sending(message: Message) -> None:
            if not over:
                await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, sending))
        begun = asyncio.ensure_future(started.wait())
        try:
            await asyncio.wait({work, begun}, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
            if work.done() or started.is_set():
                await work
                return
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            message = f"no answer within {self._seconds:g} s; what was asked may still be done"
            await answer(504, "TIMEOUT", message)(scope, receive, send)
        except asyncio.CancelledError:
            over = True
            work.cancel()
            if not started.is_set():
                message = "the service stops; what was asked may have been done: look, then ask again"
                stopping = answer(503, "STOPPING", message, {"Retry-After": str(_AGAIN)})
                await stopping(scope, receive, send)
        finally:
            begun.cancel()

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = tracing.method_of(scope), getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(method, route, status).inc()
        self._metrics.seconds.labels(method, route).observe(seconds)
        caller = scope.get("state", {}).get("caller")
        logger.info(
            "request",
            extra={
                "method": method,
                "route": route,
                "status": status,
                "ms": round(1e3 * seconds, 1),
                "key": caller.id if caller else None,
            },
        )


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, message, request id, and the fields of a request."""

    _FIELDS = ("method", "route", "status", "ms", "key")

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "at": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": request_id.get(),
            **{name: getattr(record, name) for name in self._FIELDS if hasattr(record, name)},
        }
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)
