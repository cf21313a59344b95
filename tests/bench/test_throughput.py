"""``lamina bench throughput``: every figure is taken, claims follow from them. No time is asserted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamina.bench import mem0_peer, throughput
from lamina.bench.contenders import Lamina, Meter
from lamina.bench.probe import probe
from lamina.bench.runner import run
from lamina.bench.synthetic import Chatter, WordVectors

SMALL = throughput.Plan((30, 60, 300), real=60, singles=3, questions=4, peer_questions=2)
Run = tuple[list[Any], list[dict[str, Any]], list[str]]


@pytest.fixture(scope="module")
def measured() -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(throughput.PLANS, "smoke", SMALL)
        return throughput.run(0, "smoke", lambda message: None)


def test_every_size_has_every_figure(measured: Run) -> None:
    rows = [row for row in measured[1] if row["system"] == "lamina"]
    assert [row["memories"] for row in rows] == [30, 60, 300]
    assert [row["encoder"] for row in rows] == ["all-MiniLM-L6-v2", "all-MiniLM-L6-v2", "synthetic-word-vectors"]
    always = {
        "batch_per_s",
        "single_per_s",
        "p50_ms",
        "p95_ms",
        "searches",
        "open_s",
        "peak_mib",
        "disk_mib",
        "first_search_s",
    }
    with_model = {"batch_per_s_with_embedding", "single_per_s_with_embedding", "p50_ms_with_embedding"}
    for row in rows:
        assert always <= set(row)
        assert (with_model <= set(row)) is (row["memories"] <= SMALL.real)
        assert row["searches"] == 4
        assert row["p50_ms"] <= row["p95_ms"]
        assert all(row[key] > 0 for key in always - {"peak_mib"})
    assert "infer_per_s_with_embedding" in rows[0]
    assert rows[0]["disk_mib"] < rows[2]["disk_mib"]


def test_claims_without_the_peer_do_not_hold(measured: Run) -> None:
    measurements, _, notes = measured
    assert [m.claim for m in measurements] == list(throughput.claims(SMALL))
    assert all(m.ours is not None for m in measurements)
    compared = [m for m in measurements if m.claim.of == "ratio"]
    assert len(compared) == 2
    if mem0_peer.installed():
        assert all(m.ratio is not None and m.baseline_name.startswith("mem0ai") for m in compared)
    else:
        assert not any(m.holds for m in compared)
        assert mem0_peer.MISSING in notes


def test_growth_is_per_tenfold_size() -> None:
    rows = [{"system": "x", "memories": n, "p50_ms": p} for n, p in ((100, 1.0), (10_000, 9.0), (100_000, 18.0))]
    assert throughput._growth(rows, "x") == pytest.approx(3.0)  # 9 over two decades beats 2 over one
    assert throughput._growth(rows[:1], "x") is None


def test_claims_name_the_sizes_they_are_about() -> None:
    laptop = throughput.claims(throughput.PLANS["laptop"])
    assert [claim.bound for claim in laptop] == ["<= 10 ms", ">= 10x", ">= 5x", "<= 3 x"]
    assert "100,000" in laptop[0].claim
    assert throughput.claims(throughput.PLANS["full"])[1] == laptop[1]  # the peer takes part up to there


def test_it_runs_by_name_and_says_what_was_measured(
    measured: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "run", lambda seed, scale, note: measured)
    code = run(["throughput"], scale="smoke")
    shown = capsys.readouterr().out
    assert code in (0, 1)
    assert code == 1 or mem0_peer.installed()
    for text in ("Claims", "By size", "p95_ms", "open_s", "seeded sums of word vectors"):
        assert text in " ".join(shown.split())


def test_a_fresh_process_reopens_what_was_filled(tmp_path: Path) -> None:
    filled = Lamina(tmp_path, WordVectors("my-encoder"))
    filled.add_batch(Chatter(0).messages(50))
    filled.close()
    found = probe("lamina", tmp_path, "my-encoder", Chatter(0).questions(3))
    assert found["open_s"] is not None and found["open_s"] > 0
    with pytest.raises(RuntimeError, match="probe of lamina failed"):
        probe("lamina", tmp_path, "another-encoder", ["What?"])  # the store refuses vectors of another encoder


def test_search_finds_what_was_added(tmp_path: Path) -> None:
    texts = Chatter(1).messages(200)
    meter = Meter(WordVectors())
    store = Lamina(tmp_path, meter)
    store.add_batch(texts)
    store.add_one("The lighthouse keeper collects porcelain.")
    spent = meter.seconds
    assert store.search("porcelain of the lighthouse keeper", 3)[0] == "The lighthouse keeper collects porcelain."
    assert store.search(texts[17], 3)[0] == texts[17]
    assert meter.seconds > spent
    store.close()


def test_text_is_the_same_for_a_seed_and_varied() -> None:
    texts = Chatter(5).messages(2000)
    assert texts == [*Chatter(5).messages(1000), *Chatter(5).messages(1000, start=1000)]
    assert texts != Chatter(6).messages(2000)
    assert len(set(texts)) > 1990
    counts = Counter(word for text in texts for word in text.lower().split())
    frequencies = [count for _, count in counts.most_common()]
    assert frequencies[0] > 50 * frequencies[len(frequencies) // 2]  # a few common words, a long tail of rare ones
    assert "{" not in "".join([*texts, *Chatter(5).questions(200)])


def test_word_vectors_are_unit_stable_and_near_for_common_words() -> None:
    vectors = WordVectors().encode(["the dog of Tamiko", "Tamiko and a dog", "a train to Oslo", ""])
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert np.array_equal(
        vectors, WordVectors().encode(["the dog of Tamiko", "Tamiko and a dog", "a train to Oslo", ""])
    )
