"""The safetensors layout: 8 bytes of length, a JSON header, then the tensors' bytes. Written and read here.

The safetensors library reads what ``build`` makes and ``parse`` reads what the library makes; both are
tested. It is parsed here because a cube may come from a stranger: every number is checked against the
bytes really present before it is used, and tensors are views of the input, never allocated by a
declared size. Entries must tile the data exactly (no overlap, no gap), so no byte hides from a reader.

Format: https://huggingface.co/docs/safetensors (format description).
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lamina.cube import strict_json
from lamina.cube.tensor import ITEMSIZE, TensorView
from lamina.errors import CorruptCube, InvalidInput

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 1 << 16
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Container:
    """``metadata`` in the order of the file; ``tensors`` in the order of their bytes."""

    metadata: dict[str, str]
    tensors: dict[str, TensorView]


def build(metadata: Mapping[str, str], tensors: Mapping[str, TensorView]) -> tuple[bytes, list[memoryview]]:
    """The head (length, JSON starting with ``metadata``) and the tensors' bytes that follow it.

    Widest dtypes come first and the head is padded to 8 bytes, so every tensor is aligned.
    Raises ``InvalidInput`` for more tensors or a longer head than ``parse`` takes.
    """
    if len(tensors) > MAX_TENSORS:
        raise InvalidInput(f"a cube holds at most {MAX_TENSORS} tensors, got {len(tensors)}; split it")
    entries: dict[str, Any] = {_METADATA: dict(metadata)}
    data, end = [], 0
    for name, view in sorted(tensors.items(), key=lambda item: (-ITEMSIZE[item[1].dtype], item[0])):
        start, end = end, end + view.nbytes
        entries[name] = {"dtype": view.dtype, "shape": list(view.shape), "data_offsets": [start, end]}
        data.append(view.data)
    head = strict_json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)
    if len(head) > MAX_HEADER_BYTES:
        raise InvalidInput(
            f"header and tensor names take {len(head)} bytes, over the limit of {MAX_HEADER_BYTES}; "
            "shorten the metadata or the names, or split the cube"
        )
    return len(head).to_bytes(LENGTH_BYTES, "little") + head, data


def parse(raw: memoryview, *, max_header_bytes: int = MAX_HEADER_BYTES) -> Container:
    """The metadata and tensors of ``raw``, a whole file; tensors are views into it.

    Raises ``CorruptCube`` saying what is wrong: truncated, over a limit, not strict JSON, a dtype that
    is not in ``ITEMSIZE``, or shapes and offsets that do not fit each other and the file.
    """
    head, data = _cut(raw, max_header_bytes)
    try:
        entries = strict_json.loads(head, max_bytes=max_header_bytes)
    except InvalidInput as error:
        raise CorruptCube(f"the header cannot be read: {error}") from error
    if not isinstance(entries, dict):
        raise CorruptCube(f"the header must be a JSON object, got {reprlib.repr(entries)}")
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptCube(f"{_METADATA} must map text to text, got {reprlib.repr(metadata)}")
    if len(entries) > MAX_TENSORS:
        raise CorruptCube(f"the header declares {len(entries)} tensors, over the limit of {MAX_TENSORS}")
    return Container(metadata, dict(_views(entries, data)))


def _cut(raw: memoryview, max_header_bytes: int) -> tuple[str, memoryview]:
    """The text of the header and the bytes behind it."""
    if len(raw) < LENGTH_BYTES:
        raise CorruptCube(f"the file is truncated: {len(raw)} bytes cannot hold the length of a header")
    length = int.from_bytes(raw[:LENGTH_BYTES], "little")
    if length > max_header_bytes:
        raise CorruptCube(f"the file declares a header of {length} bytes, over the limit of {max_header_bytes}")
    if length > len(raw) - LENGTH_BYTES:
        raise CorruptCube(f"the file is truncated: it declares a header of {length} bytes, but has {len(raw)} in all")
    try:
        return str(raw[LENGTH_BYTES : LENGTH_BYTES + length], "utf-8"), raw[LENGTH_BYTES + length :]
    except UnicodeDecodeError as error:
        raise CorruptCube(f"the header is not UTF-8: {error.reason} at byte {error.start}") from error


def _views(entries: Mapping[str, Any], data: memoryview) -> Iterator[tuple[str, TensorView]]:
    spans = sorted((*_offsets(name, entry), name) for name, entry in entries.items())
    position = 0
    for start, end, name in spans:
        if start != position:
            what = "overlap" if start < position else "leave a gap"
            raise CorruptCube(f"tensors {what}: {reprlib.repr(name)} starts at {start}, expected {position}")
        if end > len(data):
            raise CorruptCube(
                f"the file is truncated: tensor {reprlib.repr(name)} ends at byte {end}, the data at {len(data)}"
            )
        position = end
        entry = entries[name]
        try:
            view = TensorView.from_bytes(entry["dtype"], tuple(entry["shape"]), data[start:end])
        except InvalidInput as error:
            raise CorruptCube(f"tensor {reprlib.repr(name)}: {error}") from error
        yield name, view
    if position != len(data):
        raise CorruptCube(f"{len(data) - position} bytes after the last tensor belong to none")


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    label = f"tensor {reprlib.repr(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise CorruptCube(f"{label} must have exactly dtype, shape and data_offsets, got {reprlib.repr(entry)}")
    if not isinstance(entry["shape"], list):
        raise CorruptCube(f"{label}: shape must be a list, got {reprlib.repr(entry['shape'])}")
    offsets = entry["data_offsets"]
    if not isinstance(offsets, list) or len(offsets) != 2 or any(type(n) is not int for n in offsets):
        raise CorruptCube(f"{label}: data_offsets must be two integers, got {reprlib.repr(offsets)}")
    if not 0 <= offsets[0] <= offsets[1]:
        raise CorruptCube(f"{label}: data_offsets {reprlib.repr(offsets)} must not be negative or run backwards")
    return offsets[0], offsets[1]
