"""LongMem: a frozen language model looks up, at every position, what it read up to tens of thousands of tokens ago.

Wang, Dong, Cheng, Liu, Yan, Gao, Wei: Augmenting Language Models with Long-Term Memory, arXiv 2306.07174. The frozen
model reads a segment; keys and values of one of its layers go to a bank. A side network half as deep, which starts as
a copy of every other layer, runs beside it, is given what the frozen model adds, and learns the rest; one of its
layers attends to the segment and to the tokens it finds in the bank. Since what is kept comes from weights that never
change, a bank stays good while the side network learns: that is the difference from memories of the network's own keys
(Memorizing Transformers, arXiv 2203.08913).

    memory = LongMem(model)
    banks = memory.banks(rows=1)
    memory.ingest(book, banks)          # the lower layers only
    memory.generate(question, banks)

A segment is written after it was read, so that no position finds itself or what comes after it. Out of the box the
side network has not learned to use what it finds: train ``memory.side`` on consecutive segments of the same texts, each
with its own bank, as ``forward(..., labels=...).loss`` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina._optional import require
from lamina.activation.retrieval_memory import frozen
from lamina.activation.retrieval_memory.bank import MemoryBank
from lamina.activation.retrieval_memory.probing import best_layer
from lamina.activation.retrieval_memory.side_network import Pair, SideNet
from lamina.cube.payload import Fingerprint
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["LongMem", "MemoryBank", "Read"]

_DEPTH = 17 / 24  # of the memory layer in the paper


class Read(NamedTuple):
    """``loss`` () or None, and ``logits`` (B, T, V)."""

    loss: Tensor | None
    logits: Tensor


class LongMem(nn.Module):
    """``backbone``, which is frozen for good (``requires_grad`` off, eval mode), and ``side``, which may learn.

    ``memory_layer`` (from 0) gives the keys; by default the one at 17/24 of the depth that a side layer is a copy of,
    with ``"auto"`` the one that finds most in a probe with random tokens (``retrieval_memory.probing``).
    ``side_layers`` is half the backbone's layers. A position finds ``topk`` tokens in chunks of ``chunk``; banks hold
    ``capacity`` tokens. ``segment`` is the most tokens that are read at once. Not for several threads at once.

    Raises ``InvalidInput`` for sizes that do not fit together and a backbone that is not built as Llama is.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        memory_layer: int | Literal["auto"] | None = None,
        chunk: int = 4,
        topk: int = 64,
        capacity: int = 65_536,
        side_layers: int | None = None,
        segment: int = 1024,
    ) -> None:
        super().__init__()
        frozen.check(backbone)
        depth = int(backbone.config.num_hidden_layers)
        layers = depth // 2 if side_layers is None else side_layers
        if layers < 1 or depth % layers or (side_layers is None and depth % 2):
            raise InvalidInput(f"side_layers={side_layers!r} must divide the {depth} layers of the backbone")
        self.stride = depth // layers
        if memory_layer not in {None, "auto", *range(depth)}:
            raise InvalidInput(
                f"memory_layer={memory_layer!r} must be a layer of the backbone, 0 to {depth - 1}, or 'auto'"
            )
        if chunk < 1 or topk < chunk or topk % chunk or capacity < chunk or capacity % chunk:
            raise InvalidInput(f"{topk=} and {capacity=} must be positive multiples of {chunk=}")
        limit = int(backbone.config.max_position_embeddings)
        if not 1 <= segment <= limit:
            raise InvalidInput(f"{segment=} must be at least 1 and at most the {limit} positions of the backbone")
        self.chunk, self.topk, self.capacity, self.segment = chunk, topk, capacity, segment
        self.backbone = backbone.requires_grad_(False)
        self.train(False)
        if memory_layer is None:
            memory_layer = self.stride * int(layers * _DEPTH) + self.stride - 1
        elif memory_layer == "auto":
            memory_layer = best_layer(backbone, chunk=chunk, topk=topk, segment=segment)
        self.memory_layer = layer = memory_layer
        self._known: tuple[frozen.Versions, Fingerprint] | None = None
        self._lower = frozen.Lower(backbone, layer)
        self.side = SideNet(backbone, layers, layer, topk)

    def train(self, mode: bool = True) -> Self:
        """The side network's mode; the backbone stays in eval mode."""
        super().train(mode)
        self.backbone.train(False)
        return self

    @property
    def fingerprint(self) -> Fingerprint:
        """What banks belong to: the backbone's weights and the memory layer, not the side network.

        Reads all weights the first time and when one was written to since; ``.data`` written to in place goes unseen.
        """
        versions = frozen.versions(self.backbone)
        if self._known is None or self._known[0] != versions:
            self._known = versions, frozen.fingerprint(self.backbone, self.memory_layer)
        return self._known[1]

    def banks(self, rows: int = 1, dtype: torch.dtype = torch.float16) -> list[MemoryBank]:
        """Empty banks, one for each row of a batch."""
        attention: Any = frozen.attention(self.backbone, self.memory_layer)
        heads = attention.k_proj.out_features // attention.head_dim
        sizes = {"capacity": self.capacity, "kv_heads": heads, "head_dim": attention.head_dim, "chunk": self.chunk}
        return [MemoryBank(self.fingerprint, **sizes, dtype=dtype) for _ in range(rows)]

    def forward(
        self,
        input_ids: Tensor,
        banks: Sequence[MemoryBank] | None = None,
        write: bool = True,
        labels: Tensor | None = None,
    ) -> Read:
        """Read one segment ``input_ids`` (B, T), each row with its own bank, and ``write`` it there afterwards.

        ``loss`` is the mean cross-entropy of ``labels`` (B, T): each is predicted from the token before it, -100 is
        left out. Without ``banks`` there is the segment alone. Raises ``InvalidInput`` for more than ``segment``
        tokens, another number of banks than rows, and a backbone that was made trainable; ``FingerprintMismatch`` for
        a bank of other weights or another layer.
        """
        self._check(input_ids, banks)
        if input_ids.shape[1] > self.segment:
            raise InvalidInput(f"input_ids has {input_ids.shape[1]} tokens, segment={self.segment}: ingest the first")
        if labels is not None and labels.shape != input_ids.shape:
            raise InvalidInput(f"labels {tuple(labels.shape)} must have the shape {tuple(input_ids.shape)} of the ids")
        logits, reading, _ = self.read(input_ids, banks or ())
        if write:
            _append(banks or (), reading.keys, reading.values)
        loss = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Read(loss, logits)

    def read(
        self, ids: Tensor, banks: Sequence[MemoryBank], past: Sequence[Pair] | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, frozen.Reading, list[Pair]]:
        """``forward`` without its checks and without writing: logits, what the backbone says, and the side network's
        keys and values of the segment so far; ``past`` and ``cache`` are those of the same segment before ``ids``."""
        base: Any = self.backbone.base_model
        start = 0 if past is None else past[0][0].shape[2]
        reading = frozen.read(self.backbone, ids, stride=self.stride, layer=self.memory_layer, cache=cache)
        places = torch.arange(start, start + ids.shape[1], device=ids.device)[None]
        states, kept = self.side(reading.states, base.rotary_emb(reading.states[0], places), past, banks)
        head: Any = self.backbone
        return head.get_output_embeddings()(states), reading, kept

    @torch.no_grad()
    def ingest(self, input_ids: Tensor, banks: Sequence[MemoryBank]) -> None:
        """Write ``input_ids`` (B, T) of any length, segment by segment, through the layers below the memory layer.

        Leaves the banks as ``forward`` would. Raises as ``forward`` does.
        """
        self._check(input_ids, banks)
        for part in torch.split(input_ids, self.segment, 1):
            _append(banks, *self._lower.read(part))

    @torch.no_grad()
    def generate(self, input_ids: Tensor, banks: Sequence[MemoryBank] | None = None, max_tokens: int = 64) -> list[int]:
        """Greedy reply to ``input_ids`` (1, T), without the token that ends it.

        Of a prompt longer than a segment all but the last segment is ingested first. What was read, the reply too but
        for its last token, is in the bank afterwards; a full segment is written when it is full, and another begins.
        Raises as ``forward`` does, and ``InvalidInput`` for several rows.
        """
        self._check(input_ids, banks)
        if len(input_ids) != 1 or max_tokens < 1:
            raise InvalidInput(f"input_ids has {len(input_ids)} rows, {max_tokens=}: give one row, and at least 1")
        held, stops, reply = banks or (), self._stops, list[int]()
        before = (input_ids.shape[1] - 1) // self.segment * self.segment
        if before and banks is not None:
            self.ingest(input_ids[:, :before], banks)
        open_ = _Open(self, held)
        chosen = int(open_.read(input_ids[:, before:])[0, -1].argmax())
        while chosen not in stops:
            reply.append(chosen)
            if len(reply) == max_tokens:
                break
            chosen = int(open_.read(input_ids.new_tensor([[chosen]]))[0, -1].argmax())
        open_.close()
        return reply

    @property
    def _stops(self) -> set[int]:
        ends: Any = self.backbone.generation_config.eos_token_id if self.backbone.generation_config else None
        return set(ends) if isinstance(ends, list) else {ends} - {None}

    def _check(self, ids: Tensor, banks: Sequence[MemoryBank] | None) -> None:
        if ids.ndim != 2 or not ids.numel():
            raise InvalidInput(f"input_ids of shape {tuple(ids.shape)}: give token ids (rows, tokens)")
        if banks is not None and len(banks) != len(ids):
            raise InvalidInput(f"{len(banks)} banks for {len(ids)} rows: give each row its own")
        if banks is not None and len({id(bank) for bank in banks}) != len(banks):
            raise InvalidInput("banks holds one bank several times: rows would read each other's text")
        if any(parameter.requires_grad for parameter in self.backbone.parameters()):
            raise InvalidInput("the backbone was made trainable: what it wrote would go stale; requires_grad_(False)")
        for bank in banks or ():
            bank.fingerprint.check(self.fingerprint)
            if self.topk % bank.chunk:
                raise InvalidInput(f"topk={self.topk} must be a multiple of the bank's chunk={bank.chunk}")


class _Open:
    """A segment that is being written token by token; a full one goes to the banks."""

    def __init__(self, memory: LongMem, banks: Sequence[MemoryBank]) -> None:
        self._memory, self._banks = memory, banks
        self._past: list[Pair] | None = None
        self._written: list[Pair] = []
        self._cache = self._fresh()

    def read(self, ids: Tensor) -> Tensor:
        """Logits of ``ids`` (1, n), which must have room in a segment."""
        if self._cache.get_seq_length() + ids.shape[1] > self._memory.segment:
            self.close()
        logits, reading, self._past = self._memory.read(ids, self._banks, self._past, self._cache)
        self._written.append((reading.keys, reading.values))
        return logits

    def close(self) -> None:
        """Write what was read, and begin anew."""
        for keys, values in self._written:
            _append(self._banks, keys, values)
        self._past, self._written, self._cache = None, [], self._fresh()

    def _fresh(self) -> Any:
        return require("transformers", "decoding").DynamicCache(config=self._memory.backbone.config)


def _append(banks: Sequence[MemoryBank], keys: Tensor, values: Tensor) -> None:
    """Write each row to its bank; ``banks`` may be empty."""
    for bank, key, value in zip(banks, keys, values, strict=False):
        bank.append(key, value)
