"""The prompt and the answer form of each operation: one source for recording, training and serving.

A small model is as good as its prompt is familiar, so the very same bytes must be used in all three places. Prompts
are short on purpose: an expert knows its task by heart, and at 135M parameters every token costs. ``PROMPTS`` hashes
all of it into every expert, so that one trained for other prompts can be told apart.

The JSON is written by ``json.dumps`` with its default separators; ``decoding.Grammar`` allows exactly that layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from pydantic import BaseModel, RootModel, ValidationError

from lamina.llm.base import Message
from lamina.parameter.experts.operations import (
    NOT_MENTIONED,
    Event,
    Exchange,
    Inquiry,
    MemoryOp,
    Op,
    Output,
    Request,
    Revision,
    op_of,
)

INSTRUCTIONS: dict[Op, str] = {
    "extract": "List the facts that were said, as JSON.",
    "update": "Update the memories by the new facts, as JSON.",
    "generate": f'Answer from the memories in a few words, or "{NOT_MENTIONED}".',
}


class Facts(BaseModel):
    """The answer to ``extract``."""

    facts: list[str]


class Change(BaseModel):
    """One item of the answer to ``update``."""

    event: Event
    id: int | None
    text: str | None


class Changes(RootModel[list[Change]]):
    """The answer to ``update``."""


FORMS: dict[Op, type[BaseModel]] = {"extract": Facts, "update": Changes}  # ``generate`` answers in plain words
PROMPTS = hashlib.sha256(
    json.dumps([INSTRUCTIONS, {op: form.model_json_schema() for op, form in FORMS.items()}, 1]).encode()
).hexdigest()


def messages(request: Request, shots: Sequence[tuple[Request, Output]] = ()) -> list[Message]:
    """The prompt of a request; ``shots`` are shown before it as turns that were answered."""
    asked = [Message(role="system", content=INSTRUCTIONS[op_of(request)])]
    for shown, output in shots:
        asked.append(Message(role="user", content=_question(shown)))
        asked.append(Message(role="assistant", content=written(output)))
    return [*asked, Message(role="user", content=_question(request))]


def _question(request: Request) -> str:
    match request:
        case Exchange(said, context):
            before = [f"(before) {speaker}: {text}" for speaker, text in context]
            return "\n".join([*before, *(f"{speaker}: {text}" for speaker, text in said)])
        case Revision(facts, memories):
            shown = [f"{place}. {text}" for place, text in enumerate(memories)] or ["none"]
            return "\n".join(["Memories:", *shown, "New:", *(f"- {fact}" for fact in facts)])
        case Inquiry(question, recalled, today):
            lines = [f"{day(each.day)}: {each.text}" for each in recalled] or ["none"]
            return "\n".join(["Memories:", *lines, f"Today is {day(today)}. {question}"])


def day(moment: date) -> str:
    """``3 May 2024``: few tokens, and read without parsing."""
    return f"{moment.day} {moment:%b} {moment.year}"


def written(output: Output) -> str:
    """The text a model is taught to write for ``output``."""
    if isinstance(output, str):
        return output
    if any(isinstance(item, MemoryOp) for item in output):
        rows = [{"event": o.event, "id": o.id, "text": o.text} for o in output if isinstance(o, MemoryOp)]
        return json.dumps(rows, ensure_ascii=False)
    return json.dumps({"facts": list(output)}, ensure_ascii=False)


def schema(request: Request) -> dict[str, Any]:
    """The JSON schema of the answers that ``request`` allows: what fits it can be executed, if it is not cut off.

    Narrower than the forms: one operation a fact, of memories that were shown. ``{}`` for an answer in plain words.
    """
    if isinstance(request, Inquiry):
        return {}
    if isinstance(request, Exchange):
        return Facts.model_json_schema()
    nothing, text = {"type": "null"}, {"type": "string", "minLength": 1}
    places = [{"enum": list(range(len(request.memories)))}] if request.memories else []
    kinds: list[tuple[Event, Any, Any]] = [("ADD", nothing, text), ("NONE", {"anyOf": [nothing, *places]}, nothing)]
    kinds += [kind for place in places for kind in (("UPDATE", place, text), ("DELETE", place, nothing))]
    rows = [
        {"type": "object", "properties": {"event": {"const": event}, "id": id, "text": said}}
        for event, id, said in kinds
    ]
    count = len(request.facts)
    return {"type": "array", "items": {"anyOf": rows}, "minItems": count, "maxItems": count}


def read(request: Request, text: str) -> Output:
    """The answer that ``text`` gives to ``request``. Raises ``ValueError`` saying what is wrong with it."""
    if isinstance(request, Inquiry):
        if not text.strip():
            raise ValueError("the answer is empty")
        return text.strip()
    try:
        if isinstance(request, Exchange):
            return tuple(Facts.model_validate_json(text).facts)
        rows = Changes.model_validate_json(text).root
    except ValidationError as error:
        raise ValueError(
            f"not the asked JSON: {error.errors(include_url=False, include_input=False)[0]['msg']}"
        ) from error
    return tuple(_checked(row, len(request.memories)) for row in rows)


def _checked(row: Change, shown: int) -> MemoryOp:
    if row.id is not None and not 0 <= row.id < shown:
        raise ValueError(f"memory {row.id} was not shown: there are {shown}")
    if row.event in ("UPDATE", "DELETE") and row.id is None:
        raise ValueError(f"{row.event} names no memory")
    if row.event in ("ADD", "UPDATE") and not (row.text or "").strip():
        raise ValueError(f"{row.event} has no text")
    return MemoryOp(row.event, row.id, row.text)
