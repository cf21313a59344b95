"""What a language model reads and writes when it constructs memory: the prompt, and its calls as JSON.

Mem-alpha, arXiv 2509.25911, section 3.2: schemas of the tools, the whole core, only the last entries of each list
(halved until the prompt fits), and the chunk. The reply is a JSON list of calls. What cannot be read as such is one
failed call, so that the form is learned like everything else.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from pydantic import BaseModel, TypeAdapter, ValidationError

from lamina.text.policy.tools import LISTS, ToolCall, TypedMemory

RECENT = 5  # entries of each list that the prompt shows
UNREADABLE = ToolCall("unreadable")

_TOOLS = [
    {"name": "memory_insert", "arguments": {"memory_type": "semantic|episodic", "content": "text"}},
    {
        "name": "memory_update",
        "arguments": {"memory_type": "core|semantic|episodic", "new_content": "text", "memory_id": "id, not for core"},
    },
    {"name": "memory_delete", "arguments": {"memory_type": "core|semantic|episodic", "memory_id": "id, not for core"}},
    {"name": "skip", "arguments": {}},
]
_TASK = (
    "Keep a memory of what is said, so that later questions can be answered from it alone. Core: what the user is"
    " like, one paragraph. Semantic: statements that hold. Episodic: what happened, with its time. Call skip if a"
    ' message says nothing worth keeping. Answer with a JSON list of calls: [{"name": ..., "arguments": {...}}].'
)


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer."""

    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool = ...) -> list[int]: ...
    def decode(self, ids: list[int], *, skip_special_tokens: bool = ...) -> str: ...


class _Call(BaseModel):
    name: str
    arguments: dict[str, Any] = {}


_CALLS = TypeAdapter(list[_Call])


def prompt_ids(tokenizer: Tokenizer, memory: TypedMemory, chunk: str, limit: int) -> list[int]:
    """Token ids of the prompt for ``chunk``; over ``limit`` even without entries, its end is kept."""
    recent = RECENT
    while True:
        ids = tokenizer.encode(_prompt(tokenizer, memory, chunk, recent), add_special_tokens=False)
        if len(ids) <= limit or recent == 0:
            return ids[-limit:]
        recent //= 2


def parse(reply: str) -> list[ToolCall]:
    """The calls in a reply, in order; ``[UNREADABLE]`` if it is no JSON list of calls."""
    start, end = reply.find("["), reply.rfind("]")
    try:
        calls = _CALLS.validate_json(reply[start : end + 1] if start >= 0 else reply)
    except ValidationError:
        return [UNREADABLE]
    return [ToolCall(call.name, call.arguments) for call in calls]


def _prompt(tokenizer: Tokenizer, memory: TypedMemory, chunk: str, recent: int) -> str:
    lines = [f"Tools: {json.dumps(_TOOLS)}", f"Core: {memory.core or '(empty)'}"]
    for memory_type in LISTS:
        held = [entry for entry in memory.entries if entry.memory_type == memory_type]
        shown = "".join(f"\n- {entry.id}: {entry.text}" for entry in held[len(held) - min(recent, len(held)) :])
        lines.append(f"{memory_type.capitalize()}:{shown or ' (empty)'}")
    asked = "\n".join([*lines, f"Message: {chunk}"])
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": "system", "content": _TASK}, {"role": "user", "content": asked}]
        chat: Any = tokenizer
        return str(chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
    return f"{_TASK}\n{asked}\nCalls: "
