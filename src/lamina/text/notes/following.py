"""When a question needs links, and what following them finds.

Links cost recall where they are not needed: of the k results some are given to neighbours. So ``expand="auto"``
follows them only for a question that asks about something through something else, or whose best answer is weak. "Ann's
mentor" is such a question if a note says of Ann's "mentor" who that is, whatever the noun: then the links of that note
are followed, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from lamina.store.base import Edge
from lamina.text.base import Hit
from lamina.text.description import described
from lamina.text.english.slots import stem, stems
from lamina.text.notes.linking import RELATIONS as KINDS
from lamina.text.notes.ranking import turn_of
from lamina.text.notes.register import Keys

Expand = Literal["auto"] | bool

WEAK = 0.25  # cosine of the best answer, below which the question resembles nothing that is stored
_CHAIN = re.compile(r"\w['’]s\s+(?:\w+\s+)?\w+['’]s\b")
_PAIR = re.compile(r"[A-Z][\w’-]+(?: [A-Z][\w’-]+)* and [A-Z][\w’-]+(?: [A-Z][\w’-]+)*")
_RELATIVE = re.compile(r"\b(?:who|which|what|where)\b.*\b(?:that|whose|who|whom)\b", re.I)
_RELATED = re.compile(r"\b(?:related|connected|linked) (?:to|with)\b|\bin common\b", re.I)


@dataclass(frozen=True, slots=True)
class Step:
    """A turn that a link leads to: the score it gets, from which result, over which link."""

    turn: str
    score: float
    origin: str
    edge: Edge


def is_relational(query: str, speakers: Sequence[str] = ()) -> bool:
    """Whether ``query`` asks about something through something else by its form alone: "the firm that hired Ann".

    Two names joined by "and" count unless they are the ``speakers`` of the scope, whom dialogue questions name anyway.
    """
    if _CHAIN.search(query) or _RELATIVE.search(query) or _RELATED.search(query):
        return True
    spoken = {word.casefold() for name in speakers for word in name.split()}
    pairs = [{word.casefold() for word in pair.split() if word != "and"} for pair in _PAIR.findall(query)]
    return any(not pair <= spoken for pair in pairs)


def origins(query: str, heads: Sequence[Hit], speakers: Sequence[str] = ()) -> set[str]:
    """Turns among ``heads`` that say who is meant in ``query`` by "Ann's mentor": they tell of Ann, use the word, and
    name somebody whom the question does not name and who is none of the ``speakers``."""
    wanted = described(query)
    if not wanted:
        return set()
    known = {stem(word.casefold()) for name in speakers for word in name.split()} | stems(query)
    told = [(turn_of(hit), _text(hit)) for hit in heads]
    bridging = {id: stems(text) for id, text in told if any(not set(n.split()) <= known for n in Keys.of(text).names)}
    found: set[str] = set()
    for each in wanted:
        about = {id: said for id, said in bridging.items() if each.owner is None or each.owner in said}
        uses = ({id for id, said in about.items() if word in said} for word in each.words)
        found |= next(filter(None, uses), set())
    return found


def _text(hit: Hit) -> str:
    """What was said, and by whom."""
    cube = hit.source or hit.cube
    return f"{cube.header.utterance.speaker}: {cube.text}" if cube.header.utterance is not None else cube.text


def is_weak(hits: Sequence[Hit]) -> bool:
    """Whether nothing resembles the question and nothing shares a rare word with it."""
    return not hits or max(hit.cosine for hit in hits) < WEAK


def steps(heads: Mapping[str, float], edges: Sequence[Edge], follow: Set[str] | None = None) -> list[Step]:
    """What ``edges`` lead to from ``heads`` (turn id -> score), best first; each turn once, heads left out.

    From all of them, or those in ``follow``."""
    best: dict[str, Step] = {}
    for edge in edges:
        for origin, turn in ((edge.source, edge.target), (edge.target, edge.source)):
            if edge.relation not in KINDS or origin not in (heads if follow is None else follow) or turn in heads:
                continue
            step = Step(turn, heads[origin] * edge.weight, origin, edge)
            if turn not in best or best[turn].score < step.score:
                best[turn] = step
    return sorted(best.values(), key=lambda step: (-step.score, step.turn))
