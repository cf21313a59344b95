"""The service behind a request, as a dependency; and routes whose work may wait for a model."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Annotated, Any, ParamSpec, TypeVar

from fastapi import Depends, Request

from lamina.server.service import Asked, Service

P = ParamSpec("P")
T = TypeVar("T")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]


def asks(asked: Asked) -> Callable[[Callable[P, T]], Callable[P, Coroutine[Any, Any, T]]]:
    """For a route that has its ``service``: its work may wait for ``asked`` (``Service.asking``)."""

    def asking(route: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        @wraps(route)
        async def awaited(*args: P.args, **given: P.kwargs) -> T:
            service = given["service"]
            assert isinstance(service, Service)
            return await service.asking(asked, partial(route, *args, **given))

        return awaited

    return asking
