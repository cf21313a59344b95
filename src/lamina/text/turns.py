"""Messages in mem0's shapes become ``Turn``s: checked, cleaned of nothing, with a speaker and a time.

Accepted: a string, one message, or a list of messages ``{"role", "content", "name"?, "timestamp"?}``
where ``content`` is a string or a list of ``{"type": "text", "text": ...}`` and image parts. Text is never
repaired silently: what cannot be stored and read back exactly (NUL, lone surrogates) is refused, and the
error names the message. Images are noted in the text as ``[image]``, one line each.

Time: ``timestamp`` or ``created_at`` of the message, else the time of the call, else now. A datetime without
a zone is taken as UTC. ``Turn.at`` is UTC; ``Turn.zone`` keeps the zone the message was stamped in, because
"yesterday" is a day on the speaker's calendar.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from lamina.errors import InvalidInput
from lamina.text.base import Turn

ROLES = ("user", "assistant", "system", "tool")
MAX_CHARS = 1_000_000  # of one message; a longer one is a document, to be split before it is remembered

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()  # leaves room to add "in 20 years" to any anchor


Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]


def parse_messages(
    messages: Messages,
    *,
    at: datetime | str | float | None = None,
    user: str | None = None,
    agent: str | None = None,
    session: str = "",
    first: int = 0,
) -> list[Turn]:
    """The turns of messages in any of mem0's shapes, in order, with ordinals from ``first``.

    The speaker is the message's name; else ``user`` or ``agent`` where the id is a name ("alice"), else the role.
    ``at`` (datetime, ISO 8601 or epoch seconds; default now) dates messages without a timestamp of their own.
    A message with tool calls and no content says nothing and is left out. Raises ``InvalidInput`` with code
    ``VALIDATION_003``, naming the message, for anything else that is not a message with text.
    """
    default = datetime.now(UTC) if at is None else to_datetime(at, "timestamp")
    speakers = {
        "user": _called(user, "User"),
        "assistant": _called(agent, "Assistant"),
        "system": "System",
        "tool": "Tool",
    }
    turns: list[Turn] = []
    for where, message in _listed(messages):
        checked = _parse_message(message, where)
        if checked is None:
            continue
        role, text, name, stamp = checked
        moment = stamp or default
        turns.append(
            Turn(
                text=text,
                speaker=name or speakers[role],
                role=role,
                at=moment.astimezone(UTC),
                session=session,
                ordinal=first + len(turns),
                named=name is not None,
                zone=moment.tzinfo or UTC,
            )
        )
    return turns


def _called(id: str | None, otherwise: str) -> str:
    """An id that reads as a name is used as one; nobody is called "u4" or "me"."""
    if id is None or len(id) < 3 or not id.isalpha() or id.lower() in ("user", "admin", "default", "you"):
        return otherwise
    return id.capitalize() if id.islower() else id


def to_datetime(value: object, where: str) -> datetime:
    """An aware datetime from a datetime, an ISO 8601 string or epoch seconds; naive means UTC.

    Raises ``InvalidInput`` (``VALIDATION_003``) for other types and for moments outside 1970-9000.
    """
    moment: datetime | None = None
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, int | float) and not isinstance(value, bool) and _EARLIEST <= value <= _LATEST:
        moment = datetime.fromtimestamp(value, UTC)
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = None
    if moment is None or not 1970 <= moment.year < 9000:
        raise _invalid(where, value, "give a datetime, an ISO 8601 string or epoch seconds between 1970 and 9000")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _listed(messages: object) -> list[tuple[str, object]]:
    if isinstance(messages, str):
        return [("messages", {"role": "user", "content": messages})]
    if isinstance(messages, Mapping):
        return [("messages", messages)]
    if not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray) or not messages:
        raise _invalid("messages", messages, "give a string, one message, or a list of at least one message")
    return [(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _parse_message(message: object, where: str) -> tuple[str, str, str | None, datetime | None] | None:
    """Role, text, name and time of one message; ``None`` for one without text that calls tools."""
    if not isinstance(message, Mapping):
        raise _invalid(where, message, 'give a mapping like {"role": "user", "content": "..."}')
    role = message.get("role", "user")
    if not isinstance(role, str) or role not in ROLES:
        raise _invalid(f"{where}.role", role, f"use one of {', '.join(ROLES)}")
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        return None
    text = _read_content(content, f"{where}.content")
    return role, text, _read_name(message.get("name"), where), _read_time(message, where)


def _read_content(content: object, where: str) -> str:
    if isinstance(content, str):
        return _check_text(content, where)
    if not isinstance(content, list):
        raise _invalid(where, content, "give a string or a list of text and image parts")
    texts: list[str] = []
    images = 0
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url", "input_image"):
            images += 1
        else:
            raise _invalid(f"{where}[{index}]", part, 'give {"type": "text", "text": "..."} or an image part')
    return _check_text("\n".join(texts + ["[image]"] * images), where)


def _check_text(text: str, where: str) -> str:
    if len(text) > MAX_CHARS:
        raise _invalid(where, text, f"{len(text)} characters; split it into messages of at most {MAX_CHARS}")
    if not text.strip():
        raise _invalid(where, text, "the text is empty; leave the message out")
    bad = _UNSTORABLE.search(text)
    if bad:
        what = "a NUL" if bad.group() == "\0" else "a lone surrogate"
        raise _invalid(where, text, f"character {bad.start()} is {what} ({bad.group()!a}), which is no text; remove it")
    return text


def _read_name(name: object, where: str) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or not name.strip() or len(name) > 200 or _UNSTORABLE.search(name):
        raise _invalid(f"{where}.name", name, "give a name of 1 to 200 characters, or leave it out")
    return " ".join(name.split())


def _read_time(message: Mapping[str, Any], where: str) -> datetime | None:
    for key in ("timestamp", "created_at"):
        if message.get(key) is not None:
            return to_datetime(message[key], f"{where}.{key}")
    return None


def _invalid(where: str, value: object, remedy: str) -> InvalidInput:
    shown = ascii(value[:60] if isinstance(value, str) else value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return InvalidInput(f"{where} is {shown}: {remedy}.", code="VALIDATION_003")
