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

from lamina import errors
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
    if tries < 1:
        raise InvalidInput(f"tries={tries!r}: at least 1")
    token = (token or "").strip()
    if not token.isascii() or not token.isprintable():  # a header could not carry it, and errors would quote it
        raise InvalidInput("token: holds signs that no key has; give what `lamina keys create` printed")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"base_url": url, "headers": headers, "timeout": seconds}


def wire(request: Request[Any]) -> dict[str, Any]:
    """The arguments of ``httpx.Client.request``. Raises ``InvalidInput`` for what cannot be JSON."""
    sent = {
        "method": request.method,
        "url": request.path,
        "params": dict(request.parameters),
        "headers": dict(request.headers),
    }
    if not all(value.isascii() and value.isprintable() for value in request.headers.values()):
        raise InvalidInput("idempotency_key: over HTTP it is made of ASCII letters, digits and signs")
    if request.body is None:
        return sent
    try:
        content = json.dumps(request.body, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{request.method} {request.path}: an argument cannot be sent as JSON: {error}") from error
    return sent | {"content": content, "headers": {"Content-Type": "application/json", **request.headers}}


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
        place, fault = got.request.url.copy_with(raw_path=b"/"), type(got).__name__  # its words may quote the key
        raise StoreUnavailable(f"{place} does not answer: {fault}") from got
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
        raise LaminaError(f"{got.request.url} answers something that is no JSON: is it a Lamina service?") from error


def _retry_after(got: httpx.Response, otherwise: float) -> float:
    """Seconds that the service asks for; a date, which RFC 9110 allows too, is not read."""
    try:
        seconds = float(got.headers.get("retry-after", otherwise))
    except ValueError:
        return otherwise
    return max(0.0, seconds) if math.isfinite(seconds) else otherwise
