"""From a question to memories over edges: the two retrievals of Mem0's graph, and what they add to a ranking.

Entity-centric and by triplet, as in arXiv 2504.19413, section 2.2, joined where they meet: the first edge of a path
touches an entity that the question names, and is either among what hybrid search found (the triplet resembles the
question) or close to the entity (few edges); the second leads on from its other end, the *bridge*, whose name the
question does not know. Edges are scored by their evidence: cosine and words of the fact with the question, and
whether the relation is a word of the question ("mentor", "work"). ``same_as`` costs no step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
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
from lamina.text.description import described, owners
from lamina.text.english.slots import stem, stems
from lamina.text.graphs.directory import Directory, Entity
from lamina.text.graphs.identity import CLOSE, SAME_AS, key, may_blend
from lamina.text.graphs.relations import LIGHT_VERBS

LIMIT = 100  # edges of one node that are looked at (Mem0's released code); a node with more is a hub: no bridge
_ALIKE = 5  # neighbours of a name that are looked at
_READ = 32  # first edges whose evidence is read, the likeliest
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
        with index.lock:
            self._speakers = {key(name) for name in index.table.speakers}
        self._wanted = described(query)
        self._named = self._meant(query)
        names = {stem(word) for each in self._named for word in each.key.split()}
        asked = {stem(word) for word in _WORD.findall(query.lower()) if word not in STOP_WORDS | _UNTELLING}
        self._asked = asked - names
        self._relative = _relative(query, self._named) & self._asked
        self._terms = list(dict.fromkeys(terms(query)))

    def ways(self, hits: Sequence[Hit]) -> list[Way]:
        """Two-step ways from what the question names, the best first; none if it names no entity."""
        starts = self._starts()
        if not starts:
            return []
        first = self._first(starts, hits)
        fits = self._fits(first)
        through = self._through(sorted(first, key=lambda edge: -fits[edge]))
        fits |= {edge: fits[edge] + RELATION for edge in through if not _uses(edge, self._asked)}
        order = sorted(first, key=lambda edge: -fits[edge])
        bridges: dict[str, Edge] = {}  # node -> the best edge that leads to it
        for edge in order:
            bridges.setdefault(edge.target if edge.source in starts else edge.source, edge)
        best = dict(list(bridges.items())[:BRIDGES])
        return self._second(starts, best, fits, through) if best else []

    def _meant(self, query: str) -> list[Entity]:
        """Who the question names, in lower case too before "'s", and by "my" who asks."""
        found = self._directory.mentioned(query)
        found += [each for owner in owners(query) for each in self._directory.named(owner)]
        if any(each.owner is None for each in self._wanted):
            found += self._asker()
        return list(dict.fromkeys(found))

    def _asker(self) -> list[Entity]:
        """The node of whoever the memory is of: "User", else the only speaker beside the assistant."""
        speakers = self._speakers - {"assistant", ""}
        own = {"user"} & speakers or speakers
        return self._directory.named(next(iter(own))) if len(own) == 1 else []

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
        known |= {id for edge in edges for id in (edge.source, edge.target)}
        bearers = [entity for id in sorted(known) if (entity := self._directory.get(id)) is not None]
        return known | {each.id for entity in bearers for each in self._directory.alike(entity)}

    def _first(self, starts: set[str], hits: Sequence[Hit]) -> list[Edge]:
        """Edges from ``starts`` to elsewhere: those that hits are evidence of, and all of nodes that are no hubs."""
        facts = {cube.id for hit in hits for cube in (hit.cube, *hit.facts) if cube.header.utterance is None}
        found = {_identity(edge): edge for edge in self._edges(sorted(facts)) if edge.evidence in facts}
        hubs = self._hubs(starts)
        around = self._edges(sorted(starts - hubs))
        found |= {_identity(edge): edge for edge in around if not {edge.source, edge.target} & starts <= hubs}
        return [e for e in found.values() if e.relation != SAME_AS and (e.source in starts) != (e.target in starts)]

    def _hubs(self, ids: Iterable[str]) -> set[str]:
        """Which of ``ids`` lead to more than ``LIMIT`` others: counted no further, and remembered."""
        known = self._directory.hubs
        for id in sorted(set(ids) - known):
            if len(self._store.reach(self._scope, [id], hops=1, as_of=self._as_of, limit=LIMIT + 1)) > LIMIT:
                known.add(id)
        return set(ids) & known

    def _through(self, edges: Sequence[Edge]) -> set[Edge]:
        """Those by which the question describes somebody: "mentor" is their relation or said by their evidence.

        Of the words that may be the noun, the first that any edge uses is meant. Evidence joins its speaker to all it
        names ("I ran into Ana and her mentor Bob"), which says nothing of the speaker: there the relation must.
        """
        said = {edge: self._said(edge) for edge in edges[:_READ]} if self._wanted or self._relative else {}
        found = {edge for edge in said if _uses(edge, self._relative)}
        for each in self._wanted:
            found |= next(filter(None, (self._using(word, said) for word in each.words)), set())
        return found

    def _using(self, word: str, said: Mapping[Edge, Set[str]]) -> set[Edge]:
        related = {edge for edge in said if _uses(edge, {word})}
        return related or {edge for edge in said if word in said[edge] and not self._speaks(edge)}

    def _speaks(self, edge: Edge) -> bool:
        """Whether an end of the edge is a speaker that the question does not name."""
        ends = (self._directory.get(id) for id in (edge.source, edge.target))
        return any(end is not None and end not in self._named and end.key in self._speakers for end in ends)

    def _said(self, edge: Edge) -> frozenset[str]:
        fact = self._store.get(edge.evidence) if edge.evidence is not None else None
        return stems(f"{edge.relation.replace('_', ' ')} {fact.text if fact is not None else ''}")

    def _second(
        self, starts: set[str], bridges: Mapping[str, Edge], fits: Mapping[Edge, float], through: Set[Edge]
    ) -> list[Way]:
        owner = {id: bridge for bridge in bridges for id in self._same([bridge]) if id not in starts}
        hubs = self._hubs(owner)
        around = self._edges(sorted(set(owner) - hubs))
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
                described=bridges[bridge] in through,
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


def _relative(query: str, named: Sequence[Entity]) -> set[str]:
    """Stems of a relative clause that says what is meant through a name: "the firm that hired Ana". In "What has Ana
    read?" there are none: what she read is the answer, not the way to it."""
    names = "|".join(sorted({re.escape(word) for each in named for word in each.key.split()}))
    m = _RELATIVE.search(query)
    return set(stems(m[1])) if m is not None and re.search(rf"\b(?:{names})\b", m[1], re.I) else set()


def _name(entity: Entity | None) -> str:
    return entity.name if entity is not None else "?"


def _identity(edge: Edge) -> tuple[str, str, str, str | None]:
    return edge.source, edge.target, edge.relation, edge.evidence
