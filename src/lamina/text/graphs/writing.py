"""Writes nodes and edges for the facts of one call, inside the transaction that stores those facts.

Edges follow their evidence: the store closes them when the fact is superseded or ended, and forgets them with it.
What is left to do here is to find or make the nodes, to connect them with the fact's own times, and to keep
``same_as``, which joins a short name to the only longer one it can stand for, true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.store.base import Edge, Transaction, Vector, Write
from lamina.text.base import Outcome
from lamina.text.graphs.directory import ENTITY, Directory, Entity, choose, entity_of
from lamina.text.graphs.identity import ORGANISATION, PERSON, SAME_AS, UNKNOWN, Name, parts
from lamina.text.graphs.prompted import Reading
from lamina.text.graphs.relations import Triplet, triplets

_WRITTEN = ("ADD", "UPDATE")


class GraphWriter:
    """The graph's part of one transaction in one scope; sees what is committed and what it has written itself."""

    def __init__(
        self,
        tx: Transaction,
        scope: Scope,
        directory: Directory,
        vectors: Mapping[str, Vector],
        readings: Mapping[str, Reading],
    ) -> None:
        self._tx = tx
        self._scope = scope
        self._known = directory
        self._new = Directory(scope)  # apart, so that nothing stays of a transaction that fails
        self._vectors = vectors
        self._readings = readings

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Connect what the new and changed facts among ``outcomes`` say."""
        facts: dict[str, list[MemCube]] = {}  # turn -> facts that were taken from it
        turns = {}
        for outcome in outcomes:
            cube = outcome.cube
            if cube.header.utterance is not None:
                turns[cube.id] = cube
            elif outcome.event in _WRITTEN and cube.header.provenance.sources:
                turn = cube.header.provenance.sources[-1].id
                facts.setdefault(turn, []).append(cube)
                if turn not in self._readings:
                    self._rewrite(outcome, triplets(cube))
        for id, reading in self._readings.items():
            if id in turns:
                self._read(turns[id], reading, facts.get(id, []))

    # -- facts -----------------------------------------------------------------------------------

    def _rewrite(self, outcome: Outcome, found: Sequence[Triplet]) -> None:
        """The edges of one fact. A fuller version of the same fact keeps those that still stand."""
        cube = outcome.cube
        edges = [edge for each in found if (edge := self._edge(each, cube)) is not None]
        if outcome.previous is not None and outcome.previous.id == cube.id:
            open_now = [edge for edge in self._tx.edges([cube.id]) if edge.evidence == cube.id]
            wanted, present = {_ends(edge) for edge in edges}, {_ends(edge) for edge in open_now}
            for source, target, relation in sorted(present - wanted):
                if relation != SAME_AS:
                    self._tx.disconnect(source, target, relation, at=cube.header.recorded)
            edges = [edge for edge in edges if _ends(edge) not in present]
        if edges:
            self._tx.connect(edges)

    def _edge(self, triplet: Triplet, evidence: MemCube) -> Edge | None:
        source, target = self._node(self._actor(triplet.source), evidence), self._node(triplet.target, evidence)
        if source.id == target.id:
            return None
        header = evidence.header
        return Edge(
            source=source.id,
            target=target.id,
            relation=triplet.relation,
            weight=triplet.weight,
            evidence=evidence.id,
            recorded=header.recorded,
            superseded=header.superseded,  # news from the past comes closed
            valid_from=header.valid_from,
            valid_to=None if header.semantic_type in ("event", "turn") else header.valid_to,  # what happened stays so
        )

    # -- what a model read -----------------------------------------------------------------------

    def _read(self, turn: MemCube, reading: Reading, facts: Sequence[MemCube]) -> None:
        """Its triplets, each on the fact that says so, else on the turn; contradicted edges end, by time."""
        for triplet in reading.triplets:
            evidence = _says(triplet, facts) or turn
            edge = self._edge(triplet, evidence)
            if edge is None:
                continue
            rivals = [old for old in reading.contradicted if _rivals(old, edge)]
            newer = next((old for old in rivals if _since(old) > _since(edge)), None)
            if newer is not None:  # told late: it had ended before it was told
                edge = replace(edge, superseded=max(newer.recorded, edge.recorded), valid_to=_since(newer))
            self._tx.connect([edge])
            for old in rivals:
                if newer is None:
                    self._tx.disconnect(old.source, old.target, old.relation, at=edge.recorded, valid_to=_since(edge))

    # -- nodes -----------------------------------------------------------------------------------

    def _named(self, name: str) -> list[Entity]:
        fresh = {each.id: each for each in self._new.named(name, self._scope)}
        return [fresh.pop(e.id, e) for e in self._known.named(name, self._scope)] + list(fresh.values())

    def _longer(self, name: str, type: str) -> list[Entity]:
        found = [*self._known.longer(name, type, self._scope), *self._new.longer(name, type, self._scope)]
        return list({each.id: each for each in found}.values())

    def _actor(self, name: Name) -> Name:
        """Who acts under a bare surname is the one person of that name, if there is one."""
        unclear = name.type == UNKNOWN and not self._named(name.text)
        return Name(name.text, PERSON) if unclear and len(self._longer(name.text, PERSON)) == 1 else name

    def _node(self, name: Name, evidence: MemCube) -> Entity:
        """The entity that bears ``name``: a known one of a fitting type, or a new one."""
        found = choose(self._named(name.text), name.type)
        if found is None:
            header = evidence.header
            cube = MemCube(
                Header(
                    semantic_type=ENTITY,
                    scope=self._scope,
                    created=header.recorded,
                    recorded=header.recorded,
                    tags=(name.type,),
                    trust=header.trust,
                ),
                TextPayload(name.text),
            )
            self._tx.insert([Write(cube, self._vectors.get(name.text), actor="graph", reason="named by a fact")])
            return self._introduce(entity_of(cube), evidence)
        if found.type == UNKNOWN != name.type:
            old = self._tx.newest(found.id)
            assert old is not None
            header = replace(old.header, version=old.header.version + 1, tags=(name.type,))
            vector = self._vectors.get(name.text)
            write = Write(MemCube(header, old.payload), vector, actor="graph", action="update", reason="its type")
            self._tx.revise(write, expect=old.header.version)
            return self._introduce(replace(found, type=name.type), evidence)
        return found

    def _introduce(self, entity: Entity, evidence: MemCube) -> Entity:
        """A name has come up, or what bears it has become clear: which short name can stand for which long one?"""
        self._new.add(entity)
        if entity.type not in (PERSON, ORGANISATION):
            return entity
        longer = self._longer(entity.key, entity.type)
        if len(longer) == 1:
            self._join(entity, longer[0], evidence)
        for part in parts(entity.key, entity.type):
            short = next((each for each in self._named(part) if each.type == entity.type), None)
            if short is None:
                continue
            longer = self._longer(part, entity.type)
            for other in longer[:-1]:  # a second Alice: the short name no longer tells which
                self._tx.disconnect(short.id, other.id, SAME_AS, at=evidence.header.recorded)
            if len(longer) == 1:
                self._join(short, entity, evidence)
        return entity

    def _join(self, short: Entity, long: Entity, evidence: MemCube) -> None:
        """The evidence is a turn that says the long name: forgetting it leaves nothing of that name, and a fact of it
        that is superseded takes nothing away, because names do not end with what is said of their bearers."""
        said = [edge.evidence for edge in self._tx.edges([long.id]) if edge.evidence and edge.relation != SAME_AS]
        fact = (self._tx.newest(said[0]) if said else None) or evidence
        sources = fact.header.provenance.sources
        edge = Edge(
            source=short.id,
            target=long.id,
            relation=SAME_AS,
            evidence=sources[0].id if sources else fact.id,
            recorded=evidence.header.recorded,
        )
        self._tx.connect([edge])


def _ends(edge: Edge) -> tuple[str, str, str]:
    return edge.source, edge.target, edge.relation


def _since(edge: Edge) -> datetime:
    """From when an edge holds, as far as is known."""
    return edge.valid_from or edge.recorded


def _rivals(old: Edge, new: Edge) -> bool:
    return old.source == new.source and old.relation == new.relation and old.target != new.target


def _says(triplet: Triplet, facts: Sequence[MemCube]) -> MemCube | None:
    """The fact that names the target, the first of those that name the source too."""
    target, source = triplet.target.text.casefold(), triplet.source.text.casefold()
    about = [fact for fact in facts if target in fact.text.casefold()]
    return next(iter([fact for fact in about if source in fact.text.casefold()] or about), None)
