"""Tracing: a span of OpenTelemetry for each request, where the operator asks for it by OpenTelemetry's own variables.

``OTEL_EXPORTER_OTLP_ENDPOINT`` (or ``OTEL_TRACES_EXPORTER=otlp``) sends spans over HTTP, ``OTEL_TRACES_EXPORTER=
console`` prints them; names, samplers and batches follow the other ``OTEL_*`` variables. A span says method, route
pattern, status and request id, and nothing else: no path or query (they hold ids), no headers, no words of an
exception. It continues the trace that the caller names in ``traceparent``.

The provider is ours alone, not the process's: FastAPI's own spans, which quote paths and queries, stay off.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lamina import __version__
from lamina._optional import require
from lamina.errors import InvalidInput, MissingDependency

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer
    from starlette.types import Scope

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_CARRIED = (b"traceparent", b"tracestate")

logger = logging.getLogger("lamina.server")


def method_of(scope: Scope) -> str:
    """The method, as far as it is known: a client may invent as many as it likes."""
    return scope["method"] if scope["method"] in _METHODS else "_OTHER"


def provider(environment: Mapping[str, str] = os.environ) -> TracerProvider | None:
    """What makes spans and sends them, as ``environment`` says; ``None`` if it asks for none. Whoever gets it calls
    ``shutdown``. A package that is missing is logged: a service does not stay away because it cannot be watched.
    Raises ``InvalidInput`` for an exporter that is not known."""
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else "none"
    wanted = environment.get("OTEL_TRACES_EXPORTER", "").strip() or default
    if wanted == "none" or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if wanted not in ("otlp", "console"):
        raise InvalidInput(f"OTEL_TRACES_EXPORTER={wanted!r}: set it to otlp, console or none")
    try:
        return _provider(_exporter(wanted), environment)
    except MissingDependency as error:
        logger.warning("no spans are sent (pip install 'lamina[telemetry]'): %s", error)
        return None


def tracer(of: TracerProvider) -> Tracer:
    """For ``app.state.tracer``, where ``Observing`` looks for it."""
    return of.get_tracer("lamina.server", __version__)


@contextmanager
def span(scope: Scope, id: str) -> Iterator[Span | None]:
    """The span of the request ``id``; ``None`` where the application has no tracer. ``close`` it with its status."""
    tracer: Tracer | None = getattr(scope["app"].state, "tracer", None)
    if tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers = dict(scope["headers"])
    carried = {name.decode(): headers[name].decode("latin-1") for name in _CARRIED if name in headers}
    method = method_of(scope)
    with tracer.start_as_current_span(
        method,
        context=TraceContextTextMapPropagator().extract(carried),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": method, "lamina.request_id": id},
        record_exception=False,
        set_status_on_exception=False,
    ) as found:
        yield found


def close(span: Span | None, route: str | None, status: int) -> None:
    """What is known at the end of the request: the pattern of its route, if one was found, and its status."""
    if span is None:
        return
    from opentelemetry.trace import StatusCode

    told: dict[str, Any] = {"http.response.status_code": status}
    if route is not None:
        told["http.route"] = route
        attributes = getattr(span, "attributes", None) or {}
        span.update_name(f"{attributes.get('http.request.method', 'HTTP')} {route}")
    if status >= 500:
        told["error.type"] = str(status)
        span.set_status(StatusCode.ERROR)
    span.set_attributes(told)


def _exporter(kind: str) -> SpanExporter:
    if kind == "console":
        exporter: SpanExporter = require("opentelemetry.sdk.trace.export", "printing spans").ConsoleSpanExporter()
    else:
        place = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
        exporter = require(place, "sending spans").OTLPSpanExporter()
    return exporter


def _provider(exporter: SpanExporter, environment: Mapping[str, str]) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "lamina"}
    made = TracerProvider(resource=Resource.create({**named, "service.version": __version__}))
    made.add_span_processor(BatchSpanProcessor(exporter))
    return made
