"""AdamW for tables of which a step reads a few rows: no other row is read, written, or given a state.

A parameter with a sparse gradient (``embedding(..., sparse=True)``) is updated in the rows of that gradient; all other
parameters go through torch's own AdamW. Where a row was last updated ``k`` steps ago, what dense AdamW would have done
meanwhile without a gradient is made up for when it is updated again:

    moments fade by beta^k        weights fade by the product of (1 - lr_s weight_decay) over those steps

so that moments are exactly those of dense AdamW, and weights too but for its drift: dense AdamW goes on moving a row by
its momentum while nobody reads it, this does not. ``torch.optim.SparseAdam`` does neither, and has no weight decay.
Moments are kept for rows that ever had a gradient, in the order in which they came, so a large table costs eight bytes
of state a row, and the rest only where it was learned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.optimizer import ParamsT

from lamina.errors import InvalidInput

_FIRST = 64  # rows that there is room for at first; then twice as many


class RowSparseAdamW(AdamW):
    """``params``, ``lr``, ``betas``, ``eps`` and ``weight_decay`` as in ``torch.optim.AdamW``.

    Raises ``InvalidInput`` where ``lr * weight_decay`` is 1 or more."""

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; what ``closure`` returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        sparse = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    sparse.append((parameter, parameter.grad))
                    self._update(parameter, parameter.grad.coalesce(), group)
                    parameter.grad = None  # out of sight of the dense step
        super().step()
        for parameter, gradient in sparse:
            parameter.grad = gradient
        return loss

    @torch.no_grad()
    def settle(self) -> None:
        """Make up for the weight decay of all rows that were not updated lately: a pass over the whole table, for
        before it is saved or compared."""
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter, {})
                if "slot" in state:
                    faded = torch.full((len(parameter),), state["settled"], dtype=torch.float64)
                    known = (state["slot"] >= 0).nonzero()[:, 0]
                    faded[known.cpu()] = state["faded"][state["slot"][known]].cpu()
                    factor = (state["fade"] - faded).exp().to(parameter)
                    parameter.mul_(factor.view(-1, *[1] * (parameter.dim() - 1)))
                    state["settled"] = state["fade"]
                    state["faded"].fill_(state["fade"])

    def state_bytes(self) -> int:
        """Of all tensors that are kept between steps."""
        tensors = (each for state in self.state.values() for each in state.values())
        return sum(each.nbytes for each in tensors if isinstance(each, Tensor))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's; but it would give rows' numbers and times the type of the weights, so those are put back."""
        super().load_state_dict(state_dict)
        loaded = [each for group in state_dict["param_groups"] for each in group["params"]]
        own = [each for group in self.param_groups for each in group["params"]]
        for number, parameter in zip(loaded, own, strict=True):
            state = state_dict["state"].get(number, {})
            if "slot" in state:
                moved = {name: each.to(parameter.device) for name, each in state.items() if isinstance(each, Tensor)}
                self.state[parameter] = copy.deepcopy(state | moved)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.sparse_dim() != 1:
            raise InvalidInput(f"a gradient with {gradient.sparse_dim()} sparse axes: rows alone may be sparse")
        if group["lr"] * group["weight_decay"] >= 1:
            told = f"lr={group['lr']!r}, weight_decay={group['weight_decay']!r}"
            raise InvalidInput(f"{told}: their product must be under 1, or weights change their sign")
        state = self.state[parameter]
        if not state:
            state.update(_empty(parameter))
        state["step"] += 1
        state["fade"] += math.log1p(-group["lr"] * group["weight_decay"])
        rows, given = gradient.indices()[0], gradient.values()
        slot = _slots(state, rows)
        first, second = group["betas"]
        since = (state["step"] - state["last"][slot]).to(torch.float64)
        mean = state["exp_avg"][slot] * _broad(first**since, given) + (1 - first) * given
        square = state["exp_avg_sq"][slot] * _broad(second**since, given) + (1 - second) * given.square()
        kept = parameter.index_select(0, rows) * _broad((state["fade"] - state["faded"][slot]).exp(), given)
        size = group["lr"] / (1 - first ** state["step"])
        wide = square.sqrt() / math.sqrt(1 - second ** state["step"]) + group["eps"]
        parameter.index_copy_(0, rows, kept - size * mean / wide)
        state["exp_avg"][slot], state["exp_avg_sq"][slot] = mean, square
        state["last"][slot], state["faded"][slot] = state["step"], state["fade"]


def _empty(parameter: Tensor) -> dict[str, Any]:
    """Steps so far, and of the table: the summed logarithm of its fading, and that at the last ``settle``. Of each row
    of the table where its moments are, or -1; of each of those the moments, the last step, and the fading up to it."""
    room = parameter.new_zeros(min(_FIRST, len(parameter)), *parameter.shape[1:])
    return {
        "step": 0,
        "fade": 0.0,
        "settled": 0.0,
        "used": 0,
        "slot": torch.full((len(parameter),), -1, dtype=torch.int64, device=parameter.device),
        "exp_avg": room,
        "exp_avg_sq": room.clone(),
        "last": torch.zeros(len(room), dtype=torch.int64, device=room.device),
        "faded": torch.zeros(len(room), dtype=torch.float64, device=room.device),
    }


def _slots(state: dict[str, Any], rows: Tensor) -> Tensor:
    """Where the moments of ``rows`` (each once) are, with room made for those that have none yet."""
    new = rows[state["slot"][rows] < 0]
    if needed := len(new):
        begin, end = state["used"], state["used"] + needed
        have = len(state["last"])
        if end > have:
            room = min(len(state["slot"]), max(end, 2 * have))
            for name in ("exp_avg", "exp_avg_sq", "last", "faded"):
                old: Tensor = state[name]
                state[name] = torch.cat([old, old.new_zeros(room - have, *old.shape[1:])])
        state["slot"][new] = torch.arange(begin, end, device=rows.device)
        state["last"][begin:end], state["faded"][begin:end] = state["step"], state["settled"]
        state["used"] = end
    found: Tensor = state["slot"][rows]
    return found


def _broad(factor: Tensor, like: Tensor) -> Tensor:
    """A factor for each row."""
    return factor.to(like.dtype).view(-1, *[1] * (like.dim() - 1))
