"""From a question to memories over edges: the two retrievals of Mem0's graph, and what they add to a ranking.

Entity-centric and by triplet, as in arXiv 2504.19413, section 2.2, joined where they meet: the first edge of a path
touches an entity that the question names, and is either among what hybrid search found (the triplet resembles the
question) or close to the entity (few edges); the second leads on from its other end, the *bridge*, whose name the
question does not know. Edges are scored by their evidence: cosine and words of the fact with the question, and
whether the relation is a word of the question ("mentor", "work"). ``same_as`` costs no step.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Scope
from lamina.store.analysis import STOP_WORDS, terms
from lamina.store.base import Edge, Store
from lamina.store.index import ScopeIndex
from lamina.store.table import NODE, hashed
from lamina.text.base import Hit
from lamina.text.english.slots import stem
from lamina.text.graphs.directory import Directory, Entity
from lamina.text.graphs.identity import CLOSE, SAME_AS, may_blend
from lamina.text.graphs.relations import LIGHT_VERBS

LIMIT = 100  # edges of one node that are looked at (Mem0's released code); a node with more is a hub: no bridge
_ALIKE = 5  # neighbours of a name that are looked at
BRIDGES = 8  # nodes that paths go on from
LEXICAL, RELATION = 0.5, 0.5  # what all words, and the relation's word, are worth beside the cosine; ours

_UNTELLING = LIGHT_VERBS | {"went", "did", "does", "has", "had", "is", "are", "was", "were"}

_RELATIVE = re.compile(r"\w (?:that|who|whom|which|whose|where) (.*)", re.S)  # not the question's own first word
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Way:
    """A path that a question suggests: its edges' evidence in order, how it reads, and how well it fits (sum of both
    edges' scores)."""

    evidence: tuple[str, ...]
    text: str
    fit: float
    described: bool  # the question describes the bridge by the first relation: "Ana's mentor"


class Finder:
    """Ways for one question, as of one time, in one scope."""

    def __init__(
        self,
        store: Store,
        scope: Scope,
        index: ScopeIndex,
        directory: Directory,
        query: str,
        vector: NDArray[np.float32],
        as_of: datetime | None,
    ) -> None:
        self._store, self._scope, self._index = store, scope, index
        self._directory, self._vector, self._as_of = directory, vector, as_of
        self._named = directory.mentioned(query)
        names = {stem(word) for each in self._named for word in each.key.split()}
        asked = {stem(word) for word in _WORD.findall(query.lower()) if word not in STOP_WORDS | _UNTELLING}
        self._asked = asked - names
        self._through = _described(query, self._named) & self._asked
        self._terms = list(dict.fromkeys(terms(query)))

    def ways(self, hits: Sequence[Hit]) -> list[Way]:
        """Two-step ways from what the question names, the best first; none if it names no entity."""
        starts = self._starts()
        if not starts:
            return []
        first = self._first(starts, hits)
        fits = self._fits(first)
        order = sorted(first, key=lambda edge: -fits[edge])
        bridges: dict[str, Edge] = {}  # node -> the best edge that leads to it
        for edge in order:
            bridges.setdefault(edge.target if edge.source in starts else edge.source, edge)
        best = dict(list(bridges.items())[:BRIDGES])
        return self._second(starts, best, fits) if best else []

    # -- steps -----------------------------------------------------------------------------------

    def _starts(self) -> set[str]:
        return self._same([each.id for each in self._named] + self._spelled_alike()) if self._named else set()

    def _spelled_alike(self) -> list[str]:
        """Things, places and organisations whose names mean nearly the same: "LGBTQ centre", "LGBTQ center"."""
        found = []
        for each in self._named:
            vector = self._store.vector(each.id)
            if vector is None:
                continue
            with self._index.lock:
                table = self._index.table
                rows, cosines = self._index.vectors.search(vector, _ALIKE, table["alive"] & (table["kind"] == NODE))
                keys = table["key"][rows].tolist()
            near = [
                self._directory.at(key) for key, cosine in zip(keys, cosines.tolist(), strict=True) if cosine >= CLOSE
            ]
            found += [e.id for e in near if e and e.type == each.type and may_blend(each.key, e.key, e.type)]
        return found

    def _same(self, ids: Iterable[str]) -> set[str]:
        """``ids`` and what bears the same name in short or in full."""
        known = set(ids)
        edges = self._edges(sorted(known), [SAME_AS])
        return known | {id for edge in edges for id in (edge.source, edge.target)}

    def _first(self, starts: set[str], hits: Sequence[Hit]) -> list[Edge]:
        """Edges from ``starts`` to elsewhere: those that hits are evidence of, and all of nodes that are no hubs."""
        facts = {cube.id for hit in hits for cube in (hit.cube, *hit.facts) if cube.header.utterance is None}
        found = {_identity(edge): edge for edge in self._edges(sorted(facts)) if edge.evidence in facts}
        around = self._edges(sorted(starts - self._directory.hubs))
        hubs = self._note_hubs(starts, around)
        found |= {_identity(edge): edge for edge in around if not {edge.source, edge.target} & starts <= hubs}
        return [e for e in found.values() if e.relation != SAME_AS and (e.source in starts) != (e.target in starts)]

    def _note_hubs(self, ids: Iterable[str], edges: Sequence[Edge]) -> set[str]:
        """Which of ``ids`` have too many of ``edges``; remembered, so that they are not read again."""
        degree = Counter(id for edge in edges for id in (edge.source, edge.target))
        hubs = {id for id in ids if degree[id] > LIMIT}
        self._directory.hubs.update(hubs)
        return hubs

    def _second(self, starts: set[str], bridges: Mapping[str, Edge], fits: Mapping[Edge, float]) -> list[Way]:
        owner = {id: bridge for bridge in bridges for id in self._same([bridge]) if id not in starts}
        around = self._edges(sorted(set(owner) - self._directory.hubs))
        hubs = self._note_hubs(owner, around)
        used = {edge.evidence for edge in bridges.values()}
        leading = [
            (owner[here], edge)
            for edge in around
            for here, there in ((edge.source, edge.target), (edge.target, edge.source))
            if here in owner and here not in hubs and there not in starts and there not in owner
            if edge.relation != SAME_AS and edge.evidence not in used
        ]  # fmt: skip
        scores = self._fits([edge for _, edge in leading])
        ways = [
            Way(
                evidence=(str(bridges[bridge].evidence), str(edge.evidence)),
                text=f"{self._read(bridges[bridge])}, {self._read(edge)}",
                fit=fits[bridges[bridge]] + scores[edge],
                described=_uses(bridges[bridge], self._through),
            )
            for bridge, edge in leading
        ]
        return sorted(ways, key=lambda way: (-way.fit, way.text))

    # -- scores ----------------------------------------------------------------------------------

    def _fits(self, edges: Sequence[Edge]) -> dict[Edge, float]:
        """Cosine and words of the evidence, and the relation's word, for each edge."""
        index = self._index
        with index.lock:
            rows = [index.table.newest(hashed(edge.evidence or "")) for edge in edges]
            present = np.asarray([row for row in rows if row is not None], np.int64)
            cosines = index.vectors.similarities(self._vector, present).astype(np.float64)
            words = index.words.score(index.words.known(self._terms), present, index.neighbours.array)
        words = words / best if (best := float(words.max(initial=0.0))) > 0 else words
        values = iter((cosines + LEXICAL * words).tolist())
        return {
            edge: (next(values) if row is not None else 0.0) + RELATION * _uses(edge, self._asked)
            for edge, row in zip(edges, rows, strict=True)
        }

    # -- reading ---------------------------------------------------------------------------------

    def _edges(self, ids: Sequence[str], relations: Sequence[str] | None = None) -> list[Edge]:
        """Edges of facts: those without evidence lead to nothing that can be shown."""
        found = self._store.edges(self._scope, ids, relations=relations, as_of=self._as_of) if ids else []
        return [edge for edge in found if edge.evidence is not None]

    def _read(self, edge: Edge) -> str:
        source, target = (self._directory.get(id) for id in (edge.source, edge.target))
        return f"{_name(source)} {edge.relation} {_name(target)}"


def _uses(edge: Edge, stems: set[str]) -> bool:
    """Whether a word of the edge's relation is among ``stems``."""
    return any(stem(word) in stems for word in edge.relation.split("_"))


def _described(query: str, named: Sequence[Entity]) -> set[str]:
    """Stems of the words that say who or what is meant through a name: "Ana's new mentor", "the mentor of Ana", "the
    firm that hired Ana". In "What has Ana read?" there are none: what she read is the answer, not the way to it."""
    names = "|".join(sorted({re.escape(word) for each in named for word in each.key.split()}))
    found = re.findall(rf"\b(?:{names})['’]s? ((?:\w+ ){{0,2}}\w+)", query, re.I)
    found += re.findall(rf"\b(\w+) (?:of|to|for) (?:{names})\b", query, re.I)
    if (m := _RELATIVE.search(query)) is not None and re.search(rf"\b(?:{names})\b", m[1], re.I):
        found.append(m[1])
    return {stem(word) for words in found for word in _WORD.findall(words.lower())}


def _name(entity: Entity | None) -> str:
    return entity.name if entity is not None else "?"


def _identity(edge: Edge) -> tuple[str, str, str, str | None]:
    return edge.source, edge.target, edge.relation, edge.evidence
