"""Facts waiting for their decision: what they rest on, what is near them, and what was decided ahead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lamina.cube.cube import MemCube, Scope, Source, Trust
from lamina.errors import NotFound
from lamina.store.base import Store, Vector
from lamina.store.index import ScopeIndex
from lamina.text.base import Fact, Operation
from lamina.text.prompted.draft import AheadUpdater, Draft

NEAREST = 10  # memories a new fact is compared with (Mem0, arXiv 2504.19413, section 2.1: s = 10)
TRUST: tuple[Trust, ...] = ("web", "tool", "import", "assistant", "user")  # whom to believe, least first
_STATES = re.compile(r"[.!?:;\n]")
POOL = 40  # nearest facts of any subject, from which those of the same subject are taken


@dataclass(slots=True)
class Candidate:
    """A fact waiting for its decision: its draft, the turns it cites (its own last), its vector, what is near it.

    ``extractor`` found it; ``proposal`` was decided ahead; ``fact`` is the draft's until a decision files it elsewhere.
    ``vouched``: a person confirmed it.
    """

    draft: Draft
    cited: tuple[MemCube, ...]
    vector: Vector
    extractor: str
    proposal: Operation | None = None
    vouched: bool = False
    nearest: list[tuple[MemCube, float]] = field(default_factory=list)
    fact: Fact = field(init=False)

    def __post_init__(self) -> None:
        self.fact = self.draft.fact

    @property
    def turn(self) -> MemCube:
        return self.cited[-1]

    @property
    def trust(self) -> Trust:
        """That of the least trusted turn it rests on. What only asks states nothing: "Where do you live?", "Rome."."""
        telling = [cube for cube in self.cited[:-1] if not _only_asks(cube)]
        least = min((cube.header.trust for cube in (*telling, self.turn)), key=TRUST.index)
        return "user" if self.vouched else least

    @property
    def sources(self) -> tuple[Source, ...]:
        """The quote in its own turn, and the other turns whole."""
        others = (Source(cube.id, 0, len(cube.text)) for cube in self.cited[:-1])
        return (*others, Source(self.turn.id, self.fact.start, self.fact.end))


def _only_asks(cube: MemCube) -> bool:
    """Whether an assistant's turn is a question and nothing else."""
    said = cube.text.strip()
    return cube.header.trust == "assistant" and said.endswith("?") and not _STATES.search(said[:-1])


def find_nearest(candidates: Sequence[Candidate], store: Store, index: ScopeIndex, scope: Scope) -> None:
    """Fill in what is near each candidate, of exactly this scope: a wider one ("any user of this agent") finds
    others' facts, which are not ours to change. Without this call's facts."""
    if not candidates:
        return
    found = index.nearest_facts(np.stack([item.vector for item in candidates]), POOL)
    keys = sorted({key for row in found for key, _ in row})
    cubes = dict(zip(keys, store.load(keys), strict=True))
    for item, row in zip(candidates, found, strict=True):
        item.nearest = [(cubes[key], s) for key, s in row if cubes[key].header.scope == scope]


def decide_ahead(
    candidates: Sequence[Candidate], updater: AheadUpdater, store: Store, index: ScopeIndex, scope: Scope
) -> None:
    """Ask ``updater`` about each candidate that is not in doubt. Not inside a transaction: a model is waited for."""
    sound = [item for item in candidates if item.draft.doubt is None]
    try:
        find_nearest(sound, store, index, scope)
    except NotFound:  # something near was forgotten a moment ago: the transaction will look again
        return
    facts = [(item.fact, item.turn.header.recorded) for item in sound]
    near = [[cube for cube, _ in item.nearest[:NEAREST]] for item in sound]
    for item, operation in zip(sound, updater.decide_ahead(facts, near), strict=True):
        item.proposal = operation
