"""What happens to a conversation on its way to a model: memories go in as quoted data, what the user says is kept.

What is remembered was once written by somebody, so it may try to give orders. It therefore never becomes a message and
never touches the system message: it stands before the words of the last user message, in the block of
``text.answering.render``, which no memory can close. The user's own words follow it unchanged.

The order keeps promises. Memories are looked for first, so that a question does not find itself. Then the words of the
user are written, before any model is asked: whatever becomes of the answer, they are kept. The answer is written when
it is complete, never half of it, and without lines of the block in it: memory does not learn from itself.

A request that is sent again writes nothing again. Its key is the caller's, or follows from the conversation up to the
last user message and the day: "I ran five miles today" is news again tomorrow. A model that calls tools sends the same
user message several times; that, too, is one writing. Messages of the system do not count, as they often hold a clock.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lamina.cube.cube import now
from lamina.errors import Conflict, LaminaError
from lamina.kernel.governance import Principal, check
from lamina.kernel.memos import MemOS
from lamina.text.answering import Quote, quotes, render
from lamina.text.base import Hit

FOUND = 20  # memories that are looked at; ``answering.QUOTES`` of them are quoted
LONGEST = 4000  # characters of a message that are searched for: its beginning and its end

logger = logging.getLogger("lamina.server")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request on its way. ``body`` is what the model is sent, ``quotes`` what of ``user`` was put into it as
    ``block``; ``key`` is what its writes go under. Without a ``system`` nothing is remembered."""

    body: Mapping[str, Any]
    quotes: tuple[Quote, ...] = ()
    block: str = ""
    user: str | None = None
    key: str = ""
    system: MemOS | None = None

    def finish(self, answer: str | None) -> None:
        """Keep the complete ``answer``. Nobody's answer is held back because it cannot be kept: the log says so."""
        if self.system is None or not answer or self.body.get("n") not in (None, 1):  # of several, nobody says which
            return
        injected = {line.strip() for line in self.block.splitlines()}
        kept = "".join(line for line in answer.splitlines(keepends=True) if line.strip() not in injected).strip()
        if not kept:
            return
        try:
            self.system.remember(
                {"role": "assistant", "content": kept}, user_id=self.user, idempotency_key=f"{self.key}:answer"
            )
        except Conflict:
            return  # the request came again and was answered in other words: the first answer stays
        except LaminaError as error:
            logger.warning("an answer was not remembered: %s", error.code)

    def told(self) -> dict[str, Any]:
        """For the caller: which memories were quoted, with scores and sources."""
        return {"user": self.user, "memories": [_quoted(quote) for quote in self.quotes]}


def begin(
    system: MemOS,
    principal: Principal,
    body: Mapping[str, Any],
    *,
    user: str,
    key: str | None = None,
    at: datetime | None = None,
) -> Exchange:
    """Put what is remembered of ``user`` into the request ``body`` (OpenAI's), and keep what it says.

    ``principal`` must be allowed to read what is quoted. ``key``: the caller's idempotency key. A body without words of
    a user passes unchanged. Raises ``InvalidInput``, ``Conflict`` for a ``key`` that came with other words, and what
    the store raises; then nothing was written.
    """
    at = at or now()
    messages = body.get("messages")
    place = last_user(messages)
    if place is None or not isinstance(messages, list):
        return Exchange(body)
    question = words(messages[place])
    found = system.recall(_shortened(question), k=FOUND, where={"trust": {"ne": "assistant"}}, user_id=user)
    here = {words(message).strip() for message in messages}
    news = [hit for hit in found if check(principal, "read", hit.cube) and _source(hit) not in here]
    chosen = quotes(news, question=question)
    block = render([quote.hit for quote in chosen], at, question=question)
    key = _key(key, messages[: place + 1], at)
    system.remember({"role": "user", "content": question}, user_id=user, idempotency_key=key)
    asked = {**body, "messages": _with_block(messages, place, block)} if block else body
    return Exchange(asked, tuple(chosen), block, user, key, system)


def last_user(messages: object) -> int | None:
    """Where the last message of a user stands that has words; ``None`` if there is none, or these are no messages."""
    if not isinstance(messages, list):
        return None
    places = [n for n, message in enumerate(messages) if isinstance(message, dict) and message.get("role") == "user"]
    return places[-1] if places and words(messages[places[-1]]).strip() else None


def words(message: object) -> str:
    """The text of a message, whose content is a string or a list of parts; empty for anything else."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    return "\n".join(text for text in texts if isinstance(text, str))


def completed(answer: object) -> str | None:
    """What a chat completion said, if it is whole: it stopped by itself and calls no tools."""
    choice = only_choice(answer)
    if choice is None or choice.get("finish_reason") != "stop":
        return None
    return words(choice.get("message")) or None


def only_choice(answer: object) -> dict[str, Any] | None:
    """The one choice of a completion or of a chunk of one."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    return choices[0]


class Listener:
    """Reads along a stream of server-sent events that passes in pieces of any length. ``answer`` is ``None`` until the
    model has stopped by itself; then it is all that it said. ``ended``: the server has said that no more comes, or why
    it cannot go on; a stream that closes before was cut. ``rest`` is the beginning of a line."""

    def __init__(self) -> None:
        self.answer: str | None = None
        self.ended = False
        self.rest = b""
        self._said: list[str] = []

    def feed(self, piece: bytes) -> bytes:
        """The lines that are whole now."""
        *lines, self.rest = (self.rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._read(line.removeprefix(b"data:").strip())
        return b"".join(line + b"\n" for line in lines)

    def _read(self, data: bytes) -> None:
        try:
            event = json.loads(data)
        except ValueError:
            self.ended = self.ended or data == b"[DONE]"
            return
        if isinstance(event, dict) and event.get("error"):
            self.ended = True
        choice = only_choice(event)
        if choice is not None:
            self._said.append(words(choice.get("delta")))
            self.ended = self.ended or bool(choice.get("finish_reason"))
            if choice.get("finish_reason") == "stop":
                self.answer = "".join(self._said)


def _with_block(messages: Sequence[Any], place: int, block: str) -> list[Any]:
    """``messages`` with ``block`` before the words at ``place``; parts that are no text stay as they are."""
    message, before = messages[place], f"{block}\n\n"
    content = message["content"]
    filled = f"{before}{content}" if isinstance(content, str) else [{"type": "text", "text": before}, *content]
    return [*messages[:place], {**message, "content": filled}, *messages[place + 1 :]]


def _key(given: str | None, messages: Sequence[Any], at: datetime) -> str:
    said = [one for one in messages if isinstance(one, dict) and one.get("role") not in ("system", "developer")]
    meant = ["given", given] if given else [at.date().isoformat(), said]
    return f"chat:{hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()}"


def _shortened(question: str) -> str:
    half = LONGEST // 2
    return question if len(question) <= LONGEST else f"{question[:half]} {question[-half:]}"


def _source(hit: Hit) -> str:
    return (hit.source or hit.cube).text.strip()


def _quoted(quote: Quote) -> dict[str, Any]:
    hit = quote.hit
    source = {"id": (hit.source or hit.cube).id, "speaker": quote.speaker, "said": quote.at.isoformat()}
    return {"id": hit.cube.id, "version": hit.cube.header.version, "score": round(hit.score, 4), "source": source}
