"""Rounding to 8 bits keeps its promise for every finite input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lamina.errors import InvalidInput
from lamina.tensors.quantize import dequantize, quantize

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=9), elements=FINITE),
       st.sampled_from([2, 4, 8]))  # fmt: skip
def test_no_element_is_off_by_more_than_the_bound(x: np.ndarray, bits: int) -> None:
    x = np.repeat(x, 8 // bits, -1)
    rows = quantize(torch.from_numpy(x), bits)
    assert rows.codes.shape[-1] == x.shape[-1] * bits // 8
    off = np.abs(dequantize(rows).double().numpy() - x.astype(np.float64))
    assert (off <= rows.error_bound().numpy()).all()
    assert rows.codes.dtype == torch.uint8 and rows.scale.shape == (*x.shape[:-1], 1) == rows.low.shape


def test_the_bound_is_no_excuse() -> None:
    x = torch.randn(4, 6, 64, generator=torch.Generator().manual_seed(0))
    rows = quantize(x)
    step = (x.amax(-1) - x.amin(-1)) / 255
    assert (rows.error_bound().squeeze(-1) < 0.501 * step).all()
    assert (dequantize(rows) - x).abs().max() > 0.4 * step.min()  # it does round


def test_what_8_bits_can_hold_is_held_exactly() -> None:
    x = torch.stack([torch.arange(256.0) - 100, torch.full((256,), -3.25)])
    assert torch.equal(dequantize(quantize(x)), x)


def test_fewer_bits_take_fewer_bytes() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert [quantize(x, bits).nbytes for bits in (2, 4, 8)] == [3 * (8 * bits + 8) for bits in (2, 4, 8)]
    errors = [float((dequantize(quantize(x, bits)) - x).abs().max()) for bits in (2, 4, 8)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2] > 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_what_float32_cannot_hold_is_refused(bad: float) -> None:
    with pytest.raises(InvalidInput, match="NaN, infinity or numbers beyond float32"):
        quantize(torch.tensor([1.0, bad], dtype=torch.float64))
