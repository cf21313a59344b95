"""The card of Synaptic Resonance: every claim at toy size, rivals of its size, texts as described."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lamina.bench.experiments.architectures.contextual_recall import ContextualRecall
from lamina.bench.experiments.architectures.resonant_recall import (
    EVERYTHING,
    GRID,
    RESONANT,
    SMALL,
    Arm,
    gates,
    inputs,
    matching_window,
    model,
    read,
    recalled,
    recalled_frozen,
    teach,
)
from lamina.bench.systems.synaptic_resonance import BYTES, CARD, FLAT, OVER_HEBB, RECALL
from lamina.errors import InvalidInput
from lamina.nn.tasks import IGNORED

TASK = ContextualRecall()


def _drawn(task: ContextualRecall, rows: int = 64, seed: int = 0) -> tuple[torch.Tensor, ...]:
    batch, relevant = task.pieces(rows, torch.Generator().manual_seed(seed))
    context = batch.ids[:, 1 : 1 + 2 * task.pairs].view(rows, task.pairs, 2)
    return batch.ids, batch.targets, context[..., 0], context[..., 1], relevant


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[BYTES].holds and found[FLAT].ours  # no lesson changes these
    assert not found[RECALL].holds and not found[OVER_HEBB].holds  # two steps teach nothing, and the card says so


def test_texts_ask_for_keys_of_the_topic_by_their_value() -> None:
    ids, targets, key, value, relevant = _drawn(TASK)
    assert ids.shape == (64, TASK.T) == (64, 1 + 128 + 6) and int(ids.max()) < TASK.V
    topic = ids[:, :1] - 320
    assert bool(((topic >= 0) & (topic < 8)).all())
    assert torch.equal(relevant, key % 8 == topic)
    assert relevant.sum(1).tolist() == [16] * 64
    assert bool(((value >= 256) & (value < 320)).all())
    assert all(len(row.unique()) == 64 for row in key)
    assert bool((targets[:, :-6] == IGNORED).all())
    for row in range(64):
        bound = dict(zip(key[row].tolist(), value[row].tolist(), strict=True))
        asked = ids[row, -6:].tolist()
        assert len(set(asked)) == 6 and all(each % 8 == topic[row] for each in asked)
        assert targets[row, -6:].tolist() == [bound[each] for each in asked]


def test_every_key_is_wanted_in_some_texts_and_noise_in_others() -> None:
    """So that no gate on the token alone can tell them apart; and neither place nor value does."""
    _, _, key, value, relevant = _drawn(TASK, 2000)
    assert len(key[relevant].unique()) == len(key[~relevant].unique()) == 256
    by_place = relevant.double().mean(0)
    assert float((by_place - 0.25).abs().max()) < 0.05
    by_value = torch.stack([relevant[value == each].double().mean() for each in range(256, 320)])
    assert float((by_value - 0.25).abs().max()) < 0.05


def test_a_key_that_is_bound_anew_counts_as_it_was_bound_last() -> None:
    task = replace(TASK, rebound=0.25)
    batch, relevant = task.pieces(50, torch.Generator().manual_seed(1))
    assert task.pairs == 80 and relevant.sum(1).tolist() == [20] * 50
    context = batch.ids[:, 1:161].view(50, 80, 2)
    for row in range(50):
        pairs = context[row].tolist()
        last = dict(pairs)
        assert len(last) == 64
        twice = {key for key, _ in pairs if sum(other == key for other, _ in pairs) == 2}
        assert len(twice) == 16 and all(len({v for k, v in pairs if k == key}) == 2 for key in twice)
        asked = batch.ids[row, -6:].tolist()
        assert batch.targets[row, -6:].tolist() == [last[key] for key in asked]
        assert batch.slices["rebound"][row, -6:].tolist() == [key in twice for key in asked]
        late = {key for key, _ in pairs[40:]}
        assert batch.slices["late"][row, -6:].tolist() == [key in late for key in asked]


def test_wrong_values_do_not_change_the_right_answer() -> None:
    ids, targets, key, value, _ = _drawn(replace(TASK, corrupted=0.1), 400)
    bound = torch.gather(value, 1, (key[:, :, None] == ids[:, None, -6:]).double().argmax(1))
    assert 0.87 < float((bound == targets[:, -6:]).double().mean()) < 0.93


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"keys": 250}, "keys=250"),
        ({"relevant": 33}, "33"),
        ({"distractors": 225}, "225"),
        ({"queries": 17}, "queries=17"),
        ({"rebound": 1.5}, "rebound=1.5"),
        ({"corrupted": -0.1}, "corrupted=-0.1"),
        ({"values": 1}, "values=1"),
    ],
)
def test_texts_that_cannot_be_are_refused(settings: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        ContextualRecall(**settings)  # type: ignore[arg-type]


def test_no_rival_is_smaller_nor_larger_by_two_percent() -> None:
    window = Arm(window=matching_window())
    sizes = {arm: sum(each.numel() for each in model(arm, TASK, 0).parameters()) for arm in (*GRID.values(), window)}
    ours = sizes[RESONANT["delta"]]
    assert all(abs(size - ours) <= 0.02 * ours for size in sizes.values()), sizes
    state = {arm: int(model(arm, TASK, 0).model.layers[0].mixer.state_bytes(8192)) for arm in sizes}
    assert state[RESONANT["delta"]] == 4 * (24 * 32 + 32 + 1)
    assert all(state[RESONANT["delta"]] <= each for each in state.values()), state


def test_a_pair_is_one_input_and_nothing_else_is_told() -> None:
    made = model(RESONANT["hebb"], SMALL, 0).eval()
    batch, relevant = SMALL.pieces(4, torch.Generator().manual_seed(0))
    given, embedded = inputs(made, SMALL, batch.ids), made.model.embed_tokens(batch.ids)
    assert given.shape[1] == 1 + 12 + 2
    torch.testing.assert_close(given[:, 3], embedded[:, 5] + embedded[:, 6])
    torch.testing.assert_close(given[:, [0, 13, 14]], embedded[:, [0, 25, 26]])
    inside, outside = gates(made, SMALL, batch, relevant)
    stats = read(made, SMALL, batch).stats
    assert stats is not None
    gate = stats["0.gates"][:, 1:13, 0]
    assert inside == pytest.approx(float(gate[relevant].mean()))
    assert (4 * inside + 8 * outside) / 12 == pytest.approx(float(gate.mean()), rel=1e-5)


def test_a_stopped_state_knows_nothing_of_later_pairs() -> None:
    """Taught on texts with no distractors, where a short training is enough to recall."""
    task = replace(SMALL, topics=2, keys=16, distractors=0, relevant=4)
    made = teach(RESONANT["delta"], task, 0, 150)
    texts = task.sample(200, torch.Generator().manual_seed(5))
    assert recalled(made, texts, task, "late") > 0.9
    frozen = recalled_frozen(made, texts, task)
    assert frozen["early"] > 0.6 and frozen["late"] < 0.4
    assert recalled(made, texts, task, "late") > 0.9  # and it writes again


def test_attention_sees_the_whole_text() -> None:
    assert model(EVERYTHING, TASK, 0).model.layers[0].mixer.window is None
