"""When a question needs links, and what following them finds.

Links cost recall where they are not needed: of the k results some are given to neighbours. So ``expand="auto"``
follows them only for a question that asks about something through something else, or whose best answer is weak.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lamina.store.base import Edge
from lamina.text.base import Hit
from lamina.text.english.lexicon import OCCUPATIONS, RELATIONS
from lamina.text.notes.linking import RELATIONS as KINDS

Expand = Literal["auto"] | bool

WEAK = 0.25  # cosine of the best answer, below which the question resembles nothing that is stored
_POSSESSED = re.compile(r"(?:\w['’]s|\w+s['’]|\b[Mm]y|\b[Oo]ur)\s+((?:\w+\s+){0,2}?)(\w+)(?=\s+\w)")
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
    """Whether ``query`` asks about something through something else: "Where does Ann's mentor work?".

    Two names joined by "and" count unless they are the ``speakers`` of the scope, whom dialogue questions name anyway.
    """
    if _CHAIN.search(query) or _RELATIVE.search(query) or _RELATED.search(query):
        return True
    if any(match[2].lower() in RELATIONS | OCCUPATIONS for match in _POSSESSED.finditer(query)):
        return True
    spoken = {word.casefold() for name in speakers for word in name.split()}
    pairs = [{word.casefold() for word in pair.split() if word != "and"} for pair in _PAIR.findall(query)]
    return any(not pair <= spoken for pair in pairs)


def is_weak(hits: Sequence[Hit]) -> bool:
    """Whether nothing resembles the question and nothing shares a rare word with it."""
    return not hits or max(hit.cosine for hit in hits) < WEAK


def steps(heads: Mapping[str, float], edges: Sequence[Edge]) -> list[Step]:
    """What ``edges`` lead to from ``heads`` (turn id -> score), best first; each turn once, heads left out."""
    best: dict[str, Step] = {}
    for edge in edges:
        for origin, turn in ((edge.source, edge.target), (edge.target, edge.source)):
            if edge.relation not in KINDS or origin not in heads or turn in heads:
                continue
            step = Step(turn, heads[origin] * edge.weight, origin, edge)
            if turn not in best or best[turn].score < step.score:
                best[turn] = step
    return sorted(best.values(), key=lambda step: (-step.score, step.turn))
