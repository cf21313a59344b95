"""Feed statements through extractor and updater into a plain list of cubes: the smallest honest store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TextPayload
from lamina.text.base import Fact, Operation, Turn
from lamina.text.english.slots import stems
from lamina.text.extraction import RulesExtractor
from lamina.text.update import RulesUpdater

START = datetime(2024, 3, 25, 13, tzinfo=UTC)


@dataclass(frozen=True)
class Pair:
    phrasing: str
    attribute: str
    label: str
    old: str
    new: str


def load_pairs() -> list[Pair]:
    lines = (Path(__file__).parent / "update_pairs.txt").read_text(encoding="utf-8").splitlines()
    return [Pair(*line.split(" | ")) for line in lines if line and not line.startswith("#")]


def similarity(a: str, b: str) -> float:
    """Cosine of the sets of stems: a real similarity that needs no model."""
    one, other = stems(a), stems(b)
    return float(len(one & other) / (len(one) * len(other)) ** 0.5) if one and other else 0.0


@dataclass
class ListStore:
    """Applies operations as a store would, on a list."""

    cubes: list[MemCube] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    _updater: RulesUpdater = field(default_factory=RulesUpdater)

    def say(self, text: str, at: datetime, speaker: str = "Caroline") -> list[Operation]:
        turn = Turn(text, speaker, "user", at, "s", len(self.operations), named=True)
        return [self.add(fact, at) for fact in RulesExtractor().extract(turn)]

    def open(self) -> list[MemCube]:
        return [cube for cube in self.cubes if cube.header.superseded is None]

    def add(self, fact: Fact, at: datetime) -> Operation:
        known = self.open()
        near = sorted(((cube, similarity(fact.text, cube.text)) for cube in known), key=lambda p: -p[1])[:10]
        operation = self._updater.decide(fact, at, self._same_subject(fact, known), near)
        self.operations.append(operation)
        self._carry_out(operation, at)
        return operation

    def _same_subject(self, fact: Fact, known: list[MemCube]) -> list[MemCube]:
        """What a store hands over: the subject's open facts in the slots the updater asks for."""
        wanted = self._updater.slots_to_compare(fact.claim)
        claims = [(cube, cube.header.claim) for cube in known if cube.header.claim is not None]
        return [
            cube
            for cube, claim in claims
            if claim.subject.casefold() == fact.claim.subject.casefold()
            and claim.slot is not None
            and (None in wanted or claim.slot in wanted)
        ]

    def _carry_out(self, op: Operation, at: datetime) -> None:
        if op.kind == "noop":
            return
        cube = cube_of(op.fact, at)
        if op.target is not None:
            index = next(i for i, c in enumerate(self.cubes) if c.id == op.target.id)
            if op.kind == "late":
                cube = replace(cube, header=replace(cube.header, superseded=op.target.header.recorded))
            else:
                header = replace(self.cubes[index].header, superseded=at, superseded_by=cube.id)
                self.cubes[index] = replace(self.cubes[index], header=header)
        self.cubes.append(cube)


def cube_of(fact: Fact, at: datetime) -> MemCube:
    header = Header(
        semantic_type=fact.semantic_type, recorded=at, valid_from=fact.valid_from, valid_to=fact.valid_to,
        claim=fact.claim, entities=fact.entities, keywords=fact.keywords,
    )  # fmt: skip
    return MemCube(header, TextPayload(fact.text))


def play(pair: Pair) -> Sequence[Operation]:
    """Both statements in order, a month apart; the operations of the second."""
    store = ListStore()
    store.say(pair.old, START)
    return store.say(pair.new, START + timedelta(days=31))
