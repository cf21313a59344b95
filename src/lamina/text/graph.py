"""Mem0's graph memory: what facts say about whom, as entities and relations, and a search that follows them.

Mem0, arXiv 2504.19413, section 2.2 (Mem0g): every fact gives triplets, their ends become nodes, relations that no
longer hold are invalidated, never deleted; a question is answered from the nodes it names and from the triplets that
resemble it. Here the graph lives in the store itself: a node is a memory of type ``entity``, a relation an ``Edge``
whose evidence is the fact that says so. Hence nothing has to be kept in step: a fact that is superseded closes its
edges, by the time of the world also when news comes late; one that is forgotten takes them along, and an entity
that loses its last edge goes too.

Without a language model triplets come from the rules' facts (``graphs.relations``); with one from three calls a turn
(``graphs.prompted``). Names, not embeddings, decide which node is meant (``graphs.identity``).

``GraphRetriever`` is what a vector cannot do: "Where does Ana's mentor work?" shares no word with "Bob Smith joined
Acme" until somebody goes from Ana to Bob.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.errors import NotFound
from lamina.llm.base import ChatModel, Embedder
from lamina.store.analysis import terms
from lamina.store.base import Edge, Store, Transaction
from lamina.store.index import IndexCache
from lamina.store.lexical import LexicalIndex
from lamina.text import checks
from lamina.text.arguments import clean_text, positive
from lamina.text.base import Connect, Hit, Outcome
from lamina.text.english.entities import entities
from lamina.text.graphs import prompted
from lamina.text.graphs.directory import ENTITY, Directories, Entity, entity_of
from lamina.text.graphs.paths import Finder, Way
from lamina.text.graphs.writing import GraphWriter
from lamina.text.retrieval import HybridRetriever
from lamina.text.transient import Transient

MAX_HOPS, MAX_REACHED = 2, 10_000
SHARE = 5  # one hit in five may come by the graph
_CONSIDERED = 8  # ways that are looked at for them


class Mem0Graph:
    """The ``Connector``: nodes and edges for every fact that is written. Thread-safe."""

    name = "mem0-graph"

    def __init__(
        self,
        store: Store,
        embedder: Embedder | None = None,
        llm: ChatModel | None = None,
        directories: Directories | None = None,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._llm = llm
        self._directories = directories or Directories()

    def prepare(self, scope: Scope, turns: Sequence[MemCube], vectors: NDArray[np.float32]) -> Connect:  # noqa: ARG002
        """Embed the names that are new, ask the model if there is one; the writing itself needs neither."""
        known = self._name_vectors(scope, turns)
        said: dict[str, prompted.Reading] = {}
        if self._llm is not None:
            said = prompted.read_all(self._llm, self._store, self._directories, scope, turns)

        def connect(tx: Transaction, outcomes: Sequence[Outcome]) -> None:
            with self._directories.use(self._store, scope) as directory:
                GraphWriter(tx, scope, directory, known, said).write(outcomes)

        return connect

    def mend(self, scope: Scope) -> None:
        """Nothing to do: edges close, open and go with their evidence in the store itself.

        A node keeps the spelling it was first written in ("ZORBAX"), as long as any evidence of that name is left in
        another ("Zorbax"), also if the turn that brought the spelling is forgotten: to rename it would keep the old
        version in history. Case, accents' code points, articles and the aliases of ``identity.key`` can survive so, no
        other word; to be rid of them forget the node itself by its id.
        """

    def _name_vectors(self, scope: Scope, turns: Sequence[MemCube]) -> dict[str, NDArray[np.float32]]:
        """Vectors of names in ``turns`` that are no entity yet."""
        if self._embedder is None:
            return {}
        names = dict.fromkeys(name for turn in turns for name in entities(turn.text))
        with self._directories.use(self._store, scope) as directory:
            fresh = [name for name in names if not directory.named(name, scope)]
        return dict(zip(fresh, Transient(self._embedder).encode(fresh), strict=True)) if fresh else {}


class GraphRetriever:
    """The ``Retriever``: hybrid search whose last places go to what the graph reaches and the words do not.

    At most one in ``SHARE`` of the ``k`` hits is exchanged, each for the evidence of an edge two steps from an entity
    that the question names; so a search returns as many hits as without a graph. Only a question that describes
    somebody through somebody else ("Ana's mentor", "the firm that hired Ana") is answered that way: to any other the
    answer is one step away, and hybrid search has it. Such a hit comes right after the
    memory that leads to it, with a part that tells the path: ``graph: Ana mentor Bob, Bob works_at Acme``.
    """

    name = "graph"

    def __init__(
        self, indexes: IndexCache, embedder: Embedder | None = None, directories: Directories | None = None
    ) -> None:
        self._indexes = indexes
        self._hybrid = HybridRetriever(indexes, embedder)
        self._directories = directories or Directories()

    def search(
        self,
        query: str,
        vector: NDArray[np.float32],
        store: Store,
        scope: Scope,
        *,
        k: int,
        allow: NDArray[np.int64] | None = None,
        as_of: datetime | None = None,
        reference: datetime | None = None,
    ) -> list[Hit]:
        """The ``k`` best groups. See ``Retriever.search``."""
        asked = partial(self._hybrid.search, query, vector, store, scope, as_of=as_of, reference=reference)
        found = asked(k=k, allow=allow)
        with self._directories.use(store, scope) as directory:
            index = self._indexes.get(store, scope)
            ways = Finder(store, scope, index, directory, query, vector, as_of).ways(found)
        ways = [way for way in ways if way.described]
        return self._exchange(found, ways, asked, store, scope, k, allow) if ways else found

    def _exchange(
        self,
        found: list[Hit],
        ways: Sequence[Way],
        asked: Callable[..., list[Hit]],
        store: Store,
        scope: Scope,
        k: int,
        allow: NDArray[np.int64] | None,
    ) -> list[Hit]:
        """Put the evidence of the best ways in, where it is not found already, for the last hits that lead nowhere."""
        present = {cube.id for hit in found for cube in _members(hit)}
        leads = {way.evidence[0] for way in ways[:_CONSIDERED]}
        added: list[tuple[Way, Hit]] = []
        for way in ways[:_CONSIDERED]:
            if len(added) == k // SHARE or way.evidence[-1] in present:
                continue
            keys = self._keys(store, scope, way.evidence[-1])
            hits = asked(k=1, allow=keys if allow is None else np.intersect1d(keys, allow))
            if hits and not present & {cube.id for cube in _members(hits[0])}:
                added.append((way, hits[0]))
                present |= {cube.id for cube in _members(hits[0])}
        spare = [hit for hit in reversed(found) if not leads & {cube.id for cube in _members(hit)}]
        over = max(0, len(found) + len(added) - k)
        dropped = {id(hit) for hit in spare[:over]}
        kept = [hit for hit in found if id(hit) not in dropped]
        return _placed(kept, added)[:k]

    def _keys(self, store: Store, scope: Scope, id: str) -> NDArray[np.int64]:
        """Keys of a fact and of the turns it is from."""
        fact = store.get(id)
        sources = [source.id for source in fact.header.provenance.sources] if fact is not None else []
        return store.keys(scope, {"id": {"in": [id, *sources]}})


@dataclass(frozen=True, slots=True)
class Relation:
    """An edge with the entities at its ends."""

    source: Entity
    target: Entity
    edge: Edge

    @property
    def text(self) -> str:
        """The triplet as one reads it: ``Ana works_at Acme``."""
        return f"{self.source.name} {self.edge.relation} {self.target.name}"


class Graph:
    """The graph of a scope, for people and programs to read. Times are those of ``Store.edges``."""

    def __init__(self, store: Store, directories: Directories | None = None) -> None:
        self._store = store
        self._directories = directories or Directories()

    def entities(self, scope: Scope) -> list[Entity]:
        """Every open entity, in the order of their names."""
        checks.scope(scope)
        with self._directories.use(self._store, scope) as directory:
            known = list(directory)
        return sorted(known, key=lambda entity: (entity.key, entity.id))

    def relations(self, scope: Scope, *, as_of: datetime | None = None, closed: bool = False) -> list[Relation]:
        """Relations open now or at ``as_of``, oldest first; ``closed=True``: those that ended too."""
        checks.scope(scope), checks.flag("closed", closed)
        if as_of is not None:
            checks.zoned("as_of", as_of)
        return self._resolved(scope, self._store.edges(scope, as_of=as_of, closed=closed))

    def neighbourhood(
        self, scope: Scope, name: str, *, hops: int = 1, as_of: datetime | None = None, limit: int = 100
    ) -> tuple[list[Entity], list[Relation]]:
        """Who bears ``name``, what at most ``limit`` nearest entities edges lead to, and the relations among these.

        A short name that stands for one long one is that. Raises ``NotFound`` for an unknown name, ``InvalidInput`` for
        hops other than 1 and 2: a third step reaches most of a person's memory and explains nothing.
        """
        checks.scope(scope), positive("hops", hops, MAX_HOPS), positive("limit", limit, MAX_REACHED)
        name = clean_text("name", name)
        if as_of is not None:
            checks.zoned("as_of", as_of)
        with self._directories.use(self._store, scope) as directory:
            named = directory.named(name) or directory.mentioned(name.title())
        if not named:
            raise NotFound(f"name={name!r:.60}: no such entity. List them with entities(scope), or lamina graph.")
        starts = [entity.id for entity in named]
        reached = self._store.reach(scope, starts, hops=hops, as_of=as_of, limit=limit)
        inside = {*starts, *(each.id for each in reached)}
        edges = [
            edge
            for edge in self._store.edges(scope, sorted(inside), as_of=as_of)
            if edge.source in inside and edge.target in inside
        ]
        relations = self._resolved(scope, edges)
        found = {entity.id: entity for entity in named}
        found |= {end.id: end for each in relations for end in (each.source, each.target)}
        return list(found.values()), relations

    def triplets(self, scope: Scope, query: str, *, limit: int = 5, as_of: datetime | None = None) -> list[Relation]:
        """The relations whose words resemble ``query`` most, by BM25 over triplets (Mem0's released reranking)."""
        query = clean_text("query", query)
        positive("limit", limit, MAX_REACHED)
        relations = self.relations(scope, as_of=as_of)
        words, rows = LexicalIndex(), np.arange(len(relations))
        alone = np.full((len(relations), 4), -1, np.int32)  # a triplet stands in no dialogue
        words.extend([terms(each.text.replace("_", " ")) for each in relations])
        words.refresh(rows, alone)
        scores = words.score(words.known(tuple(dict.fromkeys(terms(query)))), rows, alone)
        best = np.argsort(-scores, kind="stable")[:limit]
        return [relations[row] for row in best.tolist() if scores[row] > 0]

    def _resolved(self, scope: Scope, edges: Sequence[Edge]) -> list[Relation]:
        """Edges between entities; edges between other memories (links, notes) are no relations."""
        with self._directories.use(self._store, scope) as directory:
            known: dict[str, Entity | None] = {}
            for id in {id for edge in edges for id in (edge.source, edge.target)}:
                known[id] = directory.get(id) or self._ended(id)
        return [
            Relation(source, target, edge)
            for edge in edges
            if (source := known[edge.source]) is not None and (target := known[edge.target]) is not None
        ]

    def _ended(self, id: str) -> Entity | None:
        """An entity that was deleted since: it is still in the past."""
        cube = self._store.get(id)
        return entity_of(cube) if cube is not None and cube.header.semantic_type == ENTITY else None


def _members(hit: Hit) -> list[MemCube]:
    return [cube for cube in (hit.cube, hit.source, *hit.facts) if cube is not None]


def _placed(kept: list[Hit], added: Sequence[tuple[Way, Hit]]) -> list[Hit]:
    """Each added hit right after the one that its way starts from, else at the end, with the score of that place."""
    ranking = list(kept)
    for way, hit in reversed(added):
        led = [n for n, each in enumerate(ranking) if way.evidence[0] in {cube.id for cube in _members(each)}]
        at = led[0] + 1 if led else len(ranking)
        score = ranking[at - 1].score if ranking else hit.score
        parts = {**hit.parts, f"graph: {way.text}": score - sum(hit.parts.values())}
        ranking.insert(at, replace(hit, score=score, parts=parts))
    return ranking
