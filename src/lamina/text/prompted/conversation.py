"""Turns as a model sees them: numbered, dated, named, and each text as one JSON string that cannot end itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from lamina.text.base import Turn
from lamina.text.english.sentences import sentences

LONGEST = 4000  # characters of one turn in a prompt; what comes after is left to the rules (``beyond``)
CONTEXT = 10  # turns before the new ones (Mem0, arXiv 2504.19413, section 2.1: m = 10)


def transcript(turns: Sequence[Turn], first: int) -> str:
    """One line a turn, numbered from ``first``."""
    return "\n".join(_line(number, turn) for number, turn in enumerate(turns, first))


def _line(number: int, turn: Turn) -> str:
    end = _shown(turn.text)
    text = turn.text if end == len(turn.text) else turn.text[:end] + "…"
    at = turn.at.astimezone(turn.zone)
    return f"[{number}] {at:%A %d %B %Y %H:%M}, {turn.speaker} ({turn.role}): {json.dumps(text, ensure_ascii=False)}"


def _shown(text: str) -> int:
    """How many characters of a turn a prompt shows: whole sentences, or at least words, where it has any."""
    if len(text) <= LONGEST:
        return len(text)
    ends = [end for _, end in sentences(text[:LONGEST])][:-1]  # the last one may be cut
    if ends and ends[-1] > LONGEST // 2:
        return ends[-1]
    space = text.rfind(" ", LONGEST // 2, LONGEST)
    return space if space > 0 else LONGEST


def beyond(turn: Turn) -> Turn | None:
    """A long turn with the part that a prompt shows blanked (positions stay true); ``None`` if it shows all."""
    end = _shown(turn.text)
    return replace(turn, text=" " * end + turn.text[end:]) if end < len(turn.text) else None


def hash_of(instructions: str, schema: type[BaseModel]) -> str:
    """What identifies a prompt, without what it was filled with: goes into the provenance of what it yielded."""
    form = json.dumps(schema.model_json_schema(), sort_keys=True)
    return hashlib.sha256(f"{instructions}\n{form}".encode()).hexdigest()[:16]
