"""The calls of ``Memory`` over HTTP, for programs that use a Lamina service.

    from lamina.client import Client

    with Client("http://127.0.0.1:8321", token="lk_...") as memory:
        memory.add("I moved to Denver in June.", user_id="alice")
        memory.search("Where does Alice live?", filters={"user_id": "alice"})

Needs httpx and nothing else of Lamina. Errors are those of ``lamina.errors``. What is unusual: every ``add`` carries an
idempotency key, so that it can be sent again when no answer came, or 429 or 503, and is still written once.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from lamina import errors
from lamina._optional import require
from lamina.errors import InvalidInput, LaminaError, StoreUnavailable

if TYPE_CHECKING:
    import httpx

Answer = dict[str, Any]

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


class Client:
    """A memory behind ``url``. Thread-safe; a context manager.

    ``token`` is a key (``lamina keys create``); none is needed on a machine's own service without keys. ``seconds`` an
    answer may take; ``tries`` of a call that can be repeated. Raises ``InvalidInput`` for a URL that is none.
    """

    def __init__(self, url: str, token: str | None = None, *, seconds: float = 60.0, tries: int = 4) -> None:
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"url={url!r}: must begin with http:// or https://")
        if tries < 1:
            raise InvalidInput(f"tries={tries!r}: at least 1")
        self._httpx = require("httpx", "lamina.client")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http: httpx.Client = self._httpx.Client(base_url=url, headers=headers, timeout=seconds)
        self._tries = tries

    # -- writing ---------------------------------------------------------------------------------

    def add(self, messages: Any, *, idempotency_key: str | None = None, **options: Any) -> Answer:
        """``Memory.add``: what was stored, updated or superseded."""
        key = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self._ask("POST", "/memories", {"messages": messages, **options}, headers=key)

    def update(self, memory_id: str, text: str | None = None, *, metadata: Mapping[str, Any] | None = None) -> Answer:
        """The next version; sent once, since a repeat would make another."""
        return self._ask("PUT", f"/memories/{_part(memory_id)}", {"text": text, "metadata": metadata}, again=False)

    def delete(self, memory_id: str) -> Answer:
        """Out of use; the history stays."""
        return self._ask("DELETE", f"/memories/{_part(memory_id)}", again=False)

    def forget(self, memory_id: str) -> Answer:
        """Erased everywhere; needs the right "forget"."""
        return self._ask("DELETE", f"/memories/{_part(memory_id)}", parameters={"forget": True}, again=False)

    def restore(self, memory_id: str) -> Answer:
        """A deletion or supersession taken back."""
        return self._ask("POST", f"/memories/{_part(memory_id)}/restore", again=False)

    def accept(self, memory_id: str, text: str | None = None) -> Answer:
        """Believe a statement that was set aside."""
        return self._ask("POST", f"/memories/{_part(memory_id)}/accept", {"text": text}, again=False)

    def delete_all(self, **owner: str) -> Answer:
        """Everything of an owner (``user_id``, ``agent_id``, ``run_id``) out of use."""
        return self._ask("DELETE", "/memories", parameters=owner)

    # -- reading ---------------------------------------------------------------------------------

    def search(self, query: str, *, filters: Mapping[str, Any] | None = None, **options: Any) -> Answer:
        """The memories that answer ``query``, best first."""
        return self._ask("POST", "/search", {"query": query, "filters": dict(filters or {}), **options})

    def get(self, memory_id: str) -> Answer | None:
        """One memory, deleted or not, or ``None``."""
        try:
            return self._ask("GET", f"/memories/{_part(memory_id)}")
        except errors.NotFound:
            return None

    def get_all(self, *, filters: Mapping[str, Any] | None = None, **options: Any) -> Answer:
        """Memories of an owner, newest first; ``filters`` here are the owner's ids alone."""
        return self._ask("GET", "/memories", parameters={**(filters or {}), **options})

    def all(self, *, page: int = 100, **owner: str) -> Iterator[Answer]:
        """Every memory of an owner, newest first, page by page."""
        cursor: str | None = None
        while True:
            found = self.get_all(filters=owner, top_k=page, **({"cursor": cursor} if cursor else {}))
            yield from found["results"]
            cursor = found["cursor"]
            if cursor is None:
                return

    def history(self, memory_id: str) -> list[Answer]:
        """Every change of a memory, oldest first."""
        rows: Any = self._ask("GET", f"/memories/{_part(memory_id)}/history")
        return list(rows)

    def quarantined(self, **owner: str) -> Answer:
        """Statements that were set aside."""
        return self._ask("GET", "/memories/quarantined", parameters=owner)

    def chat(self, messages: str | list[dict[str, str]], **options: Any) -> Answer:
        """The service's local model, with what it remembers."""
        return self._ask("POST", "/chat", {"messages": messages, **options}, again=False)

    # -- inside ----------------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
    ) -> Answer:
        for left in reversed(range(self._tries if again else 1)):
            try:
                answer = self._http.request(method, path, json=body, params=parameters, headers=headers)
            except self._httpx.TransportError as error:
                if not left:
                    raise StoreUnavailable(f"{self._http.base_url} does not answer: {error}") from error
                time.sleep(_pause(self._tries - left))
                continue
            if answer.status_code not in _AGAIN or not left:
                told: Answer = _content(answer)
                return told
            time.sleep(min(_LONGEST, float(answer.headers.get("retry-after", _pause(self._tries - left)))))
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self.close()
        return False


def _content(answer: httpx.Response) -> Any:
    """What the service says, or the error that it tells of."""
    if answer.is_success:
        return answer.json()
    try:
        told = answer.json()["error"]
        code, message = str(told["code"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        code, message = "ERROR", answer.text[:200]
    if answer.status_code == 429:
        raise errors.RateLimited(message, retry_after=float(answer.headers.get("retry-after", 1)))
    kind = _KINDS.get(code, _BY_STATUS.get(answer.status_code, LaminaError))
    raise kind(f"{message} (HTTP {answer.status_code})")


def _part(id: str) -> str:
    """An id as a part of a path: never a path of its own."""
    if not id or not all(letter.isalnum() or letter in "-_.:" for letter in id) or set(id) == {"."}:
        raise InvalidInput(f"memory_id={id[:80]!r}: is no id of a memory")
    return id


def _pause(tried: int) -> float:
    return min(_LONGEST, 0.2 * 2.0**tried)
