"""Models Lamina talks to: chat models and embedders, each made from a short spec.

    chat_model("local:smollm2")          chat_model("openai:gpt-4o-mini")
    embedder("minilm")                   embedder("openai:text-embedding-3-small")

Nothing here imports torch, transformers or openai before a model is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel, Embedder, Message
from lamina.llm.embed import MiniLM
from lamina.llm.embed_folder import FolderEmbedder
from lamina.llm.local import LocalChat
from lamina.llm.openai import OpenAIChat
from lamina.llm.openai_embed import OpenAIEmbedder

__all__ = ["CHAT_MODELS", "EMBEDDERS", "ChatModel", "Embedder", "Message", "chat_model", "embedder"]

Made = TypeVar("Made")
Maker = Callable[[str, str | None, str | None], Made]  # (model, base_url, api_key)


def _in_process(make: Callable[[str], Made]) -> Maker[Made]:
    def maker(model: str, base_url: str | None, _api_key: str | None) -> Made:  # a key may just lie in the environment
        if base_url:
            raise InvalidInput(
                f"base_url={base_url!r} is given, but local:{model} runs in this process: drop one of them"
            )
        return make(model)

    return maker


def _embed_locally(model: str) -> Embedder:
    return MiniLM() if model == "minilm" else FolderEmbedder(model)


# provider -> maker; the spec is "provider:model"
CHAT_MODELS: Mapping[str, Maker[ChatModel]] = {
    "local": _in_process(LocalChat),
    "openai": lambda model, base_url, api_key: OpenAIChat(model, base_url=base_url, api_key=api_key),
}
EMBEDDERS: Mapping[str, Maker[Embedder]] = {
    "local": _in_process(_embed_locally),
    "openai": lambda model, base_url, api_key: OpenAIEmbedder(model, base_url=base_url, api_key=api_key),
}


def chat_model(spec: str, *, base_url: str | None = None, api_key: str | None = None) -> ChatModel:
    """A chat model: ``local:smollm2``, ``local:PATH``, ``local:hub:OWNER/NAME``, or ``openai:MODEL`` with the
    ``base_url`` of any compatible server. Raises ``InvalidInput`` for another spec."""
    return _make(spec, CHAT_MODELS, "local:smollm2, local:PATH, local:hub:OWNER/NAME, openai:MODEL", base_url, api_key)


def embedder(spec: str = "minilm", *, base_url: str | None = None, api_key: str | None = None) -> Embedder:
    """An embedder: ``minilm`` (short for ``local:minilm``), ``local:PATH``, ``local:hub:OWNER/NAME``, or
    ``openai:MODEL``. Raises ``InvalidInput`` for another spec."""
    allowed = "minilm, local:PATH, local:hub:OWNER/NAME, openai:MODEL"
    return _make("local:minilm" if spec == "minilm" else spec, EMBEDDERS, allowed, base_url, api_key)


def _make(
    spec: str, makers: Mapping[str, Maker[Made]], allowed: str, base_url: str | None, api_key: str | None
) -> Made:
    provider, _, model = spec.partition(":")
    if provider not in makers or not model:
        raise InvalidInput(f"spec={spec!r} names no model; give one of {allowed}")
    return makers[provider](model, base_url, api_key)
