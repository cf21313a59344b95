"""What Lamina asks of a model: chat, and unit vectors. Anything with these methods plugs in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol, TypedDict, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

Answer = TypeVar("Answer", bound=BaseModel)


class Message(TypedDict):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class ChatModel(Protocol):
    """A chat model. ``chat`` is deterministic where the model allows it (temperature 0)."""

    name: str

    @overload
    def chat(self, messages: Sequence[Message], *, schema: None = None, max_tokens: int = 256) -> str: ...
    @overload
    def chat(self, messages: Sequence[Message], *, schema: type[Answer], max_tokens: int = 256) -> Answer: ...
    def chat(
        self, messages: Sequence[Message], *, schema: type[Answer] | None = None, max_tokens: int = 256
    ) -> str | Answer:
        """The reply as text, or validated against ``schema``. Raises ``LLMError``, never returns junk."""

    def stream(self, messages: Sequence[Message], *, max_tokens: int = 256) -> Iterator[str]:
        """The reply in pieces as they come."""

    def count_tokens(self, text: str) -> int:
        """Tokens of ``text`` for this model (an estimate where the tokenizer is remote)."""


class Embedder(Protocol):
    """Text to unit vectors. ``name`` goes into the store, so vectors of two models never mix."""

    name: str

    @property
    def dimension(self) -> int:
        """Width of the vectors; a remote embedder may have to ask its server for it."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 ``(len(texts), dimension)``, each row of unit norm; order kept."""

    def forget(self, texts: Iterable[str]) -> None:
        """Drop whatever is kept in memory about ``texts``: they were forgotten."""
