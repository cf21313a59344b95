"""A lesson is told of step by step; whoever hears of it can end it, and nothing of it stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from memos_systems import system, tell, tiny
from test_tiers import WALNUTS

from lamina.kernel.tiering.census import census

pytestmark = pytest.mark.model


class Enough(Exception):
    """Raised by who no longer wants the lesson."""


def test_what_progress_raises_ends_a_lesson_and_leaves_nothing(tmp_path: Path) -> None:
    with system(tmp_path / "m.db", tiny()) as os:
        id, told = tell(os, WALNUTS), []
        weights = os.tiers.lm.fingerprint

        def progress(step: int, steps: int, loss: float) -> None:
            told.append((step, steps, loss > 0))
            if step == 2:
                raise Enough

        with pytest.raises(Enough):
            os.promote(id, "parameter", progress=progress)
        assert told == [(1, 60, True), (2, 60, True)]
        assert not os.tiers.migrator.adapters.names
        assert census(os.store, os.scope_of(id))[2].cubes == 0
        assert os.tiers.lm.fingerprint == weights and os.tiers.lm.overlay == ""
        assert not [event for event in os.log(id) if event.action in ("promote", "refuse")]
        assert os.chat("Which nuts?", user_id="ann", max_tokens=1) is not None
