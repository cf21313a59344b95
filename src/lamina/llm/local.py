"""A chat model inside this process: SmolLM2 from its wheel, or any causal model in a local folder.

Decoding is the plain loop of ``lamina.llm.causal``, greedy unless a temperature is given, so that one loop
serves ``chat`` and ``stream``. The model is locked for one step at a time, never across a ``yield``: threads
take turns, and a stream that nobody finishes blocks nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import overload

from lamina.errors import InvalidInput, LLMError
from lamina.llm import structured
from lamina.llm.base import Answer, Message
from lamina.llm.causal import CausalLM, DType
from lamina.llm.structured import Reply, checked_messages


class LocalChat:
    """A ``ChatModel`` over transformers, loaded at the first call. Thread-safe."""

    def __init__(
        self,
        model: str = "smollm2",
        *,
        temperature: float = 0.0,
        seed: int = 0,
        dtype: DType = "float32",
    ) -> None:
        """``model`` as in ``lamina.zoo.models.folder``. ``temperature=0`` is greedy and repeats exactly;
        above 0 tokens are drawn from a generator seeded with ``seed`` at each call."""
        if temperature < 0:
            raise InvalidInput(f"temperature={temperature} is negative; give 0 for greedy decoding")
        self.name = f"local:{model}"
        self._model_name = model
        self._temperature = temperature
        self._seed = seed
        self._dtype = dtype
        self._lock = threading.Lock()
        self._loaded: CausalLM | None = None

    @overload
    def chat(self, messages: Sequence[Message], *, schema: None = None, max_tokens: int = 256) -> str: ...
    @overload
    def chat(self, messages: Sequence[Message], *, schema: type[Answer], max_tokens: int = 256) -> Answer: ...
    def chat(
        self, messages: Sequence[Message], *, schema: type[Answer] | None = None, max_tokens: int = 256
    ) -> str | Answer:
        """The reply, stripped, or validated against ``schema``.

        Raises ``LLMError`` if prompt and reply do not fit the model's context, or no attempt validates (a
        135M model rarely writes valid JSON), ``InvalidInput`` for malformed messages.
        """
        messages = checked_messages(messages, max_tokens)
        if schema is None:
            return self._reply(messages, max_tokens).text
        return structured.ask(lambda asked: self._reply(asked, max_tokens), messages, schema, name=self.name)

    def stream(self, messages: Sequence[Message], *, max_tokens: int = 256) -> Iterator[str]:
        """The reply in pieces of whole characters as they are decoded. Raises as ``chat`` does, at once."""
        prompt = self._prompt(checked_messages(messages, max_tokens), max_tokens)
        return self._pieces(prompt, max_tokens)

    def count_tokens(self, text: str) -> int:
        """Exact tokens of ``text``, without chat markup."""
        return len(self.causal().encode(text))

    def _reply(self, messages: Sequence[Message], max_tokens: int) -> Reply:
        ids = list(self._ids(self._prompt(messages, max_tokens), max_tokens))
        return Reply(self.causal().decode(ids).strip(), cut=len(ids) == max_tokens)

    def _pieces(self, prompt: list[int], max_tokens: int) -> Iterator[str]:
        ids: list[int] = []
        said = ""
        for id in self._ids(prompt, max_tokens):
            ids.append(id)
            text = self.causal().decode(ids)
            if text.endswith("\ufffd"):  # half of a character: wait for its other bytes
                continue
            yield text[len(said) :]
            said = text
        if rest := self.causal().decode(ids)[len(said) :]:
            yield rest

    def causal(self) -> CausalLM:
        """The model itself, loaded at the first call."""
        with self._lock:
            if self._loaded is None:
                self._loaded = CausalLM.load(self._model_name, dtype=self._dtype)
            return self._loaded

    def _prompt(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """Ids of the chat template up to the assistant's turn."""
        lm = self.causal()
        ids = lm.prompt(messages)
        if len(ids) + max_tokens > lm.limit:
            raise LLMError(
                f"the prompt has {len(ids)} tokens and max_tokens={max_tokens}, together over the {lm.limit} that "
                f"{self.name} reads: shorten the messages or lower max_tokens"
            )
        return ids

    def _ids(self, prompt: list[int], max_tokens: int) -> Iterator[int]:
        return self.causal().steps(prompt, max_tokens, temperature=self._temperature, seed=self._seed)
