"""A chat model inside this process: SmolLM2 from its wheel, or any causal model in a local folder.

Decoding is a plain loop over the model's own KV cache, greedy unless a temperature is given, so that
one loop serves ``chat`` and ``stream``. A lock is held for one step at a time, never across a
``yield``: threads take turns, and a stream that nobody finishes blocks nobody.

Control markers such as ``<|im_end|>`` inside a message's content are broken up before tokenizing:
stored text must not be able to close its own turn and open a system message.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, overload

from lamina._optional import require
from lamina.errors import InvalidInput, LLMError
from lamina.llm import structured
from lamina.llm.base import Answer, Message
from lamina.llm.structured import Reply, checked_messages

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalChat:
    """A ``ChatModel`` over transformers, loaded at the first call. Thread-safe."""

    def __init__(
        self,
        model: str = "smollm2",
        *,
        temperature: float = 0.0,
        seed: int = 0,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
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
        self._loaded: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None = None

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
        return len(self._ready()[1].encode(text, add_special_tokens=False))

    def _reply(self, messages: Sequence[Message], max_tokens: int) -> Reply:
        ids = list(self._ids(self._prompt(messages, max_tokens), max_tokens))
        return Reply(self._text(ids).strip(), cut=len(ids) == max_tokens)

    def _pieces(self, prompt: list[int], max_tokens: int) -> Iterator[str]:
        ids: list[int] = []
        said = ""
        for id in self._ids(prompt, max_tokens):
            ids.append(id)
            text = self._text(ids)
            if text.endswith("\ufffd"):  # half of a character: wait for its other bytes
                continue
            yield text[len(said) :]
            said = text
        if rest := self._text(ids)[len(said) :]:
            yield rest

    def _ready(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        with self._lock:
            if self._loaded is None:
                require("torch", f"the chat model {self.name}")
                from lamina.zoo.models import load_causal

                self._loaded = load_causal(self._model_name, dtype=self._dtype)
            return self._loaded

    def _prompt(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """Ids of the chat template up to the assistant's turn."""
        model, tokenizer = self._ready()
        if not tokenizer.chat_template:
            raise LLMError(f"{self.name} has no chat template, so it is not a chat model; use an instruction-tuned one")
        markers = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
        safe = [{"role": message["role"], "content": _defused(message["content"], markers)} for message in messages]
        refusal = require("jinja2.exceptions", self.name).TemplateError
        try:
            text = tokenizer.apply_chat_template(safe, add_generation_prompt=True, tokenize=False)
        except refusal as error:  # some templates insist on alternating roles, or allow no system message
            raise LLMError(f"the chat template of {self.name} refuses these messages: {error}") from error
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        limit = model.config.max_position_embeddings
        if len(ids) + max_tokens > limit:
            raise LLMError(
                f"the prompt has {len(ids)} tokens and max_tokens={max_tokens}, together over the {limit} that "
                f"{self.name} reads: shorten the messages or lower max_tokens"
            )
        return ids

    def _ids(self, prompt: list[int], max_tokens: int) -> Iterator[int]:
        """Token ids of the reply, up to (not including) the end of the turn."""
        torch = require("torch", self.name)
        model, tokenizer = self._ready()
        stops = model.generation_config.eos_token_id
        stops = {tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])}
        generator = torch.Generator().manual_seed(self._seed)
        cache, ids = None, torch.tensor([prompt])
        for _ in range(max_tokens):
            with self._lock, torch.inference_mode():
                out = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                logits = out.logits[0, -1].float()
                if self._temperature > 0:
                    chances = torch.softmax(logits / self._temperature, dim=0)
                    ids = torch.multinomial(chances, 1, generator=generator)[None]
                else:
                    ids = logits.argmax()[None, None]
            if ids.item() in stops:
                return
            yield int(ids.item())

    def _text(self, ids: list[int]) -> str:
        return str(self._ready()[1].decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _defused(content: str, markers: Sequence[str]) -> str:
    for marker in markers:
        content = content.replace(marker, f"{marker[0]} {marker[1:]}")
    return content
