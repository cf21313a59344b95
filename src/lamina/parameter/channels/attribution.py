"""Which components matter to a task, from one backward pass (Talking Heads, arXiv 2406.09519, section 4).

With ``o`` what head u writes at the last token and ``g`` the gradient of a margin there, component k contributes
``(a_k . o)(a_k . g)``: to first order what the margin loses if the component is removed, and gains if it is doubled.
One backward pass over a batch ranks all components of all heads. It is a first order: norms further up rescale what
is left, so ``ablate`` removes the best for real.

The margin decides what is asked. ``logit_margin`` asks for the answer, by whatever way it comes; ``attention_margin``
asks only where one head looks, which is what an inhibition head decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.parameter.channels.batches import Batch, attentions
from lamina.parameter.channels.components import Component, Head, HeadSVD
from lamina.parameter.channels.discovery import Channel
from lamina.parameter.channels.heads import Heads
from lamina.parameter.channels.intervention import intervene

Margin = Callable[[Any], Tensor]  # the model's output, with logits and attentions, to (n,)


@dataclass(frozen=True, slots=True, eq=False)
class AttributionTable:
    """``scores`` (components,) and ``heads`` (layers, heads): contributions to the margin, mean over prompts.

    A head's contribution is the sum of its components'.
    """

    svd: HeadSVD
    scores: Tensor
    heads: Tensor
    margin: float

    @classmethod
    def mean(cls, tables: Sequence[AttributionTable]) -> AttributionTable:
        """Of batches with equally many prompts: those of different lengths are cheaper apart."""
        scores, by_head = (torch.stack([getattr(t, name) for t in tables]).mean(0) for name in ("scores", "heads"))
        return cls(tables[0].svd, scores, by_head, sum(table.margin for table in tables) / len(tables))

    def top(self, n: int, *, helpful: bool = True) -> list[tuple[Component, float]]:
        """The ``n`` components that raise the margin most, or lower it most."""
        values, places = self.scores.topk(n, largest=helpful)
        return [(self.svd.name(i), v) for i, v in zip(places.tolist(), values.tolist(), strict=True)]

    def movers(self, n: int, *, after: int = -1) -> list[Head]:
        """The ``n`` heads (or as many as there are) behind layer ``after`` that raise the margin most."""
        first, count = (after + 1) * self.svd.heads.heads, self.svd.heads.heads
        late = self.heads.flatten()[first:]
        return [Head(*divmod(first + place, count)) for place in late.topk(min(n, len(late))).indices.tolist()]


def attribute(svd: HeadSVD, batch: Batch, margin: Margin) -> AttributionTable:
    """Contributions of all components at the last token of the prompts of ``batch``. Holds the model's lock."""
    heads = svd.heads
    with svd.lm.lock, torch.enable_grad(), attentions(svd.lm), _written(heads) as caught:
        out = batch.forward(svd.lm, output_attentions=True)
        values = margin(out)
        if values.shape != (len(batch),):
            raise InvalidInput(f"margin gave {tuple(values.shape)}; give one number a prompt, ({len(batch)},)")
        # Heads after the one whose attention is asked for do not take part in it.
        maps = [written for _, written in caught]
        gradients = torch.autograd.grad(values.sum(), maps, materialize_grads=True)
    scores = torch.empty(len(heads), heads.head_dim)
    for layer, ((read, _), gradient) in enumerate(zip(caught, gradients, strict=True)):
        inner = read[:, -1].detach().to(heads.dtype).view(len(batch), heads.heads, heads.head_dim)
        pull = gradient[:, -1].to(heads.dtype)
        for head in range(heads.heads):
            a = svd.components(layer, head).a
            said = inner[:, head] @ (a @ heads.output_slice(layer, head).detach().to(heads.dtype)).T
            scores[layer * heads.heads + head] = (said * (pull @ a.T)).mean(0).float()
    by_head = scores.sum(1).view(heads.layers, heads.heads)
    return AttributionTable(svd, scores.flatten(), by_head, float(values.detach().mean()))


def ablate(svd: HeadSVD, batch: Batch, margin: Margin, members: Sequence[tuple[int, int, int]]) -> list[float]:
    """What the mean margin really loses when each of ``members`` alone is removed at the last token."""
    with svd.lm.lock, torch.no_grad(), attentions(svd.lm):
        whole = float(margin(batch.forward(svd.lm, output_attentions=True)).mean())
        lost = []
        for member in members:
            with intervene(svd.lm, Channel.of(svd, [member]), op="remove"):
                lost.append(whole - float(margin(batch.forward(svd.lm, output_attentions=True)).mean()))
    return lost


def logit_margin(right: Sequence[int], wrong: Sequence[Sequence[int]]) -> Margin:
    """Per prompt the logit of token ``right`` less the logsumexp of the tokens ``wrong``."""
    _aligned(right, wrong)

    def margin(out: Any) -> Tensor:
        logits = out.logits[:, -1]
        rows = [
            logits[row, answer] - logits[row, list(others)].logsumexp(0)
            for row, (answer, others) in enumerate(zip(right, wrong, strict=True))
        ]
        return torch.stack(rows)

    return margin


def attention_margin(head: tuple[int, int], right: Sequence[int], wrong: Sequence[Sequence[int]]) -> Margin:
    """Per prompt how much more of its attention ``head`` gives, from the last token, to place ``right`` than to the
    places ``wrong`` on average. Places count from the end: -1 is the last token."""
    _aligned(right, wrong)

    def margin(out: Any) -> Tensor:
        seen = out.attentions[head[0]][:, head[1], -1]
        rows = [
            seen[row, place] - seen[row, list(others)].mean()
            for row, (place, others) in enumerate(zip(right, wrong, strict=True))
        ]
        return torch.stack(rows)

    return margin


def _aligned(right: Sequence[int], wrong: Sequence[Sequence[int]]) -> None:
    if len(right) != len(wrong) or not all(map(len, wrong)):
        raise InvalidInput(f"right has {len(right)} entries and wrong {len(wrong)}; give each prompt both, none empty")


@contextmanager
def _written(heads: Heads) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What enters and leaves the output map of each layer in the next forward, with a graph above it."""
    caught: list[tuple[Tensor, Tensor]] = []

    def hook(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not output.requires_grad:  # nothing below learns: the graph starts here
            output.requires_grad_()
        caught.append((inputs[0], output))

    handles = [heads.writer(layer).register_forward_hook(hook) for layer in range(heads.layers)]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()
