"""LongMemEval's files (s, m, oracle), one question with its history at a time.

Wu et al., "LongMemEval: Benchmarking Chat Assistants on Long-Term Interactive Memory", arXiv 2410.10813. A file is a
list of ``{question_id, question_type, question, answer, question_date, haystack_session_ids, haystack_dates,
haystack_sessions, answer_session_ids}``; a session is a list of ``{role, content, has_answer?}``. It is read from a
path and never shipped; the cleaned release of September 2025 is the one to use.

The largest file holds gigabytes, so it is never in memory whole: text is read in pieces and one instance is decoded
when the buffer holds all of it. The buffer doubles while an instance does not fit, which keeps the work linear.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ValidationError

from lamina.errors import InvalidInput

_PIECE = 1 << 20  # characters read at a time
_SPACE = " \t\r\n"
_TIME_FORMAT = "%Y/%m/%d (%a) %H:%M"  # "2023/05/20 (Sat) 02:21"; no zone is given, UTC is assumed


class Message(BaseModel):
    """One turn; ``has_answer`` is missing in sessions without evidence."""

    role: str
    content: str
    has_answer: bool = False


class Instance(BaseModel):
    """One question and the sessions it is asked about, as published."""

    question_id: str
    question_type: str
    question: str
    answer: str | int | float
    question_date: str
    haystack_session_ids: list[str]
    haystack_dates: list[str]
    haystack_sessions: list[list[Message]]
    answer_session_ids: list[str]

    @property
    def abstention(self) -> bool:
        """Whether the history does not hold the answer, and saying so is right."""
        return "_abs" in self.question_id

    def sessions(self) -> list[tuple[str, datetime, list[Message]]]:
        """Id, time and messages of each session, in order of time (the oracle file is not). Raises ``InvalidInput``."""
        parts = zip(self.haystack_session_ids, self.haystack_dates, self.haystack_sessions, strict=True)
        return sorted(((name, parse_time(at), said) for name, at, said in parts), key=lambda session: session[1])


@dataclass(slots=True)
class _Buffer:
    """A window on a file: ``text[place:]`` is unread."""

    stream: TextIO
    text: str = ""
    place: int = 0

    def more(self) -> bool:
        """Read on, at least as much as is held already; whether there was any."""
        rest = self.text[self.place :]
        piece = self.stream.read(max(_PIECE, len(rest)))
        self.text, self.place = rest + piece, 0
        return bool(piece)

    def next(self) -> str:
        """The next character that is no space, not consumed; empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in _SPACE:
                self.place += 1
            if self.place < len(self.text) or not self.more():
                return self.text[self.place : self.place + 1]


def read_longmemeval(path: Path | str) -> Iterator[Instance]:
    """The instances of a file, one after another. Raises ``InvalidInput`` naming the place of what is wrong."""
    file = Path(path)
    name = f"LongMemEval file {str(file)!r}"
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for place, record in enumerate(_records(_Buffer(stream), name)):
                yield _instance(record, f"{file.name}[{place}]")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{name} cannot be read ({error}): give the path of longmemeval_s.json or alike") from error


def parse_time(text: str) -> datetime:
    """``"2023/05/20 (Sat) 02:21"`` as UTC. Raises ``InvalidInput``."""
    try:
        return datetime.strptime(text.strip(), _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInput(f"date {text!r:.60} is not of the form '2023/05/20 (Sat) 02:21'") from error


def _records(buffer: _Buffer, name: str) -> Iterator[Any]:
    """The elements of the list that a JSON file is."""
    if buffer.next() != "[":
        raise InvalidInput(f"{name} must hold a list of instances: give the published file itself")
    buffer.place += 1
    if buffer.next() == "]":
        return
    while True:
        yield _decode(buffer, name)
        mark = buffer.next()
        buffer.place += 1
        if mark == "]":
            return
        if mark != ",":
            raise InvalidInput(f"{name} has {mark!r} between two instances (expected ',' or ']'): download it again")


def _decode(buffer: _Buffer, name: str) -> Any:
    if buffer.next() != "{":
        raise InvalidInput(f"{name} holds something that is no instance: expected {{...}}, found {buffer.next()!r}")
    decoder = json.JSONDecoder()
    while True:
        try:
            record, buffer.place = decoder.raw_decode(buffer.text, buffer.place)
        except json.JSONDecodeError as error:
            if not buffer.more():
                raise InvalidInput(f"{name} is not JSON, or cut off ({error}): download it again") from error
        else:
            return record


def _instance(record: Any, where: str) -> Instance:
    try:
        instance = Instance.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        spot = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{where}.{spot}: {first['msg']}; expected LongMemEval's published form") from error
    lengths = {len(instance.haystack_session_ids), len(instance.haystack_dates), len(instance.haystack_sessions)}
    if len(lengths) != 1:
        raise InvalidInput(f"{where} has {sorted(lengths)} session ids, dates and sessions: expected as many of each")
    return instance.model_copy(update={"haystack_session_ids": _distinct(instance.haystack_session_ids)})


def _distinct(names: Sequence[str]) -> list[str]:
    """A session id that comes again is told apart as ``id~2``: two sessions are two, whatever they are called."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return found
