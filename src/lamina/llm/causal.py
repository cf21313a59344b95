"""A causal language model in this process: its weights, tokenizer and template, one decoding loop, one identity.

``LocalChat`` talks through it; activation and parameter memories are built on it. Everything that decides what a
key-value cache or an adapter means (weights, tokenizer, template, rotary parameters, dtype, attention) goes into
``fingerprint``; nothing else does (no path, no context size, no device), so a cube made here loads elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from lamina._optional import require
from lamina.cube.payload import Fingerprint
from lamina.errors import LLMError
from lamina.llm.base import Message
from lamina.llm.weights_hash import WeightsHash

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

DType = Literal["float32", "bfloat16", "float16"]


class CausalLM:
    """``model`` in eval mode with its ``tokenizer``.

    ``lock`` is held for one step of decoding at a time; whoever changes the model for a while (an adapter) holds
    it for all of it. ``overlay`` names what is laid over the weights (adapters) and is part of the identity.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.lock = threading.RLock()
        self.overlay = ""

    @classmethod
    def load(cls, spec: str = "smollm2", *, dtype: DType = "float32") -> Self:
        """``spec`` as in ``lamina.zoo.models.folder``. Raises ``NotFound``, ``MissingDependency``, ``LaminaError``."""
        require("torch", f"the language model {spec!r}")
        from lamina.zoo.models import load_causal

        model, tokenizer = load_causal(spec, dtype=dtype)
        return cls(model, tokenizer, f"local:{spec}")

    @property
    def limit(self) -> int:
        """Tokens the model reads: prompt and reply together."""
        return int(self.model.config.max_position_embeddings)

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` as it stands; no markers are added, and markers spelled in it are read as such."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids`` without markers."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def prompt(self, messages: Sequence[Message], *, reply: bool = True) -> list[int]:
        """Ids of the chat template, with ``reply`` up to the assistant's turn.

        Control markers inside contents are broken up: stored text must not be able to close its own turn and open
        a system message. Raises ``LLMError`` if there is no template or it refuses these messages.
        """
        if not self.tokenizer.chat_template:
            raise LLMError(f"{self.name} has no chat template, so it is not a chat model; use an instruction-tuned one")
        safe = [{"role": message["role"], "content": self._defused(message["content"])} for message in messages]
        refusal = require("jinja2.exceptions", self.name).TemplateError
        try:
            text = self.tokenizer.apply_chat_template(safe, add_generation_prompt=reply, tokenize=False)
        except refusal as error:  # some templates insist on alternating roles, or allow no system message
            raise LLMError(f"the chat template of {self.name} refuses these messages: {error}") from error
        return self.encode(str(text))

    def steps(
        self,
        prompt: Sequence[int],
        max_tokens: int,
        *,
        cache: Cache | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[int]:
        """Token ids of the reply, up to (not including) the end of the turn; greedy at temperature 0.

        ``cache`` holds what comes before ``prompt``; it grows by what is read and written.
        """
        torch = require("torch", self.name)
        generator = torch.Generator().manual_seed(seed)
        ids = torch.tensor([list(prompt)])
        for _ in range(max_tokens):
            with self.lock, torch.inference_mode():
                out = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
                logits = out.logits[0, -1].float()
                if temperature > 0:
                    chances = torch.softmax(logits / temperature, dim=0)
                    ids = torch.multinomial(chances, 1, generator=generator)[None]
                else:
                    ids = logits.argmax()[None, None]
            if ids.item() in self.stops:
                return
            yield int(ids.item())

    @cached_property
    def stops(self) -> frozenset[int]:
        """Ids that end a turn."""
        stops = self.model.generation_config.eos_token_id
        return frozenset({self.tokenizer.eos_token_id, *(stops if isinstance(stops, list) else [stops])})

    @property
    def fingerprint(self) -> Fingerprint:
        """What tensors made by this model belong to. Reads all weights (0.5 s a GB), again after training."""
        config = self.model.config
        rope = getattr(config, "rope_parameters", None) or {"rope_theta": getattr(config, "rope_theta", None)}
        return Fingerprint(
            architecture=type(self.model).__name__,
            weights=f"{self._weights.last()}+{self.overlay}" if self.overlay else self._weights.read(),
            tokenizer=self._tokenizer,
            dtype=str(self.model.dtype).removeprefix("torch."),
            rope=json.dumps(rope, sort_keys=True, default=str),
            quantization=str(getattr(config, "quantization_config", "")),
            template=hashlib.sha256(str(self.tokenizer.chat_template).encode()).hexdigest(),
            attention=str(config._attn_implementation),
        )

    @cached_property
    def _weights(self) -> WeightsHash:
        return WeightsHash(self.model)

    @cached_property
    def _tokenizer(self) -> str:
        backend: Any = getattr(self.tokenizer, "backend_tokenizer", None)
        told = backend.to_str() if backend is not None else json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return hashlib.sha256(str(told).encode()).hexdigest()

    @cached_property
    def _markers(self) -> list[str]:
        return [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]

    def _defused(self, content: str) -> str:
        for marker in self._markers:
            content = content.replace(marker, f"{marker[0]} {marker[1:]}")
        return content
