"""The demo's conversation: nine Sundays between two people who do not exist, in ``conversation.json``.

It was written for this demo: some small talk, facts that stay, facts that change (a city, two jobs, cats, the
date of a race), and a secret to forget. The file also holds the questions, never their answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """A question whose answer changed between two days."""

    question: str
    before: datetime
    after: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """Sessions of messages as ``Memory.add`` takes them, and what the demo asks about them."""

    about: str
    today: datetime
    sessions: tuple[tuple[Mapping[str, str], ...], ...]
    questions: tuple[str, ...]
    change: Change
    forget: str  # a question that finds what is to be forgotten
    secret: str  # the part of it that must not be found afterwards, in any file

    @property
    def turns(self) -> int:
        return sum(len(session) for session in self.sessions)

    def text(self) -> str:
        """All of it, as a model without a memory would have to read it."""
        return "\n".join(
            f"{message['timestamp'][:10]} {message['name']}: {message['content']}"
            for session in self.sessions
            for message in session
        )


def load() -> Conversation:
    """The shipped conversation. Turns of a session are a minute apart."""
    data = json.loads(resources.files("lamina.demo").joinpath("conversation.json").read_text("utf-8"))
    change = data["change"]
    return Conversation(
        about=data["about"],
        today=_day(data["today"]),
        sessions=tuple(_session(session) for session in data["sessions"]),
        questions=tuple(data["questions"]),
        change=Change(change["question"], _day(change["before"]), _day(change["after"])),
        forget=data["forget"]["query"],
        secret=data["forget"]["secret"],
    )


def _session(session: Mapping[str, Any]) -> tuple[Mapping[str, str], ...]:
    start = datetime.fromisoformat(session["at"])
    return tuple(
        {
            "role": "user",
            "name": speaker,
            "content": text,
            "timestamp": (start + timedelta(minutes=minute)).isoformat(),
        }
        for minute, (speaker, text) in enumerate(session["turns"])
    )


def _day(date: str) -> datetime:
    return datetime.fromisoformat(date).replace(tzinfo=UTC)
