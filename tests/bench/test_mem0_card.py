"""The card of Mem0: every claim is measured at toy size by the code of the experiment."""

from __future__ import annotations

from pathlib import Path

import pytest

from lamina.bench.card import Measurement
from lamina.bench.context_cost import search_times
from lamina.bench.synthetic import WordVectors
from lamina.bench.systems import mem0
from lamina.bench.systems.mem0 import CARD

NEEDS_DATA = {mem0.FOUND, mem0.OVER_COSINE, mem0.OVER_ALL}


@pytest.fixture(scope="module")
def measured() -> list[Measurement]:
    return CARD.measure(0, "smoke")


def test_all_claims_but_those_on_licensed_data_are_measured(measured: list[Measurement]) -> None:
    assert {found.claim for found in measured if found.ours is None} == NEEDS_DATA


def test_what_holds_at_any_size_holds(measured: list[Measurement]) -> None:
    """Times are not looked at; the rest does not depend on the machine."""
    by_claim = {found.claim: found for found in measured}
    for claim in (mem0.PAST, mem0.LOST, mem0.WRONG, mem0.STALE_PLAIN, mem0.KEPT, mem0.INVENTED, mem0.UNREAD):
        assert by_claim[claim].holds, by_claim[claim]
    tokens = by_claim[mem0.TOKENS]
    assert tokens.ours is not None and tokens.baseline is not None
    assert 100 < tokens.ours < tokens.baseline < 900


def test_targets_are_the_published_plan() -> None:
    targets = {claim.metric: claim.target for claim in CARD.claims}
    assert targets["tokens of the prompt"] == 6.0
    assert targets["stale@1, canonical"] == 0.05
    assert targets["stale@1, canonical and paraphrased"] == 0.25
    assert targets["wrong supersessions of pairs that hold"] == 0.02
    assert targets["LoCoMo recall@10"] in (0.70, 1.5)


def test_every_search_is_timed() -> None:
    times = search_times(WordVectors(), 0, 50, 7)
    assert len(times) == 7
    assert all(time > 0 for time in times)


def test_plot(measured: list[Measurement], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert CARD.plot is not None
    CARD.plot(measured, tmp_path / "mem0.png")
    assert (tmp_path / "mem0.png").read_bytes().startswith(b"\x89PNG")
