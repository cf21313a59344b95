"""diff, fuse and split: what is taken apart goes together again, and lineage forgets nobody."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import numpy as np
import pytest
from cube_strategies import cubes, tensor_payloads, texts
from hypothesis import assume, given
from hypothesis import strategies as st

from lamina.cube import (
    Claim,
    Fingerprint,
    Header,
    Lineage,
    MemCube,
    Provenance,
    Scope,
    Source,
    State,
    TensorPayload,
    TensorView,
    TextPayload,
    Usage,
    Utterance,
    diff,
    fuse,
    split,
)
from lamina.errors import FingerprintMismatch, InvalidInput

DAY = datetime(2024, 5, 1, tzinfo=UTC)
MODEL = Fingerprint("Llama", "w", "t", "float32")


def text_cube(text: str, day: int = 0, **header: object) -> MemCube:
    return MemCube(Header(recorded=DAY + timedelta(days=day), **header), TextPayload(text))


def tensor_cube(fingerprint: Fingerprint = MODEL, **arrays: np.ndarray) -> MemCube:
    return MemCube(Header(kind="activation"), TensorPayload.from_numpy(arrays, fingerprint))


def parents(*cubes: MemCube) -> set[tuple[str, int]]:
    return {(cube.id, cube.header.version) for cube in cubes}


# --- diff


@given(cubes())
def test_a_cube_does_not_differ_from_itself(cube: MemCube) -> None:
    assert not diff(cube, cube)


@given(cubes(), cubes())
def test_different_cubes_differ_both_ways(a: MemCube, b: MemCube) -> None:
    assert bool(diff(a, b)) == bool(diff(b, a)) == (a != b)
    assert set(diff(a, b).header) == {
        f.name for f in fields(Header) if getattr(a.header, f.name) != getattr(b.header, f.name)
    }


@given(texts, texts)
def test_text_diff_holds_both_texts(a: str, b: str) -> None:
    lines = diff(text_cube(a, id="x"), replace(text_cube(b, id="x"))).text
    assert bool(lines) == (a != b)
    assert {line[1:] for line in lines[2:] if line[0] == "-"} <= set(a.split("\n"))
    assert {line[1:] for line in lines[2:] if line[0] == "+"} <= set(b.split("\n"))


def test_diff_of_tensors() -> None:
    nan = np.array([np.nan, 1], np.float32)
    a = tensor_cube(same=nan, moved=np.array([1.0, 5.0]), cast=np.ones(2), gone=np.ones(1), void=nan, sign=np.zeros(1))
    b = tensor_cube(
        replace(MODEL, weights="v"),
        same=nan, moved=np.array([1.5, 3.0]), cast=np.ones(2, np.float32), new=np.ones(1), void=nan[::-1],
        sign=-np.zeros(1),
    )  # fmt: skip
    difference = diff(a, b)
    assert difference.added == ("new",) and difference.removed == ("gone",)
    assert difference.changed == {"moved": 2.0, "cast": math.inf, "void": math.inf, "sign": 0.0}
    assert difference.fingerprint == {"weights": ("w", "v")}
    assert difference.text == ()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("i1", -128, 127), ("u8", 0, 2**64 - 1), ("i8", -(2**63), 2**63 - 1), ("?", 0, 1), ("u2", 3, 2**16 - 1)],
)
def test_integer_differences_do_not_wrap(dtype: str, low: int, high: int) -> None:
    a, b = tensor_cube(x=np.array([low, high], dtype)), tensor_cube(x=np.array([high, high], dtype))
    assert diff(a, b).changed == diff(b, a).changed == {"x": float(high - low)}


def test_the_largest_difference_is_found_beyond_the_first_chunk() -> None:
    zeros, late = np.zeros(3_000_000, np.float32), np.zeros(3_000_000, np.float32)
    late[2_500_000] = -7
    assert diff(tensor_cube(x=zeros), tensor_cube(x=late)).changed == {"x": 7.0}


def test_nan_and_infinity_equal_themselves() -> None:
    a = tensor_cube(x=np.array([np.nan, np.inf, -np.inf, 1]), y=np.array([np.inf]), z=np.array([np.inf]))
    b = tensor_cube(x=np.array([np.nan, np.inf, -np.inf, 3]), y=np.array([-np.inf]), z=np.array([np.nan]))
    assert diff(a, b).changed == diff(b, a).changed == {"x": 2.0, "y": math.inf, "z": math.inf}


def test_bfloat16_differences() -> None:
    views = [TensorView.from_bytes("BF16", (1,), data) for data in (b"\x80\x3f", b"\x00\x40")]  # 1.0 and 2.0
    a, b = (MemCube(Header(kind="activation"), TensorPayload({"x": view}, MODEL)) for view in views)
    assert diff(a, b).changed == {"x": 1.0}


# --- split and fuse


@given(texts, st.data())
def test_split_then_fuse_gives_the_same_text(text: str, data: st.DataObject) -> None:
    cube = text_cube(text, version=3)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=6))) if len(text) > 1 else []
    pieces = split(cube, at=cuts)
    assert "".join(piece.text for piece in pieces) == text and len(pieces) == len(cuts) + 1
    for piece in pieces:
        (source,) = piece.header.provenance.sources
        assert source.id == cube.id and text[source.start : source.end] == piece.text
        assert piece.header.lineage == Lineage(((cube.id, 3),), "split")
    whole = fuse(data.draw(st.permutations(pieces)))
    assert whole.text == text
    assert set(whole.header.lineage.derived_from) == parents(*pieces)


@given(tensor_payloads, st.data())
def test_split_then_fuse_gives_the_same_tensors(payload: TensorPayload, data: st.DataObject) -> None:
    cube = MemCube(Header(kind="parameter"), payload)
    groups: dict[int, list[str]] = {}
    for name in payload.tensors:
        groups.setdefault(data.draw(st.integers(0, 2)), []).append(name)
    assume(groups)
    pieces = split(cube, parts=list(groups.values()))
    assert [list(piece.payload.tensors) for piece in pieces] == [sorted(group) for group in groups.values()]
    whole = fuse(pieces)
    assert whole.payload == payload and whole.sha256 == cube.sha256
    assert set(whole.header.lineage.derived_from) == parents(*pieces)


def test_pieces_with_equal_text_are_all_kept_and_a_changed_piece_is_a_text_of_its_own() -> None:
    pieces = split(text_cube("ababab"), at=[2, 4])
    assert fuse(pieces).text == "ababab"
    assert fuse([pieces[0], pieces[2]]).text == "ab"  # not neighbours: two equal texts
    edited = replace(pieces[1], payload=TextPayload("xyz"))
    assert sorted(fuse([pieces[0], edited, pieces[2]]).text.split("\n")) == ["ab", "xyz"]


@given(st.lists(st.tuples(texts, st.integers(0, 5)), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_fused_text(memories: list[tuple[str, int]], random: st.random.Random) -> None:
    made = [text_cube(text, day) for text, day in memories]
    fused = fuse(made)
    shuffled = made[:]
    random.shuffle(shuffled)
    assert replace(fuse(shuffled).header, id="", created=DAY) == replace(fused.header, id="", created=DAY)
    assert fuse(shuffled).text == fused.text
    by_time = sorted(made, key=lambda cube: (cube.header.recorded, cube.id))
    expected: list[str] = []
    for cube in by_time:
        if cube.text not in expected:
            expected.append(cube.text)
    assert fused.text == "\n".join(expected)
    assert set(fused.header.lineage.derived_from) == parents(*made) and fused.header.lineage.operation == "merge"
    assert fused.id not in {cube.id for cube in made} and fused.header.version == 1


def test_rules_of_the_fused_header() -> None:
    a = text_cube(
        "Anna lives in Köln", 1, version=4, trust="user", access=("text", "activation", "parameter"), tags=("a", "b"),
        keywords=("home",), entities=("Anna",), importance=0.2, valid_from=DAY, valid_to=DAY + timedelta(9),
        expires=DAY + timedelta(100), usage=Usage(2, DAY), metadata={"x": 1, "y": 1}, claim=Claim("anna"),
        provenance=Provenance((Source("t1", 0, 3),), "rules", "m"), utterance=Utterance("s", 0, "anna", "user"),
        superseded=DAY, superseded_by="z",
    )  # fmt: skip
    b = text_cube(
        "Anna works in Bonn", 2, trust="tool", access=("activation", "text"), tags=("b", "c"), keywords=("job",),
        entities=("Anna", "Bonn"), importance=0.9, valid_from=DAY + timedelta(1), valid_to=DAY + timedelta(20),
        expires=DAY + timedelta(50), usage=Usage(3), metadata={"y": 2}, claim=Claim("bonn"), state=State.GENERATED,
        semantic_type="note", provenance=Provenance((Source("t2", 0, 3), Source("t1", 0, 3)), "llm", "m"),
    )  # fmt: skip
    for pair in permutations([a, b]):
        header = fuse(pair, operation="summarise").header
        assert header.lineage == Lineage(((a.id, 4), (b.id, 1)), "summarise")
        assert header.trust == "tool" and header.access == ("activation", "text") and header.state is State.GENERATED
        assert header.tags == ("a", "b", "c") and header.keywords == ("home", "job")
        assert header.entities == ("Anna", "Bonn") and header.importance == 0.9
        assert (header.valid_from, header.valid_to) == (DAY, DAY + timedelta(20))
        assert header.expires == DAY + timedelta(50) and header.recorded == b.header.recorded
        assert header.usage == Usage(5, DAY) and header.metadata == {"x": 1, "y": 2}
        assert header.provenance == Provenance((Source("t1", 0, 3), Source("t2", 0, 3)), "llm", "m")
        assert header.claim is None and header.utterance is None and header.semantic_type == "note"
        assert header.superseded is None and header.superseded_by is None


def test_an_unknown_end_of_validity_stays_unknown() -> None:
    a, b = text_cube("a", valid_from=DAY, valid_to=DAY), text_cube("b", valid_from=DAY + timedelta(1))
    header = fuse([a, b]).header
    assert header.valid_from == DAY and header.valid_to is None


@pytest.mark.parametrize("trust", ["user", "assistant", "tool", "web", "import"])
def test_the_least_trusted_parent_decides(trust: str) -> None:
    order = ["user", "assistant", "tool", "web", "import"]
    for other in order:
        fused = fuse([text_cube("a", trust=trust), text_cube("b", trust=other)])
        assert fused.header.trust == order[max(order.index(trust), order.index(other))]


def test_equal_tensors_fuse_once_and_different_ones_are_refused() -> None:
    a, b = tensor_cube(x=np.ones(2), y=np.zeros(1)), tensor_cube(x=np.ones(2), z=np.zeros(3))
    fused = fuse([a, b])
    assert list(fused.payload.tensors) == ["x", "y", "z"] and fused.header.kind == "activation"
    with pytest.raises(InvalidInput, match="tensor 'x' differs"):
        fuse([a, tensor_cube(x=np.zeros(2))])
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        fuse([a, tensor_cube(replace(MODEL, weights="v"), q=np.ones(1))])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "cubes is empty"),
        ([text_cube("a", scope=Scope(user="u")), text_cube("b", scope=Scope(user="v"))], "different scopes"),
        ([text_cube("a"), tensor_cube(x=np.ones(1))], "different kinds"),
        ([MemCube(Header(kind="activation"), TextPayload("a")), tensor_cube(x=np.ones(1))], "different payloads"),
        ([text_cube("a"), text_cube("b", state=State.DELETED)], "is deleted and cannot be fused"),
    ],
)
def test_fuse_refuses(made: list[MemCube], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fuse(made)


def test_the_header_of_a_piece() -> None:
    cube = text_cube(
        "ab", tags=("t",), trust="web", claim=Claim("a"), utterance=Utterance("s", 0, "a", "user"), usage=Usage(7),
        superseded=DAY, state=State.ARCHIVED, expires=DAY, access=("text",),
    )  # fmt: skip
    first, second = (piece.header for piece in split(cube, at=[1]))
    assert first.id != second.id and cube.id not in {first.id, second.id}
    for header in (first, second):
        assert (header.tags, header.trust, header.expires, header.access) == (("t",), "web", DAY, ("text",))
        assert header.claim is header.utterance is header.superseded is None
        assert header.state is State.ACTIVE and header.usage == Usage() and header.version == 1
        assert header.recorded == cube.header.recorded and header.scope == cube.header.scope


@pytest.mark.parametrize("at", [[0], [4], [-1], [3, 2], [2, 2], [1.5], [True]])
def test_bad_cuts(at: list[int]) -> None:
    with pytest.raises(InvalidInput, match=r"at must rise inside 1\.\.3"):
        split(text_cube("abcd"), at=at)


@pytest.mark.parametrize("parts", [[], [["x"]], [["x", "y", "z"]], [["x"], ["x", "y"]], [["x"], ["q"]]])
def test_bad_parts(parts: list[list[str]]) -> None:
    with pytest.raises(InvalidInput, match="exactly once"):
        split(tensor_cube(x=np.ones(1), y=np.ones(1)), parts=parts)


def test_split_by_the_wrong_measure() -> None:
    with pytest.raises(InvalidInput, match="holds text"):
        split(text_cube("ab"), parts=[["x"]])
    with pytest.raises(InvalidInput, match="holds tensors"):
        split(tensor_cube(x=np.ones(1)), at=[1])
    with pytest.raises(InvalidInput, match="is deleted and cannot be split"):
        split(text_cube("ab", state=State.DELETED), at=[1])
