"""Conversations with questions and the turns that answer them, read from LoCoMo's own JSON file.

Maharana et al., "Evaluating Very Long-Term Conversational Memory of LLM Agents", arXiv 2402.17753. The
file is a list of ``{sample_id, conversation, qa}``; ``conversation`` holds ``session_N`` (a list of turns)
beside ``session_N_date_time``. The data is CC BY-NC 4.0: it is read from a path and never shipped.

An image turn's text becomes ``text [shares an image: CAPTION]`` with the published BLIP caption. The
``query`` field of such turns (what the picture was searched with) is *not* used: a memory never sees it.

Nine evidence entries of the published file are malformed. They are repaired as follows, and the number
of repairs is reported: joined ids are split (``"D8:6; D9:17"``), zero padding and a stray colon go
(``D30:05`` is ``D30:5``, ``D:11:26`` is ``D11:26``), ids of no turn are dropped. A question left without
evidence keeps an empty tuple and is no part of ``Conversation.answerable``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lamina.errors import InvalidInput
from lamina.text.base import Turn

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}

_ID = re.compile(r"D:?(\d+):(\d+)")
_SESSION = re.compile(r"session_(\d+)")
_TIME_FORMAT = "%I:%M %p on %d %B, %Y"  # "1:56 pm on 8 May, 2023"; no zone is given, UTC is assumed


@dataclass(frozen=True, slots=True)
class DialogueTurn(Turn):
    """A turn with the identifier (``D1:3``) by which questions cite it."""

    dia_id: str = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its reference answer (``None`` for most adversarial ones) and its evidence, repaired.

    ``cited`` is the evidence as published, for protocols that treat malformed entries in their own way.
    """

    text: str
    answer: str | None
    evidence: tuple[str, ...]
    category: int
    cited: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Conversation:
    """One sample: turns in order of time, and what is asked about them."""

    name: str
    speakers: tuple[str, str]
    turns: tuple[DialogueTurn, ...]
    questions: tuple[Question, ...]
    repaired: int  # evidence entries that were not plain ids of existing turns

    def answerable(self, categories: Iterable[int] = (1, 2, 3, 4)) -> list[Question]:
        """Questions of ``categories`` that have evidence left after the repair."""
        wanted = frozenset(categories)
        return [question for question in self.questions if question.category in wanted and question.evidence]


def load_locomo(path: Path | str) -> list[Conversation]:
    """All conversations of a LoCoMo file. Raises ``InvalidInput`` if it is missing or of another shape."""
    file = Path(path)
    name = f"LoCoMo file {str(file)!r}"
    try:
        samples = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read ({error}): give the path of locomo10.json") from error
    except ValueError as error:
        raise InvalidInput(f"{name} is not JSON in UTF-8 ({error}): download it again") from error
    if not isinstance(samples, list) or not samples:
        raise InvalidInput(f"{name} must hold a non-empty list of samples: give locomo10.json itself")
    return [_conversation(sample, f"{file.name}[{place}]") for place, sample in enumerate(samples)]


def parse_time(text: str) -> datetime:
    """``"1:56 pm on 8 May, 2023"`` as UTC. Raises ``InvalidInput``."""
    try:
        return datetime.strptime(text.strip(), _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"session time {text!r} is not of the form '1:56 pm on 8 May, 2023'") from error


def repair_evidence(entries: Iterable[object], known: Mapping[str, object]) -> tuple[tuple[str, ...], int]:
    """Evidence ids that exist, each once and in order, and how many entries were not such an id as given."""
    found: dict[str, None] = {}
    repaired = 0
    for entry in entries:
        repaired += str(entry) not in known
        for session, turn in _ID.findall(str(entry)):
            identifier = f"D{int(session)}:{int(turn)}"
            if identifier in known:
                found[identifier] = None
    return tuple(found), repaired


def _conversation(sample: Any, where: str) -> Conversation:
    talk = _field(sample, "conversation", dict, where)
    turns = [turn for number in _sessions(talk) for turn in _session(talk, number, where)]
    if not turns:
        raise InvalidInput(f"{where}.conversation has no session with turns: expected 'session_1', 'session_2', ...")
    known = {turn.dia_id: turn for turn in turns}
    repaired = 0
    questions = []
    for place, item in enumerate(_field(sample, "qa", list, where)):
        spot = f"{where}.qa[{place}]"
        category = _field(item, "category", int, spot)
        if category not in CATEGORIES:
            raise InvalidInput(f"{spot}.category is {category!r}: expected one of {sorted(CATEGORIES)}")
        cited = _field(item, "evidence", list, spot)
        evidence, changed = repair_evidence(cited, known)
        repaired += changed
        answer = item.get("answer")
        questions.append(
            Question(
                text=_field(item, "question", str, spot),
                answer=None if answer is None else str(answer),
                evidence=evidence,
                category=category,
                cited=tuple(str(entry) for entry in cited),
            )
        )
    return Conversation(
        name=_field(sample, "sample_id", str, where),
        speakers=(_field(talk, "speaker_a", str, where), _field(talk, "speaker_b", str, where)),
        turns=tuple(turns),
        questions=tuple(questions),
        repaired=repaired,
    )


def _sessions(talk: Mapping[str, Any]) -> list[int]:
    return sorted(int(match[1]) for key in talk if (match := _SESSION.fullmatch(key)))


def _session(talk: Mapping[str, Any], number: int, where: str) -> list[DialogueTurn]:
    name = f"session_{number}"
    lines = _field(talk, name, list, f"{where}.conversation")
    if not lines:
        return []
    at = parse_time(_field(talk, f"{name}_date_time", str, f"{where}.conversation"))
    turns = []
    for ordinal, line in enumerate(lines):
        spot = f"{where}.conversation.{name}[{ordinal}]"
        text = _field(line, "text", str, spot)
        caption = line.get("blip_caption")
        turns.append(
            DialogueTurn(
                text=f"{text} [shares an image: {caption}]".strip() if caption else text,
                speaker=_field(line, "speaker", str, spot),
                role="user",
                at=at,
                session=name,
                ordinal=ordinal,
                dia_id=_field(line, "dia_id", str, spot),
            )
        )
    return turns


def _field(record: Any, key: str, kind: type, where: str) -> Any:
    """``record[key]``, which must be of type ``kind``. Raises ``InvalidInput`` naming the place."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise InvalidInput(f"{where}.{key} is {value!r:.60}: expected {kind.__name__}, as in LoCoMo's published file")
    return value
