"""An OpenAI-compatible server: its key, its retries, and its errors in words that say what to do.

Retries follow the server's Retry-After, else exponential back-off with full jitter (Amazon's
architecture blog, "Exponential Backoff And Jitter", 2015), from a generator that a seed makes
repeatable. The key is never shown: not in ``repr``, not in an error, even where a server echoes it;
errors are raised without their cause for that reason. However often it is tried, and however slowly a server answers,
it ends when whoever asks no longer waits (``llm.patience``, ``llm.deadline``).
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from lamina._optional import require
from lamina.errors import InvalidInput, LLMError, LLMUnavailable
from lamina.llm.deadline import bound
from lamina.llm.patience import left

if TYPE_CHECKING:
    import openai

Result = TypeVar("Result")
KEYS = ("LAMINA_LLM_API_KEY", "OPENAI_API_KEY")
_NO_KEY = "none"
LONGEST_WAIT = 60.0  # seconds; a server that asks for more gets an error, not a sleeping caller

_REMEDY = {
    400: "the server refused the request",
    401: f"the key was refused: set a valid {' or '.join(KEYS)}, or pass api_key",
    403: "the key has no right to this model",
    404: "no such model or path: check the model's name and base_url (it usually ends in /v1)",
    413: "the request is too large: shorten the messages",
    429: "the rate or spending limit is reached: wait, or check the account's quota",
}


class Endpoint:
    """One server as the openai client sees it; ``call`` adds retries and readable errors."""

    def __init__(
        self,
        *,
        base_url: str | None,
        api_key: str | None,
        timeout: float,
        retries: int,
        backoff: float,
        seed: int | None,
    ) -> None:
        """``timeout`` is in seconds without an answer, ``retries`` beyond the first attempt, ``backoff`` the
        first wait in seconds. Without ``base_url`` it is OpenAI's, which needs a key."""
        key = api_key or next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
        if key is None and base_url is None:
            raise InvalidInput(
                f"api_key=None and no {' or '.join(KEYS)} is set: give a key, or the base_url of a server"
            )
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise InvalidInput(f"timeout={timeout} must be above 0, retries={retries} and backoff={backoff} not below")
        self.base_url = base_url or "https://api.openai.com/v1"
        self._key = key or _NO_KEY  # local servers want a header, not a secret
        self._timeout = timeout
        self._retries = retries
        self._backoff = backoff
        self._random = random.Random(seed)
        self._client: openai.OpenAI | None = None

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"

    def client(self) -> openai.OpenAI:
        """The client, made at first use. It does not retry by itself."""
        if self._client is None:
            module = require("openai", f"the endpoint {self.base_url}")
            self._client = module.OpenAI(
                api_key=self._key,
                base_url=self.base_url,
                timeout=self._timeout,
                max_retries=0,
                http_client=module.DefaultHttpxClient(timeout=self._timeout, event_hooks={"request": [bound]}),
            )
        return self._client

    def call(self, request: Callable[[openai.OpenAI], Result]) -> Result:
        """``request(client)``; raises ``LLMError`` when it cannot succeed, ``LLMUnavailable`` when retries are used up.

        A refused request (400, 422) is passed on as the openai error: the caller may rephrase it.
        """
        client, errors = self.client(), require("openai", "an endpoint")
        for attempt in itertools.count():
            try:
                return request(client)
            except (errors.BadRequestError, errors.UnprocessableEntityError):
                raise
            except errors.OpenAIError as error:
                wait = self._wait(error, attempt)
                if attempt == self._retries or wait is None or wait >= left():
                    raise self.explained(error) from None
            time.sleep(wait)
        raise AssertionError  # the loop has no end of its own

    def _wait(self, error: Exception, attempt: int) -> float | None:
        """Seconds until the next attempt; ``None`` if another cannot help."""
        errors = require("openai", "an endpoint")
        if isinstance(error, errors.APIStatusError):
            if not _may_pass(error):
                return None
            if error.code == "insufficient_quota":
                return None
            try:
                asked = float(error.response.headers.get("retry-after", ""))
            except ValueError:
                pass  # absent, or a date: fall back to our own pace
            else:
                return max(asked, 0.0) if asked <= LONGEST_WAIT else None
        elif not isinstance(error, errors.APIConnectionError):
            return None
        return min(self._backoff * float(2**attempt), LONGEST_WAIT) * self._random.random()

    def explained(self, error: Exception) -> LLMError:
        """``error`` of the openai package as an ``LLMError`` that names the server, the reason and the remedy.

        It is an ``LLMUnavailable`` where the server did not answer, or may answer the same request later.
        """
        errors = require("openai", "an endpoint")
        if isinstance(error, errors.APITimeoutError):
            waited = f"timeout={self._timeout} s" if left() else "the time of the request"
            reason = f"no answer within {waited}: the server is overloaded, or raise the timeout"
        elif isinstance(error, errors.APIConnectionError):
            reason = f"cannot be reached ({error.__cause__ or error}): check base_url and that the server runs"
        elif isinstance(error, errors.APIStatusError):
            remedy = _REMEDY.get(error.status_code, "the server failed: try again later")
            reason = f"HTTP {error.status_code}, {remedy}. It said: {error.message[:300]}"
        else:
            reason = f"{type(error).__name__}: {str(error)[:300]}"
        return self.error(reason, LLMUnavailable if _may_pass(error) else LLMError)

    def error(self, reason: str, kind: type[LLMError] = LLMError) -> LLMError:
        """An error about this server, the key blotted out."""
        # A key of a few letters is a placeholder; blotting it out would eat ordinary words.
        hidden = reason.replace(self._key, "***") if len(self._key) >= 8 else reason
        return kind(f"{self.base_url}: {hidden}")


def _may_pass(error: Exception) -> bool:
    """Whether it is the network's or the server's trouble, not the request's: time-outs and broken connections too."""
    errors = require("openai", "an endpoint")
    if isinstance(error, errors.APIStatusError):
        return error.status_code in (408, 409, 429) or error.status_code >= 500
    return isinstance(error, errors.APIConnectionError)
