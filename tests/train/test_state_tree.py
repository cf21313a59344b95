"""Nested state to JSON and back."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.train.state_tree import packed, unpacked

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text(max_size=3) | st.integers(-9, 9)
TREES = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(KEYS, inner), max_leaves=12
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_comes_back_as_it_was(tree: Any) -> None:
    back = unpacked(json.loads(json.dumps(packed(tree, "state", {}))), {})
    assert repr(back) == repr(tree)  # repr tells 1 from 1.0 and True, lists from tuples, -0.0 from 0.0


def test_tensors_keep_their_bits_and_their_place() -> None:
    tree = {1: torch.tensor(math.pi, dtype=torch.float64), "1": [torch.ones(2, 3).T, (torch.zeros(0),)], "n": math.nan}
    tensors: dict[str, torch.Tensor] = {}
    back = unpacked(json.loads(json.dumps(packed(tree, "state", tensors))), tensors)
    assert torch.equal(back[1], tree[1]) and torch.equal(back["1"][0], tree["1"][0]) and math.isnan(back["n"])
    assert back["1"][1][0].shape == (0,) and set(tensors) == {"state.1", "state.1.0", "state.1.1.0"}
    back[1].zero_()
    assert tree[1] != 0
    two = packed({1: torch.zeros(1), "1": torch.ones(1)}, "s", clash := {})
    assert {key: float(each) for key, each in unpacked(two, clash).items()} == {1: 0.0, "1": 1.0}


@pytest.mark.parametrize("value", [object(), np.zeros(2), {1, 2}, b"bytes", {(1, 2): 3}, float])
def test_names_what_cannot_be_written(value: object) -> None:
    with pytest.raises(InvalidInput, match=r"state\.inner\.0 is a"):
        packed({"inner": [value]}, "state", {})
