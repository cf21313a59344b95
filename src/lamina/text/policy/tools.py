"""The memory Mem-alpha writes to, and the tools it writes with (arXiv 2509.25911, section 3).

Three stores: ``core``, one short paragraph that every answer sees; ``semantic``, a list of statements; ``episodic``,
a list of happenings with their time. A policy changes them only through calls. A call that cannot be carried out
(unknown id, exact duplicate, empty text) raises ``ToolError`` inside and is *recorded* as failed: it costs
reward and never reaches the chat. Reading is BM25 over both lists.

Ids are 64-bit: of the 16-bit ids in use elsewhere two are equal, more likely than not, from some 300 entries on.
"""

from __future__ import annotations

import math
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lamina.errors import LaminaError
from lamina.text.policy.features import count_tokens, read

MemoryType = Literal["core", "semantic", "episodic"]
LISTS: tuple[MemoryType, ...] = ("semantic", "episodic")
CUT = "[...]"  # marks a core that lost its last words
K1, B = 1.2, 0.75  # BM25, the customary values
_WORD = re.compile(r"\w+")


class ToolError(LaminaError):
    """A call that cannot be carried out. ``TypedMemory.call`` records it as failed; it is not for the chat."""

    code = "TOOL"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as a policy makes it: ``memory_insert``, ``memory_update``, ``memory_delete``, ``search_memory`` or
    ``skip``, which does nothing and says so: silence on a useless chunk is a decision too."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What became of a call; ``error`` is ``None`` if it succeeded, ``value`` the id or entries it gave back."""

    call: ToolCall
    value: Any = None
    error: str | None = None

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list store; ``order`` is its place by first arrival, kept by updates."""

    id: str
    memory_type: MemoryType
    text: str
    order: int


class TypedMemory:
    """Core, semantic and episodic memory with their tools. ``core_limit`` in words. Not shared between threads."""

    def __init__(self, core_limit: int = 512) -> None:
        self.core = ""
        self.core_limit = core_limit
        self.results: list[ToolResult] = []  # every call so far
        self._entries: dict[str, Entry] = {}
        self._arrived = 0

    @property
    def entries(self) -> list[Entry]:
        """All list entries, in order of first arrival."""
        return sorted(self._entries.values(), key=lambda entry: entry.order)

    @property
    def tokens(self) -> int:
        """Words held, core included."""
        return count_tokens(self.core) + sum(count_tokens(entry.text) for entry in self._entries.values())

    @property
    def core_fill(self) -> float:
        """Share of the core's budget in use."""
        return min(1.0, count_tokens(self.core) / self.core_limit)

    def call(self, call: ToolCall) -> ToolResult:
        """Carry out one call; failures come back as results. Never raises for what a policy wrote."""
        tool = self._tools().get(call.name)
        try:
            if tool is None:
                raise ToolError(f"name={call.name!r:.60}: no such tool; choose one of {', '.join(self._tools())}")
            try:
                result = ToolResult(call, tool(**call.arguments))
            except TypeError as error:  # arguments the tool does not take
                raise ToolError(f"{call.name}: {error}") from error
        except ToolError as error:
            result = ToolResult(call, error=str(error))
        self.results.append(result)
        return result

    def insert(self, memory_type: MemoryType, content: str) -> str:
        """A new entry in a list; its id. Raises ``ToolError`` for the core, an empty text or an exact duplicate."""
        if memory_type not in LISTS:
            raise ToolError(f"memory_type={memory_type!r:.40}: insert takes {' or '.join(LISTS)}; update the core")
        text = self._new_text(memory_type, content)
        entry = Entry(secrets.token_hex(8), memory_type, text, self._arrived)
        self._arrived += 1
        self._entries[entry.id] = entry
        return entry.id

    def update(self, memory_type: MemoryType, new_content: str, memory_id: str | None = None) -> str:
        """Another text for an entry, which keeps its place; without an id, the whole core paragraph.

        A core over its limit loses its last words and is marked. Raises ``ToolError``.
        """
        if memory_type == "core":
            if not isinstance(new_content, str) or not new_content.strip():
                raise ToolError(f"new_content={new_content!r:.40}: give the new paragraph")
            if new_content.strip() == self.core:
                raise ToolError("new_content is what the core says already")
            self.core = _cut(new_content.strip(), self.core_limit)
            return "core"
        old = self._find(memory_type, memory_id)
        text = self._new_text(memory_type, new_content)
        self._entries[old.id] = Entry(old.id, memory_type, text, old.order)
        return old.id

    def delete(self, memory_type: MemoryType, memory_id: str | None = None) -> str:
        """Remove an entry; without an id, the core. Raises ``ToolError`` if there is nothing to remove."""
        if memory_type == "core":
            if not self.core:
                raise ToolError("the core is empty already")
            self.core = ""
            return "core"
        old = self._find(memory_type, memory_id)
        del self._entries[old.id]
        return old.id

    def search(self, query: str, k: int = 3) -> list[Entry]:
        """The ``k`` best entries of both lists by BM25, of equals the one that came first. Without a hit, none."""
        entries = self.entries
        documents = [_words(entry.text) for entry in entries]
        scores = bm25(set(_words(query)), documents)
        found = [place for place in range(len(entries)) if scores[place] > 0]
        return [entries[place] for place in sorted(found, key=lambda place: (-round(scores[place], 7), place))[:k]]

    def _tools(self) -> dict[str, Callable[..., Any]]:
        return {
            "memory_insert": self.insert,
            "memory_update": self.update,
            "memory_delete": self.delete,
            "search_memory": self.search,
            "skip": lambda: None,
        }

    def _find(self, memory_type: MemoryType, memory_id: str | None) -> Entry:
        entry = self._entries.get(str(memory_id))
        if entry is None or entry.memory_type != memory_type:
            raise ToolError(f"memory_id={memory_id!r:.40}: no such {memory_type!r:.20} entry")
        return entry

    def _new_text(self, memory_type: MemoryType, content: str) -> str:
        if not isinstance(content, str) or not content.strip():
            raise ToolError(f"content={content!r:.40}: give a text")
        text = content.strip()
        if any(entry.memory_type == memory_type and entry.text == text for entry in self._entries.values()):
            raise ToolError(f"content={text!r:.40}: {memory_type} memory says exactly this already")
        return text


def bm25(query: Iterable[str], documents: list[list[str]]) -> list[float]:
    """Okapi BM25 of each document (its words) for the distinct words of ``query``."""
    if not documents:
        return []
    counts = [Counter(document) for document in documents]
    mean = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for word in query:
        frequency = sum(word in count for count in counts)
        weight = math.log1p((len(documents) - frequency + 0.5) / (frequency + 0.5))
        for place, count in enumerate(counts):
            held = count[word]
            norm = K1 * (1 - B + B * len(documents[place]) / mean) if mean else K1
            scores[place] += weight * held * (K1 + 1) / (held + norm)
    return scores


def valid_form(memory_type: MemoryType, text: str) -> bool:
    """Whether a text has the form of its store: the check behind the reward r4. It judges form, not truth.

    An episodic entry carries a time, a semantic one is a statement without one, the core is about the user.
    """
    reading = read(text)
    if memory_type == "episodic":
        return reading.dated
    if memory_type == "semantic":
        return not (reading.dated or reading.asks)
    return reading.first_person and not reading.asks


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _cut(text: str, limit: int) -> str:
    """At most ``limit`` words, marked if some were lost."""
    ends = [found.end() for found in re.finditer(r"\w+(?:['’]\w+)?", text)]
    return text if len(ends) <= limit else f"{text[: ends[limit - 1]]} {CUT}"
