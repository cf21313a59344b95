"""The losses and the choice of memories, each against loops over plain numbers; gradients checked."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.activation.documents import objective

ROWS = st.lists(st.floats(-10, 10, allow_nan=False), min_size=1, max_size=8)


def _superseded(row: list[float], ages: list[int] | None = None) -> list[float]:
    found = []
    ages = list(range(len(row))) if ages is None else ages
    for place, score in enumerate(row):
        newer = max((other for other, age in zip(row, ages, strict=True) if age > ages[place]), default=-math.inf)
        found.append(score - 4 * math.exp(min(0.0, newer - score)))
    return found


def _softmax(row: list[float]) -> list[float]:
    powers = [math.exp(score - max(row)) for score in row]
    return [power / sum(powers) for power in powers]


@given(ROWS, st.integers(1, 8))
def test_the_best_are_chosen_and_weighted_among_themselves(row: list[float], k: int) -> None:
    places, weights = objective.choose(torch.tensor([row], dtype=torch.float64), k)
    best = sorted(sorted(range(len(row)), key=lambda place: (-row[place], -place))[:k])
    assert places.tolist() == [best]
    assert weights[0].tolist() == pytest.approx(_softmax(_superseded([row[place] for place in best])))


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 2)), min_size=1, max_size=8), st.integers(1, 8))
def test_memories_of_one_document_do_not_outdate_each_other(rows: list[tuple[float, int]], k: int) -> None:
    row, ages = [score for score, _ in rows], list(itertools.accumulate(step for _, step in rows))
    found = objective.choose(torch.tensor([row], dtype=torch.float64), k, ages=torch.tensor(ages))
    best = sorted(sorted(range(len(row)), key=lambda place: (-row[place], -place))[:k])
    assert found[0].tolist() == [best]
    wanted = _softmax(_superseded([row[place] for place in best], [ages[place] for place in best]))
    assert found[1][0].tolist() == pytest.approx(wanted)


@given(ROWS, st.integers(1, 8), st.data())
def test_the_right_one_is_always_among_those_chosen_in_training(row: list[float], k: int, data: st.DataObject) -> None:
    gold = data.draw(st.integers(0, len(row) - 1))
    scores = torch.tensor([row], dtype=torch.float64)
    free, forced = (objective.choose(scores, k, g)[0][0].tolist() for g in (None, torch.tensor([gold])))
    assert gold in forced
    assert forced == sorted(forced)
    weakest = min(free, key=lambda place: (row[place], place))
    assert set(forced) == (set(free) if gold in free else {*free} - {weakest} | {gold})


def test_of_equals_the_newest_counts_and_a_far_newer_one_does_not() -> None:
    _, weights = objective.choose(torch.tensor([[5.0, 5.0]]), 2)
    assert weights[0].tolist() == pytest.approx([0.018, 0.982], abs=1e-3)
    _, weights = objective.choose(torch.tensor([[8.0, 1.0]]), 2)
    assert weights[0, 0] > 0.999


def test_weights_are_spread_over_all_memories() -> None:
    places, weights = torch.tensor([[0, 2], [1, 3]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    assert objective.spread(places, weights, 4).tolist() == [[0.25, 0, 0.75, 0], [0, 0.5, 0, 0.5]]


def test_matching_is_the_cross_entropy_of_superseded_scores() -> None:
    rows = [[1.0, 3.0, 2.9], [0.0, -1.0, 5.0]]
    wanted = -sum(math.log(_softmax(_superseded(row))[gold]) for row, gold in zip(rows, (1, 2), strict=True)) / 2
    found = objective.match(torch.tensor(rows, dtype=torch.float64), torch.tensor([1, 2]))
    assert float(found) == pytest.approx(wanted)


def test_scores_are_cosines_over_the_temperature() -> None:
    found = objective.scores(torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0]]), torch.tensor([0.1]))
    assert found.tolist() == [[pytest.approx(6.0)]]


def _aware(memory: list[list[float]], closed: list[list[float]], text: list[list[float]], weight: float) -> float:
    """Row by row; a row's length says how many tokens it has."""
    read, tokens, missing = 0.0, 0, 0.0
    for m, c, t in zip(memory, closed, text, strict=True):
        read -= sum(min(3.0, 1 + max(0.0, b - a)) * p for p, a, b in zip(m, c, t, strict=True))
        tokens += len(m)
        missing += max(0.0, 1 - (sum(m) - sum(c)))
    return read / tokens + weight * missing / len(memory)


def test_the_memory_aware_loss_is_its_formula() -> None:
    memory, closed, text = [[-1.0, -0.2], [-3.0]], [[-4.0, -0.3], [-3.5]], [[-0.1, -0.9], [-3.0]]
    tensors = [torch.tensor([rows[0], [*rows[1], 0.0]], dtype=torch.float64) for rows in (memory, closed, text)]
    real = torch.tensor([[True, True], [True, False]])
    found = objective.memory_aware(tensors[0], tensors[1], tensors[2], real, weight=0.1)
    assert float(found) == pytest.approx(_aware(memory, closed, text, 0.1))


def test_an_answer_the_model_knows_anyway_is_punished_until_the_memory_adds_a_nat() -> None:
    closed, real = torch.tensor([[-0.01]]), torch.tensor([[True]])
    memory = torch.tensor([[-0.01]], requires_grad=True)
    objective.memory_aware(memory, closed, closed, real, weight=0.5).backward()  # type: ignore[no-untyped-call]
    assert memory.grad is not None
    assert float(memory.grad) == pytest.approx(-1.5)  # -1 from reading, -0.5 for the missing gain


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (-torch.rand(3, 4, dtype=torch.float64, generator=generator) * 3 for _ in range(3))
    real = torch.rand(3, 4, generator=generator) < 0.7
    real[:, 0] = True
    torch.autograd.gradcheck(lambda m: objective.memory_aware(m, b, c, real, weight=0.3), a.requires_grad_())
    scores = torch.randn(3, 5, dtype=torch.float64, generator=generator, requires_grad=True)
    torch.autograd.gradcheck(lambda s: objective.match(s, torch.tensor([0, 4, 2])), scores)
    torch.autograd.gradcheck(lambda s: objective.choose(s, 3, torch.tensor([0, 4, 2]))[1], scores)
