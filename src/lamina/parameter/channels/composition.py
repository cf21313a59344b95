"""Who talks to whom, from the weights alone: how loudly a head hears each direction that an earlier head writes.

Talking Heads (arXiv 2406.09519, section 3) replaces the composition score of whole heads (Elhage et al. 2021), which
is noise for most pairs, by that of one component: with ``a_k`` what it writes,

    Q: |a_k^T W_QK| / |W_QK|_F     K: |W_QK a_k| / |W_QK|_F     V: |W_OV a_k| / |W_OV|_F

A random direction scores 1 / sqrt(d) in RMS, but heads differ in how unevenly they hear, so every score comes with
its z among random unit vectors heard by the same head.

Rotary positions make ``W_QK`` depend on the distance D between reader and read, ``W_Q^T R_D W_K``. A score is the
RMS over some distances; the loudest one is kept beside it. Unusual: no d x d matrix is formed. A direction goes
through the near factor to d_h numbers, is turned there, and its length after the far factor is that after the
triangle of its QR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.channels.components import Component, Head, HeadSVD
from lamina.parameter.channels.heads import HeadFactors, Heads
from lamina.tensors.rotary import Rotary

Kind = Literal["q", "k", "v"]
DISTANCES = (0, 1, 2, 4, 8, 16, 32, 64)
_RANDOM = 1000  # unit vectors that say what a reader hears of anything


@dataclass(frozen=True, slots=True)
class Link:
    """A component heard by a reader: the score, its z, and the distance at which it is loudest (0 for values)."""

    component: Component
    reader: Head
    score: float
    z: float
    distance: int


@dataclass(frozen=True, slots=True, eq=False)
class CompositionTable:
    """``scores`` (components, readers) float32, NaN where the reader does not come after the component.

    ``loudest``, of the same shape, holds places in ``distances`` (int8); ``mean`` and ``deviation`` (readers,) are
    those of random unit vectors.
    """

    kind: Kind
    svd: HeadSVD
    readers: tuple[Head, ...]
    distances: tuple[int, ...]
    scores: Tensor
    loudest: Tensor
    mean: Tensor
    deviation: Tensor

    @property
    def z(self) -> Tensor:
        """Scores in standard deviations of what the same reader hears of random directions; NaN as in ``scores``."""
        return (self.scores - self.mean) / self.deviation

    def top(self, n: int = 20, reader: Head | None = None) -> list[Link]:
        """The ``n`` links with the highest z, of all readers or of one. Raises ``InvalidInput`` for another one."""
        z = self.z.nan_to_num(nan=-torch.inf)
        columns = len(self.readers)
        if reader is not None:
            z, columns = z[:, [self._column(reader)]], 1
        values, places = z.flatten().topk(min(n, z.numel()))
        found = []
        for value, place in zip(values.tolist(), places.tolist(), strict=True):
            row, column = divmod(place, columns)
            if value > -torch.inf:
                found.append(self._link(row, column if reader is None else self._column(reader)))
        return found

    def heatmap(self, reader: Head) -> Tensor:
        """The highest z of a component of each head before ``reader``: (layers, heads), NaN from its layer on."""
        heads = self.svd.heads
        z = self.z[:, self._column(reader)].view(heads.layers, heads.heads, -1)
        return z.amax(-1)  # a row of NaN stays one

    def percentile(self, component: Component, reader: Head) -> float:
        """The share, in percent, of all components before ``reader`` that it hears less than this one; 50: unrelated.

        Raises ``InvalidInput`` for a component that does not come before it.
        """
        column = self.scores[:, self._column(reader)]
        score = column[self.svd.index(component)]
        if score.isnan():
            raise InvalidInput(f"component {component} does not come before head {reader}")
        heard = column[~column.isnan()]
        return float(100 * ((heard < score).double().mean() + 0.5 * ((heard == score).double().mean())))

    def raw(self) -> Tensor:
        """Composition scores of whole heads (heads, readers): the components' in RMS, weighted by their strength.

        ``|W_OV^T W_QK|_F / (|W_OV|_F |W_QK|_F)`` exactly, since the ``b_k`` are orthonormal.
        """
        count = self.svd.heads.head_dim
        power = self.svd.strengths().view(-1, count, 1).float() ** 2
        return ((self.scores.view(-1, count, len(self.readers)) ** 2 * power).sum(1) / power.sum(1)).sqrt()

    def to_frame(self, n: int = 1000) -> dict[str, list[Any]]:
        """The strongest ``n`` links as columns, for ``pandas.DataFrame`` or a file."""
        rows = [
            (str(link.reader), *link.component, self.kind, link.score, link.z, link.distance) for link in self.top(n)
        ]
        names = ("reader", "layer", "head", "component", "kind", "score", "z", "distance")
        return {name: [row[place] for row in rows] for place, name in enumerate(names)}

    def _link(self, row: int, column: int) -> Link:
        score = float(self.scores[row, column])
        z = (score - float(self.mean[column])) / float(self.deviation[column])
        distance = self.distances[int(self.loudest[row, column])]
        return Link(self.svd.name(row), self.readers[column], score, z, distance)

    def _column(self, reader: Head) -> int:
        if reader not in self.readers:
            raise InvalidInput(f"reader={tuple(reader)!r} is not in this table; it has {len(self.readers)} readers")
        return self.readers.index(Head(*reader))


def composition_scores(
    lm: CausalLM | HeadSVD,
    kind: Kind = "q",
    readers: Sequence[tuple[int, int]] | None = None,
    distances: Sequence[int] = DISTANCES,
    *,
    without: Sequence[int] = (),
    seed: int = 0,
) -> CompositionTable:
    """How loudly each of ``readers`` (default: all heads) hears every component before it.

    Give a ``HeadSVD`` to decompose a model once for several tables. ``distances`` (tokens from read to reader) do not
    matter to values, nor to a model without rotary positions. ``without``: channels of the residual that readers are
    made deaf to, to see whether a few loud ones decide the scores (``batches.massive``). Raises ``InvalidInput``.
    """
    svd = lm if isinstance(lm, HeadSVD) else HeadSVD(lm)
    if kind not in get_args(Kind):
        raise InvalidInput(f"kind={kind!r} must be 'q', 'k' or 'v'")
    if not 0 < len(distances) < 128 or min(distances) < 0:
        raise InvalidInput(f"distances={list(distances)!r}: give 1 to 127, none negative")
    heads = svd.heads
    chosen = tuple(Head(*at) for at in readers) if readers is not None else tuple(svd.all_heads())
    for at in chosen:
        heads.check(*at)
    turned = tuple(distances) if kind != "v" and heads.rotary is not None else (0,)
    written = svd.directions(max((at.layer for at in chosen), default=0)) if any(at.layer for at in chosen) else None
    count = len(heads) * heads.head_dim
    scores = torch.full((count, len(chosen)), torch.nan)
    loudest = torch.zeros((count, len(chosen)), dtype=torch.int8)
    drawn = _random(heads, seed)
    mean, deviation = torch.empty(len(chosen)), torch.empty(len(chosen))
    for column, at in enumerate(chosen):
        ear = _Ear.of(heads.factors(*at), kind, heads.rotary, turned, without)
        heard = ear.hear(drawn)[0]
        mean[column], deviation[column] = heard.mean(), heard.std()
        if at.layer and written is not None:
            rows = at.layer * heads.heads * heads.head_dim
            scores[:rows, column], loudest[:rows, column] = ear.hear(written[:rows])
    return CompositionTable(kind, svd, chosen, turned, scores, loudest, mean, deviation)


def _random(heads: Heads, seed: int) -> Tensor:
    """Unit vectors, without mean where heads write none."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(_RANDOM, heads.width, generator=generator, dtype=torch.float64)
    if heads.centred:
        drawn -= drawn.mean(1, keepdim=True)
    unit: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
    return unit.to(heads.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class _Ear:
    """A reader of one kind: ``near`` (d_h, d), ``far`` (d_h, d_h) and turns (distances, d_h / 2) between them."""

    near: Tensor
    far: Tensor
    rotary: Rotary | None
    positions: Tensor

    @classmethod
    def of(
        cls, head: HeadFactors, kind: Kind, rotary: Rotary | None, distances: Sequence[int], without: Sequence[int]
    ) -> _Ear:
        near, far = {
            "q": (head.query, head.key.T),
            "k": (head.key, head.query.T),
            "v": (head.value, head.output),
        }[kind]
        near = near.clone()
        near[:, list(without)] = 0
        # The query stands D tokens after the key: it turns by D, or the key by -D.
        positions = torch.tensor(distances) * (-1 if kind == "k" else 1)
        return cls(near, torch.linalg.qr(far).R, None if kind == "v" else rotary, positions)

    def hear(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n,) of ``directions`` (n, d), and the place of the loudest distance of each."""
        loud = self._through(directions @ self.near.T).norm(dim=-1)
        whole = self._through(self.near.T.contiguous()).square().sum((0, 2)).sqrt()
        loud = loud / whole
        return loud.square().mean(1).sqrt().float(), loud.argmax(1).to(torch.int8)

    def _through(self, narrow: Tensor) -> Tensor:
        """(n, d_h) turned by each distance and sent through the far factor: (n, distances, d_h)."""
        spread = narrow[:, None].expand(-1, len(self.positions), -1)
        if self.rotary is not None:
            spread = self.rotary.rotate(spread, self.positions)
        far: Tensor = spread @ self.far.T
        return far
