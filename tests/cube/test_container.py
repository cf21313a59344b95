"""The safetensors layout: the library reads ours, we read the library's, and nobody reads a lie."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from cube_strategies import tensor_payloads
from hypothesis import given

from lamina.cube import TensorPayload, container
from lamina.errors import CorruptCube, InvalidInput


def pack(entries: Any, data: bytes = b"") -> memoryview:
    head = (entries if isinstance(entries, str) else json.dumps(entries)).encode()
    return memoryview(len(head).to_bytes(8, "little") + head + data)


def entry(start: Any, end: Any, shape: Any = None, dtype: Any = "U8") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


@given(tensor_payloads)
def test_the_library_reads_ours_and_we_read_the_library(payload: TensorPayload) -> None:
    head, data = container.build({"note": "é"}, payload.tensors)
    raw = head + b"".join(data)
    theirs = safetensors.torch.load(raw)
    assert set(theirs) == set(payload.tensors)
    for name, view in payload.tensors.items():
        ours = view.torch()
        assert theirs[name].dtype == ours.dtype and theirs[name].shape == ours.shape
        assert theirs[name].contiguous().reshape(-1).view(torch.uint8).equal(ours.reshape(-1).view(torch.uint8))
    for written in (raw, safetensors.torch.save(theirs, metadata={"note": "é"})):
        parsed = container.parse(memoryview(written))
        assert parsed.tensors == dict(payload.tensors) and parsed.metadata == {"note": "é"}


def test_numpy_library_round_trip_and_alignment() -> None:
    arrays = {"b": np.ones(3, np.int8), "a": np.arange(5, dtype=np.float64), "s": np.array(1.5, np.float32)}
    parsed = container.parse(memoryview(safetensors.numpy.save(arrays)))
    assert parsed.metadata == {}
    assert all(np.array_equal(view.numpy(), arrays[name]) for name, view in parsed.tensors.items())
    head, data = container.build({}, parsed.tensors)
    assert len(head) % 8 == 0 and [part.nbytes for part in data] == [40, 4, 3]


def test_tensors_are_views_of_the_input() -> None:
    raw = bytearray(pack({"a": entry(0, 2)}, b"xy"))
    parsed = container.parse(memoryview(raw))
    raw[-1:] = b"z"
    assert bytes(parsed.tensors["a"].data) == b"xz"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (memoryview(b""), "truncated"),
        (memoryview(b"\5\0\0\0\0\0\0"), "truncated"),
        (memoryview(b"\5\0\0\0\0\0\0\0{}"), "truncated: it declares a header of 5"),
        (memoryview((2**60).to_bytes(8, "little") + b"{}"), "header of 1152921504606846976 bytes, over the limit"),
        (memoryview((2).to_bytes(8, "little") + b"\xff\xff"), "not UTF-8"),
        (pack("[]"), "must be a JSON object"),
        (pack("[" * 100_000), "nested deeper"),
        (pack('{"a":' * 2), "not valid JSON"),
        (pack('{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1],"shape":[1]}}', b"x"), "repeats the key 'shape'"),
        (pack('{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', b"x"), "NaN"),
        (pack('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,' + "9" * 5000 + "]}}", b"x"), "not valid JSON"),
        (pack({"__metadata__": []}), "__metadata__"),
        (pack({"__metadata__": {"a": 1}}), "__metadata__"),
        (pack({"a": None}), "exactly dtype, shape and data_offsets"),
        (pack({"a": entry(0, 1) | {"more": 1}}, b"x"), "exactly dtype, shape and data_offsets"),
        (pack({"a": entry(0, 1, shape=1)}, b"x"), "shape must be a list"),
        (pack({"a": entry(0, 1, shape=[1.0])}, b"x"), "shape must be"),
        (pack({"a": entry(0, 1, shape=[True])}, b"x"), "shape must be"),
        (pack({"a": entry(0, 1, shape=[-1, -1])}, b"x"), "shape must be"),
        (pack({"a": entry(0, 1, shape=[1] * 33)}, b"x"), "shape must be"),
        (pack({"a": entry(0, 0, shape=[0, 2**62, 4])}), "larger than any memory"),
        (pack({"a": entry(0, 1, shape=[2**32, 2**32])}, b"x"), "larger than any memory"),
        (pack({"a": entry(0, 1, shape=[2**60])}, b"x"), "takes 1152921504606846976 bytes, but data holds 1"),
        (pack({"a": entry(0, 2**60)}, b"x"), "truncated: tensor 'a' ends at byte 1152921504606846976"),
        (pack({"a": entry(0, 1, dtype="F8")}, b"x"), "dtype must be one of"),
        (pack({"a": entry(0, 1, dtype=["U8"])}, b"x"), "dtype must be one of"),
        (pack({"a": entry(0, 1) | {"data_offsets": [0]}}, b"x"), "two integers"),
        (pack({"a": entry(0, 1) | {"data_offsets": [0, 1.0]}}, b"x"), "two integers"),
        (pack({"a": entry(0, 1) | {"data_offsets": [False, 1]}}, b"x"), "two integers"),
        (pack({"a": entry(-1, 1)}, b"x"), "negative or run backwards"),
        (pack({"a": entry(1, 0, shape=[])}, b"x"), "negative or run backwards"),
        (pack({"a": entry(0, 2), "b": entry(1, 3)}, b"xyz"), "overlap: 'b' starts at 1, expected 2"),
        (pack({"a": entry(0, 1), "b": entry(2, 3)}, b"xyz"), "leave a gap: 'b' starts at 2, expected 1"),
        (pack({"a": entry(1, 2)}, b"xy"), "leave a gap"),
        (pack({"a": entry(0, 1)}, b"xy"), "1 bytes after the last tensor belong to none"),
        (pack({"a": entry(0, 3)}, b"xy"), "truncated: tensor 'a' ends at byte 3, the data at 2"),
    ],
    ids=range(36),
)
def test_hostile_layouts(raw: memoryview, message: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCube, match=message):
            container.parse(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20, "memory must follow the bytes present, not the sizes declared"


def test_too_many_tensors() -> None:
    raw = pack({f"{n}": entry(0, 0) for n in range(container.MAX_TENSORS + 1)})
    with pytest.raises(CorruptCube, match="65537 tensors, over the limit of 65536"):
        container.parse(raw, max_header_bytes=len(raw))


def test_limits_hold_when_writing_too() -> None:
    view = container.parse(pack({"a": entry(0, 0)})).tensors["a"]
    with pytest.raises(InvalidInput, match="65536 tensors"):
        container.build({}, {f"{n}": view for n in range(container.MAX_TENSORS + 1)})
    with pytest.raises(InvalidInput, match="over the limit of 4194304"):
        container.build({}, {"n" * container.MAX_HEADER_BYTES: view})
