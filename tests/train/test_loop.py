"""The training loop against torch by hand."""

import math

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.train.loop import rate, train


def test_equals_a_plain_loop_of_torch() -> None:
    torch.manual_seed(0)
    data, target = torch.randn(40, 8, 3, dtype=torch.float64), torch.randn(40, 8, 1, dtype=torch.float64)

    def fresh() -> torch.nn.Linear:
        torch.manual_seed(1)
        return torch.nn.Linear(3, 1, dtype=torch.float64)

    ours, naive = fresh(), fresh()
    losses = train(
        ours.parameters(), lambda step: (ours(data[step]) - target[step]).square().mean(), steps=40, lr=0.1, clip=0.5
    )
    optimizer = torch.optim.AdamW(naive.parameters(), 0.1, (0.9, 0.95), weight_decay=0.0)
    expected = []
    for step in range(40):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * rate(step, 40)
        loss = (naive(data[step]) - target[step]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(naive.parameters(), 0.5)
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-12)
    assert torch.allclose(ours.weight, naive.weight, rtol=1e-12)


def test_groups_have_their_own_rate() -> None:
    slow, fast = (torch.nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [slow]}, {"params": [fast], "lr": 0.1}]
    train(groups, lambda _: (slow.square() + fast.square()).sum(), steps=5, lr=0.01)
    assert 1 - fast.item() > 5 * (1 - slow.item()) > 0


def test_rate_rises_and_falls() -> None:
    shares = [rate(step, 100) for step in range(100)]
    assert shares[0] == 0.1 and max(shares) == shares[9] == shares[10] == 1.0
    assert shares[10:] == sorted(shares[10:], reverse=True) and shares[-1] < 0.001
    assert rate(0, 1) == 1.0


def test_reports_every_step() -> None:
    weight, seen = torch.nn.Parameter(torch.ones(1)), []
    losses = train([weight], lambda _: weight.square().sum(), steps=3, lr=0.1, report=lambda *told: seen.append(told))
    assert seen == list(enumerate(losses)) and len(seen) == 3


def test_says_what_is_wrong() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(InvalidInput, match="steps=0"):
        train([weight], lambda _: weight.sum(), steps=0, lr=0.1)
    with pytest.raises(InvalidInput, match="0 parameters"):
        train([], lambda _: weight.sum(), steps=1, lr=0.1)
    with pytest.raises(InvalidInput, match=r"loss=nan in step 0.*lower lr"):
        train([weight], lambda _: weight.sum() * math.nan, steps=1, lr=0.1)
    assert weight.item() == 1.0
