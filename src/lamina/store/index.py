"""What a search needs of a scope, in memory: columns, vectors, words, neighbours. Derived, never the truth.

``ScopeIndex.sync`` replays ``Store.changes`` from where it stopped, so it follows writes of other threads and
processes; ``IndexCache`` hands out synced indexes and forgets the least recently used. All versions are
held, closed ones too: ``as_of`` asks for the past. A search runs under ``ScopeIndex.lock`` and so sees one
state of all parts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import Scope
from lamina.store import snapshot
from lamina.store.analysis import terms
from lamina.store.base import Change, Store
from lamina.store.lexical import LexicalIndex
from lamina.store.neighbours import Neighbours
from lamina.store.table import FACT, NEVER, TURN, Table, micros
from lamina.store.vectors import VectorIndex

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]

_BATCH = 2_048  # changes applied at a time
_MAX_GRAVES = 0.25  # share of forgotten rows above which the index is built anew


class ScopeIndex:
    """The index of one scope. Hold ``lock`` while reading ``table``, ``vectors``, ``words`` and ``neighbours``."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self.change = 0  # the newest change seen, of any scope
        self.table = Table()
        self.vectors = VectorIndex()
        self.words = LexicalIndex()
        self.neighbours = Neighbours()
        self.graves = 0  # rows of forgotten memories
        self._open: Mask | None = None
        self._mortal: Rows = np.empty(0, np.int64)
        self._keys: tuple[Rows, Rows] | None = None

    def __len__(self) -> int:
        return len(self.table)

    def sync(self, store: Store) -> bool:
        """Take in what was written since the last call; whether anything was forgotten. Thread-safe."""
        with self.lock:
            newest = store.last_change()
            if newest == self.change:
                return False
            graves = self.graves
            try:
                if newest < self.change or not self._replay(store):
                    self._rebuild(store)
                forgot = self.graves > graves
                if self.graves > _MAX_GRAVES * len(self):
                    self._rebuild(store)
            except BaseException:  # torn in the middle of a change: nothing of it can be trusted
                self._clear()
                raise
            self.change = max(self.change, newest)
            return forgot

    def _rebuild(self, store: Store) -> None:
        self._clear()
        self._replay(store)

    def _replay(self, store: Store) -> bool:
        """Apply changes; False when vectors of another dimension came, so that all must be read anew."""
        for batch in _batched(store.changes(self.scope, self.change), _BATCH):
            if self.vectors.dimension and any(
                c.vector is not None and len(c.vector) != self.vectors.dimension for c in batch
            ):
                return False
            self._apply(batch)
            self.change = batch[-1].change
        return True

    def _apply(self, batch: Sequence[Change]) -> None:
        self._open = self._keys = None
        latest = {change.key: change for change in batch}
        fresh = [c for c in latest.values() if c.cube is not None and self.table.row_of(c.key) is None]
        known = [c for c in latest.values() if self.table.row_of(c.key) is not None]
        rows = self._append(fresh)
        for change in known:
            self._update(change)
        touched = [*rows.tolist(), *(self.table.row_of(c.key) for c in known)]
        gone = [self.table.row_of(c.key) for c in known if c.cube is None]
        self._relink([row for row in touched if row is not None], [row for row in gone if row is not None])

    def _append(self, fresh: Sequence[Change]) -> Rows:
        cubes = [change.cube for change in fresh if change.cube is not None]
        rows = self.table.extend([change.key for change in fresh], cubes)
        self.vectors.extend([change.vector for change in fresh])
        self.words.extend([terms(cube.text) if cube.header.kind == "text" else [] for cube in cubes])
        self.neighbours.extend(len(fresh))
        return rows

    def _update(self, change: Change) -> None:
        row = self.table.row_of(change.key)
        assert row is not None
        if change.cube is not None:
            self.table.update(row, change.cube)
            if change.vector is not None:
                self.vectors.replace(row, change.vector)

    def _relink(self, touched: Sequence[int], gone: Sequence[int]) -> None:
        """Open turns stand in the chain of their session, others do not; window lengths follow."""
        table = self.table
        for row in gone:
            if table["alive"][row]:
                table.bury(row)
                self.graves += 1
                self.vectors.erase(row)
        groups = np.asarray([table["group"][row] for row in touched if table["kind"][row] == TURN], np.int64)
        turns = [row for row in table.members(groups).tolist() if table["kind"][row] == TURN]
        in_place = {row: self._in_place(row) for row in turns}
        changed = self.neighbours.change(
            add=[row for row, here in in_place.items() if here],
            remove=[row for row, here in in_place.items() if not here],
            session=table["session"],
            ordinal=table["ordinal"],
        )
        for row in gone:
            self.words.erase(row)
        dirty = np.unique(np.concatenate([changed, np.asarray(touched, np.int64)]))
        self.words.refresh(dirty, self.neighbours.array)

    def _in_place(self, row: int) -> bool:
        table = self.table
        newest = table.newest(int(table["identity"][row])) == row
        return bool(newest and table["alive"][row] and table["superseded"][row] == NEVER)

    # -- reading; hold the lock ------------------------------------------------------------------

    def visible(self, as_of: datetime | None = None, allow: NDArray[np.int64] | None = None) -> Mask:
        """Which rows may be found, bool per row: a fresh array.

        Without ``as_of``: open now, messages stamped in the future included. With it: recorded, not yet closed,
        not expired and still holding at that time. ``allow`` are the keys a filter let through.
        """
        table = self.table
        at = micros(datetime.now(UTC) if as_of is None else as_of)
        if as_of is None:
            seen = self._open_rows().copy()
            mortal = self._mortal
            seen[mortal[(table["valid_to"][mortal] <= at) | (table["expires"][mortal] <= at)]] = False
        else:
            seen = table["alive"] & table["live"] & (table["recorded"] <= at) & (table["superseded"] > at)
            seen &= (table["valid_to"] > at) & (table["expires"] > at)
        return seen if allow is None else seen & self._rows_of(allow)

    def nearest_facts(self, vectors: NDArray[np.float32], n: int) -> list[list[tuple[int, float]]]:
        """For each row of ``vectors`` (m, d): key and cosine of the ``n`` nearest open facts, best first."""
        with self.lock:
            facts = self.visible() & (self.table["kind"] == FACT)
            keys = self.table["key"]
            return [
                list(zip(keys[rows].tolist(), scores.tolist(), strict=True))
                for rows, scores in self.vectors.search_many(vectors, n, facts)
            ]

    def _open_rows(self) -> Mask:
        if self._open is None:
            table = self.table
            self._open = table["alive"] & table["live"] & (table["superseded"] == NEVER)
            self._mortal = np.flatnonzero(self._open & ((table["valid_to"] != NEVER) | (table["expires"] != NEVER)))
        return self._open

    def _rows_of(self, keys: NDArray[np.int64]) -> Mask:
        if self._keys is None:
            order = np.argsort(self.table["key"], kind="stable")
            self._keys = self.table["key"][order], order
        ordered, order = self._keys
        mask = np.zeros(len(self), bool)
        if len(ordered):
            place = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
            mask[order[place[ordered[place] == keys]]] = True
        return mask


class IndexCache:
    """Synced indexes by (store, scope), least recently used out first. Thread-safe.

    ``max_rows`` bounds the rows of all indexes together (about 2 KB a row with vectors of 384); the one in use
    always stays. Indexes of ``snapshot_rows`` rows or more are kept on disk beside a store that has a ``path``.
    """

    def __init__(self, *, max_rows: int = 2_000_000, snapshot_rows: int = 5_000) -> None:
        self._max_rows = max_rows
        self._snapshot_rows = snapshot_rows
        self._lock = threading.Lock()
        self._indexes: OrderedDict[tuple[int, Scope], tuple[Store, ScopeIndex]] = OrderedDict()
        self._saved: dict[tuple[int, Scope], int] = {}  # rows in the snapshot
        self._held: dict[tuple[int, Scope], int] = {}  # rows in memory
        self._rows = 0  # of all: adding them up at each search would cost more the more users there are

    def get(self, store: Store, scope: Scope) -> ScopeIndex:
        """The index of ``scope``, up to date with ``store``."""
        name = (id(store), scope)
        with self._lock:
            known = self._indexes.get(name)
            index = known[1] if known else ScopeIndex(scope)
            self._indexes[name] = (store, index)  # keeps the store alive, so that its id stays its own
            self._indexes.move_to_end(name)
        folder = snapshot.folder(store, scope)
        with index.lock:
            if not known and folder is not None and not len(index) and snapshot.load(index, store, folder):
                with self._lock:
                    self._saved[name] = len(index)
            if index.sync(store) and folder is not None:
                self._forget_files(store)
            self._save(name, index, store, folder)
        self._evict(name, len(index))
        return index

    def scopes(self, store: Store) -> list[Scope]:
        """Scopes of ``store`` whose index is held, least recently used first."""
        with self._lock:
            return [scope for (_, scope), (known, _) in self._indexes.items() if known is store]

    def drop(self, store: Store | None = None) -> None:
        """Let go of every index, in memory and on disk (that of ``store`` too): what was forgotten is in none."""
        with self._lock:
            stores = {id(known): known for known, _ in self._indexes.values()}
            self._indexes.clear()
            self._held.clear()
            self._rows = 0
        if store is not None:
            stores[id(store)] = store
        for each in stores.values():
            self._forget_files(each)

    def _forget_files(self, store: Store) -> None:
        """All scopes at once: one memory may be in the snapshots of several."""
        snapshot.remove_all(store)
        with self._lock:
            self._saved = {name: rows for name, rows in self._saved.items() if name[0] != id(store)}

    def _save(self, name: tuple[int, Scope], index: ScopeIndex, store: Store, folder: Path | None) -> None:
        rows = len(index)
        if folder is None or index.graves or rows < self._snapshot_rows or rows < 1.125 * self._saved.get(name, 0):
            return
        # Noted even if a writer was faster: the next attempt is worth its cost only when the scope has grown.
        snapshot.save(index, store, folder)
        with self._lock:
            self._saved[name] = rows

    def _evict(self, name: tuple[int, Scope], rows: int) -> None:
        """Note the rows of the index just used, and let go of old ones while there are too many."""
        with self._lock:
            if name in self._indexes:  # else it was dropped meanwhile
                self._rows += rows - self._held.get(name, 0)
                self._held[name] = rows
            while len(self._indexes) > 1 and self._rows > self._max_rows:
                oldest, _ = self._indexes.popitem(last=False)
                self._saved.pop(oldest, None)
                self._rows -= self._held.pop(oldest, 0)


def _batched(changes: Iterable[Change], size: int) -> Iterator[list[Change]]:
    source = iter(changes)
    while batch := list(islice(source, size)):
        yield batch
