"""What notes add to a ranking of turns, and a turn that a link leads to as a search result.

A turn's score gains a share of what its note scores by the same measure: cosine of the question with the enriched
vector, plus half its BM25 relative to the best note found. A turn without a note counts its own cosine instead,
so that it does not fall behind for want of one. A note that stands alone counts in full; in a dialogue, where hybrid
search has weighed the turns around it already, a quarter (chosen on two conversations of LoCoMo: in full it costs
several points of recall).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lamina.store.analysis import terms
from lamina.store.base import Store
from lamina.store.index import ScopeIndex
from lamina.store.table import TURN, hashed
from lamina.text.base import Hit
from lamina.text.notes.register import NOTE

ALONE, IN_DIALOGUE, LEXICAL = 1.0, 0.25, 0.5
_MARGIN = 1e-6  # by which a successor is placed before what it superseded
DENSE_PART, LEXICAL_PART = "note", "note_lexical"


class NoteRanking:
    """One question over the notes of one index that may be seen. Used under ``index.lock``."""

    def __init__(
        self,
        index: ScopeIndex,
        note_keys: NDArray[np.int64],
        query: str,
        vector: NDArray[np.float32],
        allow: NDArray[np.int64] | None,
        as_of: datetime | None,
    ) -> None:
        self._index = index
        self._vector = vector
        self._words = index.words.known(terms(query))
        self._visible = index.visible(as_of, allow)
        allowed = note_keys if allow is None else np.intersect1d(note_keys, allow)
        self._notes = index.visible(as_of, allowed) if len(allowed) else np.zeros(len(index), bool)

    def parts(self, hits: Sequence[Hit]) -> dict[str, dict[str, float]]:
        """For the turn of each hit: the parts of a score that its note gives it, or its own cosine in its stead."""
        index, table = self._index, self._index.table
        turns = [turn_of(hit) for hit in hits]
        rows = self._members(turns)
        rows = rows[self._notes[rows]]
        cosine = index.vectors.similarities(self._vector, rows) if len(rows) else np.empty(0)
        bm25 = index.words.score(self._words, rows, index.neighbours.array)
        best = float(bm25.max(initial=0.0))
        words = LEXICAL * bm25 / best if best > 0 else bm25
        noted = dict(
            zip(table["source"][rows].tolist(), zip(cosine.tolist(), words.tolist(), strict=True), strict=True)
        )
        found = {}
        for turn, hit in zip(turns, hits, strict=True):
            dense, lexical = noted.get(hashed(turn), (hit.cosine, 0.0))
            share = self._share(turn)
            found[turn] = {DENSE_PART: share * dense, LEXICAL_PART: share * lexical}
        return found

    def _share(self, turn: str) -> float:
        row = self._index.table.newest(hashed(turn))
        in_dialogue = row is not None and bool((self._index.neighbours.array[row] >= 0).any())
        return IN_DIALOGUE if in_dialogue else ALONE

    def key_of(self, turn: str) -> tuple[int, float] | None:
        """Key and cosine of what may be shown of ``turn``: the turn itself, else its best visible fact; or ``None``."""
        rows = self._members([turn])
        rows = rows[self._visible[rows] & ~self._notes[rows]]
        if not len(rows):
            return None
        said = rows[self._index.table["kind"][rows] == TURN]
        rows = said if len(said) else rows
        cosine = self._index.vectors.similarities(self._vector, rows)
        best = int(cosine.argmax())
        return int(self._index.table["key"][rows[best]]), float(cosine[best])

    def _members(self, turns: Sequence[str]) -> NDArray[np.int64]:
        found = [self._index.table.newest(hashed(turn)) for turn in turns]
        return self._index.table.members(np.asarray([row for row in found if row is not None], np.int64))


def ranked(hits: Sequence[Hit], notes: Mapping[str, Mapping[str, float]]) -> list[Hit]:
    """``hits`` with what their notes add, best first; notes themselves are not shown."""
    found = [_shown(hit) for hit in hits]
    scored = []
    for hit in found:
        parts = {**hit.parts, **{name: value for name, value in notes[turn_of(hit)].items() if value}}
        scored.append(replace(hit, parts=parts, score=sum(parts.values())))
    return sorted(_succeeded(scored), key=lambda hit: -hit.score)


def _succeeded(hits: Sequence[Hit]) -> list[Hit]:
    """What holds now comes before what it superseded, whatever their notes say: raised as far as that takes."""
    found = list(hits)
    place = {cube.id: n for n, hit in enumerate(found) for cube in (hit.cube, *hit.facts)}
    for hit in sorted(hits, key=lambda hit: -hit.score):
        heir = place.get(hit.superseded_by or "")
        if heir is not None and found[heir].score <= hit.score:
            raised = hit.score - found[heir].score + _MARGIN
            parts = dict(found[heir].parts)
            parts["succession"] = parts.get("succession", 0.0) + raised
            found[heir] = replace(found[heir], parts=parts, score=sum(parts.values()))
    return found


def turn_of(hit: Hit) -> str:
    """The id of the turn a hit stands for, or of the memory itself where it has none."""
    if hit.source is not None:
        return hit.source.id
    sources = hit.cube.header.provenance.sources
    return sources[0].id if sources else hit.cube.id


def linked_hit(store: Store, key: int, cosine: float) -> Hit:
    """A turn that was not found but led to. Raises ``NotFound`` if it was forgotten meanwhile."""
    (cube,) = store.load([key])
    return Hit(cube, cosine, {"dense": cosine}, source=cube if cube.header.utterance is not None else None)


def _shown(hit: Hit) -> Hit:
    """What was said, not the note about it."""
    facts = tuple(fact for fact in hit.facts if fact.header.semantic_type != NOTE)
    cube = hit.cube
    if cube.header.semantic_type == NOTE and (hit.source is not None or facts):
        cube, facts = (hit.source, facts) if hit.source is not None else (facts[0], facts[1:])
    assert cube is not None
    return replace(hit, cube=cube, facts=facts)
