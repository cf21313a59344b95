"""The card: it measures every claim from the same code at toy size, and its arms are as alike as it says."""

from __future__ import annotations

import pytest
import torch

from lamina.bench.experiments.architectures.eidetic_recall import (
    ARMS,
    KEPT,
    SIZES,
    STATED,
    TIME,
    WINDOW,
    Size,
    _candidates,
    measured,
)
from lamina.bench.systems.b_mojo import CARD, CONSTANT, RECALLED, SEEN


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[SEEN].ours == 2 * WINDOW + KEPT and found[CONSTANT].holds
    assert not found[RECALLED].holds  # two steps teach nothing, and the card says so


def test_arms_have_as_many_parameters_and_begin_alike() -> None:
    size = Size(1, 2, 2, 1)
    results = {arm: measured(arm, 0, size) for arm in ARMS}
    counts = [result.parameters for result in results.values()]
    assert max(counts) <= 1.02 * min(counts), counts
    assert results["innovation"].nbytes[0] == results["random"].nbytes[0] == results["recent"].nbytes[0]
    assert results["full attention"].nbytes[1] > 3 * results["full attention"].nbytes[0]
    assert all(result.nbytes[0] == result.nbytes[1] for arm, result in results.items() if arm != "full attention")
    assert len({size.steps for size in SIZES.values()}) == 3


def test_chance_is_the_share_of_stated_tokens_among_those_that_could_be_kept() -> None:
    last = (TIME - 1) // WINDOW * WINDOW  # where the last chunk begins
    assert _candidates() == len([place for place in range(TIME) if place <= last - WINDOW]) == 33
    assert measured("random", 0, Size(1, 2, 512, 1)).precision[0] == pytest.approx(STATED / 33, abs=0.1)
    assert measured("recent", 0, Size(1, 2, 8, 1)).precision == (0.0, 0.0)


def test_a_run_is_decided_by_its_seed() -> None:
    size = Size(2, 4, 16, 1)
    torch.manual_seed(1)
    first = measured("innovation", 3, size)
    torch.manual_seed(2)
    second = measured("innovation", 3, size)
    assert (first.right, first.precision, first.longer) == (second.right, second.precision, second.longer)
