"""Channels: the few directions in which some heads talk to others (Talking Heads, arXiv 2406.09519, section 4).

In GPT-2 small one or two components of each inhibition head carry all it says to the movers, and those of four heads
span three dimensions. How many a model has is for its weights to say: here a channel's dimension is the number of
directions that hold 90% of the energy of its members' ``a_k``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.parameter.channels.components import Component, Head, HeadSVD
from lamina.parameter.channels.composition import CompositionTable

_Z = 4.0  # a member stands out among random directions
_SHARE = 3.0  # and says so many times its part of what its head says to the reader
_ENERGY = 0.9
_ALIKE = 0.5  # |cos| between directions of one group


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """``members`` and the directions they write: ``directions`` (members, d), unit rows in the order of members."""

    directions: Tensor
    members: tuple[Component, ...]

    @classmethod
    def of(cls, svd: HeadSVD, members: Sequence[tuple[int, int, int]]) -> Channel:
        """The channel of these components. Raises ``InvalidInput`` for none, repeated or unknown ones."""
        named = tuple(Component(*member) for member in members)
        if not named or len(set(named)) != len(named):
            raise InvalidInput(f"members={list(members)!r}: give distinct components (layer, head, k), at least one")
        for member in named:
            svd.heads.check(member.layer, member.head)
            if not 0 <= member.k < svd.heads.head_dim:
                raise InvalidInput(f"component {member}: a head of this model has {svd.heads.head_dim}, from 0")
        return cls(torch.stack([svd.direction(member) for member in named]), named)

    @property
    def basis(self) -> Tensor:
        """Orthonormal rows (c, d) that span the directions, strongest first."""
        _, strengths, rows = torch.linalg.svd(self.directions, full_matrices=False)
        spanning: Tensor = rows[: int((strengths > 1e-5 * strengths[0]).sum())]
        return spanning

    @property
    def dimension(self) -> int:
        """How many dimensions hold 90% of the energy of the directions."""
        energy = torch.linalg.svdvals(self.directions).square().cumsum(0)
        return int((energy < _ENERGY * energy[-1]).sum()) + 1

    def groups(self) -> list[list[Component]]:
        """Members joined by |cos| > 0.5 between their directions, largest group first."""
        near = (self.directions @ self.directions.T).abs() > _ALIKE
        left, found = set(range(len(self.members))), []
        while left:
            group, edge = set[int](), {min(left)}
            while edge:
                group |= edge
                edge = {j for i in edge for j in near[i].nonzero()[:, 0].tolist()} - group
            left -= group
            found.append([self.members[i] for i in sorted(group)])
        return sorted(found, key=len, reverse=True)


def find_channel(table: CompositionTable, reader: tuple[int, int]) -> Channel | None:
    """The components that stand out to ``reader``: z over 4, and over three times their part of their head's score.

    Strongest first; ``None`` if there are none.
    """
    at, count = Head(*reader), table.svd.heads.head_dim
    column = table.readers.index(at) if at in table.readers else -1
    if column < 0:
        raise InvalidInput(f"reader={tuple(reader)!r} is not in this table; compute it for this reader")
    scores, z = table.scores[:, column], table.z[:, column]
    share = scores.view(-1, count) / scores.view(-1, count).sum(1, keepdim=True)
    chosen = ((z > _Z) & (share.flatten() > _SHARE / count)).nonzero()[:, 0]
    if not len(chosen):
        return None
    order = chosen[z[chosen].argsort(descending=True)]
    return Channel.of(table.svd, [table.svd.name(index) for index in order.tolist()])
