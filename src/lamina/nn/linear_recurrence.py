"""The gated delta rule, step by step and in chunks: what MoM, B'MOJO and Synaptic Resonance share.

A matrix ``S`` ``(dk, dv)`` is a memory that is written by its own error: with ``alpha = exp(a)`` (decay) and ``b``
(strength of writing),

    S_t = alpha_t S_{t-1} + b_t k_t (v_t - alpha_t S_{t-1}^T k_t)^T        o_t = S_t^T q_t

Gated DeltaNet, arXiv 2412.06464, equation 10; the chunks follow its section 3.3. Inside a chunk the errors solve a unit
lower triangular system, so that time goes by chunks and not by tokens. All is computed in float32 at least: a decayed
state in half precision drifts within hundreds of steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.errors import InvalidInput

CHUNK = 32


def gated_delta_step(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One token. ``q``, ``k`` ``(..., dk)``, ``v`` ``(..., dv)``, ``b``, ``a`` ``(...)``, ``state`` ``(..., dk, dv)``
    (default: zeros); the output ``(..., dv)`` in the dtype of ``v``, and the new state in float32 or float64."""
    dtype = v.dtype
    q, k, v, b, a = (_wide(each) for each in (q, k, v, b, a))
    state = v.new_zeros(*v.shape[:-1], k.shape[-1], v.shape[-1]) if state is None else state.to(v.dtype)
    faded = state * a.exp()[..., None, None]
    error = v - (faded * k[..., None]).sum(-2)
    state = faded + k[..., None] * (b[..., None] * error)[..., None, :]
    return (state * q[..., None]).sum(-2).to(dtype), state


def gated_delta_chunk(
    q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor | None = None, *, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """All of time: as ``gated_delta_step`` with a time axis before the last (for ``b`` and ``a``, as the last); output
    ``(..., time, dv)`` and the state after the last token.

    A token with ``b = a = 0`` leaves the state as it was: so are padded ones marked. Keys must be of norm 1 and ``b``
    in [0, 1], or the state may grow without bound. Raises ``InvalidInput`` for a chunk below 1.
    """
    if chunk < 1:
        raise InvalidInput(f"chunk={chunk!r}: give the tokens of a chunk, from 1")
    dtype, time = v.dtype, v.shape[-2]
    q, k, v, b, a = (_wide(each) for each in (q, k, v, b, a))
    if state is None:
        state = v.new_zeros(*v.shape[:-2], k.shape[-1], v.shape[-1])
    state = state.to(v.dtype)
    outputs = []
    for start in range(0, time, chunk):
        part = slice(start, start + chunk)
        output, state = _chunk(q[..., part, :], k[..., part, :], v[..., part, :], b[..., part], a[..., part], state)
        outputs.append(output)
    return torch.cat(outputs, dim=-2).to(dtype) if outputs else v.to(dtype), state


def _chunk(q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    total = a.cumsum(-1)  # log of the decay since the chunk began
    size = k.shape[-2]
    earlier = torch.ones(size, size, dtype=torch.bool, device=k.device).tril()
    # Masked before the exponential: of later tokens it would overflow, and 0 * inf is no gradient.
    decay = (total[..., :, None] - total[..., None, :]).masked_fill(~earlier, -torch.inf).exp()
    system = (b[..., None] * (k @ k.mT) * decay).tril(-1)
    right = b[..., None] * (v - total.exp()[..., None] * (k @ state))
    one = torch.eye(size, dtype=k.dtype, device=k.device)
    written = torch.linalg.solve_triangular(system + one, right, upper=False, unitriangular=True)
    output = total.exp()[..., None] * (q @ state) + ((q @ k.mT) * decay) @ written
    last = total[..., -1:, None]
    state = last.exp() * state + ((last - total[..., None]).exp() * k).mT @ written
    return output, state


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
