"""MemoryCall: what a message asks of memory, in one typed value.

MemOS, arXiv 2507.03724, section 4.2 (MemReader turns natural language into a memory API call with intent, time,
entities and topics). ``caller`` and ``scope`` come from the session, never from the text: no words and no model
can make a call reach further than whoever speaks may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput

Intent = Literal["recall", "write", "update", "forget", "summarise", "none"]
SemanticType = Literal["fact", "event", "preference", "plan", "procedure", "persona", "prompt", "note", "summary"]
Window = tuple[datetime, datetime]

INTENTS: tuple[Intent, ...] = get_args(Intent)
SEMANTIC_TYPES: tuple[SemanticType, ...] = get_args(SemanticType)
EARLIEST = datetime(1, 1, 1, tzinfo=UTC)  # the open ends of a window: "before June", "since June"
LATEST = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCall:
    """One request to memory. ``text`` is the message; ``queries`` are what to search for, the message first.

    ``time_window`` is half-open and selects memories (of recall, summarise and forget; what a statement says about
    time belongs to the fact, not to the call). ``anchor`` is the moment that "last week" refers to. ``reader`` names
    what read the message: "rules", a model, or "rules(fallback)". Raises ``InvalidInput``.
    """

    text: str
    caller: str
    scope: Scope
    anchor: datetime
    intent: Intent = "recall"
    queries: tuple[str, ...] = ()
    time_window: Window | None = None
    topics: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    semantic_types: tuple[SemanticType, ...] = ()
    k: int = 10
    reader: str = "rules"

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInput(f"text={self.text!r:.60}: pass the words of the message")
        if not isinstance(self.caller, str) or not self.caller:
            raise InvalidInput(f"caller={self.caller!r:.60}: pass who asks, as the session knows them")
        if not isinstance(self.scope, Scope):
            raise InvalidInput(f"scope={self.scope!r:.60}: pass a Scope")
        if self.intent not in INTENTS:
            raise InvalidInput(f"intent={self.intent!r:.60}: choose one of {', '.join(INTENTS)}")
        strange = [name for name in self.semantic_types if name not in SEMANTIC_TYPES]
        if strange:
            raise InvalidInput(f"semantic_types={strange!r:.60}: choose from {', '.join(SEMANTIC_TYPES)}")
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise InvalidInput(f"k={self.k!r:.60}: pass a whole number from 1")
        if self.anchor.tzinfo is None:
            raise InvalidInput(f"anchor={self.anchor}: pass a datetime with a time zone")
        if self.time_window is not None:
            start, end = self.time_window
            if start.tzinfo is None or end.tzinfo is None or start >= end:
                raise InvalidInput(f"time_window=({start}, {end}): pass start < end, both with a time zone")
        if not self.queries:
            object.__setattr__(self, "queries", (self.text,))

    @property
    def where(self) -> Mapping[str, Any] | None:
        """The structured part of the call as a filter (``lamina.store.filters``); ``None`` if it selects nothing.

        A memory lies in the window if it was recorded in it, or if what it says held at some time of it.
        """
        parts: list[Mapping[str, Any]] = []
        if self.semantic_types:
            parts.append({"semantic_type": {"in": list(self.semantic_types)}})
        if self.time_window is not None:
            start, end = self.time_window
            held_after = {"OR": [{"valid_to": {"gt": start}}, {"valid_to": None}]}
            held = {"AND": [{"valid_from": "*"}, {"valid_from": {"lt": end}}, held_after]}
            parts.append({"OR": [{"recorded": {"gte": start, "lt": end}}, held]})
        return {"AND": parts} if parts else None
