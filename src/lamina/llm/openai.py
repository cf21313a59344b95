"""Chat through any OpenAI-compatible server: OpenAI, Ollama, vLLM, llama.cpp, LM Studio ...

Servers differ in what they accept. A refused request is rephrased: json_schema, then json_object, then
no response format; ``max_completion_tokens`` for models that refuse ``max_tokens``; no temperature for
models that fix it. What was accepted is remembered for the next call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from pydantic import BaseModel, ValidationError

from lamina._optional import require
from lamina.llm import structured
from lamina.llm.base import Answer, Message
from lamina.llm.endpoint import Endpoint
from lamina.llm.structured import Reply, checked_messages

if TYPE_CHECKING:
    import openai

Format = Literal["json_schema", "json_object", "none"]
_NEXT: dict[Format, Format] = {"json_schema": "json_object", "json_object": "none"}


class _Said(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Said
    finish_reason: str | None = None


class _Completion(BaseModel):
    choices: list[_Choice]


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What this server and model accept, as far as known."""

    format: Format = "json_schema"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: bool = True

    def after(self, refusal: str, *, formatted: bool) -> _Dialect | None:
        """The next way to put a request that was refused with these words; ``None`` if there is none left."""
        if self.limit == "max_tokens" and "max_completion_tokens" in refusal:
            return replace(self, limit="max_completion_tokens")
        if self.temperature and "temperature" in refusal:
            return replace(self, temperature=False)
        if formatted and self.format != "none":
            return replace(self, format=_NEXT[self.format])
        return None


class OpenAIChat:
    """A ``ChatModel`` behind an OpenAI-compatible endpoint. Thread-safe."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> None:
        """The key is ``api_key``, else ``LAMINA_LLM_API_KEY``, else ``OPENAI_API_KEY``; a server at ``base_url``
        may need none. ``timeout`` and ``backoff`` (the first pause between ``retries``) are in seconds; ``seed``
        makes the pauses' jitter repeatable."""
        self.name = f"openai:{model}"
        self._model = model
        self._temperature = temperature
        self._endpoint = Endpoint(
            base_url=base_url, api_key=api_key, timeout=timeout, retries=retries, backoff=backoff, seed=seed
        )
        self._dialect = _Dialect()

    def __repr__(self) -> str:
        return f"OpenAIChat({self._model!r}, base_url={self._endpoint.base_url!r})"

    @overload
    def chat(self, messages: Sequence[Message], *, schema: None = None, max_tokens: int = 256) -> str: ...
    @overload
    def chat(self, messages: Sequence[Message], *, schema: type[Answer], max_tokens: int = 256) -> Answer: ...
    def chat(
        self, messages: Sequence[Message], *, schema: type[Answer] | None = None, max_tokens: int = 256
    ) -> str | Answer:
        """The reply, stripped, or validated against ``schema`` (asked for again twice when it does not).

        Raises ``LLMError`` for every failure of the network, the server or the answer, ``InvalidInput`` for
        malformed messages.
        """
        messages = checked_messages(messages, max_tokens)
        if schema is None:
            return self._reply(messages, None, max_tokens).text
        return structured.ask(lambda asked: self._reply(asked, schema, max_tokens), messages, schema, name=self.name)

    def stream(self, messages: Sequence[Message], *, max_tokens: int = 256) -> Iterator[str]:
        """The reply in pieces as they come. Retries happen before the first piece only; a stream that
        breaks raises ``LLMError``."""
        checked = checked_messages(messages, max_tokens)
        errors = require("openai", self.name)

        def pieces() -> Iterator[str]:
            chunks = self._send(checked, None, max_tokens, stream=True)
            try:
                with chunks:
                    for chunk in chunks:
                        if chunk.choices and chunk.choices[0].delta.content:
                            yield chunk.choices[0].delta.content
            except errors.OpenAIError as error:
                raise self._endpoint.explained(error) from None
            except ValueError as error:  # a line of the stream is not JSON
                raise self._endpoint.error(f"the stream broke off with a malformed event ({error})") from None

        return pieces()

    def count_tokens(self, text: str) -> int:
        """An estimate, one token for four UTF-8 bytes: the server's tokenizer is not known here."""
        return math.ceil(len(text.encode("utf-8", "replace")) / 4)

    def _reply(self, messages: Sequence[Message], schema: type[BaseModel] | None, max_tokens: int) -> Reply:
        raw = self._send(messages, schema, max_tokens, stream=False)
        try:
            choices = _Completion.model_validate_json(raw.content).choices
        except ValidationError:
            raise self._endpoint.error(
                f"the body is not a chat completion; it began {raw.text[:120]!r}. "
                "Check base_url (it usually ends in /v1)"
            ) from None
        if not choices:
            raise self._endpoint.error("the server returned no choices: try again, or another model")
        said, reason = choices[0].message, choices[0].finish_reason
        if said.refusal or reason == "content_filter":
            raise self._endpoint.error(f"the model refused to answer ({said.refusal or reason}): rephrase the messages")
        return Reply((said.content or "").strip(), cut=reason == "length")

    def _send(
        self, messages: Sequence[Message], schema: type[BaseModel] | None, max_tokens: int, *, stream: bool
    ) -> Any:
        """The raw response (or the open stream), rephrasing the request as long as the server refuses it."""
        errors = require("openai", self.name)
        dialect: _Dialect | None = self._dialect
        while dialect is not None:
            options = self._options(dialect, schema, max_tokens)
            try:
                response = self._endpoint.call(partial(_create, messages=messages, options=options, stream=stream))
            except (errors.BadRequestError, errors.UnprocessableEntityError) as error:
                refused = error
                dialect = dialect.after(error.message, formatted=schema is not None)
            else:
                self._dialect = dialect
                return response
        raise self._endpoint.explained(refused) from None

    def _options(self, dialect: _Dialect, schema: type[BaseModel] | None, max_tokens: int) -> dict[str, Any]:
        options: dict[str, Any] = {"model": self._model, dialect.limit: max_tokens}
        if dialect.temperature:
            options["temperature"] = self._temperature
        if schema is not None and dialect.format == "json_schema":
            name = re.sub(r"\W", "_", schema.__name__)[:64]
            form = {"name": name, "schema": schema.model_json_schema()}
            options["response_format"] = {"type": "json_schema", "json_schema": form}
        elif schema is not None and dialect.format == "json_object":
            options["response_format"] = {"type": "json_object"}
        return options


def _create(client: openai.OpenAI, *, messages: Sequence[Message], options: dict[str, Any], stream: bool) -> Any:
    completions: Any = client.chat.completions  # its overloads do not take a computed dict of options
    if stream:
        return completions.create(messages=messages, stream=True, **options)
    return completions.with_raw_response.create(messages=messages, **options)
