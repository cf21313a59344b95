"""Cards for tests: what they measure is known before they run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lamina.bench.card import Card, Claim, Measurement, Scale

FASTER = Claim("Twice as fast as counting on fingers", "sums per second", "1/s", 2.0)
SMALLER = Claim("Needs at most 10 bytes", "live bytes", "B", 10.0, "less", "ours")


def _run(seed: int, scale: Scale) -> list[Measurement]:
    size = {"smoke": 1.0, "laptop": 10.0, "full": 100.0}[scale]
    return [SMALLER.measured(8.0, 16.0, "abacus"), FASTER.measured(30.0 * size, 10.0 * size + seed, "fingers")]


def _draw(measurements: Sequence[Measurement], file: Path) -> None:
    file.write_text("\n".join(str(measurement.ratio) for measurement in measurements))


def _card(name: str, run: object = _run, **more: object) -> Card:
    return Card(  # type: ignore[misc]
        **{
            "name": name,
            "paper": "On Counting",
            "arxiv": "2401.00001",
            "module": "lamina.toy",
            "summary": "Counts.",
            "claims": (FASTER, SMALLER),
            "run": run,
        }
        | more
    )


CARD = good = _card("toy-counting", plot=_draw)
failing = _card("toy-slow", lambda seed, scale: [FASTER.measured(1.0, 10.0, "fingers"), SMALLER.measured(8.0)])
forgetful = _card("toy-forgetful", lambda seed, scale: [SMALLER.measured(8.0)])
CARDS = {card.name: card for card in (good, failing, forgetful)}
