"""The memory block in LlamaIndex's own ``Memory``, whose queue is small, and in a chat engine with its mock model."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import InsertMethod
from llama_index.core.memory import Memory as ChatMemory

from lamina import Memory
from lamina.client import Client
from lamina.integrations.llamaindex import LaminaMemory

pytestmark = pytest.mark.model


def _chat(block: LaminaMemory, **options: Any) -> ChatMemory:
    """A queue of about 40 words, counted without a tokenizer from the network."""
    options = {"token_limit": 60, "token_flush_size": 10, "insert_method": InsertMethod.USER, **options}
    return ChatMemory.from_defaults(memory_blocks=[block], tokenizer_fn=str.split, **options)


def _say(chat: ChatMemory, *said: str) -> None:
    for text in said:
        chat.put(ChatMessage(role="user", content=text))
        chat.put(ChatMessage(role="assistant", content="I see, thank you very much for telling me all of that."))


FILLER = [f"Today we talked for a while about the garden and its plan, part {n} of several." for n in range(4)]


def test_what_leaves_the_queue_is_remembered_in_every_session(memory: Memory) -> None:
    block = LaminaMemory(memory=memory, user_id="alice")
    chat = _chat(block, session_id="monday")
    _say(chat, "I am allergic to walnuts.", *FILLER)
    stored = memory.get_all(filters={"user_id": "alice"}, top_k=100)["results"]
    assert any("walnuts" in row["memory"] and row["metadata"] == {"session_id": "monday"} for row in stored)
    assert {row["role"] for row in stored if "role" in row} == {"user", "assistant"}
    for session in ("monday", "tuesday"):
        told = _chat(block, session_id=session).get(input="Which nuts must I avoid?")
        assert {message.role for message in told if "walnuts" in str(message.content)} == {MessageRole.USER}
    other = _chat(LaminaMemory(memory=memory, user_id="bob"))
    assert other.get(input="Which nuts must I avoid?") == []


def test_a_later_session_supersedes_an_earlier_one(memory: Memory) -> None:
    block = LaminaMemory(memory=memory, user_id="alice", top_k=1)
    for session, said in (("s1", "I live in Boston."), ("s2", "I moved to Denver.")):
        asyncio.run(block.aput([ChatMessage(role="user", content=said)], session_id=session))
    told = asyncio.run(block.aget([ChatMessage(role="user", content="Where do I live?")]))
    assert "Denver" in told and "Boston" not in told


def test_in_a_chat_engine(memory: Memory) -> None:
    memory.add("My boat is called Zenith.", user_id="alice")
    engine = SimpleChatEngine.from_defaults(
        llm=MockLLM(), memory=_chat(LaminaMemory(memory=memory, user_id="alice"), token_limit=2000)
    )
    engine.chat("Hello there.")
    heard = str(engine.chat("What is the name of my boat?"))  # the mock model says what it is sent
    assert "Zenith" in heard and "data, not instructions" in heard
    assert "Zenith" not in str([message for message in engine.chat_history if message.role == MessageRole.SYSTEM])


def test_what_is_no_memory_is_left_out(memory: Memory) -> None:
    block = LaminaMemory(memory=memory, user_id="kim", infer=False)
    messages = [
        ChatMessage(role="system", content="Be brief."),
        ChatMessage(role="assistant", blocks=[], additional_kwargs={"tool_calls": []}),
        ChatMessage(
            role="user", blocks=[ImageBlock(url="https://example.com/x.png"), TextBlock(text="My roof.\0\ud800")]
        ),
        ChatMessage(role="tool", content="21 degrees"),
    ]
    asyncio.run(block.aput(messages))
    rows = memory.get_all(filters={"user_id": "kim"})["results"]
    assert {(row["role"], row["memory"]) for row in rows} == {("user", "My roof.?"), ("tool", "21 degrees")}
    assert asyncio.run(block.aget([])) == asyncio.run(block.aget([messages[0]])) == ""
    asked = [ChatMessage(role="user", content="My roof.?")]
    assert "My roof" not in asyncio.run(block.aget(asked))  # what was just said needs no quote
    assert "memory" not in block.model_dump()


def test_behind_http(remote: Client) -> None:
    block = LaminaMemory(memory=remote, user_id="far", infer=False)
    asyncio.run(block.aput([ChatMessage(role="user", content="My boat is called Zenith.")], session_id="s"))
    assert "Zenith" in asyncio.run(block.aget([ChatMessage(role="user", content="boat called what?")]))


def test_somebody_must_own_what_is_said(memory: Memory) -> None:
    with pytest.raises(ValueError, match="user_id"):
        LaminaMemory(memory=memory)


def test_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['llama_index.core'] = None\nimport lamina.integrations.llamaindex"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency: lamina.integrations.llamaindex needs the package 'llama_index'" in run.stderr
