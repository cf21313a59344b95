"""What a head writes, split into components: ``W_OV = sum_k s_k a_k b_k^T``.

Talking Heads (Merullo, Eickhoff, Pavlick, arXiv 2406.09519) decomposes heads by their singular vectors: component k
writes the direction ``a_k`` where ``b_k`` is read. ``W_OV`` is the product of two thin factors, so it is never formed:
each factor is orthogonalised (QR), and only the d_h x d_h core between them is decomposed.

Singular vectors carry no sign of their own; here the largest entry of ``a_k`` is positive. Their order can change with
the machine where singular values nearly agree, so what is kept for later names a component by ``a_k``, not by k.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from lamina.llm.causal import CausalLM
from lamina.parameter.channels.heads import Heads


class Head(NamedTuple):
    """Both count from 0."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}"


class Component(NamedTuple):
    """Component ``k`` of a head, strongest first, all from 0."""

    layer: int
    head: int
    k: int

    def __str__(self) -> str:
        return f"{self.layer}.{self.head}.{self.k}"


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """``a`` (d_h, d) and ``b`` (d_h, d): orthonormal rows; ``s`` (d_h,) falling. ``W_OV = a.T @ diag(s) @ b``."""

    a: Tensor
    s: Tensor
    b: Tensor


@dataclass(slots=True)
class HeadSVD:
    """The components of all heads of ``lm``: computed once a head, some 64 vectors each, never d x d.

    They are those of the weights as they were; make another after an edit. Raises ``InvalidInput`` as ``Heads``.
    """

    lm: CausalLM
    heads: Heads = field(init=False)
    _known: dict[Head, Components] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.heads = Heads(self.lm)

    def components(self, layer: int, head: int) -> Components:
        """Of one head, both from 0. Raises ``InvalidInput`` if there is none."""
        at = Head(layer, head)
        if at not in self._known:
            self._known[at] = self._decompose(at)
        return self._known[at]

    def direction(self, component: Component) -> Tensor:
        """``a_k`` (d,). Raises ``InvalidInput`` if there is no such component."""
        return self.components(component.layer, component.head).a[component.k]

    def directions(self, layers: int | None = None) -> Tensor:
        """``a_k`` of all components of the first ``layers`` layers (n, d), in the order of ``names``."""
        return torch.cat([self.components(*at).a for at in self.all_heads(layers)])

    def strengths(self, layers: int | None = None) -> Tensor:
        """``s_k`` of the same (n,)."""
        return torch.cat([self.components(*at).s for at in self.all_heads(layers)])

    def name(self, index: int) -> Component:
        """The component in row ``index`` of ``directions()``."""
        head, k = divmod(index, self.heads.head_dim)
        return Component(*divmod(head, self.heads.heads), k)

    def index(self, component: Component) -> int:
        """The row of ``component``. Raises ``InvalidInput`` if there is none."""
        self.heads.check(component.layer, component.head)
        return (component.layer * self.heads.heads + component.head) * self.heads.head_dim + component.k

    def all_heads(self, layers: int | None = None) -> list[Head]:
        """Those of the first ``layers`` layers, in order; default: of all."""
        count = self.heads.layers if layers is None else layers
        return [Head(layer, head) for layer in range(count) for head in range(self.heads.heads)]

    def _decompose(self, at: Head) -> Components:
        factors = self.heads.factors(*at)
        written, core_out = torch.linalg.qr(factors.output)
        read, core_in = torch.linalg.qr(factors.value.T)
        left, strengths, right = torch.linalg.svd(core_out @ core_in.T)
        a, b = (written @ left).T, right @ read.T
        signs = a.gather(1, a.abs().argmax(1, keepdim=True)).sign()
        return Components(a * signs, strengths, b * signs)
