"""HMT: a causal language model that reads segment by segment and recalls what earlier segments left in memory.

He, Cao, Qin, Prakriya, Sun, Cong: HMT: Hierarchical Memory Transformer for Efficient Long Context Language
Processing, arXiv 2405.06067. Each segment is read between two copies of one vector in the place of embeddings: what a
summary of the segment's beginning recalls, by attention, from the memories of the segments before. What the model's
last layer holds behind the segment is the segment's own memory. Attention and state stay as large as one segment and
``slots`` memories, however long the text; what is learned lies outside the backbone, which is any causal model of
transformers that takes ``inputs_embeds``.

``recall=False`` hands on the last memory alone: the Recurrent Memory Transformer (Bulatov et al., arXiv 2207.06881)
with one slot, which is the first stage of training too, since recall has nothing to choose from until memories say
something.

Unusual: memories are kept as the last layer states them and learn, by one number, to be as large as embeddings before
they are read again (last states are normalised, embeddings are often fifty times smaller). Rows of different length
are cut each from its own first token, so that a row reads alike in any batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lamina.activation.segments import writing
from lamina.activation.segments.identity import fingerprint
from lamina.activation.segments.state import NO_TOKEN, MemoryState
from lamina.activation.segments.stream import UNLABELLED, Segment, Stream
from lamina.cube.payload import Fingerprint
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["HMT", "MemoryState", "Read"]


class Read(NamedTuple):
    """``loss`` () or None, ``logits`` (B, w, V) of the last segment, right-aligned, and the ``state`` behind it."""

    loss: Tensor | None
    logits: Tensor
    state: MemoryState


class HMT(nn.Module):
    """``backbone`` around which memories are read and written; it is part of the module and learns if it is taught.

    ``segment`` is the most positions that the backbone sees at once: two memories, ``sensory`` tokens of the segment
    before, and the new tokens. ``slots`` memories are kept, then the oldest goes. ``recall_dim`` of queries and keys
    is twice the width, rounded up to 64, unless given; the first ``sum_fraction`` of a segment is summarised.
    New parameters (``learned``) have the backbone's dtype and device and come from ``seed``.

    Raises ``InvalidInput`` for sizes out of range, and for a backbone that takes no ``inputs_embeds`` or whose logits
    are not its output embeddings on its last states.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        segment: int = 1024,
        sensory: int = 32,
        slots: int = 300,
        recall_dim: int | None = None,
        sum_fraction: float = 0.5,
        recall: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        limit = getattr(backbone.config, "max_position_embeddings", segment) if hasattr(backbone, "config") else segment
        if sensory < 0 or not sensory + 2 < segment <= limit:
            raise InvalidInput(
                f"segment={segment!r} must hold sensory={sensory!r}, two memories and new tokens, up to the {limit} "
                "positions that the backbone reads"
            )
        if slots < 1 or (recall_dim is not None and recall_dim < 1) or not 0 < sum_fraction <= 1:
            raise InvalidInput(f"{slots=}, {recall_dim=} must be positive, {sum_fraction=} over 0 and up to 1")
        if "inputs_embeds" not in inspect.signature(backbone.forward).parameters:
            raise InvalidInput(
                f"backbone {type(backbone).__name__} takes no inputs_embeds: memories cannot stand in it"
            )
        self.tokens, self.sensory, self.slots = segment - 2 - sensory, sensory, slots
        self.summarised = max(1, round(sum_fraction * self.tokens))
        self.recall = recall
        weight = cast("nn.Embedding", backbone.get_input_embeddings()).weight.detach()
        width, spread = weight.shape[1], float(weight.float().std())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prompt = nn.Parameter(spread * torch.randn(width))
            self.first = nn.Parameter(spread * torch.randn(width))
            dim = recall_dim or -(-2 * width // 64) * 64
            self.query, self.key = (nn.Linear(width, dim, bias=False) for _ in range(2))
            self.log_scale = nn.Parameter(torch.zeros(()))
            self.to(weight)
            self.backbone = backbone
            self._begin(spread)

    @property
    def vocabulary(self) -> int:
        return int(self._embeddings.num_embeddings)

    def learned(self) -> Iterator[nn.Parameter]:
        """The parameters that are not the backbone's."""
        return (parameter for name, parameter in self.named_parameters() if not name.startswith("backbone."))

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        state: MemoryState | None = None,
        attention_mask: Tensor | None = None,
    ) -> Read:
        """Read ``input_ids`` (B, T) behind ``state``; all segments are closed, the last one too.

        ``loss`` is the mean cross-entropy of ``labels`` (B, T): each is predicted from the token before it, -100 is
        left out, as in transformers; label the last segment alone to teach the earlier ones through memory. Gradients
        flow through the memories of the whole stream: cut the stream, or detach the state, to cut them. Rows shorter
        than others are padded on the left, where ``attention_mask`` (B, T) is 0. Raises ``InvalidInput`` for input
        that does not fit together.
        """
        stream, state = self._checked(input_ids, attention_mask, labels, state)
        total, count = _precise(self.log_scale.new_zeros(())), 0
        hidden, last = None, self.log_scale.new_zeros(len(input_ids), 1, self.prompt.shape[0])
        for part in stream.segments(self.tokens):
            hidden, state = self._step(part, state)
            if part.labels is not None:
                asked = part.labels != UNLABELLED
                inside = F.pad(part.mask[:, :-1], (1, 0))  # a row's first token is predicted from the segment before
                told = torch.where(inside[:, :, None], F.pad(hidden[:, :-1], (0, 0, 1, 0)), last)[asked]
                total = total + F.cross_entropy(_precise(self._head(told)), part.labels[asked], reduction="sum")
                count += len(told)
                last = hidden[:, -1:]
        assert hidden is not None
        return Read(total / count if count else None, self._head(hidden), state)

    @torch.no_grad()
    def read(
        self, input_ids: Tensor, state: MemoryState | None = None, attention_mask: Tensor | None = None
    ) -> MemoryState:
        """The state behind ``input_ids`` (B, T): no gradient, no logits, memory for one segment at a time."""
        stream, state = self._checked(input_ids, attention_mask, None, state)
        for part in stream.segments(self.tokens):
            _, state = self._step(part, state)
        return state

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        state: MemoryState | None = None,
        attention_mask: Tensor | None = None,
        *,
        max_new_tokens: int = 64,
        **settings: Any,
    ) -> Tensor:
        """New token ids (B, <= ``max_new_tokens``) behind ``input_ids``, padded on the right; greedy by default.

        ``settings`` go to the backbone's own ``generate``, which writes within a segment on what was recalled when it
        was entered; a full segment is closed and its memory kept, and the next begins. Rows are written one by one,
        since their segments end at different times.
        """
        if max_new_tokens < 1:
            raise InvalidInput(f"{max_new_tokens=} must be a positive number")
        stream, state = self._checked(input_ids, attention_mask, None, state)
        settings.setdefault("do_sample", False)
        settings.setdefault("pad_token_id", min(writing.stops(self, settings), default=0))
        rows = []
        for number, (ids, length) in enumerate(zip(stream.ids, stream.lengths, strict=True)):
            own = state.rows(torch.tensor([number], device=ids.device))
            rows.append(writing.write(self, ids[None, len(ids) - length :], own, max_new_tokens, settings))
        return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=settings["pad_token_id"])

    def entered(self, input_ids: Tensor, state: MemoryState) -> Tensor:
        """What the backbone sees, up to where it writes, of a segment that begins with ``input_ids`` (B, w), without
        padding, behind ``state``: embeddings (B, 1 + sensory + w, d)."""
        part = Segment(input_ids, torch.ones_like(input_ids, dtype=torch.bool))
        recalled = self._recalled(part, state)[:, None]
        return torch.cat([recalled, self._sensed(state)[0], self._seen(part)[0]], 1)

    @property
    def fingerprint(self) -> Fingerprint:
        """What states belong to: the backbone, and the parameters and sizes around it. Reads all weights."""
        return fingerprint(self)

    @property
    def _embeddings(self) -> nn.Embedding:
        return cast("nn.Embedding", self.backbone.get_input_embeddings())

    def _checked(
        self, ids: Tensor, mask: Tensor | None, labels: Tensor | None, state: MemoryState | None
    ) -> tuple[Stream, MemoryState]:
        stream = Stream.of(ids, mask, labels, self.vocabulary)
        if state is None:
            return stream, MemoryState.empty(len(ids), self.prompt)
        if len(state) != len(ids):
            raise InvalidInput(f"state has {len(state)} rows, input_ids {len(ids)}: make them equal")
        return stream, state

    def _step(self, part: Segment, state: MemoryState) -> tuple[Tensor, MemoryState]:
        """Last states (B, w, d) of the segment's tokens, and the state with its memory."""
        width = part.ids.shape[1]
        recalled = self._recalled(part, state)[:, None]
        states = self._states(recalled, [self._sensed(state), self._seen(part)], recalled)
        sensory = part.ids.masked_fill(~part.mask, NO_TOKEN)[:, max(0, width - self.sensory) :].clone()
        held, read = part.mask.any(1), part.mask.sum(1)
        pushed = state.push(states[:, -1], held, sensory, read, self.slots if self.recall else 1)
        return states[:, -1 - width : -1], pushed

    def _recalled(self, part: Segment, state: MemoryState) -> Tensor:
        """The memory embedding (B, d) that ``part`` is read with."""
        first = self.first.expand(len(part.ids), -1)
        memory, held = state.memory[:, -self.slots :], state.held[:, -self.slots :]
        if not memory.shape[1]:
            return first
        if self.recall:
            scores = self.key(memory) @ self.query(self._summary(part))[:, :, None] / math.sqrt(self.key.out_features)
            nothing = torch.finfo(scores.dtype).min  # not -inf: a row without memories must stay finite
            weights = scores[:, :, 0].masked_fill(~held, nothing).softmax(1)
            found = (weights[:, None] @ memory)[:, 0]
        else:
            found = memory[:, -1]
        return torch.where(held.any(1, keepdim=True), self.log_scale.exp() * found, first)

    def _summary(self, part: Segment) -> Tensor:
        """What the backbone says (B, d) of the beginning of a segment when the prompt asks for it."""
        prompt = self.prompt.expand(len(part.ids), 1, -1)
        return self._states(prompt, [self._seen(part.first(self.summarised))], prompt)[:, -1]

    def _states(self, front: Tensor, tokens: list[tuple[Tensor, Tensor]], behind: Tensor) -> Tensor:
        """Last states (B, all positions, d) of ``front``, embedded tokens with their masks, and ``behind``.

        Positions count what is there: padding between takes none, so it changes nothing.
        """
        embedded = torch.cat([front, *(embedded for embedded, _ in tokens), behind], 1)
        there = torch.ones_like(tokens[0][1][:, :1]) if tokens[0][1].shape[1] else tokens[-1][1].new_ones(len(front), 1)
        mask = torch.cat([there, *(mask for _, mask in tokens), there], 1)
        padded = {} if bool(mask.all()) else {"attention_mask": mask.long(), "position_ids": mask.cumsum(1) - 1}
        states: Tensor = self.backbone.base_model(inputs_embeds=embedded, use_cache=False, **padded).last_hidden_state
        return states

    def _seen(self, part: Segment) -> tuple[Tensor, Tensor]:
        return self._embeddings(part.ids), part.mask

    def _sensed(self, state: MemoryState) -> tuple[Tensor, Tensor]:
        return self._embeddings(state.sensory.clamp(min=0)), state.sensory != NO_TOKEN

    def _head(self, states: Tensor) -> Tensor:
        logits: Tensor = cast("Any", self.backbone).get_output_embeddings()(states)
        return logits

    @torch.no_grad()
    def _begin(self, spread: float) -> None:
        """Set the scale of memories from those of segments of any tokens, and check how logits are made."""
        ids = torch.randint(self.vocabulary, (4, min(self.tokens, 64))).to(self.prompt.device)
        inside: nn.Module = self.backbone
        taught = inside.training
        inside.eval()  # no dropout
        memory = self.read(ids).memory
        self.log_scale.fill_(math.log(spread / float(memory.float().std())))
        logits = self.backbone(inputs_embeds=self._embeddings(ids), use_cache=False).logits
        states = self.backbone.base_model(inputs_embeds=self._embeddings(ids), use_cache=False).last_hidden_state
        inside.train(taught)
        if (logits - self._head(states)).norm() > 0.02 * logits.norm():
            raise InvalidInput(
                f"backbone {type(self.backbone).__name__} makes its logits otherwise than by its output embeddings on "
                "its last states; give a model without scaled or capped logits"
            )


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
