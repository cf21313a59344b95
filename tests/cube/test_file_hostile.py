"""Every bit of a ``.cube`` file counts, and a stranger's file can do nothing but be refused.

Two kinds of attack: damage (the checksum is wrong) must always be ``CorruptCube``; a forgery with a
correct checksum must be ``CorruptCube`` or a cube that can be written again.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina.cube import Fingerprint, Header, MemCube, TensorPayload, TextPayload, dumps, loads, read
from lamina.errors import CorruptCube

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
TEXT = MemCube(
    Header(id="a", created=NOON, recorded=NOON, metadata={"n": [1, None]}), TextPayload("Anna moved to Köln")
)
TENSORS = MemCube(
    Header(id="b", kind="activation", created=NOON, recorded=NOON),
    TensorPayload.from_numpy(
        {"k": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.arange(3), "e": np.ones((0, 2), np.int8)},
        Fingerprint("Llama", "w", "t", "float32"),
    ),
)


def seal(raw: bytes) -> bytes:
    """Put a right checksum into a file, by the rule of the format's documentation and no code of it."""
    place = re.search(rb'^.{8}\{"__metadata__":\{"sha256":"(.{64})', raw, re.DOTALL)
    if place is None:
        return raw
    zeroed = raw[: place.start(1)] + b"0" * 64 + raw[place.end(1) :]
    leaves = [hashlib.sha256(zeroed[start : start + (1 << 20)]).digest() for start in range(0, len(zeroed), 1 << 20)]
    return raw[: place.start(1)] + hashlib.sha256(b"".join(leaves)).hexdigest().encode() + raw[place.end(1) :]


def unpack(raw: bytes) -> tuple[str, bytes]:
    length = int.from_bytes(raw[:8], "little")
    return raw[8 : 8 + length].decode(), raw[8 + length :]


def pack(head: str, data: bytes) -> bytes:
    encoded = head.encode(errors="surrogatepass")
    return seal(len(encoded).to_bytes(8, "little") + encoded + data)


def forge(change: Callable[[dict[str, Any]], object], data: bytes | None = None, cube: MemCube = TEXT) -> bytes:
    """A file of ``cube`` whose JSON was edited by ``change``, with length and checksum put right."""
    head, old = unpack(dumps(cube))
    entries = json.loads(head)
    change(entries)
    return pack(json.dumps(entries, separators=(",", ":")), old if data is None else data)


def edit_header(**values: Any) -> Callable[[dict[str, Any]], object]:
    def change(entries: dict[str, Any]) -> None:
        header = json.loads(entries["__metadata__"]["header"]) | values
        entries["__metadata__"]["header"] = json.dumps(header)

    return change


def test_the_helpers_make_valid_files() -> None:
    assert seal(dumps(TEXT)) == dumps(TEXT) and pack(*unpack(dumps(TENSORS))) == dumps(TENSORS)
    assert loads(forge(edit_header(importance=0.25))).header.importance == 0.25


@pytest.mark.parametrize("cube", [TEXT, TENSORS], ids=["text", "tensors"])
def test_every_single_bit_is_covered(cube: MemCube) -> None:
    raw = bytearray(dumps(cube))
    for bit in range(len(raw) * 8):
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptCube):
            loads(bytes(raw))
        raw[bit // 8] ^= 1 << bit % 8
    assert loads(bytes(raw)) == cube


@pytest.mark.parametrize("cube", [TEXT, TENSORS], ids=["text", "tensors"])
def test_every_truncation_and_extension_is_seen(cube: MemCube) -> None:
    raw = dumps(cube)
    for size in range(len(raw)):
        with pytest.raises(CorruptCube):
            loads(raw[:size])
    for extra in (b"\0", b" ", raw):
        with pytest.raises(CorruptCube):
            loads(raw + extra)
        with pytest.raises(CorruptCube):
            loads(seal(raw + extra))


def mutate(raw: bytes, random_: random.Random) -> bytes:
    """One random change anywhere in the file."""
    start, size = random_.randrange(len(raw)), random_.choice([1, 2, 8, 64])
    other = dumps(random_.choice([TEXT, TENSORS]))
    source = random_.randrange(len(other))
    return random_.choice(
        [
            raw[:start] + random_.randbytes(size) + raw[start + size :],
            raw[:start],
            raw + random_.randbytes(size),
            raw[:start] + raw[start + size :],
            raw[:start] + other[source : source + size] + raw[start + size :],
            raw[:start] + other[source : source + size] + raw[start:],
            random_.choice([size, 2**31, 2**63, 2**64 - 1, len(raw) - 8]).to_bytes(8, "little") + raw[8:],
        ]
    )


SPANNERS = [
    "-1", "1e999", "9" * 400, "NaN", "null", "true", '"', "\\", "[", "]", "{", "}", "{}", "[]", ",", ":", "0.5", " ",
    "\\ud800", "\0", "\U0010ffff", "text", "k", "U8", "F64", str(2**63),
]  # fmt: skip


def mutate_json(raw: bytes, random_: random.Random) -> bytes:
    """One change of the JSON text (a number, a quote, a bracket, a word), length and checksum put right."""
    head, data = unpack(raw)
    tokens = re.split(r"(\W)", head)
    place = random_.randrange(len(tokens))
    tokens[place] = random_.choice([*SPANNERS, tokens[random_.randrange(len(tokens))]])
    return pack("".join(tokens), data)


@pytest.mark.parametrize("seed", range(4))
def test_damage_is_always_seen(seed: int) -> None:
    random_ = random.Random(seed)
    for _ in range(1000):
        cube = random_.choice([TEXT, TENSORS])
        raw = dumps(cube)
        changed = mutate(raw, random_)
        if changed == raw:
            assert loads(changed) == cube
        else:
            with pytest.raises(CorruptCube, match=r"\w+ \w+"):
                loads(changed)


@pytest.mark.parametrize("seed", range(4))
def test_forgeries_are_refused_or_whole(seed: int) -> None:
    random_ = random.Random(100 + seed)
    accepted = 0
    for turn in range(1000):
        raw = dumps(random_.choice([TEXT, TENSORS]))
        changed = mutate_json(raw, random_) if turn % 2 else seal(mutate(raw, random_))
        try:
            cube = loads(changed)
        except CorruptCube as error:
            assert str(error)
        else:
            accepted += 1
            assert loads(dumps(cube)) == cube and isinstance(cube.sha256, str)
    assert 0 < accepted < 500, "a fuzzer that is never or always accepted tests nothing"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "truncated"),
        (b"GGUF" + bytes(200), "not a .cube file"),
        (b"\x80\x04\x95" + bytes(200), "not a .cube file"),
        (pack(" " + unpack(dumps(TEXT))[0], b""), "not a .cube file"),
        (forge(lambda e: e["__metadata__"].update(format="lamina.cube/2")), "format 'lamina.cube/2' is unknown"),
        (forge(lambda e: e["__metadata__"].pop("format")), "format None is unknown"),
        (forge(lambda e: e["__metadata__"].pop("header")), "metadata must hold"),
        (forge(lambda e: e["__metadata__"].update(more="x")), "metadata must hold"),
        (forge(lambda e: e["__metadata__"].update(header="[]")), "Header must be an object"),
        (forge(lambda e: e["__metadata__"].update(header="[" * 9999)), "nested deeper"),
        (forge(lambda e: e["__metadata__"].update(header='{"id":"a","id":"b"}')), "repeats the key 'id'"),
        (forge(lambda e: e["__metadata__"].update(header=" " * (1 << 20) + "{}")), "over the limit"),
        (forge(edit_header(version=10**30)), "Header.version must be an integer"),
        (forge(edit_header(version=-1)), "Header.version must be an integer"),
        (forge(edit_header(importance=float("nan"))), "NaN"),
        (forge(edit_header(created="2024-05-01")), "Header.created must be an ISO 8601 datetime in UTC"),
        (forge(edit_header(surprise=1)), "unknown keys"),
        (forge(edit_header(id="\ud800")), "lone surrogate"),
        (forge(edit_header(kind="activation")), "header.kind is 'activation'"),
        (forge(edit_header(kind="text"), cube=TENSORS), "header.kind is 'text'"),
        (forge(lambda e: e["__metadata__"].pop("fingerprint"), cube=TENSORS), "must hold one U8 vector"),
        (forge(lambda e: e["__metadata__"].update(fingerprint="{}"), cube=TENSORS), "Fingerprint lacks architecture"),
        (forge(lambda e: e.update({"\ud800": e.pop("k")}), cube=TENSORS), "tensor name"),
        (forge(lambda e: e.update({"": e.pop("k")}), cube=TENSORS), "tensor name"),
        (forge(lambda e: e["text"].update(dtype="I8")), "must hold one U8 vector"),
        (forge(lambda e: e["text"].update(shape=[1, 19])), "must hold one U8 vector"),
        (forge(lambda e: None, data=b"\xff" * 19), "text is not UTF-8"),
        (forge(lambda e: e["text"].update(data_offsets=[0, 2**60], shape=[2**60])), "truncated"),
    ],
    ids=range(28),
)
def test_forgeries_are_told_what_is_wrong(raw: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.cube"
    path.write_bytes(raw)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCube, match=message):
            loads(raw)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < max(1 << 20, 8 * len(raw)), "memory must follow the bytes present, not the sizes declared"
    with pytest.raises(CorruptCube, match=r"forged\.cube: .*" + message):
        read(path)


@pytest.mark.parametrize("length", [2**60, 2**63, 2**64 - 1, 4 << 20])
def test_a_declared_header_is_not_allocated(length: int) -> None:
    raw = length.to_bytes(8, "little") + dumps(TEXT)[8:]
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCube, match="declares a header of"):
            loads(raw)
        assert tracemalloc.get_traced_memory()[1] < 1 << 16
    finally:
        tracemalloc.stop()


def test_a_sparse_file_of_a_terabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.cube"
    with path.open("wb") as file:
        file.write(dumps(TEXT))
        file.truncate(1 << 40)
    with pytest.raises(CorruptCube, match="1099511627776 bytes, over the limit"):
        read(path)
