"""A network that decides what a small memory keeps: it reads, thinks, and writes with erasure, a step at a time.

The controller family of Neural Semantic Encoders (arXiv 1607.04315), as Fast & Slow Learning (arXiv 2011.05438) trains
it with synthetic gradients (``lamina.nn.fast_slow``). With input ``x``, hidden state ``h`` and memory ``M`` of slots:

    read      z = softmax(M W_r[x; h])                      r = M^T z
    compose   h' = GRU([x; r], h)                           y = W_o[h'; r]
    write     a = softmax(M W_k[x; h'])  g = sigmoid(W_g[x; h'])  c = tanh(W_v[x; h'])
              M' = (1 - g a) M + g a c^T

Erasing and writing are one convex step, so a slot never leaves the range of what was written into it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lamina.errors import InvalidInput

_SPREAD = 0.3  # of the slots before anything was written


class MemoryState(NamedTuple):
    """``hidden`` ``(batch, hidden)``, ``memory`` ``(batch, slots, size)``."""

    hidden: Tensor
    memory: Tensor


class MemoryController(Protocol):
    """A recurrent network whose whole state can be packed into one vector a row: what boundaries are cut at."""

    @property
    def state_size(self) -> int:
        """Numbers of a packed state."""

    def init_state(self, batch: int) -> Tensor:
        """Packed states ``(batch, state_size)`` before the first step, with a graph where they are learned."""

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step from a packed state on ``x`` ``(batch, inputs)``: the next packed state, and the output."""


class NeuralMemoryNetwork(nn.Module):
    """``inputs`` channels in, ``outputs`` logits out; ``slots`` of ``size`` numbers beside ``hidden`` ones.

    Raises ``InvalidInput`` for sizes below one.
    """

    def __init__(self, inputs: int, outputs: int, *, slots: int = 4, size: int = 16, hidden: int = 32) -> None:
        super().__init__()
        sizes = {"inputs": inputs, "outputs": outputs, "slots": slots, "size": size, "hidden": hidden}
        for name, given in sizes.items():
            if isinstance(given, bool) or not isinstance(given, int) or given < 1:
                raise InvalidInput(f"{name}={given!r}: give a whole number from 1")
        self.inputs, self.slots, self.size, self.hidden = inputs, slots, size, hidden
        both = inputs + hidden
        self.ask = nn.Linear(both, size)
        self.compose = nn.GRUCell(inputs + size, hidden)
        self.out = nn.Linear(hidden + size, outputs)
        self.address = nn.Linear(both, size)
        self.gate = nn.Linear(both, 1)
        self.content = nn.Linear(both, size)
        self.begin = nn.Parameter(torch.empty(slots, size).normal_(0.0, _SPREAD))

    @property
    def state_size(self) -> int:
        return self.hidden + self.slots * self.size

    def init_state(self, batch: int) -> Tensor:
        return torch.cat([self.begin.new_zeros(batch, self.hidden), self.begin.flatten().expand(batch, -1)], dim=1)

    def unpack(self, state: Tensor) -> MemoryState:
        """The parts of packed states ``(batch, state_size)``."""
        hidden, memory = state.tensor_split([self.hidden], dim=1)
        return MemoryState(hidden, memory.reshape(-1, self.slots, self.size))

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MemoryController``. Raises ``InvalidInput`` for another width of ``x`` or of the state."""
        if x.shape[-1] != self.inputs or state.shape[-1] != self.state_size:
            raise InvalidInput(
                f"x has {x.shape[-1]} channels and the state {state.shape[-1]} numbers: give {self.inputs} and "
                f"{self.state_size}"
            )
        hidden, memory = self.unpack(state)
        read = _weighted(memory, self.ask(torch.cat([x, hidden], dim=1)))
        hidden = self.compose(torch.cat([x, read], dim=1), hidden)
        seen = torch.cat([x, hidden], dim=1)
        strength = self.gate(seen).sigmoid() * _attention(memory, self.address(seen))  # (batch, slots)
        memory = torch.lerp(memory, self.content(seen).tanh()[:, None], strength[..., None])
        return torch.cat([hidden, memory.flatten(1)], dim=1), self.out(torch.cat([hidden, read], dim=1))


def _attention(memory: Tensor, query: Tensor) -> Tensor:
    return (memory @ query[..., None])[..., 0].softmax(-1)


def _weighted(memory: Tensor, query: Tensor) -> Tensor:
    found: Tensor = (_attention(memory, query)[:, None] @ memory)[:, 0]
    return found
