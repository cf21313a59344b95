"""The compressor of CMT: a document in, ``tokens`` soft tokens and a key out; a question in, a query out.

The same language model reads both, with a low-rank branch beside each of its linear layers (LoRA, Hu et al.,
arXiv 2106.09685) and learned tokens behind the text, whose last states become the memory (CMT, Li et al.,
arXiv 2412.07393). The branches are forward hooks that exist only inside ``LowRank.on()``: outside it the model is not
merely equal to the base model, it *is* the base model, and its ``state_dict`` never changes.

Rows of a batch are padded at the end and the learned tokens stand right behind each text, so causal attention alone
keeps padding out: no mask, and a document's memory does not depend on what it was batched with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.documents.aggregation import CrossAttention, weighted_sum
from lamina.activation.documents.objective import TEMPERATURE
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

Aggregate = Literal["weighted", "cross_attention"]


class Compressed(NamedTuple):
    """Of ``n`` documents: ``memories`` (n, tokens, width), unit ``keys`` and ``queries`` (n, key_dim), float32.

    ``queries`` are the documents asked for themselves; only training wants them.
    """

    memories: Tensor
    keys: Tensor
    queries: Tensor


class Asked(NamedTuple):
    """Of ``n`` questions: unit ``queries`` (n, key_dim), and the states ``tokens`` (n, tokens, width) that look through
    what was found (n, 0, width for a weighted sum), float32."""

    queries: Tensor
    tokens: Tensor


class LowRank(nn.Module):
    """``x -> 2 up(down(x))`` beside every linear layer of ``decoder``; nothing until trained (``up`` starts at 0)."""

    def __init__(self, decoder: nn.Module, rank: int) -> None:
        super().__init__()
        linears = [layer for layer in decoder.modules() if isinstance(layer, nn.Linear)]
        if not linears:
            raise InvalidInput(f"model {type(decoder).__name__} has no torch.nn.Linear for a low-rank branch to join")
        self._layers = tuple(linears)  # a tuple, so that the model's weights are not counted as the branch's own
        self.down = nn.ParameterList(torch.randn(rank, layer.in_features) / rank for layer in linears)
        self.up = nn.ParameterList(torch.zeros(layer.out_features, rank) for layer in linears)

    @contextmanager
    def on(self) -> Iterator[None]:
        """The branches take part in every forward of the model until the block ends."""
        handles = [layer.register_forward_hook(partial(self._add, place)) for place, layer in enumerate(self._layers)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _add(self, place: int, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        low = 2 * F.linear(inputs[0].to(self.down[place].dtype), self.down[place])
        return output + F.linear(low, self.up[place]).to(output.dtype)


class Compressor(nn.Module):
    """What CMT learns. Parameters are float32 whatever the model's dtype, on its device; initialised from ``seed``.

    ``aggregate`` says what becomes of the memories found (``lamina.activation.documents.aggregation``). Raises
    ``InvalidInput`` for sizes that are not positive or a model without ``torch.nn.Linear`` layers.
    """

    def __init__(
        self,
        lm: CausalLM,
        *,
        tokens: int,
        rank: int,
        key_dim: int,
        aggregate: Aggregate = "weighted",
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in (("tokens", tokens), ("rank", rank), ("key_dim", key_dim)):
            if value < 1:
                raise InvalidInput(f"{name}={value!r} must be a positive number")
        self.lm = lm
        self.tokens, self.rank, self.key_dim = tokens, rank, key_dim
        embeddings = cast("nn.Embedding", lm.model.get_input_embeddings())
        scale = float(embeddings.weight.detach().float().pow(2).mean().sqrt())
        width = embeddings.embedding_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.branch = LowRank(lm.model.base_model, rank)
            self.memory_tokens = nn.Parameter(scale * torch.randn(tokens, width))
            self.query_token = nn.Parameter(scale * torch.randn(1, width))
            self.out = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, key_dim, bias=False)
            self.query = nn.Linear(width, key_dim, bias=False)
            self.log_temperature = nn.Parameter(torch.tensor([math.log(TEMPERATURE)]))
            self.attention = CrossAttention(tokens, width, scale) if aggregate == "cross_attention" else None
            self.to(lm.model.device)
            self._match_scale(scale)

    @property
    def temperature(self) -> Tensor:
        """Of the scores, ``(1,)``; at least 0.01."""
        return self.log_temperature.exp().clamp(min=0.01)

    def forward(self, documents: Sequence[Sequence[int]]) -> Compressed:
        """Compress token ids, each row non-empty. The caller holds ``lm.lock``."""
        states = self._behind(documents, torch.cat([self.memory_tokens, self.query_token]))
        memories = self.out(states[:, :-1])
        keys = F.normalize(self.key(memories.mean(1)), dim=-1)
        return Compressed(memories, keys, F.normalize(self.query(states[:, -1]), dim=-1))

    def ask(self, questions: Sequence[Sequence[int]]) -> Asked:
        """Encode the token ids of questions. The caller holds ``lm.lock``."""
        looking = self.query_token[:0] if self.attention is None else self.attention.question_tokens
        states = self._behind(questions, torch.cat([looking, self.query_token]))
        return Asked(F.normalize(self.query(states[:, -1]), dim=-1), states[:, :-1])

    def combine(self, asked: Asked, memories: Tensor, places: Tensor, weights: Tensor) -> Tensor:
        """What stands before each question, ``(n, tokens, width)``: ``memories`` (documents, tokens, width), of which
        ``places`` (n, k) were chosen with ``weights`` (n, k)."""
        if self.attention is None:
            return weighted_sum(memories, places, weights)
        return cast("Tensor", self.attention(asked.tokens, memories, places, weights))

    def own(self, asked: Asked, memories: Tensor, places: Tensor) -> Tensor:
        """``combine`` of one given memory each, ``places`` ``(n,)``."""
        return self.combine(asked, memories, places[:, None], torch.ones_like(places, dtype=torch.float32)[:, None])

    def _behind(self, texts: Sequence[Sequence[int]], tail: Tensor) -> Tensor:
        """Last states ``(n, len(tail), width)`` of ``tail`` put right behind each text, branches on."""
        ids, lengths = (each.to(tail.device) for each in padded(texts, len(tail)))
        rows = torch.arange(len(texts), device=tail.device)[:, None]
        places = lengths[:, None] + torch.arange(len(tail), device=tail.device)
        embedded = self.lm.model.get_input_embeddings()(ids)
        embedded = embedded.index_put((rows, places), tail.to(embedded.dtype))
        with self.branch.on():
            decoder: Any = self.lm.model.base_model
            states: Tensor = decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return states[rows, places].float()

    def _match_scale(self, scale: float) -> None:
        """Start ``out`` so that memories are as large as the model's own embeddings; ten times off, it never learns."""
        with torch.no_grad():
            nn.init.normal_(self.out.weight, std=1 / math.sqrt(self.out.in_features))
            memories = self.out(self._behind([[0]], self.memory_tokens))
            self.out.weight *= scale / memories.pow(2).mean().sqrt()


def padded(rows: Sequence[Sequence[int]], room: int = 0) -> tuple[Tensor, Tensor]:
    """Ids ``(n, longest + room)`` padded at the end, and lengths ``(n,)``. Raises ``InvalidInput`` for an empty row."""
    if any(len(row) == 0 for row in rows) or not rows:
        raise InvalidInput("texts must not be empty: at least one token each")
    width = max(len(row) for row in rows) + room
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    return ids, torch.tensor([len(row) for row in rows])
