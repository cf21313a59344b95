"""What memory itself said is not news: recalled text that comes back in a message is not extracted from again.

An agent that stores whole conversations stores the memories that were put into its prompt, too; extracted from
once more they multiply (one hallucination became 668 memories that way). The last twenty contexts that were handed
out to an owner are remembered as hashes of their lines, and those lines are blanked before anything reads a message
of that owner. The message itself is kept as it came.

What a person says is worth more than a duplicate avoided. So a context is told apart from speech: what was said
before the context was handed out is no echo of it, whenever it is read; what is superseded may become true again,
and what still waits to be read is no knowledge yet, so neither is remembered; and of a person's message only whole
blocks go: two listed lines and more in a row, all of one context.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lamina.cube.cube import Scope, now
from lamina.text.base import Hit, Turn
from lamina.text.prompted.instructions import is_person
from lamina.text.prompted.restoring import is_waiting

CONTEXTS = 20  # remembered of an owner; what was injected longer ago is told apart by nothing
OWNERS = 1000  # that were last handed something
_SHORTEST = 12  # characters of a line that gives a context away: "Yes." is everybody's
_BLOCK = 2  # listed lines in a row that make a block
_BULLET = re.compile(r"^\W*(?:\d{1,3}[.)\]]\s*)?")
_LISTED = re.compile(r"^\s*(?:[-*•‣–—<]|\W?\d{1,3}[.)\]])")
_Owner = tuple[str, str | None, str | None, str | None]


@dataclass(frozen=True, slots=True)
class _Context:
    at: datetime
    lines: frozenset[bytes]


class Echoes:
    """Hashes of the lines of the last contexts, by owner. Thread-safe; holds no text."""

    def __init__(self, size: int = CONTEXTS) -> None:
        self._size = size
        self._contexts: OrderedDict[_Owner, deque[_Context]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, text: str, scope: Scope = Scope(), at: datetime | None = None) -> None:  # noqa: B008 - frozen
        """``text`` was put into a prompt, at ``at`` (default: now), from the memories of ``scope``."""
        lines = frozenset(_key(line) for line in text.splitlines() if line.strip())
        if not lines:
            return
        with self._lock:
            mine = self._contexts.setdefault(_owner(scope), deque(maxlen=self._size))
            mine.append(_Context(at or now(), lines))
            self._contexts.move_to_end(_owner(scope))
            if len(self._contexts) > OWNERS:
                self._contexts.popitem(last=False)

    def remember_hits(self, scope: Scope, hits: Sequence[Hit]) -> None:
        """``hits`` were found for ``scope``: a prompt may bring them back."""
        current = (hit.cube for hit in hits if hit.superseded_by is None and hit.cube.header.superseded is None)
        self.remember("\n".join(cube.text for cube in current if not is_waiting(cube)), scope)

    def is_echo(self, text: str, scope: Scope, at: datetime | None = None) -> bool:
        """Whether a machine's ``text``, said at ``at`` (default: now), says nothing but what was injected."""
        return bool(text.strip()) and not _without_lines(text, self._before(scope, at or now())).strip()

    def without(self, turn: Turn, scope: Scope) -> str:
        """The text of ``turn`` with injected lines blanked: same length, so that positions stay true."""
        contexts = self._before(scope, turn.at)
        if not is_person(turn):
            return _without_lines(turn.text, contexts)
        text = turn.text
        for lines in contexts:
            text = _without_blocks(text, lines)
        return text

    def _before(self, scope: Scope, at: datetime) -> list[frozenset[bytes]]:
        with self._lock:
            return [context.lines for context in self._contexts.get(_owner(scope), ()) if context.at <= at]


INJECTED = Echoes()  # of this process: contexts are built by functions that know no store


def without_echoes(turn: Turn, scope: Scope, *, echoes: Echoes = INJECTED) -> str:
    """What of a message of ``scope`` may be read for facts."""
    return echoes.without(turn, scope)


def owner_scope(scope: Scope) -> Scope:
    """The widest scope of its owner: what one chat was told of a user may come back in another chat of theirs."""
    if scope.user is not None:
        return Scope(scope.tenant, scope.user)
    return Scope(scope.tenant, agent=scope.agent) if scope.agent is not None else scope


def _owner(scope: Scope) -> _Owner:
    widest = owner_scope(scope)
    return widest.tenant, widest.user, widest.agent, widest.run


def _without_lines(text: str, contexts: Sequence[frozenset[bytes]]) -> str:
    """Without any line of any context, if one of them is long enough to be nobody else's."""
    known = frozenset().union(*contexts)
    lines = text.splitlines(keepends=True)
    if not any(len(line.strip()) >= _SHORTEST and _key(line) in known for line in lines):
        return text
    return _blanked(lines, lambda number: _key(lines[number]) in known)


def _without_blocks(text: str, known: frozenset[bytes]) -> str:
    """Without runs of lines of one context (empty ones between them do not count) that are set out as a list."""
    lines = text.splitlines(keepends=True)
    gone: set[int] = set()
    run: list[int] = []
    for number in range(len(lines) + 1):
        if number < len(lines) and (not lines[number].strip() or _key(lines[number]) in known):
            run.append(number)
            continue
        if sum(_LISTED.match(lines[each]) is not None for each in run) >= _BLOCK:
            gone.update(run)
        run = []
    return _blanked(lines, gone.__contains__) if gone else text


def _blanked(lines: Sequence[str], is_gone: Callable[[int], bool]) -> str:
    return "".join(re.sub(r"\S", " ", line) if is_gone(number) else line for number, line in enumerate(lines))


def _key(line: str) -> bytes:
    plain = " ".join(_BULLET.sub("", line.strip()).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=16).digest()
