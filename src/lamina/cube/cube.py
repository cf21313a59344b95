"""MemCube: the one unit of memory. A header that says whose, whence and until when; a payload that says what.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 4 (payload + metadata header). Headers are
frozen: a change is a new version made with ``dataclasses.replace``, never an edit in place.

Two clocks (design 4): ``valid_from``/``valid_to`` say when the fact holds in the world;
``recorded``/``superseded`` say when it was known. Both follow the clock of the *observation* (the
message's own timestamp), so importing last year's conversations today keeps last year's order;
``created`` is when the first version was recorded. The wall clock of every write is in the store's log. All
datetimes are timezone-aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

import uuid_utils.compat

from lamina.cube.payload import Payload

Kind = Literal["text", "activation", "parameter"]
Trust = Literal["user", "assistant", "tool", "web", "import"]


class State(StrEnum):
    """Life of a cube (MemLifecycle). Transitions are checked by ``lamina.kernel.lifecycle``."""

    GENERATED = "generated"
    ACTIVE = "active"
    MERGED = "merged"
    ARCHIVED = "archived"
    FROZEN = "frozen"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Scope:
    """Who a memory belongs to. In a query, ``None`` means "any"; in a cube it means "not bound to one"."""

    tenant: str = "default"
    user: str | None = None
    agent: str | None = None
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The span ``[start, end)`` of characters in the text of cube ``id`` that a memory was taken from."""

    id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a memory came to be: its source turns and what extracted it."""

    sources: tuple[Source, ...] = ()
    extractor: str = "verbatim"
    model: str | None = None
    prompt_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """The ``(id, version)`` of every cube this one was made from, and by which operation."""

    derived_from: tuple[tuple[str, int], ...] = ()
    operation: str = "create"


@dataclass(frozen=True, slots=True)
class Utterance:
    """Where a verbatim turn stood: its session, its place in it (from 0), who spoke, in which role."""

    session: str
    ordinal: int
    speaker: str
    role: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a fact asserts, as far as rules could tell; supersession decides by these, not by cosine.

    ``slot`` names the attribute (``residence``, ``employer``, ``favourite.colour`` ...), ``value`` its
    normalised value, ``polarity`` is False for "does not", ``modality`` is ``asserted``, ``plan``,
    ``hypothetical`` or ``reported``; only asserted claims supersede.
    """

    subject: str
    slot: str | None = None
    value: str | None = None
    polarity: bool = True
    modality: Literal["asserted", "plan", "hypothetical", "reported"] = "asserted"


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may do what with a memory besides its owner (the ids of its scope), who may do all (``kernel.governance``).

    Entries: ``"*"`` (anyone of the tenant), ``"user:NAME"``, ``"agent:NAME"``, ``"role:NAME"``; in ``share``, which
    names those who may be given a copy, also ``"tenant:NAME"``, and ``"*"`` means anyone at all. The forms a memory
    may take are ``Header.access``.
    """

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    share: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """How often and when a memory was last used by a search."""

    count: int = 0
    last: datetime | None = None


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    """A uuid7: sorts by time of creation."""
    return str(uuid_utils.compat.uuid7())


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Everything about a memory but its content. Defaults make a fresh, active text memory."""

    id: str = field(default_factory=new_id)
    version: int = 1
    kind: Kind = "text"
    semantic_type: str = "fact"  # turn, fact, event, preference, plan, procedure, persona, prompt, note, summary
    scope: Scope = field(default_factory=Scope)
    created: datetime = field(default_factory=now)
    recorded: datetime = field(default_factory=now)
    superseded: datetime | None = None
    superseded_by: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    expires: datetime | None = None
    provenance: Provenance = field(default_factory=Provenance)
    lineage: Lineage = field(default_factory=Lineage)
    utterance: Utterance | None = None  # only for verbatim turns
    claim: Claim | None = None  # only for facts
    state: State = State.ACTIVE
    trust: Trust = "user"
    access: tuple[str, ...] = ("text", "activation", "parameter")  # forms this memory may take
    policy: Policy | None = None  # None: the owner alone
    sensitivity: tuple[str, ...] = ()  # what was found in the text and taken out, such as "email"; never a weight
    retention: int | None = None  # days without use after which it is archived; None: as the sweep is told
    watermark: str | None = None  # keyed mark of the one who exported it
    tags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    importance: float = 0.5
    usage: Usage = field(default_factory=Usage)
    metadata: Mapping[str, Any] = field(default_factory=dict)  # the caller's own keys; JSON values


@dataclass(frozen=True, slots=True)
class MemCube:
    """One memory: ``header`` plus ``payload`` (text, or named tensors with the model they fit)."""

    header: Header
    payload: Payload

    @property
    def id(self) -> str:
        return self.header.id

    @property
    def text(self) -> str:
        """The text of a text cube. Raises ``InvalidInput`` for tensors."""
        return self.payload.as_text()

    @property
    def nbytes(self) -> int:
        """Live bytes of the payload (UTF-8 for text)."""
        return self.payload.nbytes

    @property
    def sha256(self) -> str:
        """Content hash of the payload alone, so that equal contents have equal hashes."""
        return self.payload.sha256
