"""Interventions on a channel while the model runs: what if these components were silent, louder, or said that?

Talking Heads (arXiv 2406.09519, section 5). ``remove`` and ``scale`` act on each member where it is written, so with
all positions they are what the weight edit does. ``set`` and ``swap`` act on what the members say together, as
coordinates in the basis of their channel: each member's part in it is taken out where it is written, and the wanted
one is written by the layer of the last member. ``swap`` reads the wanted one off another prompt.

Nothing in the model changes: output maps get a hook, and lose it at the end of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.channels.batches import Batch
from lamina.parameter.channels.components import Component
from lamina.parameter.channels.discovery import Channel
from lamina.parameter.channels.heads import Heads

Op = Literal["remove", "scale", "set", "swap"]
Positions = Literal["end", "all"]
_Change = Callable[[Tensor, Tensor], Tensor]  # what enters an output map and what leaves it, to what is to leave


@contextmanager
def intervene(
    lm: CausalLM,
    channel: Channel,
    op: Op = "scale",
    value: float | Sequence[float] | Tensor | Batch = 0.0,
    positions: Positions = "end",
) -> Iterator[None]:
    """For the block, which holds ``lm.lock``: the channel's members write something else.

    ``value``: for ``scale`` the factor, or one a member; for ``set`` the coordinates in ``channel.basis``, (c,) or one
    row a prompt (n, c); for ``swap`` a batch of other prompts, one for each. ``remove`` needs none. ``positions``:
    the last token of every forward, or all tokens. Raises ``InvalidInput``.
    """
    if op not in get_args(Op) or positions not in get_args(Positions):
        raise InvalidInput(f"op={op!r} must be one of {get_args(Op)}, positions={positions!r} of {get_args(Positions)}")
    heads = Heads(lm)
    with lm.lock:
        if op in ("remove", "scale"):
            factors = _factors(channel, 0.0 if op == "remove" else value)
            changes = _scaling(heads, channel, factors)
        else:
            changes = _setting(heads, channel, _wanted(lm, channel, op, value))
        handles = [
            heads.writer(layer).register_forward_hook(_hook(change, positions)) for layer, change in changes.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def read_channel(lm: CausalLM, channel: Channel, batch: Batch) -> Tensor:
    """What the members say together at the last token of each prompt: coordinates (n, c) in ``channel.basis``."""
    heads, total = Heads(lm), torch.zeros(len(batch), len(channel.basis), dtype=channel.directions.dtype)

    def hook(layer: int) -> Callable[[Any, tuple[Tensor, ...], Tensor], None]:
        said = _sayings(heads, channel.basis, sorted({m.head for m in channel.members if m.layer == layer}), layer)

        def catch(_module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            total.add_(said(inputs[0][:, -1:])[:, 0].to(total))

        return catch

    layers = sorted({member.layer for member in channel.members})
    with lm.lock, torch.no_grad():
        handles = [heads.writer(layer).register_forward_hook(hook(layer)) for layer in layers]
        try:
            batch.forward(lm)
        finally:
            for handle in handles:
                handle.remove()
    return total


def _factors(channel: Channel, value: Any) -> dict[Component, float]:
    given = [float(value)] * len(channel.members) if isinstance(value, int | float) else [float(v) for v in value]
    if len(given) != len(channel.members) or not torch.tensor(given).isfinite().all():
        raise InvalidInput(
            f"value={value!r}: give one finite factor, or one for each of {len(channel.members)} members"
        )
    return dict(zip(channel.members, given, strict=True))


def _wanted(lm: CausalLM, channel: Channel, op: Op, value: Any) -> Tensor:
    """Coordinates (1 or n, c)."""
    if op == "swap":
        if not isinstance(value, Batch):
            raise InvalidInput(f"value={value!r}: swap takes the batch of prompts to read the channel from")
        return read_channel(lm, channel, value)
    wanted = torch.as_tensor(value, dtype=channel.directions.dtype)
    wanted = wanted[None] if wanted.ndim == 1 else wanted
    if wanted.ndim != 2 or wanted.shape[1] != len(channel.basis) or not wanted.isfinite().all():
        raise InvalidInput(
            f"value: set takes {len(channel.basis)} finite coordinates, or a row of them for each prompt"
        )
    return wanted


def _scaling(heads: Heads, channel: Channel, factors: Mapping[Component, float]) -> dict[int, _Change]:
    """Each member's coordinate of its head's output times its factor."""
    changes: dict[int, _Change] = {}
    for layer in sorted({member.layer for member in channel.members}):
        parts = [
            (factors[member] - 1, direction, _sayings(heads, direction[None], [member.head], layer))
            for member, direction in zip(channel.members, channel.directions, strict=True)
            if member.layer == layer
        ]

        def change(read: Tensor, written: Tensor, parts: Any = tuple(parts)) -> Tensor:
            for amount, direction, said in parts:
                written = written + (amount * said(read) * direction).to(written)
            return written

        changes[layer] = change
    return changes


def _setting(heads: Heads, channel: Channel, wanted: Tensor) -> dict[int, _Change]:
    """All that the members' heads say in the channel is taken out; the last layer says ``wanted``."""
    layers, basis = sorted({member.layer for member in channel.members}), channel.basis
    changes: dict[int, _Change] = {}
    for layer in layers:
        said = _sayings(heads, basis, sorted({m.head for m in channel.members if m.layer == layer}), layer)
        added = wanted @ basis if layer == layers[-1] else torch.zeros_like(basis[:1])

        def change(read: Tensor, written: Tensor, said: Any = said, added: Tensor = added) -> Tensor:
            changed: Tensor = written + (added[:, None] - said(read) @ basis).to(written)
            return changed

        changes[layer] = change
    return changes


def _sayings(heads: Heads, directions: Tensor, of: Sequence[int], layer: int) -> Callable[[Tensor], Tensor]:
    """From what enters an output map (n, time, heads d_h) to the coordinates (n, time, c) of what ``of`` write."""
    rows = {head: (directions @ heads.output_slice(layer, head).detach().to(directions)).T for head in of}
    size = heads.head_dim

    def said(read: Tensor) -> Tensor:
        wide = read.to(directions)
        total = sum(wide[..., head * size : (head + 1) * size] @ row for head, row in rows.items())
        return torch.as_tensor(total)

    return said


def _hook(change: _Change, positions: Positions) -> Callable[[Any, tuple[Tensor, ...], Tensor], Tensor]:
    def at_end(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        changed = change(inputs[0][:, -1:], output[:, -1:])
        return torch.cat([output[:, :-1], changed], 1)

    def everywhere(_module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return change(inputs[0], output)

    return everywhere if positions == "all" else at_end
