"""A LoCoMo-format file whose right recall follows from how it is made.

Each turn says "I have seen the WORD." with a word of its own, so BM25 ranks the turns whose words a question
holds first, in order of how many, and all others after them in order of time.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

WORDS = re.findall(
    r"\w+",
    "zebra walrus pelican otter badger hamster falcon lobster penguin giraffe octopus panther squirrel tortoise"
    " flamingo leopard salmon buffalo gorilla hedgehog peacock raccoon dolphin crocodile",
)


def write(folder: Path) -> Path:
    """Two conversations, six questions that count: see ``EXPECTED``."""
    file = folder / "locomo10.json"
    file.write_text(json.dumps([_sample("conv-1", _QUESTIONS), _sample("conv-2", _QUESTIONS[:1])]))
    return file


_QUESTIONS: list[dict[str, Any]] = [
    # found at rank 1: recall 1 at every k
    {"question": "Who has seen the walrus?", "answer": "Ann", "evidence": ["D1:2"], "category": 4},
    # both found at ranks 1 and 2, with a joined id
    {"question": "walrus or crocodile?", "answer": "x", "evidence": ["D1:2; D2:12"], "category": 1},
    # one at rank 1, the other says nothing of it and comes 24th: one half at every k
    {"question": "zebra?", "answer": "x", "evidence": ["D1:1", "D2:12"], "category": 1},
    # ranks 1 and 2 belong to other turns; the evidence is the 4th turn that says nothing of it: rank 6
    {"question": "hedgehog and peacock?", "answer": "x", "evidence": ["D1:4"], "category": 2},
    # no evidence after repair, and an adversarial one: neither counts
    {"question": "otter?", "answer": "x", "evidence": ["D9:99"], "category": 3},
    {"question": "badger?", "adversarial_answer": "x", "evidence": ["D1:5"], "category": 5},
]

# system bm25: (recall@5, recall@10, recall@20) of the five questions that count, in order
EXPECTED = {1: [(1, 1, 1), (0.5, 0.5, 0.5)], 2: [(0, 1, 1)], 4: [(1, 1, 1), (1, 1, 1)]}


def _sample(name: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
    half = len(WORDS) // 2
    return {
        "sample_id": name,
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Bob",
            "session_1_date_time": "1:56 pm on 8 May, 2023",
            "session_1": _session(1, WORDS[:half]),
            "session_2_date_time": "9:00 am on 1 June, 2023",
            "session_2": _session(2, WORDS[half:]),
        },
        "qa": questions,
    }


def _session(number: int, words: list[str]) -> list[dict[str, str]]:
    return [
        {"speaker": ("Ann", "Bob")[place % 2], "dia_id": f"D{number}:{place + 1}", "text": f"I have seen the {word}."}
        for place, word in enumerate(words)
    ]
