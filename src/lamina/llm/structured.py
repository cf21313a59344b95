"""An answer in a given form, from a model that may not know how to give one.

The schema is put into the prompt (servers may ignore a response format), the reply is searched for
JSON (whole, fenced, or the first braces that validate), and validated by pydantic. On failure the
model is asked again, with its own reply and the error, twice; then ``LLMError``. A truncated object is
asked for again, never completed by guessing: a guess would store what nobody said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import ValidationError

from lamina.errors import InvalidInput, LLMError
from lamina.llm.base import Answer, Message

ATTEMPTS = 3
_QUOTED = 4000  # characters of a failed reply that are shown to the model again
_ROLES = get_args(Message.__annotations__["role"]) or ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said; ``cut`` if it stopped at its token limit and not by itself."""

    text: str
    cut: bool = False


Complete = Callable[[Sequence[Message]], Reply]


def ask(complete: Complete, messages: Sequence[Message], schema: type[Answer], *, name: str) -> Answer:
    """The model's answer validated against ``schema``. Raises ``LLMError`` after three failed attempts."""
    asked = instructed(messages, schema)
    for attempt in range(1, ATTEMPTS + 1):
        reply = complete(asked)
        try:
            return parse(reply.text, schema)
        except ValueError as error:
            problem = str(error)
        if reply.cut:
            problem += "; the reply was cut off at its token limit, so it must be shorter"
        if attempt < ATTEMPTS:
            asked = [
                *asked,
                Message(role="assistant", content=reply.text[:_QUOTED]),
                Message(
                    role="user", content=f"That is not valid: {problem}. Reply again with the corrected JSON only."
                ),
            ]
    raise LLMError(
        f"{name} gave no valid {schema.__name__} in {ATTEMPTS} attempts: {problem}. "
        f"Its last reply began {reply.text[:120]!r}. Use a more capable model, or a larger max_tokens if it was cut off"
    )


def instructed(messages: Sequence[Message], schema: type[Answer]) -> list[Message]:
    """``messages`` with the schema at the end of the system message (a new one where there is none)."""
    form = json.dumps(schema.model_json_schema(), ensure_ascii=False, separators=(",", ":"))
    order = f"Reply with one JSON object and nothing else. It must match this JSON Schema:\n{form}"
    if messages[0]["role"] == "system":
        return [Message(role="system", content=f"{messages[0]['content']}\n\n{order}"), *messages[1:]]
    return [Message(role="system", content=order), *messages]


def parse(text: str, schema: type[Answer]) -> Answer:
    """The first JSON in ``text`` that validates. Raises ``ValueError`` saying what is wrong with the first there is."""
    problem = "it holds no complete JSON object"
    for number, candidate in enumerate(_candidates(text)):
        try:
            return schema.model_validate_json(candidate)
        except ValidationError as error:
            if number == 0:
                problem = _readable(error)
    raise ValueError(problem)


def _candidates(text: str) -> Iterator[str]:
    """Every piece of ``text`` that parses as JSON: all of it, each fenced block, each outermost pair of braces."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL)  # a reasoning model's scratch paper
    decoder = json.JSONDecoder()
    for whole in (text, *re.findall(r"```(?:json)?\s*\n(.*?)```", text, flags=re.DOTALL)):
        if _end_of_json(decoder, whole.strip(), 0) == len(whole.strip()):
            yield whole
    at = text.find("{")
    while at >= 0:
        end = _end_of_json(decoder, text, at)
        if end is not None:
            yield text[at:end]
        at = text.find("{", end or at + 1)


def _end_of_json(decoder: json.JSONDecoder, text: str, start: int) -> int | None:
    try:
        return decoder.raw_decode(text, start)[1]
    except ValueError:
        return None
    except RecursionError:  # thousands of open brackets: no answer, and slow to look at one by one
        raise ValueError("it is nested too deeply") from None


def _readable(error: ValidationError) -> str:
    """At most five errors, by field, without the input: it is quoted to the model anyway."""
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'the object'}: {item['msg']}"
        for item in error.errors(include_url=False, include_input=False)[:5]
    ]
    return "; ".join(lines)


def checked_messages(messages: Sequence[Message], max_tokens: int) -> list[Message]:
    """``messages`` as a list. Raises ``InvalidInput`` if empty, malformed, or if ``max_tokens`` is not positive."""
    if max_tokens < 1:
        raise InvalidInput(f"max_tokens={max_tokens} asks for no reply; give 1 or more")
    if not messages or isinstance(messages, str):
        raise InvalidInput(
            f"messages={messages!r:.60} must be a list of {{'role', 'content'}} with at least one message"
        )
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise InvalidInput(f"messages[{i}]={message!r:.60} must be a dict with a string 'content'")
        if message.get("role") not in _ROLES:
            raise InvalidInput(f"messages[{i}] has role={message.get('role')!r}; choose one of {', '.join(_ROLES)}")
    return list(messages)
