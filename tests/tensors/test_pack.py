"""Codes of 2, 4 and 8 bits go into bytes and come back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.tensors.pack import pack, unpack


@given(st.sampled_from([2, 4, 8]), st.integers(0, 3), st.integers(0, 9), st.integers(0, 2**31))
def test_what_is_packed_comes_back(bits: int, rows: int, eights: int, seed: int) -> None:
    codes = torch.randint(0, 2**bits, (rows, 2, 8 * eights), generator=torch.Generator().manual_seed(seed))
    codes = codes.to(torch.uint8)
    packed = pack(codes, bits)
    assert packed.dtype == torch.uint8 and packed.shape == (rows, 2, eights * bits)
    assert torch.equal(unpack(packed, bits), codes)


def test_the_first_code_is_in_the_lowest_bits() -> None:
    assert pack(torch.tensor([1, 2, 15, 0], dtype=torch.uint8), 4).tolist() == [0x21, 0x0F]
    assert pack(torch.tensor([3, 0, 1, 2], dtype=torch.uint8), 2).tolist() == [0b10_01_00_11]


def test_says_what_is_wrong() -> None:
    with pytest.raises(InvalidInput, match=r"shape \(2, 3\).*multiple of 2"):
        pack(torch.zeros((2, 3), dtype=torch.uint8), 4)
    with pytest.raises(InvalidInput, match="bits=3: give one of 2, 4, 8"):
        unpack(torch.zeros(3, dtype=torch.uint8), 3)
