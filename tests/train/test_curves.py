"""The picture of losses."""

import sys
from pathlib import Path

import pytest

from lamina.errors import InvalidInput, MissingDependency
from lamina.train.curves import plot


def test_draws_a_curve_a_run(tmp_path: Path) -> None:
    plot({"attention": [4.0, 2.0, 1.0], "recurrent": [4.0, 3.0]}, tmp_path / "losses.svg")
    drawn = (tmp_path / "losses.svg").read_text()
    assert "<!-- attention -->" in drawn and "<!-- recurrent -->" in drawn and "<!-- loss (nats) -->" in drawn
    plot({"falls below 0": [1.0, -1.0]}, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


def test_says_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput, match=r"losses=\['none'\]"):
        plot({"some": [1.0], "none": []}, tmp_path / "losses.png")
    with pytest.raises(InvalidInput, match="give at least one run"):
        plot({}, tmp_path / "losses.png")
    with pytest.raises(InvalidInput, match=r"losses\.abc.*not supported"):
        plot({"some": [1.0]}, tmp_path / "losses.abc")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependency, match=r"drawing losses.*lamina\[bench\]"):
        plot({"some": [1.0]}, tmp_path / "losses.png")
