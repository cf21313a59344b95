"""What came back: the answer of a call, the error it tells of, or how long to wait before it is sent again.

Errors are those of ``lamina.errors``, found by their code, else by the status. No input or output happens here.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from lamina import errors
from lamina._optional import require
from lamina.client.calls import Request
from lamina.errors import InvalidInput, LaminaError, StoreUnavailable

if TYPE_CHECKING:
    import httpx

R = TypeVar("R")

OVER = frozenset({"done", "failed", "cancelled", "lost"})  # states of jobs
_AGAIN = (429, 503)
_LONGEST = 30.0  # seconds between two tries, whatever the service asks for
_KINDS: Mapping[str, type[LaminaError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LaminaError) and kind is not errors.RateLimited
}
_BY_STATUS: Mapping[int, type[LaminaError]] = {  # where a code says more than the class of its error
    400: InvalidInput,
    403: errors.NotPermitted,
    404: errors.NotFound,
    409: errors.Conflict,
    422: InvalidInput,
    503: StoreUnavailable,
}


def connection(url: str, token: str | None, seconds: float, tries: int) -> dict[str, Any]:
    """The arguments of an httpx client. Raises ``InvalidInput``."""
    if not url.startswith(("http://", "https://")):
        raise InvalidInput(f"url={url!r}: must begin with http:// or https://")
    httpx = require("httpx", "lamina.client")
    try:
        named = bool(httpx.URL(url).host) and urlsplit(url).port != 0 and not any(map(str.isspace, url))
    except (ValueError, httpx.InvalidURL):
        named = False
    if not named:
        raise InvalidInput(f"url={url!r}: names no host and port; it looks like http://127.0.0.1:8321")
    if tries < 1:
        raise InvalidInput(f"tries={tries!r}: at least 1")
    token = (token or "").strip()
    if not token.isascii() or not token.isprintable():  # a header could not carry it, and errors would quote it
        raise InvalidInput("token: holds signs that no key has; give what `lamina keys create` printed")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": url, "headers": headers, "timeout": seconds}


def still_open(client: httpx.Client | httpx.AsyncClient) -> None:
    """Raises ``StoreUnavailable`` for a client that was closed, as a closed ``Memory`` does."""
    if client.is_closed:
        raise StoreUnavailable(f"{_place(client.base_url)}: the client was closed; make another one")


def built(client: httpx.Client | httpx.AsyncClient, request: Request[Any]) -> httpx.Request:
    """What is sent. Raises ``InvalidInput`` for what cannot be JSON or part of an address."""
    httpx = require("httpx", "lamina.client")
    if not all(map(_sendable, request.headers.values())):
        raise InvalidInput("idempotency_key: over HTTP it is text of ASCII letters, digits and signs, and not empty")
    try:
        parameters = {name: _dumped(one) if isinstance(one, Mapping) else one
                      for name, one in request.parameters.items()}  # fmt: skip
        content = None if request.body is None else _dumped(request.body)
        headers = ({} if content is None else {"Content-Type": "application/json"}) | dict(request.headers)
        return client.build_request(request.method, request.path, params=parameters, content=content, headers=headers)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{request.method} {request.path}: an argument is no JSON or no Unicode: {error}") from error
    except httpx.InvalidURL as error:
        told = f"{request.method} {request.path}: the arguments are no address ({error}): pass fewer or shorter values"
        raise InvalidInput(told) from error


def pause(request: Request[Any], got: httpx.Response | httpx.TransportError, tried: int, tries: int) -> float | None:
    """Seconds until the next try, after ``tried`` of ``tries``; ``None``: what was got stands."""
    if tried >= tries or not request.again:
        return None
    asked = min(_LONGEST, 0.2 * 2.0**tried)
    if isinstance(got, Exception):
        return asked
    return min(_LONGEST, _retry_after(got, asked)) if got.status_code in _AGAIN else None


def told(request: Request[R], got: httpx.Response | httpx.TransportError) -> R:
    """What the service says, or the error that it tells of."""
    if isinstance(got, Exception):
        fault = type(got).__name__  # its words may quote the key
        raise StoreUnavailable(
            f"{_place(got.request.url)} does not answer ({fault}): is `lamina serve` running there?"
        ) from got
    if got.is_success:
        return cast("R", _json(got))
    if got.status_code == 404 and request.optional:
        return cast("R", None)
    try:
        error = got.json()["error"]
        code, message = str(error["code"]), str(error["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "ERROR", got.text[:200]
    if got.status_code == 429:
        raise errors.RateLimited(message, retry_after=_retry_after(got, 1.0))
    kind = _KINDS.get(code, _BY_STATUS.get(got.status_code, LaminaError))
    raise kind(f"{message} (HTTP {got.status_code})")


def described(run: Callable[..., Any], call: Callable[..., Any]) -> None:
    """Give a method the name, words and parameters of the call that it sends."""
    run.__name__, run.__doc__ = call.__name__, call.__doc__
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(call)
    answer = signature.return_annotation.removeprefix("Request[").removesuffix("]")
    vars(run)["__signature__"] = signature.replace(
        parameters=[own, *signature.parameters.values()], return_annotation=answer
    )


def _sendable(value: object) -> bool:
    """As a header: httpx would break off over any other."""
    return isinstance(value, str) and value.isascii() and value.isprintable() and bool(value.strip())


def _dumped(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False, default=_plain)


def _plain(value: object) -> Any:
    """For JSON: times, and mappings that are no dict."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _json(got: httpx.Response) -> Any:
    try:
        return got.json()
    except ValueError as error:
        told = f"{_place(got.request.url)} answers something that is no JSON: is it a Lamina service?"
        raise LaminaError(told) from error


def _place(url: httpx.URL) -> str:
    """Without a password, which a URL may hold."""
    return f"{url.scheme}://{url.netloc.decode()}{url.path}"


def _retry_after(got: httpx.Response, otherwise: float) -> float:
    """Seconds that the service asks for; a date, which RFC 9110 allows too, is not read."""
    try:
        seconds = float(got.headers.get("retry-after", otherwise))
    except ValueError:
        return otherwise
    return max(0.0, seconds) if math.isfinite(seconds) else otherwise
