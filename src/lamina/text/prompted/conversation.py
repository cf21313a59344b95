"""Turns as a model sees them: numbered, dated, named, and each text as one JSON string that cannot end itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pydantic import BaseModel

from lamina.text.base import Turn

LONGEST = 4000  # characters of one turn in a prompt; the turn itself is kept whole
CONTEXT = 10  # turns before the new ones (Mem0, arXiv 2504.19413, section 2.1: m = 10)


def transcript(turns: Sequence[Turn], first: int) -> str:
    """One line a turn, numbered from ``first``."""
    return "\n".join(_line(number, turn) for number, turn in enumerate(turns, first))


def _line(number: int, turn: Turn) -> str:
    text = turn.text if len(turn.text) <= LONGEST else turn.text[:LONGEST] + "…"
    at = turn.at.astimezone(turn.zone)
    return f"[{number}] {at:%A %d %B %Y %H:%M}, {turn.speaker} ({turn.role}): {json.dumps(text, ensure_ascii=False)}"


def hash_of(instructions: str, schema: type[BaseModel]) -> str:
    """What identifies a prompt, without what it was filled with: goes into the provenance of what it yielded."""
    form = json.dumps(schema.model_json_schema(), sort_keys=True)
    return hashlib.sha256(f"{instructions}\n{form}".encode()).hexdigest()[:16]
