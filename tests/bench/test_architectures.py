"""The bench of architectures: every block has its rows, its bytes are measured, the picture is drawn."""

from __future__ import annotations

from pathlib import Path

from lamina.bench import architectures
from lamina.bench.report_architectures import architecture_tables
from lamina.nn.slots import FFNS, MIXERS, SIDES


def test_every_block_is_compared_and_drawn(tmp_path: Path) -> None:
    told: list[str] = []
    rows = architectures.run(0, "smoke", told.append)
    assert len(rows) == 2 * (len(MIXERS) + 1) + len(FFNS) + len(SIDES) + 1 == len(told)
    assert all(0 <= row["least"] <= row["right"] <= row["most"] <= 1 and row["steps"] == 4 for row in rows)
    by_name = {(row["arm"], row["task"]): row for row in rows}
    whole, window = (by_name[name, "far-mqar"] for name in ("attention", "attention, window 8"))
    assert window["state_bytes"] < whole["state_bytes"] and window["parameters"] == whole["parameters"]
    assert all("tail" in row for row in rows if row["task"] == "facts")
    assert by_name["nothing", "facts"]["parameters"] < by_name["swiglu", "facts"]["parameters"]
    tables = architecture_tables({"rows": rows})
    assert [table.title for table in tables] == ["mqar-tiny", "far-mqar", "facts"]
    architectures.draw(rows, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_a_seed_decides_everything() -> None:
    def figures(seed: int) -> list[object]:
        arm = architectures.Arm("mixer", "gated_delta", "one", {})
        size = architectures._SIZES["smoke"]
        task = architectures._tasks("mixer", size)["far-mqar"]
        return list(architectures._taught(arm, task, size, seed, 5e-3, 3)[1].losses)

    assert figures(1) == figures(1) != figures(2)
