"""The gated delta rule against itself written out token by token, against transformers', and its gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.models.qwen3_next.modeling_qwen3_next import torch_chunk_gated_delta_rule

from lamina.errors import InvalidInput
from lamina.nn.linear_recurrence import gated_delta_chunk, gated_delta_step


def _drawn(time: int, keys: int = 5, values: int = 7, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)

    q, k = (torch.nn.functional.normalize(normal(time, keys), dim=-1) for _ in range(2))
    return q, k, normal(time, values), normal(time).sigmoid(), -normal(time).exp() * 0.3


def _written_out(q: Tensor, k: Tensor, v: Tensor, b: Tensor, a: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """As the paper has it: ``S_t = S_{t-1} (alpha (I - b k k^T)) + b v k^T`` on the transposed state."""
    outputs, transposed = [], state.mT.clone()
    one = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(k.shape[-2]):
        key, value, strength = k[..., t, :], v[..., t, :], b[..., t, None, None]
        turned = a[..., t, None, None].exp() * (one - strength * key[..., :, None] * key[..., None, :])
        transposed = transposed @ turned + strength * value[..., :, None] * key[..., None, :]
        outputs.append((transposed @ q[..., t, :, None])[..., 0])
    return torch.stack(outputs, dim=-2), transposed.mT


@given(time=st.integers(1, 40), chunk=st.integers(1, 50), seed=st.integers(0, 99))
def test_chunks_say_what_single_steps_say(time: int, chunk: int, seed: int) -> None:
    q, k, v, b, a = _drawn(time, seed=seed)
    begin = torch.randn(2, 3, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected, end = _written_out(q, k, v, b, a, begin)
    found, state = gated_delta_chunk(q, k, v, b, a, begin, chunk=chunk)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, end, rtol=1e-9, atol=1e-9)
    step, state = begin, begin
    for t in range(time):
        step, state = gated_delta_step(q[..., t, :], k[..., t, :], v[..., t, :], b[..., t], a[..., t], state)
    torch.testing.assert_close(step, expected[..., -1, :], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(state, end, rtol=1e-9, atol=1e-9)


def test_it_is_what_transformers_computes() -> None:
    q, k, v, b, a = (each.float() for each in _drawn(70, keys=16, values=16))
    found, state = gated_delta_chunk(q * 16**-0.5, k, v, b, a)
    swapped = [each.transpose(1, 2) for each in (q, k, v, a, b)]
    theirs, end = torch_chunk_gated_delta_rule(
        swapped[0], swapped[1], swapped[2], g=swapped[3], beta=swapped[4], output_final_state=True
    )
    torch.testing.assert_close(found, theirs.transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(state, end, rtol=1e-4, atol=1e-5)


def test_gradients_are_right() -> None:
    drawn = [each.requires_grad_() for each in _drawn(7, keys=3, values=2)]
    begin = torch.randn(2, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: gated_delta_chunk(*given, chunk=3), (*drawn, begin))


def test_a_token_that_is_not_written_leaves_all_as_it_was() -> None:
    q, k, v, b, a = _drawn(9)
    b[..., 4], a[..., 4] = 0.0, 0.0
    left = [torch.cat([each[..., :4, :], each[..., 5:, :]], dim=-2) for each in (q, k, v)]
    gates = [torch.cat([each[..., :4], each[..., 5:]], dim=-1) for each in (b, a)]
    found, state = gated_delta_chunk(q, k, v, b, a, chunk=4)
    other, end = gated_delta_chunk(*left, *gates, chunk=4)
    torch.testing.assert_close(state, end)
    torch.testing.assert_close(found[..., 5:, :], other[..., 4:, :])


def test_strong_decay_overflows_nothing_and_half_precision_keeps_a_float_state() -> None:
    q, k, v, b, a = _drawn(64)
    found, state = gated_delta_chunk(q.bfloat16(), k.bfloat16(), v.bfloat16(), b.bfloat16(), (a * 0 - 90).bfloat16())
    assert found.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert torch.isfinite(found).all() and torch.isfinite(state).all()


def test_no_tokens_change_nothing_and_wrong_chunks_are_told() -> None:
    q, k, v, b, a = _drawn(0)
    found, state = gated_delta_chunk(q, k, v, b, a)
    assert found.shape == (2, 3, 0, 7) and not state.any()
    with pytest.raises(InvalidInput, match="chunk=0"):
        gated_delta_chunk(q, k, v, b, a, chunk=0)
