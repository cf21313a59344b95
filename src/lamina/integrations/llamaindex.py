"""``LaminaMemory``: a memory block for LlamaIndex's ``Memory``, over a Lamina memory of this process or behind HTTP.

    from llama_index.core.memory import InsertMethod, Memory as ChatMemory
    from lamina import Memory
    from lamina.integrations.llamaindex import LaminaMemory

    block = LaminaMemory(memory=Memory(), user_id="alice")
    chat = ChatMemory.from_defaults(session_id="s1", memory_blocks=[block], insert_method=InsertMethod.USER)

LlamaIndex hands a block the messages that no longer fit its queue, and asks it for what the newest message needs. What
is unusual: sessions share what is remembered of the owner (``session_id`` is kept as metadata), so that what is said
in one holds, or is superseded, in the next; and what is found comes as quoted data, which belongs into the message of
the user (``InsertMethod.USER``): LlamaIndex's default would put it into the system message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import Field, model_validator

from lamina._optional import require
from lamina.integrations.quoting import quoted, storable
from lamina.text import arguments

require("llama_index.core.memory", "lamina.integrations.llamaindex")
from llama_index.core.base.llms.types import ChatMessage, MessageRole  # noqa: E402 - after what says what to install
from llama_index.core.memory import BaseMemoryBlock  # noqa: E402

_LONGEST = 4000  # characters of a message that are searched for: its end
_ROLES = {
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}  # the others give instructions, which are no memories


class LaminaMemory(BaseMemoryBlock[str]):
    """``memory``: a ``lamina.Memory`` or ``lamina.client.Client``. At least one of ``user_id``, ``agent_id`` and
    ``run_id`` says whose; ``infer`` as in ``Memory.add``."""

    name: str = "lamina"
    memory: Any = Field(exclude=True)
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    top_k: int = Field(5, ge=1, le=100)
    infer: bool = True

    @model_validator(mode="after")
    def _owned(self) -> LaminaMemory:
        arguments.scope_of("default", self._owner())
        return self

    async def _aget(
        self,
        messages: list[ChatMessage] | None = None,
        **block_kwargs: Any,  # noqa: ARG002 - LlamaIndex's signature
    ) -> str:
        """What answers the newest message of the user, quoted; empty if nothing does."""
        said = [text for message in messages or [] if message.role == MessageRole.USER and (text := _text(message))]
        if not said:
            return ""
        query, filters = said[-1][-_LONGEST:], self._owner()
        found = await asyncio.to_thread(self.memory.search, query, filters=filters, top_k=self.top_k)
        return quoted(found["results"], here=[_text(message) for message in messages or []])

    async def _aput(self, messages: list[ChatMessage]) -> None:
        """Remember them; those without words, and the system's, are left out."""
        for session, said in _by_session(messages):
            metadata = {"session_id": session} if session else None
            await asyncio.to_thread(self.memory.add, said, **self._owner(), metadata=metadata, infer=self.infer)

    def _owner(self) -> dict[str, str]:
        ids = {"user_id": self.user_id, "agent_id": self.agent_id, "run_id": self.run_id}
        return {name: id for name, id in ids.items() if id is not None}


def _by_session(messages: Sequence[ChatMessage]) -> list[tuple[str, list[dict[str, str]]]]:
    """What was said in each session, in order. LlamaIndex notes the session in the message."""
    said: dict[str, list[dict[str, str]]] = {}
    for message in messages:
        role, text = _ROLES.get(MessageRole(message.role)), _text(message)
        if role and text:
            session = str(message.additional_kwargs.get("session_id") or "")
            said.setdefault(session, []).append({"role": role, "content": text})
    return list(said.items())


def _text(message: ChatMessage) -> str:
    """The words of a message that can be stored; those of pictures, tools and thoughts are none."""
    return storable(message.content or "").strip()
