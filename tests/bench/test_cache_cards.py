"""CAKE's and xKV's cards at toy size, and that their shortcuts say what the long way says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lamina.activation.attach import attach
from lamina.activation.cascade_eviction import CAKE
from lamina.activation.cross_layer_svd import XKV
from lamina.bench import kv_frontier, kvpress_peer
from lamina.bench.catalog import systems
from lamina.bench.experiments.caches.compressed_context import (
    Prefilled,
    asked,
    interval,
    passkeys,
    prefill,
    prose,
    replay,
)
from lamina.bench.experiments.caches.shared_bases import error, minicache, truncated
from lamina.bench.systems import cake, xkv
from lamina.llm.causal import CausalLM

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM.load()


@pytest.fixture(scope="module")
def read(lm: CausalLM) -> Prefilled:
    return prefill(lm, prose(lm, 1, 200, 8, seed=0, dev=False)[0], hidden=True)


PEER = (*cake.PRESS, cake.BEST_PRESS, cake.SAME, *xkv.PRESS.values(), xkv.OVER_PRESS)
EXACT = (cake.NESTED, cake.PEAK, xkv.BYTES, xkv.PEAK, xkv.ALIGNED)  # hold at any size


@pytest.mark.parametrize("name", ["cake", "xkv"])
def test_the_card_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kvpress_peer, "installed", lambda: False)
    measured = systems[name].measure(0, "smoke")
    assert [one.claim for one in measured] == list(systems[name].claims)
    for one in measured:
        assert (one.ours is None) == (one.claim in PEER), one.claim.claim
        assert one.holds or one.claim not in EXACT, one


def test_what_is_claimed_is_read_without_a_model_library() -> None:
    code = "import sys; from lamina.bench.systems import cake, xkv; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_replay_is_what_a_live_read_leaves(lm: CausalLM, read: Prefilled) -> None:
    for policy in (CAKE(tokens=60), XKV(ratio=2.0, group=3)):
        again = replay(policy, lm, read)
        with torch.no_grad(), attach(lm.model, policy) as attached:
            lm.model(torch.tensor([read.passage.ids]), use_cache=True)
        assert [again.kept(n).tolist() for n in range(30)] == [attached.cache.kept(n).tolist() for n in range(30)]
        live, replayed = (asked(lm, read.passage, policy, left) for left in (attached.cache, again))
        assert replayed.nll == pytest.approx(live.nll, abs=1e-4)


def test_a_larger_ratio_is_a_shorter_decomposition(lm: CausalLM, read: Prefilled) -> None:
    first = replay(XKV(2.0, group=3), lm, read)
    cut, direct = truncated(first, 4.0), replay(XKV(4.0, group=3), lm, read)
    assert cut.nbytes == direct.nbytes < first.nbytes
    assert error(cut) == pytest.approx(error(direct), rel=1e-3)
    layer = cut._whole(7)[0]
    assert torch.allclose(layer, direct._whole(7)[0], atol=1e-3)


def test_minicache_merges_the_deeper_half_and_keeps_lengths_and_what_is_apart(read: Prefilled) -> None:
    keys, values, size = minicache(read)
    dense = sum(part.numel() * 4 for part in (*read.keys, *read.values))
    assert 0.75 * dense < size < 0.85 * dense
    for merged, exact in ((keys, read.keys), (values, read.values)):
        assert all(torch.equal(one, other) for one, other in zip(merged[:15], exact[:15], strict=True))
        for one, other in zip(merged[15:], exact[15:], strict=True):
            assert torch.allclose(one.norm(dim=-1), other.norm(dim=-1), rtol=1e-3)
        pair, before = (torch.stack(some[15:17])[:, 0, 0] for some in (merged, exact))
        single = F.cosine_similarity(*pair, dim=-1) > 0.9999  # one direction for both layers
        apart = F.cosine_similarity(*before, dim=-1)
        assert 0 < int((~single).sum()) < 30
        assert apart[~single].max() < apart[single].min()
        assert torch.equal(pair[:, ~single], before[:, ~single])


def test_passkeys_are_hidden_where_they_should_be(lm: CausalLM) -> None:
    for before in (True, False):
        for text in passkeys(lm, 3, 200, seed=1, dev=True, asked_before=before):
            digits = "".join(lm.decode([text.then[place]]) for place in text.asked)
            assert len(digits.strip()) == 5 and f"The pass key is {digits.strip()}" in lm.decode(text.ids)
            assert (len(text.ids) == 200) and ("What is the pass key?" in lm.decode(text.ids)) == before


def test_an_interval_holds_the_ratio_of_means() -> None:
    low, high = interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0], seed=0)
    assert low == high == 0.5
    low, high = interval([1.0, 5.0, 3.0, 2.0], [2.0, 2.0, 6.0, 1.0], seed=0)
    assert low < 1.0 < high


def test_every_policy_is_drawn(tmp_path: Path) -> None:
    rows = kv_frontier.run(0, "smoke", lambda _: None)
    assert {row["policy"] for row in rows} == {*kv_frontier.POLICIES, "whole"}
    assert all(row["times"] > 1.5 for row in rows if row["policy"] != "whole")
    kv_frontier.draw(rows, tmp_path / "some.png")
    assert (tmp_path / "some.png").stat().st_size > 10_000
