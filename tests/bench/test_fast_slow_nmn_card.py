"""The experiment of the card: rows are what they should be, arms differ as told, the card runs."""

from __future__ import annotations

import torch

from lamina.bench.experiments.architectures import credit_windows as experiment
from lamina.bench.systems.fast_slow_nmn import CARD
from lamina.nn.tasks import CreditStream

TASK = CreditStream(T=8, k=4, values=8)


def test_the_card_runs_small() -> None:
    measured = CARD.measure(0, "smoke")
    assert [each.claim for each in measured] == list(CARD.claims)
    assert all(each.ours is not None for each in measured)
    by_claim = {each.claim.metric: each for each in measured}
    assert by_claim["relative difference, 16 steps against 8"].holds  # bytes do not hang on learning


def test_rare_values_stand_where_they_are_asked_alone() -> None:
    batch = experiment._common(TASK, 400, 0.25, torch.Generator().manual_seed(0))
    rare = batch.targets[:, -1] >= 6
    assert 0.15 < rare.float().mean() < 0.35
    flagged = (batch.ids >= 8) & (batch.ids < 16)
    assert (flagged.sum(1) == 1).all() and not flagged[:, 4:].any()
    assert torch.equal((batch.ids * flagged).sum(1) - 8, batch.targets[:, -1])
    plain = torch.where(flagged | (batch.ids == 16), 0, batch.ids)
    assert (plain < 6).all() and (batch.ids[:, -1] == 16).all()
    none = experiment._common(TASK, 100, 0.0, torch.Generator().manual_seed(1))
    assert (none.targets[:, -1] < 6).all()


def test_arms_differ_as_told() -> None:
    whole, cut, guess = (experiment.learner(arm, TASK, 0) for arm in ("whole stream", "truncated", "guess"))
    assert (whole.window, cut.window, guess.window) == (8, 4, 4) and cut.sg is None and guess.sg is not None
    for one, other in zip(whole.controller.parameters(), guess.controller.parameters(), strict=True):
        assert torch.equal(one, other)
    generator = torch.Generator().manual_seed(0)
    state = experiment.learner("guess from the state", TASK, 0)
    hidden = experiment.learner("guess for the hidden state", TASK, 0)
    for _ in range(3):
        batch = TASK.sample(8, generator)
        experiment.episode(state, TASK, batch)
        experiment.episode(hidden, TASK, batch)
    assert state.sg is not None and hidden.sg is not None
    width = state.controller.state_size
    assert state.sg.inner.weight[:, :width].any() and not state.sg.inner.weight[:, width:].any()
    said = hidden.sg(torch.randn(2, width), torch.randn(2, hidden.sg.cond_dim))
    assert said[:, :32].any() and not said[:, 32:].any()
