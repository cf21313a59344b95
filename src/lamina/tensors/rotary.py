"""Rotary positions: put them on a tensor, take them off, move them.

RoFormer, arXiv 2104.09864: each pair ``(x_i, x_{i+r/2})`` of the first ``r`` channels is turned by an angle
``position * frequency_i``. The tables are computed as transformers' rotary modules compute them, to the bit, from the
module's own frequencies and scaling, so linear, YaRN and Llama-3 scaling and partial rotation need no code here.

What is unusual: removal divides by ``cos² + sin²``. That undoes YaRN's scaling and the rounding of the tables, so the
inverse is exact to the last place in float64 and to about 1e-6 in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

_GROWING = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """``frequencies`` ``(r/2,)`` float32, radians a position; ``scaling`` multiplies both tables."""

    frequencies: Tensor
    scaling: float = 1.0

    @classmethod
    def of(cls, model: PreTrainedModel) -> Rotary:
        """The rotary embedding of a transformers model, as it is now.

        Raises ``InvalidInput`` if it has none, one for each kind of layer, or one whose frequencies follow the length
        of the text: a key made in a short text would not fit a longer one.
        """
        name = type(model).__name__
        module = getattr(model.base_model, "rotary_emb", None)
        kind = getattr(module, "rope_type", "default")
        frequencies = getattr(module, "inv_freq", None)
        if not isinstance(kind, str):
            raise InvalidInput(f"{name} has a rotary embedding for each kind of layer; one for all layers is supported")
        if frequencies is None:
            raise InvalidInput(f"{name} has no rotary embedding, so its keys cannot be moved; use a Llama-like model")
        if kind in _GROWING:
            raise InvalidInput(f"the {kind!r} rotary embedding of {name} changes its frequencies with the length")
        return cls(frequencies.detach().float().clone(), float(getattr(module, "attention_scaling", 1.0)))

    @property
    def width(self) -> int:
        """Leading channels that are turned."""
        return 2 * len(self.frequencies)

    def tables(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines ``(n, r/2)`` float32 at ``positions`` ``(n,)``."""
        angles = positions[:, None].float() * self.frequencies
        return angles.cos() * self.scaling, angles.sin() * self.scaling

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """``x`` ``(..., n, d)`` with positions ``(n,)`` put on; float32, or float64 for float64."""
        return self.turn(x, *self.tables(positions))

    def unrotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """The inverse of ``rotate``: shapes and dtypes as there."""
        cos, sin = (table.double() for table in self.tables(positions))
        square = cos * cos + sin * sin
        return self.turn(x, cos / square, -sin / square)

    def move(self, x: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """``x``, rotated to positions ``old``, as it would be at ``new``: both ``(n,)``."""
        return self.rotate(self.unrotate(x, old), new)

    def turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``rotate`` by tables made before, for many tensors at the same positions."""
        if x.shape[-1] < self.width or x.shape[-2] != len(cos):
            raise InvalidInput(
                f"x has shape {tuple(x.shape)}; give (..., {len(cos)} positions, at least {self.width} channels)"
            )
        torch = require("torch", "rotary positions")
        wide = x.double() if x.dtype == torch.float64 else x.float()
        cos, sin = cos.to(wide.dtype), sin.to(wide.dtype)
        half = len(self.frequencies)
        first, second = wide[..., :half], wide[..., half : 2 * half]
        turned: Tensor = torch.empty_like(wide, memory_format=torch.contiguous_format)
        turned[..., 2 * half :] = wide[..., 2 * half :]
        torch.mul(first, cos, out=turned[..., :half]).sub_(second * sin)
        torch.mul(second, cos, out=turned[..., half : 2 * half]).add_(first * sin)
        return turned
