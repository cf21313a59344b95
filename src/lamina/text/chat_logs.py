"""Chat logs as files: read, checked, grouped into sessions, and recognised when they come a second time.

Accepted: messages ``{"role", "content", "name"?, "timestamp"?}`` as a JSON list, as ``{"messages": [...]}``
(OpenAI's form) or a list of those, one JSON value a line, or ChatGPT's ``conversations.json``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.store.base import Store
from lamina.text.arguments import short
from lamina.text.base import Turn
from lamina.text.exchange import document
from lamina.text.sessions import PAUSE
from lamina.text.turns import parse_messages


@dataclass(frozen=True, slots=True)
class Said:
    """One message of a chat log: the checked turn, and which conversation of the file it belongs to."""

    turn: Turn
    conversation: int

    @property
    def fingerprint(self) -> bytes:
        """Equal for the same words of the same speaker at the same moment."""
        return _fingerprint(self.turn.text, self.turn.speaker, self.turn.at)

    def message(self) -> dict[str, Any]:
        """As ``Memory.add`` takes it."""
        turn = self.turn
        message = {"role": turn.role, "content": turn.text, "timestamp": turn.at.astimezone(turn.zone).isoformat()}
        return message | {"name": turn.speaker} if turn.named else message


def read_chat(text: str, *, default: datetime, user: str | None = None, agent: str | None = None) -> list[Said]:
    """All messages that people and assistants wrote, conversation by conversation, in order.

    A message without a time gets that of the one before it, the first one ``default`` (the file's own date).
    System prompts, tool calls and empty messages are left out. Raises ``InvalidInput`` naming the message.
    """
    said: list[Said] = []
    for number, (place, messages) in enumerate(_conversations(document(text))):
        at = default
        for count, message in enumerate(messages, 1):
            where = f"{place}message {count}"
            if not _is_speech(message, where):
                continue
            try:
                turns = parse_messages([message], at=at, user=user, agent=agent)
            except InvalidInput as error:
                raise InvalidInput(f"{where}: {error}") from error
            said += [Said(turn, number) for turn in turns]
            at = turns[-1].at if turns else at
    return said


def _conversations(value: Any) -> Iterator[tuple[str, list[Any]]]:
    entries = value if isinstance(value, list) else [value]
    if entries and all(isinstance(entry, Mapping) and "role" in entry for entry in entries[:1]):
        yield "", entries
        return
    for number, entry in enumerate(entries, 1):
        place = f"conversation {number}, "
        if isinstance(entry, Mapping) and isinstance(entry.get("messages"), list):
            yield place, entry["messages"]
        elif isinstance(entry, Mapping) and isinstance(entry.get("mapping"), Mapping):
            yield place, list(_chatgpt(entry))
        else:
            raise InvalidInput(f"{place}{short(entry)}: expected messages with role and content.")


def _chatgpt(conversation: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The branch of ChatGPT's message tree that the user last saw, from its root."""
    nodes = conversation["mapping"]
    branch: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    current = conversation.get("current_node")
    while isinstance(current, str) and isinstance(nodes.get(current), Mapping) and current not in seen:
        seen.add(current)
        branch.append(nodes[current])
        current = nodes[current].get("parent")
    for node in reversed(branch):
        message = _object(node.get("message"), "message")
        parts = _object(message.get("content"), "message.content").get("parts") or []
        text = "\n".join(part for part in parts if isinstance(part, str))
        yield {
            "role": _object(message.get("author"), "message.author").get("role", "system"),
            "content": text,
            "timestamp": message.get("create_time"),
        }


def _is_speech(message: Any, where: str) -> bool:
    if not isinstance(message, Mapping):
        raise InvalidInput(f'{where}: {short(message)}: expected {{"role": ..., "content": ...}}.')
    return message.get("role") not in ("system", "developer", "tool") and message.get("content") not in (None, "")


def sessions(said: Iterable[Said], *, longest: int) -> Iterator[list[Said]]:
    """Messages in groups of at most ``longest``; a pause or another conversation ends a group, too."""
    group: list[Said] = []
    for item in said:
        if group and (len(group) == longest or not _continues(group[-1], item)):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _continues(last: Said, item: Said) -> bool:
    return last.conversation == item.conversation and abs(item.turn.at - last.turn.at) <= PAUSE


def known_turns(store: Store, scope: Scope) -> set[bytes]:
    """Fingerprints of every verbatim turn of a scope, deleted ones included: they are not to come back.

    Leaving these out, importing a file twice, or a longer export of the same chat, stores each message once.
    """
    prints: set[bytes] = set()
    cursor: str | None = None
    while True:
        page = store.query(scope, {"semantic_type": "turn"}, closed=True, limit=1000, cursor=cursor)
        for cube in page.cubes:
            if (said := cube.header.utterance) is not None:
                prints.add(_fingerprint(cube.text, said.speaker, cube.header.recorded))
        if (cursor := page.cursor) is None:
            return prints


def _fingerprint(text: str, speaker: str, at: datetime) -> bytes:
    return hashlib.sha256(f"{at.astimezone(UTC).isoformat()}\0{speaker}\0{text}".encode()).digest()


def _object(value: Any, name: str) -> Mapping[str, Any]:
    """A part of a ChatGPT message; absent parts are empty. Raises ``InvalidInput`` for anything but an object."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name} is {value!r:.60}: a conversations.json has an object there.")
    return value
