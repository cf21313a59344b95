"""Merged fragments: positions exact, the approximation declared and measured, exact again when all is read again."""

from __future__ import annotations

import pytest
import torch
from kv_models import contents, logits, numbers, prose, smollm2, tiny

from lamina.activation.cache import KVCube
from lamina.activation.fragments import again, concatenate, divergence
from lamina.errors import FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM

pytestmark = pytest.mark.model


def parts(lm: CausalLM) -> list[KVCube]:
    return [KVCube.build(lm, numbers(count, seed=count)) for count in (14, 20, 9)]


def joined(cubes: list[KVCube]) -> list[int]:
    return [id for cube in cubes for id in cube.ids]


def test_bug_of_peers_merged_caches_wrong_positions() -> None:
    """In the first layer a key depends on its own token alone, so moved keys must equal those of the whole text."""
    lm = tiny()
    cubes = parts(lm)
    whole = KVCube.build(lm, joined(cubes))
    moved, naive = concatenate(lm, cubes), concatenate(lm, cubes, move=False)
    torch.testing.assert_close(moved.keys[0], whole.keys[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.values[0], whole.values[0], atol=1e-10, rtol=0)
    assert (naive.keys[0] - whole.keys[0]).abs().max() > 0.1


def test_bug_of_peers_merged_caches_silently_empty() -> None:
    lm = tiny()
    cubes = parts(lm)
    merged = concatenate(lm, cubes)
    assert merged.ids == tuple(joined(cubes)) and merged.attach(lm).get_seq_length() == 43
    after = logits(lm, [5], merged)
    assert (after - logits(lm, [5], cubes[-1])).abs().max() > 0.1  # the earlier fragments are heard


def test_reading_all_again_is_the_exact_cache() -> None:
    lm = tiny()
    cubes = parts(lm)
    whole, merged = KVCube.build(lm, joined(cubes)), concatenate(lm, cubes, recompute=1.0)
    for mine, theirs in zip((*merged.keys, *merged.values), (*whole.keys, *whole.values), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(merged.logits, whole.logits, atol=1e-5, rtol=0)
    assert divergence(lm, cubes, numbers(6), recompute=1.0).kl < 1e-10


def test_a_share_is_read_again_and_nothing_else_changes() -> None:
    lm = tiny()
    cubes = parts(lm)
    plain, mended = concatenate(lm, cubes), concatenate(lm, cubes, recompute=0.15)
    assert again(cubes, 0.15) == [14, 15, 16, 34, 35, 42] and again(cubes, 0.0) == [42]
    changed = [place for place in range(43) if not torch.equal(plain.values[2][:, place], mended.values[2][:, place])]
    assert changed == again(cubes, 0.15)


def test_fragments_are_left_as_they_were_and_the_merge_is_declared_inexact() -> None:
    lm = tiny()
    cubes = parts(lm)
    before = [contents(cube) for cube in cubes]
    merged = concatenate(lm, cubes, recompute=0.2)
    assert [contents(cube) for cube in cubes] == before
    assert not merged.exact and not merged.extend(lm, [1]).exact and cubes[0].exact
    assert concatenate(lm, cubes[:1]) is cubes[0]


def test_on_real_text_moving_mends_much_and_rereading_more() -> None:
    lm = smollm2()
    cubes = [KVCube.build(lm, prose(40, skip=skip)) for skip in (0, 200, 100)]
    query = prose(16, skip=140)
    naive, moved = divergence(lm, cubes, query, move=False), divergence(lm, cubes, query)
    mended = divergence(lm, cubes, query, recompute=0.15)
    assert naive.kl > 2 * moved.kl > 2 * mended.kl > 0
    assert moved.agreement >= naive.agreement and (moved.reread, mended.reread) == (1, 13)


def test_what_cannot_be_merged_is_refused() -> None:
    lm = tiny()
    cubes = parts(lm)
    with pytest.raises(FingerprintMismatch):
        concatenate(lm, [*cubes, KVCube.build(tiny(seed=1), [1])])
    with pytest.raises(InvalidInput, match="at least one cube"):
        concatenate(lm, [])
    with pytest.raises(InvalidInput, match=r"recompute=1\.5"):
        concatenate(lm, cubes, recompute=1.5)
    with pytest.raises(InvalidInput, match="over the 256"):
        concatenate(lm, [KVCube.build(lm, numbers(200))] * 2)
