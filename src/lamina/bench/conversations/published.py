"""Retrieval numbers that others published on the same benchmarks, each with the setting it was taken in.

They are printed beside ours and never mixed with them: encoder, data and definition differ, and ``standing`` says
how far a number can be trusted: ``paper`` (read there), ``reported`` (taken from others' notes on the paper),
``claim`` (a vendor's own). No number here was measured by Lamina.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Published:
    """One row: values in percent by metric, in the order they are printed."""

    system: str
    encoder: str
    data: str
    unit: Literal["session", "turn"]
    definition: str
    values: tuple[tuple[str, float], ...]
    standing: Literal["paper", "reported", "claim"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "encoder": self.encoder,
            "data": self.data,
            "unit": self.unit,
            "definition": self.definition,
            "values": dict(self.values),
            "standing": self.standing,
        }


def _recall(*pairs: tuple[int, float], name: str = "R") -> tuple[tuple[str, float], ...]:
    return tuple((f"{name}@{k}", value) for k, value in pairs)


_LOCOMO, _S, _CLEANED = "LoCoMo-10", "LongMemEval-s", "LongMemEval-s, cleaned"
_MEMGAS = "recall_all; all 1,986 questions, adversarial ones included; NDCG with two undiscounted ranks"
_S_ALL = "recall_all; 470 questions, abstention left out"
_ANY = "recall_any"
_HG = "fraction of evidence, mean over questions"

LOCOMO: tuple[Published, ...] = (
    Published(
        "MemGAS", "Contriever + gpt-4o-mini summaries", _LOCOMO, "session", _MEMGAS,
        _recall((3, 57.30), (5, 67.32), (10, 81.82)) + _recall((3, 58.76), (5, 63.62), (10, 68.42), name="NDCG"),
        "reported",
    ),
    Published(
        "HG-Mem", "all-MiniLM-L6-v2 + Qwen2.5-7B topics", _LOCOMO, "turn", _HG,
        _recall((1, 30.06), (3, 49.44), (5, 56.88), (10, 65.72)), "paper",
    ),
    Published(
        "BM25 (as in HG-Mem)", "none", _LOCOMO, "turn", _HG,
        _recall((1, 29.93), (3, 44.95), (5, 51.89), (10, 58.72)), "paper",
    ),
    Published(
        "dense (as in HG-Mem)", "all-MiniLM-L6-v2", _LOCOMO, "turn", _HG,
        _recall((1, 14.13), (3, 26.71), (5, 33.49), (10, 42.90)), "paper",
    ),
    Published("RRF (as in HG-Mem)", "all-MiniLM-L6-v2", _LOCOMO, "turn", _HG, _recall((10, 54.54)), "paper"),
    Published(
        "engram-search 0.1.7", "bge-large + BM25 + cross-encoder", _LOCOMO, "session", f"{_ANY}; 1,982 questions",
        _recall((5, 93.9), (10, 95.0)), "claim",
    ),
)  # fmt: skip

LONGMEMEVAL: tuple[Published, ...] = (
    Published(
        "MemGAS", "Contriever + gpt-4o-mini summaries", _S, "session", _S_ALL,
        _recall((3, 78.51), (5, 88.94), (10, 94.47)), "reported",
    ),
    Published(
        "Contriever, sessions", "Contriever", _S, "session", _S_ALL, _recall((3, 71.06), (10, 90.00)), "reported",
    ),
    Published("HippoRAG 2", "Contriever", _S, "session", _S_ALL, _recall((3, 75.53)), "reported"),
    Published(
        "HG-Mem", "all-MiniLM-L6-v2 + Qwen2.5-7B topics", _CLEANED, "turn", _HG,
        _recall((1, 35.32), (3, 61.80), (5, 72.83), (10, 85.70)), "paper",
    ),
    Published("BM25 (as in HG-Mem)", "none", _CLEANED, "turn", _HG, _recall((10, 81.20)), "paper"),
    Published("RRF (as in HG-Mem)", "all-MiniLM-L6-v2", _CLEANED, "turn", _HG, _recall((10, 83.71)), "paper"),
    Published(
        "MemPalace, raw", "all-MiniLM-L6-v2", _S, "session", f"{_ANY}; 500 questions", _recall((5, 96.6)), "claim",
    ),
    Published(
        "MemPalace, compressed", "all-MiniLM-L6-v2", _S, "session", f"{_ANY}; 500 questions", _recall((5, 84.2)),
        "claim",
    ),
    Published(
        "taosmd 0.4.0", "all-MiniLM-L6-v2 + keywords + expansion", _S, "session", _ANY, _recall((5, 97.0)), "claim",
    ),
    Published(
        "cosine (as in taosmd)", "all-MiniLM-L6-v2", _S, "session", _ANY, _recall((5, 95.0)), "claim",
    ),
    Published(
        "engram-search 0.1.7", "bge-large + BM25 + cross-encoder", "LongMemEval", "session", _ANY,
        _recall((5, 98.4)), "claim",
    ),
)  # fmt: skip
