"""A file in LongMemEval's published form, with answers that are known because it is made here.

Nothing measured on it is a score of LongMemEval: it has its shape and nothing of its difficulty.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def message(role: str, content: str, has_answer: bool | None = None) -> dict[str, Any]:
    return {"role": role, "content": content} | ({} if has_answer is None else {"has_answer": has_answer})


def instance(name: str = "q1", kind: str = "multi-session", **changes: Any) -> dict[str, Any]:
    """Three sessions out of order of time: two with evidence, one filler."""
    return {
        "question_id": name,
        "question_type": kind,
        "question": "How many zebras and walruses did I see?",
        "answer": 2,
        "question_date": "2023/06/01 (Thu) 10:00",
        "haystack_session_ids": ["answer_late", "filler_1", "answer_early"],
        "haystack_dates": ["2023/05/22 (Mon) 09:00", "2023/05/21 (Sun) 12:30", "2023/05/20 (Sat) 02:21"],
        "haystack_sessions": [
            [
                message("user", "I saw a walrus today.", True),
                message("assistant", "A walrus, how nice.", False),
                message("user", "Please plan my dinner.", False),
            ],
            [message("user", "Tell me about trains."), message("assistant", "Trains run on rails.")],
            [
                message("assistant", "Hello, what can I do?", False),
                message("user", "I saw a zebra at noon.", True),
            ],
        ],
        "answer_session_ids": ["answer_late", "answer_early"],
    } | changes


def only_assistant(name: str) -> dict[str, Any]:
    """Evidence that no user message holds."""
    said = [message("user", "Name a colour.", False), message("assistant", "Teal.", True)]
    return instance(
        name,
        "single-session-assistant",
        haystack_session_ids=["answer_x"],
        haystack_dates=["2023/05/20 (Sat) 02:21"],
        haystack_sessions=[said],
        answer_session_ids=["answer_x"],
    )


def write(folder: Path, instances: list[dict[str, Any]] | None = None) -> Path:
    if instances is None:
        instances = [instance("q1"), only_assistant("q2"), instance("q3_abs"), instance("q4", "temporal-reasoning")]
    file = folder / "longmemeval_s.json"
    file.write_text(json.dumps(instances))
    return file
