"""The training loop: AdamW, a warm-up and a cosine, gradients clipped, every loss told.

What is learned and how it is judged come from outside: ``loss(step)`` draws its own batch, so that a curriculum is an
``if`` of the caller's and one seed there decides everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter


def train(
    parameters: Iterable[Parameter] | Iterable[dict[str, Any]],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    clip: float = 1.0,
    report: Callable[[int, float], None] | None = None,
) -> list[float]:
    """``steps`` steps on ``loss(step)``, a scalar with a graph; the loss of each step.

    ``parameters``: as torch's optimizers take them, groups with their own ``lr`` included. Each rate rises to its peak
    over a tenth of the steps and falls to 0 as a cosine; the norm of all gradients together is cut to ``clip``.
    Raises ``InvalidInput`` for no parameters, no steps, or a loss that is not finite: nothing is learned from it.
    """
    torch = require("torch", "training")
    groups = [group if isinstance(group, dict) else {"params": [group]} for group in parameters]
    learned = [parameter for group in groups for parameter in group["params"]]
    if steps < 1 or not learned:
        raise InvalidInput(f"steps={steps!r}, {len(learned)} parameters: give at least one of each")
    optimizer = torch.optim.AdamW(groups, lr, betas, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, steps=steps))
    losses: list[float] = []
    for step in range(steps):
        found = loss(step)
        if not math.isfinite(value := float(found.detach())):
            raise InvalidInput(f"loss={value!r} in step {step} of {steps}: lower lr={lr!r} or look at the data")
        optimizer.zero_grad(set_to_none=True)
        found.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, clip)
        optimizer.step()
        schedule.step()
        losses.append(value)
        if report is not None:
            report(step, value)
    return losses


def rate(step: int, steps: int) -> float:
    """Share of the peak rate in ``step`` of ``steps``: a line up over the first tenth, then a cosine to 0."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextmanager
def frozen(module: Module) -> Iterator[None]:
    """No gradient is computed for the parameters of ``module``; what they were before comes back."""
    asked = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)
