"""A-MEM's own path: a language model writes notes, proposes links and lets old notes evolve.

arXiv 2502.12110, prompts Ps1 (construct), and Ps2 with Ps3 (link and evolve) in one call over candidates that are
labelled with small integers, so that a model cannot name what it was not shown. The prompts are our own words.

What a model says is checked before it is used: labels it was not given are dropped and counted; a context that brings
in names or numbers its turn does not hold is refused, and one that evolves may use only words of the notes involved,
or small errors grow over chains of notes; tags snap to ones the scope has (cosine 0.80), or "trip" and "travel" drift
apart; a link's reason names stems that both turns share, not the model's words. Whatever fails leaves that note to the
rules.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator

from lamina.cube.cube import MemCube
from lamina.llm.base import ChatModel, Embedder, Message
from lamina.store.analysis import terms
from lamina.text.notes.construction import Draft
from lamina.text.notes.evolution import MAX_EVOLUTIONS, MAX_KEYWORDS, Change, may_learn
from lamina.text.notes.linking import Link
from lamina.text.transient import Transient

MAX_WORDS = 40  # of a context
SAME_TAG = 0.80
LINKED = 0.7  # weight of a link that a model proposes; rules may have found a stronger one for the pair
_SUPPORTED = 0.6  # share of a context's words that its turn must hold
_TOKENS = 600
_SHARED = 5  # stems that a reason names
_KNOWN_TAGS = 64  # tags of the scope, the most used first, to which new ones snap
_NUMBER = re.compile(r"\d+")
_CAPITAL = re.compile(r"(?<=[a-z,;] )[A-Z]\w+")

Tag = Annotated[str, Field(min_length=1, max_length=40)]


class _Checked(BaseModel):
    context: str = Field(min_length=1, max_length=400, description=f"one sentence, at most {MAX_WORDS} words")

    @field_validator("context", check_fields=False)
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value.split()) > MAX_WORDS:
            raise ValueError(f"use at most {MAX_WORDS} words")
        return " ".join(value.split())


class NoteAnswer(_Checked):
    """Ps1: what a note says of its turn."""

    keywords: list[Tag] = Field(min_length=3, max_length=7)
    tags: list[Tag] = Field(min_length=3, max_length=7)

    @field_validator("tags")
    @classmethod
    def _few_words(cls, value: list[str]) -> list[str]:
        if any(len(tag.split()) > 3 for tag in value):
            raise ValueError("a tag has at most 3 words")
        return value


class LinkAnswer(BaseModel):
    to: int
    type: Literal["same_entity", "same_event", "cause", "follows", "contrasts", "elaborates", "same_topic"]
    why: str = Field(max_length=200)


class EvolutionAnswer(_Checked):
    id: int
    keywords: list[Tag] = Field(min_length=1, max_length=MAX_KEYWORDS)
    tags: list[Tag] = Field(min_length=1, max_length=7)


class ChangesAnswer(BaseModel):
    """Ps2 and Ps3: which candidates the new note belongs with, and which of them it changes."""

    links: list[LinkAnswer] = Field(default_factory=list, max_length=20)
    evolutions: list[EvolutionAnswer] = Field(default_factory=list, max_length=20)


_CONSTRUCT = (
    "You keep the notes of a long conversation. For the message below give: keywords, at least three, the most telling "
    "first, no names of speakers and no times; tags, at least three broad categories of at most three words each "
    "(domain, format, kind of statement); context, one sentence on topic, main points and purpose, only with what the "
    "message itself says."
)
_CONNECT = (
    "You keep a box of linked notes. A new note came in; candidates are numbered. links: candidates that the new note "
    "really belongs with, by number, with the type of the connection and why. evolutions: candidates whose keywords, "
    "tags or context should change because of the new note, with all three in full, in words taken from the notes "
    "themselves; at most three. Leave a list empty if nothing applies."
)


class Prompted:
    """Drafts, links and changes by a chat model. ``counts`` says what was refused; raises ``LLMError``."""

    def __init__(self, llm: ChatModel, embedder: Embedder, counts: Counter[str]) -> None:
        self._llm = llm
        self._embedder = embedder
        self._counts = counts

    @property
    def name(self) -> str:
        return self._llm.name

    def draft(self, turn: MemCube, by_rules: Draft, known_tags: Counter[str]) -> Draft:
        """Ps1. Keywords, tags and context from the model where they are grounded, else those of the rules."""
        said = _shown(turn)
        answer = self._llm.chat(_messages(_CONSTRUCT, said), schema=NoteAnswer, max_tokens=_TOKENS)
        if not _is_about(answer.context, said):
            self._counts["ungrounded"] += 1
            answer = answer.model_copy(update={"context": by_rules.context})
        words = [word for word in answer.keywords if set(terms(word)) & set(terms(said))]
        self._counts["ungrounded"] += len(answer.keywords) - len(words)
        return Draft(
            tuple(dict.fromkeys(words)) or by_rules.keywords,
            tuple(dict.fromkeys(self._snapped(answer.tags, known_tags))),
            answer.context,
            by_rules.slots,
            self.name,
        )

    def connect(
        self, turn: MemCube, draft: Draft, candidates: Sequence[tuple[MemCube, MemCube]], known_tags: Counter[str]
    ) -> tuple[list[Link], list[tuple[str, Change]]]:
        """Ps2 and Ps3 over ``candidates`` (turn, note): links, and changes by id of the candidate's turn."""
        listed = [f"[{n}] {_shown(other)}\n    note: {_noted(note)}" for n, (other, note) in enumerate(candidates)]
        new = f"New note: {_shown(turn)}\n    note: {draft.context} | {', '.join(draft.keywords)}"
        text = "\n".join([new, "Candidates:", *listed])
        answer = self._llm.chat(_messages(_CONNECT, text), schema=ChangesAnswer, max_tokens=2 * _TOKENS)
        known = range(len(candidates))
        self._counts["unknown_ids"] += sum(link.to not in known for link in answer.links)
        self._counts["unknown_ids"] += sum(change.id not in known for change in answer.evolutions)
        links = [
            Link(turn.id, candidates[link.to][0].id, link.type, LINKED, _reason(turn, candidates[link.to][0]))
            for link in answer.links
            if link.to in known
        ]
        asked = {change.id: change for change in answer.evolutions if change.id in known}
        changes: list[tuple[str, Change]] = []
        for number, change in asked.items():
            made = self._change(change, turn, candidates[number], known_tags)
            if made is not None and len(changes) < MAX_EVOLUTIONS:
                changes.append((candidates[number][0].id, made))
        return links, changes

    def _change(
        self, answer: EvolutionAnswer, donor: MemCube, old: tuple[MemCube, MemCube], known_tags: Counter[str]
    ) -> Change | None:
        about, note = old
        if not may_learn(note.header, donor):
            return None
        allowed = {stem for text in (_shown(about), _noted(note), _shown(donor)) for stem in terms(text)}
        if not {*terms(answer.context), *(s for word in answer.keywords for s in terms(word))} <= allowed:
            self._counts["ungrounded"] += 1
            return None
        tags = tuple(dict.fromkeys(self._snapped(answer.tags, known_tags)))
        return Change(tuple(dict.fromkeys(answer.keywords)), tags, answer.context, donor)

    def _snapped(self, tags: Sequence[str], known: Counter[str]) -> list[str]:
        """Each tag, or the known one that means the same."""
        pool = [tag for tag, _ in known.most_common(_KNOWN_TAGS) if tag not in tags]
        if not pool:
            return list(tags)
        vectors = Transient(self._embedder).encode([*tags, *pool])
        near = vectors[: len(tags)] @ vectors[len(tags) :].T
        return [
            tag if tag in known or row.max() < SAME_TAG else pool[int(row.argmax())]
            for tag, row in zip(tags, near, strict=True)
        ]


def _reason(one: MemCube, other: MemCube) -> str:
    """Why two turns are linked, in the stems that both hold: a model's own words may be those of a third turn, and
    would outlive its forgetting."""
    shared = sorted(set(terms(one.text)) & set(terms(other.text)))
    return f"by a model; both mention {', '.join(shared[:_SHARED])}" if shared else "by a model"


def _messages(task: str, text: str) -> list[Message]:
    return [Message(role="system", content=task), Message(role="user", content=text)]


def _shown(turn: MemCube) -> str:
    said = turn.header.utterance
    who = said.speaker if said is not None else "user"
    return f"{who} ({turn.header.recorded:%Y-%m-%d}): {turn.text}"


def _noted(note: MemCube) -> str:
    return f"{note.text} | {', '.join(note.header.keywords)} | {', '.join(note.header.tags)}"


def _is_about(context: str, said: str) -> bool:
    """Every number and name, and most words, are in the turn."""
    held = set(terms(said))
    stems = terms(context)
    exact = [*_NUMBER.findall(context), *(s for name in _CAPITAL.findall(context) for s in terms(name))]
    return all(word in held for word in exact) and sum(s in held for s in stems) >= _SUPPORTED * len(stems)
