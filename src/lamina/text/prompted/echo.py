"""What memory itself said is not news: recalled text that comes back in a message is not extracted from again.

An agent that stores whole conversations stores the memories that were put into its prompt, too; extracted from
once more they multiply (one hallucination became 668 memories that way). The last twenty contexts that were handed
out are remembered as hashes of their lines, and those lines are blanked before anything reads a message. The
message itself is kept as it came. A person who says again, in so many words, what is known is no echo: a single
line by a person stays.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque

CONTEXTS = 20  # remembered at a time; what was injected longer ago is told apart by nothing
_SHORTEST = 12  # characters of a line that gives a context away: "Yes." is everybody's
_BULLET = re.compile(r"^\W*(?:\d{1,3}[.)\]]\s*)?")


class Echoes:
    """Hashes of the lines of the last contexts. Thread-safe; holds no text."""

    def __init__(self, size: int = CONTEXTS) -> None:
        self._contexts: deque[frozenset[bytes]] = deque(maxlen=size)
        self._lock = threading.Lock()

    def remember(self, text: str) -> None:
        """``text`` was put into a prompt."""
        lines = frozenset(_key(line) for line in text.splitlines() if line.strip())
        if lines:
            with self._lock:
                self._contexts.append(lines)

    def is_echo(self, text: str) -> bool:
        """Whether ``text`` says nothing but what was injected."""
        return bool(text.strip()) and not self.without(text).strip()

    def without(self, text: str) -> str:
        """``text`` with injected lines blanked: same length, so that positions stay true."""
        with self._lock:
            known = frozenset().union(*self._contexts)
        lines = text.splitlines(keepends=True)
        if not any(len(line.strip()) >= _SHORTEST and _key(line) in known for line in lines):
            return text
        return "".join(re.sub(r"\S", " ", line) if _key(line) in known else line for line in lines)


INJECTED = Echoes()  # of this process: contexts are built by functions that know no store


def without_echoes(text: str, *, person: bool, echoes: Echoes = INJECTED) -> str:
    """What of a message may be read for facts."""
    if person and sum(bool(line.strip()) for line in text.splitlines()) == 1:
        return text
    return echoes.without(text)


def _key(line: str) -> bytes:
    plain = " ".join(_BULLET.sub("", line.strip()).casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "replace"), digest_size=16).digest()
