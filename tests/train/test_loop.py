"""The training loop against torch by hand."""

import math
from functools import partial
from typing import Any

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.train.loop import parameter_groups, rate, smoothed, train, warmup_cosine, without_denormals


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
    with pytest.raises(InvalidInput, match="precision='float16'"):
        train([weight], lambda _: weight.sum(), steps=1, lr=0.1, precision="float16")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"weight_decay=0\.1.*in the groups"):
        train([weight], lambda _: weight.sum(), steps=1, lr=0.1, weight_decay=0.1, optimizer=torch.optim.SGD)
    with pytest.raises(InvalidInput, match="warm=0"):
        warmup_cosine(0)
    with pytest.raises(InvalidInput, match="floor=2"):
        warmup_cosine(floor=2)
    assert weight.item() == 1.0


def test_another_optimizer_and_schedule_are_those_of_torch() -> None:
    torch.manual_seed(0)
    data = torch.randn(30, 4, dtype=torch.float64)
    ours, naive = (torch.nn.Parameter(torch.ones(4, dtype=torch.float64)) for _ in range(2))
    sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)
    losses = train(
        [ours],
        lambda step: (ours - data[step]).square().sum(),
        steps=30,
        lr=0.05,
        clip=2.0,
        optimizer=sgd,
        schedule=warmup_cosine(5, 0.2),
    )
    optimizer, expected = sgd([naive], lr=0.05), []
    for step in range(30):
        falling = 0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * (step - 5) / 25))
        optimizer.param_groups[0]["lr"] = 0.05 * ((step + 1) / 5 if step < 5 else falling)
        optimizer.zero_grad()
        (loss := (naive - data[step]).square().sum()).backward()
        naive.grad *= min(1.0, 2.0 / float(naive.grad.norm()))
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-6)  # torch divides by the norm plus 1e-6
    assert torch.allclose(ours, naive, rtol=1e-6)


def test_warmup_cosine_ends_at_its_floor() -> None:
    share = warmup_cosine(50, 0.1)
    shares = [share(step, 1000) for step in range(1001)]
    assert shares[0] == 0.02 and shares[49] == shares[50] == 1.0
    assert shares[50:] == sorted(shares[50:], reverse=True) and shares[-1] == pytest.approx(0.1)
    assert share(20, 30) == 21 / 50  # shorter than its warm-up


def test_a_group_may_have_its_own_schedule() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    plain = partial(torch.optim.SGD)
    groups: list[dict[str, Any]] = [{"params": [first], "schedule": lambda step, steps: 1.0}, {"params": [second]}]
    train(
        groups,
        lambda _: first.sum() + second.sum(),
        steps=4,
        lr=0.1,
        clip=9,
        optimizer=plain,
        schedule=lambda step, steps: step / steps,
    )
    assert first.item() == pytest.approx(-0.4) and second.item() == pytest.approx(-0.1 * (0 + 1 + 2 + 3) / 4)
    assert "schedule" in groups[0]  # the caller's are left as they were


def test_bfloat16_is_autocast_and_leaves_the_parameters_wide() -> None:
    torch.manual_seed(0)
    x, seen = torch.randn(16, 8), []
    ours, naive = (torch.nn.Linear(8, 8) for _ in range(2))
    naive.load_state_dict(ours.state_dict())

    def loss(_: int) -> torch.Tensor:
        found = ours(x)
        seen.append(found.dtype)
        return found.float().square().mean()

    losses = train(ours.parameters(), loss, steps=3, lr=0.01, precision="bfloat16")
    optimizer, expected = torch.optim.AdamW(naive.parameters(), 0.01, (0.9, 0.95), weight_decay=0.0), []
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 0.01 * rate(step, 3)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = naive(x).float().square().mean()
        found.backward()
        torch.nn.utils.clip_grad_norm_(naive.parameters(), 1.0)
        optimizer.step()
        expected.append(found.item())
    assert seen == [torch.bfloat16] * 3 and ours.weight.dtype == torch.float32
    assert losses == expected and torch.equal(ours.weight, naive.weight)
    assert losses != train(naive.parameters(), lambda _: naive(x).square().mean(), steps=3, lr=0.01)


def test_ends_when_the_mean_of_losses_is_low_enough() -> None:
    told = [1.0] * 10 + [0.0] * 90
    weight, mean, expected = torch.nn.Parameter(torch.ones(1)), told[0], 1
    while mean >= 0.4:
        mean = 0.95 * mean + 0.05 * told[expected]
        expected += 1
    losses = train([weight], lambda step: weight.sum() * 0 + told[step], steps=100, lr=0.1, below=0.4)
    assert losses == told[:expected] and 20 < expected < 40
    assert smoothed(losses)[-1] == pytest.approx(mean) and smoothed([3.0, 1.0], 0.5) == [3.0, 2.0] and not smoothed([])


def test_ends_when_told_to() -> None:
    weight, asked = torch.nn.Parameter(torch.ones(1)), []

    def stop(step: int, loss: float) -> bool:
        asked.append((step, loss))
        return step == 2

    losses = train([weight], lambda _: weight.square().sum(), steps=9, lr=0.1, stop=stop)
    assert asked == list(enumerate(losses)) and len(losses) == 3


class _Table(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.key = torch.nn.Parameter(torch.ones(4, 2)), torch.nn.Parameter(torch.ones(2, 2))

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        return [{"params": iter([self.rows]), "lr": 3 * lr, "weight_decay": 0.0, "schedule": rate}]


def test_groups_decay_matrices_alone_and_let_modules_decide() -> None:
    table = _Table()
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), table, torch.nn.LayerNorm(2), torch.nn.Linear(2, 1))
    model[3].weight.requires_grad_(False)
    own, matrices, rest = parameter_groups(model, 0.01, 0.2)
    assert own["params"] == [table.rows] and own["lr"] == 0.03 and own["weight_decay"] == 0 and own["schedule"] is rate
    assert [id(each) for each in matrices["params"]] == [id(model[0].weight), id(table.key)]
    assert [id(each) for each in rest["params"]] == [
        id(each) for each in (model[0].bias, model[2].weight, model[2].bias, model[3].bias)
    ]
    assert (matrices["weight_decay"], rest["weight_decay"], matrices["lr"]) == (0.2, 0.0, 0.01)
    assert len(train(parameter_groups(model, 0.01), lambda _: model[0](torch.ones(2)).sum(), steps=2, lr=1.0)) == 2


def test_numbers_too_small_to_be_normal_are_zero_within_and_come_back() -> None:
    tiny = torch.tensor(1e-39)
    seen: list[float] = []
    weight = torch.nn.Parameter(torch.ones(1))

    def loss(_: int) -> torch.Tensor:
        seen.append(float(tiny * 1))
        return weight.square().sum()

    train([weight], loss, steps=1, lr=0.1)
    assert seen == [0.0] and float(tiny * 1) > 0
    with without_denormals():
        train([weight], loss, steps=1, lr=0.1)
        assert float(tiny * 1) == 0.0
    assert float(tiny * 1) > 0
