"""What a memory's score is made of: how much each signal says for it, in fixed units that add up.

* ``dense``     cosine with the question, averaged with the turns around it (weights 1/8 1/4 1 1/4 1/8);
* ``lexical``   BM25 over the same window (1/4 1/2 1 1/2 1/4) relative to the best memory found, times 1/2;
* ``speaker``   1/4 if the question names who spoke;
* ``period``    1/4 if it mentions a time and the memory was recorded in it or in the week after (people tell
  what they have done), or says something about it;
* ``question``  -1/10 for a turn that ends by asking: it seeks what another turn holds;
* ``stated``    1/20 for a turn that a fact was taken from: it holds something;
* ``session``   1/5 of what the best turn of the same session scores by all this: a matter is talked over at a sitting.

Linear fusion, not reciprocal ranks: those throw away how much better a match is (Bruch et al., "An Analysis
of Fusion Functions for Hybrid Retrieval", arXiv 2210.11934). The weights are round numbers on a plateau, the
same for all data; the last was chosen on two conversations of LoCoMo and helped on three others as well.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from lamina.store.index import ScopeIndex
from lamina.store.table import ALWAYS, FACT, TURN, micros
from lamina.text.query import Query

Rows = NDArray[np.int64]
Scores = NDArray[np.float64]
Mask = NDArray[np.bool_]

DENSE_CONTEXT = (0.125, 0.25, 0.25, 0.125)  # half the lexical one: a vector is less local than a word
LEXICAL, SPEAKER, PERIOD, QUESTION, STATED = 0.5, 0.25, 0.25, 0.1, 0.05
SESSION = 0.2
_TOLD_LATER = timedelta(days=7)


class Signals:
    """The signals of one query over one index, whose lock is held.

    ``vector`` is the query's, for facts and notes, which name whom they are about; ``nameless`` that of the query
    without the names of speakers, for turns. ``visible`` (bool per row) is what may be found.
    """

    def __init__(
        self,
        index: ScopeIndex,
        query: Query,
        vector: NDArray[np.float32],
        nameless: NDArray[np.float32],
        visible: Mask,
    ) -> None:
        self._index = index
        self._query = query
        self._vector = vector
        self._nameless = nameless
        self._visible = visible
        self._words = index.words.known(query.terms)

    def of(self, rows: Rows) -> dict[str, Scores]:
        """Each part of the score of ``rows``, which are sorted: float64 per row."""
        index, table = self._index, self._index.table
        bm25 = index.words.score(self._words, rows, index.neighbours.array)
        best = float(bm25[self._visible[rows]].max(initial=0.0))
        group, turns = table["group"][rows], table["kind"][rows] == TURN
        parts = {
            "dense": self._dense(rows),
            "lexical": LEXICAL * bm25 / best if best > 0 else np.zeros(len(rows)),
            "speaker": SPEAKER * np.isin(table["speaker"][group], self._query.speakers),
            "period": PERIOD * self._in_period(rows),
            "question": -QUESTION * (turns & table["asks"][rows]),
            "stated": STATED * (turns & np.isin(group, group[self._visible[rows] & (table["kind"][rows] == FACT)])),
        }
        total = np.asarray(sum(np.asarray(part, np.float64) for part in parts.values()))
        parts["session"] = SESSION * self._best_of_session(rows, total)
        return {name: np.asarray(part, np.float64) for name, part in parts.items()}

    def _best_of_session(self, rows: Rows, total: Scores) -> Scores:
        """What the best visible turn of the same session scores, for each row's turn."""
        table = self._index.table
        turns = np.flatnonzero((table["kind"][rows] == TURN) & self._visible[rows])
        _, session = np.unique(table["session"][rows[turns]], return_inverse=True)
        best = np.zeros(len(turns))
        np.maximum.at(best, session, total[turns])
        group = table["group"][rows]
        known = dict(zip(group[turns].tolist(), best[session].tolist(), strict=True))
        return np.asarray([known.get(number, 0.0) for number in group.tolist()])

    def _dense(self, rows: Rows) -> Scores:
        """Cosines averaged over the window, as far as there are neighbours."""
        slots = np.concatenate([rows[:, None], self._index.neighbours.array[rows]], axis=1)
        texts, place = np.unique(slots, return_inverse=True)
        texts = np.maximum(texts, 0)
        cosines = self._index.vectors.similarities(self._nameless, texts).astype(np.float64)
        if self._vector is not self._nameless:
            others = np.flatnonzero(self._index.table["kind"][texts] != TURN)
            cosines[others] = self._index.vectors.similarities(self._vector, texts[others])
        weights = np.asarray((1.0, *DENSE_CONTEXT)) * (slots >= 0)
        around = cosines[place.reshape(slots.shape)]
        return np.asarray((weights * around).sum(axis=1) / weights.sum(axis=1))

    def _in_period(self, rows: Rows) -> Mask:
        table = self._index.table
        recorded, start, end = (table[name][rows] for name in ("recorded", "valid_from", "valid_to"))
        inside = np.zeros(len(rows), bool)
        for first, last in self._query.periods:
            inside |= (recorded >= micros(first)) & (recorded < micros(last + _TOLD_LATER))
            inside |= (start != ALWAYS) & (start < micros(last)) & (end > micros(first)) & (start >= micros(first))
        return inside
