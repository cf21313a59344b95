"""Policies as they are written: read, written again, refused with the part that is wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.activation.cascade_eviction import CAKE, pyramidkv, random_eviction, snapkv, streaming_llm
from lamina.activation.cross_layer_svd import XKV
from lamina.activation.evicted_bases import EvictedBases
from lamina.activation.policies import parse_policy, written_policy
from lamina.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("cake:6MiB", CAKE("6MiB")),
        ("cake:tokens=128, window=16,tau=1.6/0.4,gamma=5", CAKE(tokens=128, window=16, tau=(1.6, 0.4), gamma=5.0)),
        ("snapkv:budget=300000", snapkv(300_000)),
        ("pyramidkv:1GiB,beta=10", pyramidkv("1GiB", beta=10.0)),
        ("streaming-llm:tokens=64", streaming_llm(tokens=64)),
        ("random:tokens=64,seed=7", random_eviction(tokens=64, seed=7)),
        ("xkv:ratio=4", XKV(4.0)),
        ("xkv:rank_k=32,rank_v=48,group=4,sinks=0,tail=64", XKV(rank_k=32, rank_v=48, group=4, sinks=0, tail=64)),
        ("cake:6MiB+int8", CAKE("6MiB", bits=8)),
        ("xkv:ratio=8 + int4", XKV(8.0, bits=4)),
        ("xkv:ratio=3,select=256", XKV(3.0, select=256)),
        ("xkv:ratio=3,rebuilt=1048576", XKV(3.0, rebuilt=2**20)),
        ("cake:6MiB+xkv:ratio=2,tail=32+int8", EvictedBases(CAKE("6MiB"), XKV(2.0, tail=32, bits=8))),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, policy: object) -> None:
    assert parse_policy(text) == policy
    assert parse_policy(written_policy(parse_policy(text))) == policy


@given(
    st.sampled_from(["cake", "snapkv", "pyramidkv", "streaming-llm", "random"]),
    st.integers(100, 10**9),
    st.booleans(),
    st.integers(1, 64),
    st.floats(0.1, 9),
    st.sampled_from([None, 2, 4, 8]),
)
def test_written_and_read_again(
    name: str, size: int, tokens: bool, window: int, gamma: float, bits: int | None
) -> None:
    text = f"{name}:{'tokens=' if tokens else ''}{size},window={window},gamma={gamma}"
    policy = parse_policy(text + (f"+int{bits}" if bits else ""))
    assert parse_policy(written_policy(policy)) == policy


def test_only_rounded() -> None:
    policy = parse_policy("int8")
    assert isinstance(policy, CAKE) and policy.bits == 8 and written_policy(policy) == "int8"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "'' is unknown.*write cake:6MiB"),
        ("lru:3MiB", "'lru:3MiB' is unknown"),
        ("cake:1MiB+snapkv:1MiB", "'snapkv:1MiB' is unknown or comes twice"),
        ("cake:6 parsecs", "budget='6 parsecs'.*512MiB"),
        ("cake", "say how much cake may keep: cake:6MiB"),
        ("cake:6MiB,tokens=9", "give one of them"),
        ("cake:6MiB,ratio=4", "'ratio=4' is unknown.*settings are beta, budget"),
        ("xkv:6MiB", "'6MiB' is unknown.*settings are group, rank_k"),
        ("xkv:ratio=many", "'ratio=many' cannot be read"),
        ("cake:tokens=99,tau=1", "'tau=1' cannot be read .*like 1.6/0.4"),
        ("xkv:rank_k=4,rank_v=4+cake:6MiB", "give a ratio"),
        ("cake:6MiB+int3", "'int3' is unknown"),
    ],
)
def test_the_part_that_is_wrong_is_named(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_policy(text)


def test_what_has_no_name_is_not_written() -> None:
    with pytest.raises(InvalidInput, match="has no name"):
        written_policy(CAKE(tokens=99, allocation="pyramid"))
