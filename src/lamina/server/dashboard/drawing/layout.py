"""Where the nodes of a graph stand, so that what is linked is near, no two overlap, and parts stand side by side.

Each connected part is drawn by stress majorization (Gansner, Koren and North, "Graph Drawing by Stress Majorization",
2004; the energy is that of Kamada and Kawai, 1989): distances on paper are to be distances in the graph. Then nodes,
which are boxes with a text in them, are pushed apart, and the parts are packed in rows. The same graph gives the same
drawing: it begins with classical scaling of the distances, shaken by a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Edges = Sequence[tuple[int, int]]

STRESS_STEPS = 60
PUSH_STEPS, PUSH_ROUNDS = 40, 6  # steps of pushing in a round; rounds, between which everything is spread
MARGIN, GAP, BETWEEN = 16.0, 14.0, 40.0  # px: around everything, between two boxes, between two parts
_PUSH, _SPREAD = 0.55, 1.2  # of what two boxes lack each gives way; by how much everything is spread
_HUB = 5  # links of a node from which on they grow longer
_SHAPE = 1.7  # width of a drawing by its height, where there is much of it


@dataclass(frozen=True, slots=True)
class Layout:
    """Centres (n, 2) of the boxes inside ``[0, width] x [0, height]``, in px. ``steps``: how many times all pairs of
    nodes were looked at, the part with the most of them."""

    centres: Array
    width: float
    height: float
    steps: int


def arrange(
    sizes: Sequence[tuple[float, float]], edges: Edges, *, wide: float = 1100.0, length: float = 60.0
) -> Layout:
    """``sizes``: (width, height) of each node's box; ``edges``: pairs of places in it. Parts fill rows of ``wide`` px;
    ``length`` is about what is seen of a link."""
    box = np.array(sizes, np.float64).reshape(-1, 2)
    centres, steps = np.zeros_like(box), 0
    parts = components(len(box), edges)
    for part in parts:
        place = {node: at for at, node in enumerate(part)}
        inside = [(place[a], place[b]) for a, b in edges if a in place and a != b]
        centres[part], taken = _part(box[part], inside, length)
        steps = max(steps, taken)
    width, height = _pack(centres, box, parts, wide)
    return Layout(centres, width, height, steps)


def components(nodes: int, edges: Edges) -> list[list[int]]:
    """Connected parts, each in ascending order, the one with the first node first."""
    near: list[list[int]] = [[] for _ in range(nodes)]
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    seen, found = [False] * nodes, []
    for start in range(nodes):
        if seen[start]:
            continue
        seen[start], part = True, [start]
        for node in part:
            for other in near[node]:
                if not seen[other]:
                    seen[other] = True
                    part.append(other)
        found.append(sorted(part))
    return found


def overlapping(centres: Array, sizes: Array, gap: float = 0.0) -> NDArray[np.bool_]:
    """(n, n): which boxes are nearer to each other than ``gap`` in both directions; none is so to itself."""
    apart = np.abs(centres[:, None] - centres[None])
    room = (sizes[:, None] + sizes[None]) / 2 + gap
    close: NDArray[np.bool_] = np.all(apart < room - 1e-9, axis=2)
    np.fill_diagonal(close, False)
    return close


# -- one connected part ----------------------------------------------------------------------------------


def _part(box: Array, edges: Edges, length: float) -> tuple[Array, int]:
    if len(box) == 1:
        return np.zeros((1, 2)), 0
    unit = np.array([box[:, 0].mean() * 0.7 + length, box[:, 1].mean() + length * 0.55])  # words are wide, not high
    centres = _stress(_distances(len(box), edges)) * unit
    centres, pushed = _pushed_apart(centres, box)
    return centres, STRESS_STEPS + pushed


def _distances(nodes: int, edges: Edges) -> Array:
    """(n, n): lengths of the shortest ways; a link is 1 long, and longer at a hub, whose neighbours need the room."""
    degree = np.zeros(nodes)
    for a, b in set(edges):
        degree[[a, b]] += 1
    far = np.full((nodes, nodes), np.inf)
    np.fill_diagonal(far, 0.0)
    for a, b in edges:
        far[a, b] = far[b, a] = max(1.0, np.sqrt(max(degree[a], degree[b]) / _HUB))
    for middle in range(nodes):
        np.minimum(far, far[:, middle, None] + far[None, middle], out=far)
    return far


def _stress(far: Array) -> Array:
    """Positions (n, 2) whose distances are ``far`` as well as a plane allows."""
    nodes = len(far)
    weight = np.zeros_like(far)
    np.divide(1.0, far**2, out=weight, where=far > 0)
    inverse = np.linalg.pinv(np.diag(weight.sum(axis=1)) - weight, hermitian=True)
    at = _scaled(far) + np.random.default_rng(0).normal(scale=0.05, size=(nodes, 2))
    for _ in range(STRESS_STEPS):
        apart = np.linalg.norm(at[:, None] - at[None], axis=2)
        pull = np.zeros_like(far)
        np.divide(-weight * far, apart, out=pull, where=apart > 1e-9)
        np.fill_diagonal(pull, 0.0)
        np.fill_diagonal(pull, -pull.sum(axis=1))
        at = inverse @ (pull @ at)
    return at


def _scaled(far: Array) -> Array:
    """Classical scaling: the two directions in which the distances differ most, the longer one across."""
    centring = np.eye(len(far)) - 1 / len(far)
    values, vectors = np.linalg.eigh(-0.5 * centring @ far**2 @ centring)
    found = vectors[:, [-1, -2]] * np.sqrt(np.maximum(values[[-1, -2]], 0.0))
    signs = np.sign(found[np.abs(found).argmax(axis=0), [0, 1]])  # a direction may come out either way round
    turned: Array = found * np.where(signs == 0, 1.0, signs)
    return turned


def _pushed_apart(centres: Array, box: Array) -> tuple[Array, int]:
    """Boxes that overlap are pushed apart in the direction in which less is needed. Where they are too many for that,
    everything is spread in between; when nothing is pushed any more, spreading alone comes to an end."""
    steps, rounds, (x, y) = 0, 0, centres.T.copy()
    room_x, room_y = ((side[:, None] + side[None]) / 2 + GAP for side in box.T)
    np.fill_diagonal(room_x, 0.0)
    number = np.arange(len(box))
    order = np.sign(number[:, None] - number[None])  # whose centres are one go apart by their number
    while True:
        for _ in range(PUSH_STEPS if rounds < PUSH_ROUNDS else 1):
            steps += 1
            away_x, away_y = x[:, None] - x[None], y[:, None] - y[None]
            lack_x, lack_y = room_x - np.abs(away_x), room_y - np.abs(away_y)
            close = (lack_x > 1e-9) & (lack_y > 1e-9)
            if not close.any():
                return np.stack([x, y], axis=1), steps
            if rounds == PUSH_ROUNDS:
                break
            share = _PUSH / np.maximum(1.0, np.sqrt(close.sum(axis=1)))
            across = lack_x <= lack_y
            x = x + share * (_sign(away_x, order) * lack_x * (close & across)).sum(axis=1)
            y = y + share * (_sign(away_y, order) * lack_y * (close & ~across)).sum(axis=1)
        x, y, rounds = x * _SPREAD, y * _SPREAD, min(rounds + 1, PUSH_ROUNDS)


def _sign(away: Array, order: NDArray[np.int_]) -> Array:
    found: Array = np.where(away == 0, order, np.sign(away))
    return found


# -- parts side by side ----------------------------------------------------------------------------------


def _pack(centres: Array, box: Array, parts: Sequence[Sequence[int]], wide: float) -> tuple[float, float]:
    """Move the parts into rows, in place, the largest first; the size of it all."""
    low = [(centres[part] - box[part] / 2).min(axis=0) for part in parts]
    size = [(centres[part] + box[part] / 2).max(axis=0) - start for part, start in zip(parts, low, strict=True)]
    area = sum(float(one[0] + BETWEEN) * float(one[1] + BETWEEN) for one in size)
    row = max([wide - 2 * MARGIN, np.sqrt(area * _SHAPE), *(float(one[0]) for one in size)])
    x, y, high, width = MARGIN, MARGIN, 0.0, 0.0
    for number in sorted(range(len(parts)), key=lambda number: (-len(parts[number]), number)):
        across, down = (float(length) for length in size[number])
        if x > MARGIN and x + across > MARGIN + row:
            x, y, high = MARGIN, y + high + BETWEEN, 0.0
        centres[parts[number]] += np.array([x, y]) - low[number]
        x, high, width = x + across + BETWEEN, max(high, down), max(width, x + across)
    return width + MARGIN, y + high + MARGIN
