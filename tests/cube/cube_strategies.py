"""Hypothesis strategies for headers, payloads and cubes, shared by the tests of this room."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from lamina.cube import (
    Claim,
    Fingerprint,
    Header,
    Lineage,
    MemCube,
    Policy,
    Provenance,
    Scope,
    Source,
    State,
    TensorPayload,
    TensorView,
    TextPayload,
    Usage,
    Utterance,
)
from lamina.cube.tensor import ITEMSIZE

texts = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode but lone surrogates
short = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
counts = st.integers(0, 2**63 - 1)
zones = st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=11, minutes=30))])
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)
names = st.tuples() | st.lists(short, max_size=3).map(tuple)

floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | floats | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3), max_leaves=8
)

headers = st.builds(
    Header,
    id=st.uuids().map(str),
    version=counts,
    kind=st.sampled_from(["text", "activation", "parameter"]),
    semantic_type=short,
    scope=st.builds(Scope, short, st.none() | short, st.none() | short, st.none() | short),
    created=moments,
    recorded=moments,
    superseded=st.none() | moments,
    superseded_by=st.none() | short,
    valid_from=st.none() | moments,
    valid_to=st.none() | moments,
    expires=st.none() | moments,
    provenance=st.builds(
        Provenance,
        st.lists(st.builds(Source, short, counts, counts), max_size=2).map(tuple),
        short,
        st.none() | short,
        st.none() | short,
    ),
    lineage=st.builds(Lineage, st.lists(st.tuples(short, counts), max_size=2).map(tuple), short),
    utterance=st.none() | st.builds(Utterance, short, counts, short, short),
    claim=st.none()
    | st.builds(
        Claim,
        short,
        st.none() | short,
        st.none() | short,
        st.booleans(),
        st.sampled_from(["asserted", "plan", "hypothetical", "reported"]),
    ),
    state=st.sampled_from(State),
    trust=st.sampled_from(["user", "assistant", "tool", "web", "import"]),
    access=names,
    policy=st.none() | st.builds(Policy, names, names, names),
    sensitivity=names,
    retention=st.none() | counts,
    watermark=st.none() | short,
    tags=names,
    keywords=names,
    entities=names,
    importance=floats,
    usage=st.builds(Usage, counts, st.none() | moments),
    metadata=st.dictionaries(short, json_values, max_size=3),
)

fingerprints = st.builds(Fingerprint, short, short, short, short, short, short, short, short)
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def tensor_views(draw: st.DrawFn) -> TensorView:
    """Any dtype, 0 to 4 dimensions (empty ones included), any bits."""
    dtype, shape = draw(st.sampled_from(sorted(ITEMSIZE))), draw(shapes)
    size = math.prod(shape) * ITEMSIZE[dtype]
    data = bytes(size) if dtype == "BOOL" else draw(st.binary(min_size=size, max_size=size))
    return TensorView.from_bytes(dtype, shape, data)


tensor_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__")
tensor_payloads = st.builds(TensorPayload, st.dictionaries(tensor_names, tensor_views(), max_size=4), fingerprints)


@st.composite
def cubes(draw: st.DrawFn) -> MemCube:
    header = draw(headers)
    return MemCube(header, TextPayload(draw(texts)) if header.kind == "text" else draw(tensor_payloads))
