"""The training loop: AdamW or any other optimizer, a schedule, gradients clipped, every loss told, resumed exactly.

What is learned and how it is judged come from outside: ``loss(step)`` draws its own batch, so that a curriculum is an
``if`` of the caller's and one seed there decides everything. The rate of a step is a function of the step alone, so a
run that was killed goes on from its last checkpoint as if nothing had happened (``lamina.train.checkpoint``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.train.checkpoint import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

Schedule = Callable[[int, int], float]  # (step, steps) -> share of the peak rate
Groups = list[dict[str, Any]]
Precision = Literal["float32", "bfloat16"]

_DECAY = 0.95  # of the mean of losses: what happened 20 steps ago weighs a third


@contextmanager
def without_denormals() -> Iterator[None]:
    """Numbers too small to be normal (below 1e-38 in float32) count as zero in the block. What was learned leaves many
    of them in moments and gradients, and a processor takes up to a hundred times longer for each."""
    torch = require("torch", "training")
    before = not float(torch.tensor(1e-39) * 1)  # there is no other way to ask
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@without_denormals()
def train(
    parameters: Iterable[Parameter] | Iterable[dict[str, Any]],
    loss: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
    clip: float = 1.0,
    optimizer: Callable[[Groups], Optimizer] | None = None,
    schedule: Schedule | None = None,
    precision: Precision = "float32",
    below: float | None = None,
    stop: Callable[[int, float], bool] | None = None,
    report: Callable[[int, float], None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> list[float]:
    """At most ``steps`` steps on ``loss(step)``, a scalar with a graph; the loss of each step.

    ``parameters``: as torch's optimizers take them, groups with their own ``lr`` (and ``schedule``) included, as from
    ``parameter_groups``. ``optimizer`` makes one from such groups, each with its peak ``lr``; without it AdamW with
    ``weight_decay`` and ``betas``. ``schedule`` (default: ``rate``) gives the share of the peak. The norm of all
    gradients together is cut to ``clip``. ``precision="bfloat16"`` computes the loss under autocast.
    It ends early once the mean of recent losses (``smoothed``) is under ``below``, or ``stop(step, loss)`` is true.
    With a ``checkpoint`` that was written before, it goes on from there, and ``report`` and ``stop`` hear of new steps
    alone.

    Raises ``InvalidInput`` for no parameters, no steps, ``weight_decay`` beside an ``optimizer``, a precision there is
    not, a checkpoint of another run, or a loss that is not finite: nothing is learned from it.
    """
    given: list[Any] = list(parameters)
    if not given or not isinstance(given[0], dict):
        given = [{"params": given}]
    groups: Groups = [{"lr": lr, **group, "params": list(group["params"])} for group in given]
    shares: list[Schedule] = [group.pop("schedule", schedule or rate) for group in groups]
    learned = [parameter for group in groups for parameter in group["params"]]
    if steps < 1 or not learned:
        raise InvalidInput(f"steps={steps!r}, {len(learned)} parameters: give at least one of each")
    if optimizer is not None and weight_decay:
        raise InvalidInput(f"weight_decay={weight_decay!r} is AdamW's here: give it to the optimizer or in the groups")
    device = learned[0].device.type
    autocast = _precision(precision, device)
    made = (optimizer or _adamw(betas, weight_decay))(groups)
    run = {"steps": steps, "clip": clip, "precision": precision, "device": device, **_options(made)}
    peaks = [group["lr"] for group in made.param_groups]
    losses, ended = checkpoint.resume(made, run) if checkpoint is not None else ([], False)
    mean = smoothed(losses)[-1] if losses else None
    for step in range(len(losses), 0 if ended else steps):
        for group, peak, share in zip(made.param_groups, peaks, shares, strict=True):
            group["lr"] = peak * share(step, steps)
        with autocast():
            found = loss(step)
        if not math.isfinite(value := float(found.detach())):
            raise InvalidInput(f"loss={value!r} in step {step} of {steps}: lower lr={lr!r} or look at the data")
        _descend(made, found, clip)
        losses.append(value)
        mean = _blended(mean, value, _DECAY)
        if report is not None:
            report(step, value)
        ended = (stop is not None and stop(step, value)) or (below is not None and mean < below) or step == steps - 1
        if checkpoint is not None and (ended or (step + 1) % checkpoint.every == 0):
            checkpoint.save(made, run, losses, ended=ended)
        if ended:
            break
    return losses


def rate(step: int, steps: int) -> float:
    """Share of the peak rate in ``step`` of ``steps``: a line up over the first tenth, then a cosine to 0."""
    return warmup_cosine(max(1, steps // 10), floor=0.0)(step, steps)


def warmup_cosine(warm: int = 50, floor: float = 0.1) -> Schedule:
    """A line up over ``warm`` steps, then a cosine down to ``floor``, a share of the peak.

    Raises ``InvalidInput`` for fewer than one step, or a floor outside 0 to 1.
    """
    if warm < 1 or not 0 <= floor <= 1:
        raise InvalidInput(f"warm={warm!r}, floor={floor!r}: give steps from 1 and a share from 0 to 1")

    def share(step: int, steps: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return share


def smoothed(losses: Sequence[float], decay: float = _DECAY) -> list[float]:
    """The exponential mean of the losses up to each step, beginning with the first."""
    means: list[float] = []
    for loss in losses:
        means.append(_blended(means[-1] if means else None, loss, decay))
    return means


def parameter_groups(module: Module, lr: float, weight_decay: float = 0.1) -> Groups:
    """Groups for ``train``: ``weight_decay`` on what has two axes or more, none on the rest.

    A module inside that has ``param_groups(lr)`` decides about its own parameters: a list of groups, each with any of
    ``lr``, ``weight_decay`` and ``schedule``. Parameters that need no gradient are left out.
    """
    groups: Groups = []
    for inner in module.modules():
        if (own := getattr(inner, "param_groups", None)) is not None and inner is not module:
            groups += [{**group, "params": list(group["params"])} for group in own(lr)]
    taken = {id(parameter) for group in groups for parameter in group["params"]}
    rest = [each for each in module.parameters() if each.requires_grad and id(each) not in taken]
    for decay, wide in ((weight_decay, True), (0.0, False)):
        if params := [each for each in rest if (each.dim() >= 2) == wide]:
            groups.append({"params": params, "lr": lr, "weight_decay": decay})
    return groups


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


def _descend(optimizer: Optimizer, loss: Tensor, clip: float) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    _clip(learned, clip)
    optimizer.step()


def _clip(learned: Sequence[Parameter], clip: float) -> None:
    """``clip_grad_norm_`` of torch, which knows no sparse gradients: their numbers are counted and cut like others."""
    utils = require("torch", "training").nn.utils
    sparse = [each for each in learned if each.grad is not None and each.grad.is_sparse]
    if not sparse:
        utils.clip_grad_norm_(learned, clip)
        return
    for each in sparse:
        each.grad = each.grad.coalesce()  # type: ignore[union-attr]
    found = [each.grad for each in learned if each.grad is not None]
    numbers = [gradient._values() if gradient.is_sparse else gradient for gradient in found]
    factor = (clip / (utils.get_total_norm(numbers) + 1e-6)).clamp(max=1.0)
    for part in numbers:
        part.mul_(factor)


def _options(optimizer: Optimizer) -> dict[str, Any]:
    """Its kind and the settings of each group by name, so that a checkpoint of a run with others is refused."""
    return {"optimizer": type(optimizer).__name__} | {
        f"groups[{number}].{name}": option
        for number, group in enumerate(optimizer.param_groups)
        for name, option in group.items()
        if name != "params"
    }


def _blended(mean: float | None, loss: float, decay: float) -> float:
    return loss if mean is None else decay * mean + (1 - decay) * loss


def _adamw(betas: tuple[float, float], weight_decay: float) -> Callable[[Groups], Optimizer]:
    def made(groups: Groups) -> Optimizer:
        found: Optimizer = require("torch", "training").optim.AdamW(groups, betas=betas, weight_decay=weight_decay)
        return found

    return made


def _precision(precision: str, device: str) -> Callable[[], AbstractContextManager[Any]]:
    torch = require("torch", "training")
    if precision == "float32":
        return nullcontext
    if precision == "bfloat16":
        return lambda: torch.autocast(device, torch.bfloat16)
    raise InvalidInput(f'precision={precision!r}: give "float32" or "bfloat16"')
