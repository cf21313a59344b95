"""TensorView: bits in, the same bits out, in numpy and in torch, and nothing that does not fit."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from cube_strategies import tensor_views
from hypothesis import given
from hypothesis import strategies as st

from lamina.cube import TensorView
from lamina.cube.tensor import ITEMSIZE
from lamina.errors import InvalidInput

TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.uint16, torch.int16, torch.float16, torch.bfloat16,
    torch.uint32, torch.int32, torch.float32, torch.uint64, torch.int64, torch.float64,
]  # fmt: skip
NUMPY_DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"]
SHAPES: list[tuple[int, ...]] = [(), (1,), (0,), (3, 0, 2), (2, 3), (2, 1, 3, 2)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_numpy_round_trip(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    view = TensorView.from_numpy(array)
    assert view.data == array.tobytes() and view.nbytes == array.nbytes
    back = view.numpy()
    assert back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array)
    assert not back.flags.writeable


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TORCH_DTYPES, ids=str)
def test_torch_round_trip(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = (torch.arange(math.prod(shape)).reshape(shape) % 2).to(dtype)
    back = TensorView.from_torch(tensor).torch()
    assert back.dtype == dtype and back.shape == tensor.shape and torch.equal(back, tensor)


def test_both_tables_cover_every_dtype() -> None:
    made = {TensorView.from_torch(torch.zeros(1, dtype=dtype)).dtype for dtype in TORCH_DTYPES}
    assert made == set(ITEMSIZE)
    assert {TensorView.from_numpy(np.zeros(1, code)).dtype for code in NUMPY_DTYPES} == set(ITEMSIZE) - {"BF16"}


@given(tensor_views())
def test_numpy_reads_the_bytes(view: TensorView) -> None:
    if view.dtype != "BF16":
        assert view.numpy().tobytes() == bytes(view.data)
    assert view == TensorView(view.dtype, view.shape, memoryview(bytes(view.data)))


@given(st.binary(min_size=2, max_size=2))
def test_bfloat16_widens_exactly(pair: bytes) -> None:
    view = TensorView.from_bytes("BF16", (1,), pair)
    widened = view.numpy()
    assert widened.dtype == np.float32
    assert widened.tobytes() == struct.pack("<f", *struct.unpack("<f", b"\0\0" + pair)) or np.isnan(widened[0])
    assert torch.equal(torch.from_numpy(widened).view(torch.int32), view.torch().float().view(torch.int32))


def test_other_layouts_are_normalised() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)
    assert np.array_equal(TensorView.from_numpy(array.T[::2]).numpy(), array.T[::2])
    tensor = torch.arange(12.0).reshape(3, 4).T
    assert torch.equal(TensorView.from_torch(tensor).torch(), tensor)
    assert torch.equal(TensorView.from_torch(torch.ones(2, requires_grad=True)).torch(), torch.ones(2))


def test_copies_unless_told_to_share() -> None:
    array, tensor = np.zeros(4, np.float32), torch.zeros(4)
    copies = TensorView.from_numpy(array), TensorView.from_torch(tensor)
    shared = TensorView.from_numpy(array, copy=False), TensorView.from_torch(tensor, copy=False)
    array[0] = tensor[0] = 1
    assert [view.numpy()[0] for view in copies] == [0, 0]
    assert [view.numpy()[0] for view in shared] == [1, 1]
    assert shared[1].torch().data_ptr() == tensor.data_ptr()


def test_torch_never_writes_into_immutable_bytes() -> None:
    data = bytes(4)
    TensorView.from_bytes("F32", (1,), data).torch().fill_(1)
    assert data == bytes(4)


@pytest.mark.parametrize(
    ("dtype", "shape", "data"),
    [
        ("F8", (1,), b"0"),
        (["F32"], (1,), b"0000"),
        ("F32", (2,), b"0000"),
        ("F32", (-1,), b""),
        ("F32", (-1, -1), b"0000"),
        ("F32", (True,), b"0000"),
        ("F32", (1.0,), b"0000"),
        ("U8", (1,) * 33, b"0"),
        ("U8", (2**62, 2**62, 0), b""),
        ("U8", (2**63,), b""),
    ],
)
def test_refuses_what_does_not_fit(dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"dtype|shape"):
        TensorView.from_bytes(dtype, shape, data)


@pytest.mark.parametrize(
    "array", [np.zeros(1, complex), np.array(["text"]), np.array([None]), np.zeros(1, "M8[s]"), np.zeros(1, "f4,i4")]
)
def test_refuses_arrays_without_a_stored_form(array: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="cannot hold"):
        TensorView.from_numpy(array)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, device="meta"), torch.eye(2).to_sparse()],
    ids=["complex", "meta", "sparse"],
)
def test_refuses_tensors_without_a_stored_form(tensor: torch.Tensor) -> None:
    with pytest.raises(InvalidInput, match="cannot hold"):
        TensorView.from_torch(tensor)
