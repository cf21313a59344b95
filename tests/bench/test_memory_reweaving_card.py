"""The card: every claim is measured from the same code at toy size; its documents and its rivals are what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lamina.activation.state_reweaving import MemoryReweaver, read, reweave
from lamina.bench.experiments.recall.planted_bindings import (
    ASK,
    NAMES,
    NUMBERS,
    WORDS,
    distant_drills,
    documents,
    drills,
)
from lamina.bench.experiments.recall.reweaving_arms import (
    LENGTH,
    NARROW,
    SINKS,
    WINDOW,
    Arm,
    Course,
    agreement,
    ask,
    backbone,
    further,
    kept,
    lessons,
    token_bytes,
)
from lamina.bench.experiments.recall.woven_recall import ALONE, REWOVEN, SINGLE, SUNK, WIDER, made
from lamina.bench.systems.memory_reweaving import BYTES, CARD, RECALL, UNTAUGHT

LONG = Course(0, 0, 2)


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[UNTAUGHT].holds
    assert found[BYTES].holds
    assert not found[RECALL].holds  # one step teaches nothing, and the card says so


def test_bindings_are_planted_once_and_asked_at_their_distance() -> None:
    given = documents(np.random.default_rng(0), 40, LENGTH, distances=((65, 128), (129, 240)), again=10)
    assert len(given.rows) == 40 * 4 * 2
    for row, place, distance, number in zip(given.rows, given.places, given.distances, given.numbers, strict=True):
        name = given.ids[row, place]
        assert given.ids[row, place - 1] == ASK
        assert WORDS <= name < WORDS + NAMES <= number < WORDS + NAMES + NUMBERS
        stated = place - distance
        assert given.ids[row, stated - 1 : stated + 1].tolist() == [name, number]
        assert (given.ids[row] == name).sum() == 3
    first, second = given.distances.reshape(-1, 2).T
    assert (second - first).tolist() == [10] * 160
    assert first.min() >= 65
    assert first.max() <= 240
    assert ((given.ids < WORDS).sum(1) == LENGTH - 4 * 8).all()


def test_drills_are_answered_by_what_stands_before() -> None:
    near = drills(np.random.default_rng(0), 20, facts=5, questions=10)
    far = distant_drills(np.random.default_rng(0), 20, facts=3, apart=17)
    assert near.ids.shape == (20, 5 * 2 + 10 * 3)
    assert far.ids.shape == (20, 3 * 2 + 17 + 3 * 3)
    assert far.distances.min() > 17
    for given in (near, far):
        stated = given.places - given.distances
        assert (given.ids[given.rows, stated - 1] == given.ids[given.rows, given.places]).all()
        assert (given.ids[given.rows, stated] == given.numbers).all()
        assert (given.ids[given.rows, given.places - 1] == ASK).all()


def test_rivals_hold_the_same_bytes_and_see_what_they_may() -> None:
    base = backbone(0, width=32)
    arms = made(base, 0)
    reweaver = arms[REWOVEN].reweaver
    assert reweaver is not None
    spare = (arms[WIDER].window - WINDOW) * token_bytes(base)
    assert abs(spare - reweaver.empty().nbytes) <= token_bytes(base) / 2
    assert arms[SUNK].window + SINKS == arms[WIDER].window
    single = arms[SINGLE].reweaver
    assert isinstance(single, MemoryReweaver)
    assert single.empty().nbytes <= reweaver.empty().nbytes
    ids = torch.from_numpy(next(lessons(0, LONG)).ids[:1])
    changed = ids.clone()
    changed[0, 40] = (changed[0, 40] + 1) % WORDS
    changed[0, 1] = (changed[0, 1] + 1) % WORDS
    for name, sees in ((ALONE, {40}), (WIDER, {40}), (SUNK, {1, 40})):
        arm = Arm(backbone(0, width=32, layers=1), arms[name].window, sinks=arms[name].sinks)
        arm.model.config.sliding_window = None if arm.sinks else arm.window
        with torch.no_grad():
            apart = (arm.logits(ids)[0] - arm.logits(changed)[0]).abs().amax(-1)[0]
        reached = {place for place in range(LENGTH) if apart[place] > 0}
        expected = {40 + step for step in range(arm.window)} | {1 + step for step in range(arm.window)}
        assert reached == (set(range(1, LENGTH)) if 1 in sees else expected)


def test_reading_in_pieces_is_reading_at_once_and_forgetting_is_the_model_alone() -> None:
    base = backbone(0, width=32)
    arm = made(base, 0)[REWOVEN]
    assert arm.reweaver is not None
    with torch.no_grad():
        for place in arm.reweaver.places:
            place.out.weight.normal_()
    ids = torch.from_numpy(next(lessons(0, LONG)).ids[:2])
    with torch.inference_mode():
        plain = base(ids).logits
        torch.testing.assert_close(read(base, ids, WINDOW)[0], plain, rtol=1e-4, atol=1e-4)
        assert (arm.logits(ids)[0] - plain).abs().max() > 0.01
        torch.testing.assert_close(arm.logits(ids, forget=True)[0], plain, rtol=1e-4, atol=1e-4)


def test_answers_are_counted_by_distance() -> None:
    arm = Arm(backbone(0, width=32), WINDOW)
    given = documents(np.random.default_rng(1), 6, LENGTH, part="ask", distances=((66, 70),), again=100)
    answered = ask(arm, given)
    with torch.no_grad():
        said = arm.model(torch.from_numpy(given.ids)).logits.argmax(-1).numpy()[given.rows, given.places]
    assert answered.said.tolist() == said.tolist()
    assert answered.recall == (said == given.numbers).mean()
    same, right = agreement(arm, given)
    pairs = said.reshape(-1, 2)
    assert same == (pairs[:, 0] == pairs[:, 1]).mean()
    assert right == (pairs == given.numbers.reshape(-1, 2))[:, 0].mean()


def test_what_is_in_a_slot_when_asked_is_told() -> None:
    base = backbone(0, width=32)
    given = documents(np.random.default_rng(2), 3, LENGTH, part="ask", distances=((70, 200),))
    sizes = {"window": WINDOW, "capture": (1,), "inject": (2,)}
    assert kept(Arm(base, WINDOW, MemoryReweaver(32, slots=LENGTH, **sizes)), given) == (1.0, 1.0)
    few = Arm(base, WINDOW, MemoryReweaver(32, slots=4, **sizes))
    expected = []
    with torch.no_grad():
        for row, place, distance in zip(given.rows, given.places, given.distances, strict=True):
            with reweave(base, few.reweaver, few.reweaver.empty()) as session:
                read(base, torch.from_numpy(given.ids[row : row + 1, :place]), WINDOW)
            expected.append(place - distance in session.state.buffer.positions[0].tolist())
    assert kept(few, given)[0] == pytest.approx(np.mean(expected))


def test_teaching_an_arm_leaves_the_others_and_their_start_alone() -> None:
    base, course = backbone(0, width=32), Course(1, 1, 1)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    for name in (ALONE, REWOVEN):
        arm = made(base, 0)[name]
        assert len(further(arm, 0, course)) == 3
        assert not torch.equal(arm.model.state_dict()["lm_head.weight"], before["lm_head.weight"])
        assert arm.model.config.sliding_window == WINDOW
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    lengths = [given.ids.shape[1] for given in lessons(0, course)]
    assert lengths == [3 * 5 + NARROW + 1, 96, LENGTH]


def test_wrong_scale_is_refused() -> None:
    with pytest.raises(KeyError):
        CARD.measure(0, "huge")  # type: ignore[arg-type]
