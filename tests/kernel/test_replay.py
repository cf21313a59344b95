"""Replay: a uniform reservoir, whole sequences, surprise that draws and never evicts, reversal after success."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from lamina.errors import InvalidInput
from lamina.kernel.rhythms.replay import FLOOR, Reservoir, SequenceReplay


def filled(capacity: int, sequences: int, seed: int = 0) -> Reservoir:
    reservoir = Reservoir(capacity, seed)
    for first in range(0, 8 * sequences, 8):
        reservoir.add(range(first, first + 8))
    return reservoir


def test_the_reservoir_is_a_uniform_sample_of_all_time() -> None:
    kept = Counter(sequence[0] // 8 for seed in range(2000) for sequence in filled(5, 20, seed).sequences)
    assert sum(kept.values()) == 10_000
    for place in range(20):  # 500 expected, standard deviation 19
        assert 400 < kept[place] < 600


def test_cleared_and_filled_again_it_is_the_same() -> None:
    reservoir = filled(5, 40, 3)
    before = list(reservoir.sequences)
    reservoir.clear()
    assert len(reservoir) == 0
    for first in range(0, 320, 8):
        reservoir.add(range(first, first + 8))
    assert reservoir.sequences == before
    assert filled(5, 40, 4).sequences != before


def test_draws_are_whole_and_different_sequences() -> None:
    replay = SequenceReplay(filled(10, 10))
    drawn = replay.sample(10, random.Random(0))
    assert sorted(one.items for one in drawn) == sorted(replay.reservoir.sequences)
    assert not any(one.reversed for one in drawn)
    assert len(replay.sample(50, random.Random(0))) == 10
    assert SequenceReplay(Reservoir(3)).sample(2, random.Random(0)) == []


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_surprise_draws_in_its_proportion(mix: float) -> None:
    replay = SequenceReplay(filled(4, 4), mix=mix)
    surprise = [0.0, 0.1, 0.2, 0.7]
    replay.refresh({8 * place + item: value for place, value in enumerate(surprise) for item in range(8)})
    rng = random.Random(1)
    drawn = Counter(replay.sample(1, rng)[0].items[0] // 8 for _ in range(20_000))
    total = sum(value + FLOOR for value in surprise)
    for place, value in enumerate(surprise):
        expected = (1 - mix) / 4 + mix * (value + FLOOR) / total
        assert drawn[place] / 20_000 == pytest.approx(expected, abs=0.015)


def test_what_was_never_replayed_is_as_surprising_as_anything() -> None:
    replay = SequenceReplay(filled(2, 2), mix=1.0)
    replay.refresh(dict.fromkeys(range(8), 2.0))
    drawn = Counter(replay.sample(1, random.Random(n))[0].items[0] for n in range(4000))
    assert drawn[0] / 4000 == pytest.approx(0.5, abs=0.04)


def test_only_sequences_that_led_to_success_are_reversed() -> None:
    replay = SequenceReplay(filled(2, 2), forward=0.7)
    replay.succeed([3])
    rng = random.Random(2)
    drawn = [replay.sample(1, rng)[0] for _ in range(8000)]
    first = [one for one in drawn if 3 in one.items]
    assert not any(one.reversed for one in drawn if 3 not in one.items)
    assert sum(one.reversed for one in first) / len(first) == pytest.approx(0.3, abs=0.03)
    assert {one.items for one in first if one.reversed} == {tuple(range(7, -1, -1))}


def test_known_items_stay_and_notes_of_lost_ones_go() -> None:
    reservoir = filled(4, 4)
    replay = SequenceReplay(reservoir)
    replay.refresh({0: 0.0, 999: 5.0})
    replay.succeed([1, 999])
    replay.prune()
    assert replay.surprise == {0: 0.0} and replay.succeeded == {1}
    assert len(reservoir) == 4  # a surprise of zero evicts nothing


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidInput, match="capacity="):
        Reservoir(0)
    for name in ("mix", "forward"):
        with pytest.raises(InvalidInput, match=f"{name}="):
            SequenceReplay(Reservoir(1), **{name: 1.5})
