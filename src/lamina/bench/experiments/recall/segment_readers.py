"""Models that read long texts segment by segment: taught to copy within a segment, then given a memory, then asked.

The backbone is a small Llama that learns on single segments to say the value of a fact stated there, and is frozen.
To learn that within a minute it starts with the two steps of copying laid out: heads of its first layer look at the
token before, heads of its last two look for a token that follows one like theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from lamina.activation.retrieval_memory import frozen
from lamina.activation.side_retrieval import LongMem, MemoryBank
from lamina.bench.experiments.recall.segment_facts import VOCABULARY, Asked, Mixture, Texts, texts
from lamina.bench.experiments.recall.small_llama import small_llama
from lamina.train.loop import train

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, LlamaForCausalLM

    from lamina.activation.retrieval_memory.side_network import Pair

LAYERS, HEADS = 4, 8
_BETAS, _EPS, _DECAY = (0.9, 0.98), 1e-6, 0.01  # of the paper's AdamW
_FINDERS = (2, 3)  # layers whose heads look for a token that follows one like theirs
_LESSON = Mixture(facts=16, here=24, earlier=0)  # of the backbone
_TAUGHT = Mixture(facts=3, here=8, earlier=30)  # of the side network: more questions than the texts of the test have
_PROSE = 0.5  # weight of the prose in what is learned
_KEPT = 2.0  # and of the answers from the same segment, which the side network is to leave as they are
_GATE_RATE = 2  # of the gates, as a multiple of the others'; at 10 they open for good before the rest has learned


def backbone(seed: int, *, steps: int, width: int = 128, rows: int = 8, lr: float = 3e-3) -> LlamaForCausalLM:
    """A Llama of 4 layers that copies within a segment."""
    model = small_llama(VOCABULARY, width=width, layers=LAYERS, heads=HEADS, seed=seed)
    _lay_out(model, torch.Generator().manual_seed(seed))
    rng = np.random.default_rng((seed, 0))

    def loss(_: int) -> Tensor:
        lesson = Lesson.of(texts(rng, rows, 1, _LESSON), 0)
        return lesson.loss(model(lesson.ids, use_cache=False).logits)

    train(model.parameters(), loss, steps=steps, lr=lr)
    return model


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One segment of several texts: ``ids``, ``targets`` and ``asked`` (rows, length)."""

    ids: Tensor
    targets: Tensor
    asked: Tensor

    @classmethod
    def of(cls, told: Texts, segment: int) -> Lesson:
        return cls(*(torch.from_numpy(each[:, segment]) for each in (told.ids, told.targets, told.asked)))

    def losses(self, logits: Tensor) -> Tensor:
        """Nats at each position (rows, length)."""
        return F.cross_entropy(logits.transpose(1, 2), self.targets, reduction="none")

    def loss(self, logits: Tensor, here: float = 1.0) -> Tensor:
        """Mean over the answers of each kind, those of the same segment with weight ``here``, and over the prose with
        less weight."""
        losses = self.losses(logits)
        weights = {Asked.PROSE: _PROSE, Asked.HERE: here, Asked.EARLIER: 1.0}
        parts = [weight * losses[self.asked == kind].mean() for kind, weight in weights.items() if self.has(kind)]
        return torch.stack(parts).sum()

    def has(self, kind: Asked) -> bool:
        return bool((self.asked == kind).any())


class Coupled(LongMem):
    """The rival: its bank keeps the keys and values of the side network's own layer, as Memorizing Transformers do
    (Wu et al., arXiv 2203.08913). What it wrote goes stale when it learns."""

    def read(
        self, ids: Tensor, banks: Sequence[MemoryBank], past: Sequence[Pair] | None = None, cache: Cache | None = None
    ) -> tuple[Tensor, frozen.Reading, list[Pair]]:
        joint = self.side.joint
        with frozen.outputs([joint.k_proj, joint.v_proj]) as made:
            logits, reading, kept = super().read(ids, banks, past, cache)
        keys, values = (frozen.heads(tensor.detach(), joint.head_dim) for tensor in made)
        return logits, replace(reading, keys=keys, values=values), kept

    @torch.no_grad()
    def ingest(self, input_ids: Tensor, banks: Sequence[MemoryBank]) -> None:
        for part in torch.split(input_ids, self.segment, 1):
            self(part, banks)


def lessons(seed: int, rows: int, lengths: Sequence[int], memory: LongMem) -> Iterator[tuple[Lesson, list[MemoryBank]]]:
    """Consecutive segments of the same ``rows`` texts, each row with its own bank; a text of each of ``lengths``
    segments, then more of the last. Segments before the first question on an earlier one are read, not taught."""
    rng = np.random.default_rng((seed, 1))
    sizes = iter(lengths)
    while True:
        count = next(sizes, lengths[-1])
        told, banks = texts(rng, rows, count, _TAUGHT), memory.banks(rows)
        for segment in range(count):
            lesson = Lesson.of(told, segment)
            if lesson.has(Asked.EARLIER):
                yield lesson, banks
            else:
                with torch.no_grad():
                    memory(lesson.ids, banks)


def adapt(
    memory: LongMem,
    course: Iterator[tuple[Lesson, list[MemoryBank]]],
    *,
    steps: int,
    lr: float,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Teach the side network on ``steps`` segments; the loss of each. AdamW as in the paper but for the rate."""

    def loss(_: int) -> Tensor:
        lesson, banks = next(course)
        return lesson.loss(memory(lesson.ids, banks).logits, _KEPT)

    gate = memory.side.joint.gate
    rest = [parameter for parameter in memory.side.parameters() if parameter is not gate]
    groups: list[dict[str, Any]] = [
        {"params": rest, "eps": _EPS},
        {"params": [gate], "lr": _GATE_RATE * lr, "eps": _EPS},
    ]
    memory.train()
    losses = train(groups, loss, steps=steps, lr=lr, weight_decay=_DECAY, betas=_BETAS, report=report)
    memory.eval()
    return losses


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """Of the segments that were asked, by position: whether it was ``right``, what was ``asked``, how many segments
    back the fact is, and the ``losses`` in nats."""

    right: NDArray[np.bool_]
    asked: NDArray[np.int64]
    distance: NDArray[np.int64]
    losses: NDArray[np.float64]

    def share(self, kind: Asked, nearest: int = 0, farthest: int = 10**6, *, before: bool = False) -> float:
        """Of right answers to questions of ``kind`` on facts within these segments; ``before``: only on facts stated
        before the first segment that was asked."""
        chosen = (self.asked == kind) & (self.distance >= nearest) & (self.distance <= farthest)
        if before:
            chosen &= self.distance > np.arange(self.distance.shape[1])[None, :, None]
        return float(self.right[chosen].mean()) if chosen.any() else math.nan

    @property
    def count(self) -> int:
        """Questions on facts of earlier segments."""
        return int((self.asked == Asked.EARLIER).sum())

    @property
    def prose(self) -> float:
        """Nats of a word of prose, mean."""
        return float(self.losses[self.asked == Asked.PROSE].mean())


Read = Callable[[Lesson], "Tensor"]


@torch.no_grad()
def ask(read: Read, told: Texts, first: int) -> Answers:
    """What ``read`` says to the segments of ``told`` from ``first`` on, in order."""
    right, losses = [], []
    for segment in range(first, told.ids.shape[1]):
        lesson = Lesson.of(told, segment)
        logits = read(lesson)
        right.append((logits.argmax(-1) == lesson.targets).numpy())
        losses.append(lesson.losses(logits).double().numpy())
    return Answers(np.stack(right, 1), told.asked[:, first:], told.distance[:, first:], np.stack(losses, 1))


def remembered(memory: LongMem, told: Texts, end: int, chunk: int | None = None) -> list[MemoryBank]:
    """Banks that hold the segments of ``told`` up to ``end``, in chunks of ``chunk`` (the memory's own)."""
    banks = memory.banks(len(told.ids))
    if chunk is not None:
        banks = [
            MemoryBank(
                memory.fingerprint,
                capacity=memory.capacity,
                kv_heads=bank.kv_heads,
                head_dim=bank.head_dim,
                chunk=chunk,
            )
            for bank in banks
        ]
    memory.ingest(torch.from_numpy(told.ids[:, :end].reshape(len(told.ids), -1)), banks)
    return banks


def with_banks(memory: LongMem, banks: Sequence[MemoryBank], *, shift: int = 0, write: bool = True) -> Read:
    """``memory`` reading each row with the bank of the row ``shift`` further, and writing to its own."""
    others = [*banks[shift:], *banks[:shift]]

    def read(lesson: Lesson) -> Tensor:
        said: Tensor = memory(lesson.ids, others, write=write and not shift).logits
        if write and shift:
            memory.ingest(lesson.ids, banks)
        return said

    return read


@contextmanager
def gate_closed(memory: LongMem) -> Iterator[None]:
    """Within the block nothing of the bank comes through."""
    gate = memory.side.joint.gate
    if gate is None:
        raise TypeError("the joint layer has a gate")
    before = gate.detach().clone()
    try:
        gate.data.fill_(-math.inf)
        yield
    finally:
        gate.data.copy_(before)


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of questions on earlier facts whose value is among the tokens that some head found (``any_head``) and that
    one head found (``head``), and of lists of found chunks that brute force finds as good (``exact``)."""

    any_head: float
    head: float
    exact: float


@torch.no_grad()
def recall(memory: LongMem, banks: Sequence[MemoryBank], told: Texts, segment: int) -> Recall:
    """Of the questions in ``segment``, behind which ``banks`` stand."""
    lesson, joint = Lesson.of(told, segment), memory.side.joint
    with frozen.outputs([joint.q_proj]) as heard:
        memory(lesson.ids, banks, write=False)
    queries = frozen.heads(heard[0], joint.head_dim)
    hits, same = [], []
    for row, bank in enumerate(banks):
        places = torch.nonzero(lesson.asked[row] == Asked.EARLIER).flatten()
        ids = bank.search(queries[row][:, places], memory.topk)[2]
        wanted = torch.from_numpy(told.place[row, segment])[places]
        hits.append((bank.source(ids).flatten(2) == wanted[None, :, None]).any(-1))
        same.append(_as_good(bank, queries[row][:, places], ids))
    found = torch.cat(hits, 1)
    shares = (found.any(0), found, torch.cat(same, 1))
    return Recall(*(float(share.double().mean()) for share in shares))


def _as_good(bank: MemoryBank, queries: Tensor, ids: Tensor) -> Tensor:
    """Whether chunks ``ids`` (heads, n, k) have the ``k`` largest of all inner products, taken one by one in float64
    from the keys that the bank would save; apart from what rounding to float32 may swap."""
    keys = bank.to_payload().tensors["keys"].torch()  # (heads, chunks, chunk, head_dim), oldest first
    means = keys.float().mean(2).to(keys.dtype).double()
    scores = queries.double() @ means.transpose(1, 2)
    best = scores.sort(dim=-1, descending=True).values[..., : ids.shape[-1]]
    found = scores.gather(-1, ids - (bank.seen // bank.chunk - keys.shape[1]))
    return (best - found).abs().amax(-1) <= 1e-5 * scores.abs().amax(-1)


@torch.no_grad()
def _lay_out(model: LlamaForCausalLM, generator: torch.Generator) -> None:
    """Copying, laid out: see above. What is written over is drawn from ``generator``."""
    parts: Any = model.model
    width = parts.embed_tokens.weight.shape[1]
    first = parts.layers[0].self_attn

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    # What a token is must not drown in what layers add to it; one channel is the same for all, for constant queries.
    constant, strength = 2.0, 6.0
    parts.embed_tokens.weight.copy_(noise(*parts.embed_tokens.weight.shape))
    parts.embed_tokens.weight[:, 0] = constant
    parts.norm.weight.fill_(0.1)
    for projection in (first.v_proj, first.o_proj):
        projection.weight.copy_(noise(width, width) * width**-0.5)
    # With keys (g, 0) and queries g (cos f, -sin f) in each plane of frequency f, the token before scores highest.
    frequencies, half = parts.rotary_emb.inv_freq, width // 2
    unit = constant / math.sqrt(1 + constant**2 / width)
    planes = half // (2 * len(frequencies))  # heads: half of them
    for projection, turn in (
        (first.q_proj, torch.cat([frequencies.cos(), -frequencies.sin()])),
        (first.k_proj, torch.cat([torch.ones_like(frequencies), torch.zeros_like(frequencies)])),
    ):
        projection.weight[:half] = 0
        projection.weight[:half, 0] = (strength / unit) * turn.repeat(planes)
    # A query asks for its own token; a key tells the token before it, as the first layer has passed it on.
    passed_on = first.o_proj.weight[:, :half] @ first.v_proj.weight[:half]
    for finder in (parts.layers[number].self_attn for number in _FINDERS):
        queries = 1.5 * width**-0.5 * noise(width, width)
        queries[:, 0] = 0
        finder.q_proj.weight.copy_(queries)
        finder.k_proj.weight.copy_(queries @ passed_on.T)
        copied = torch.linalg.qr(noise(width, width))[0]
        finder.v_proj.weight.copy_(copied)
        finder.o_proj.weight.copy_(copied.T)
