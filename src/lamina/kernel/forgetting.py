"""Forgetting that reaches every form: text, versions, edges, vectors, indexes, caches, weights, and copies that left.

MemOS: A Memory OS for AI System, arXiv 2507.03724, asks for deletion with provenance; here the lineage of every cube
makes it reach what was *made* of a memory. Who is erased: the memories asked for; the turns they were taken from, of
the same tenant, and only if whoever asks may erase those (a memory can name any turn as its source); all descendants by
lineage or quotation. A bundle of several texts goes whole, since nothing smaller can be proved; an adapter goes too,
and the receipt says from which memories it can be trained again.

Order, so that a crash at any moment can be made good by ``resume``: a note with the ids (no contents) is written
beside the database; copies that left are cleared; the store erases in one transaction (``lamina.store.erasure`` scrubs
its files); caches of this process are told; the note is removed. Every step may be repeated.

Caches of *other* processes cannot be reached from here. They compare versions whenever they serve, so nothing forgotten
is served again, and let go of it at their next call or tick (``governing.elsewhere``); ``Receipt.told`` says so.
``governing.traces`` searches.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lamina.cube import strict_json
from lamina.cube.cube import MemCube, State
from lamina.errors import FrozenCube, InvalidInput
from lamina.kernel.governing.exports import Cleared, ExportRegister, Rewrite
from lamina.llm.base import Embedder
from lamina.store.acting import named
from lamina.store.base import Store
from lamina.store.index import IndexCache

Erasable = Callable[[MemCube], bool]
_MAX_NOTE = 64 << 20
LATER = (
    "Other processes that use this store serve nothing of it from now on; caches, adapters and indexes in their memory "
    "go at their next call or tick, vectors in their embedding caches when others push them out."
)
BEYOND = "Out of reach: backups, copies that were moved or made by others, and what a model elsewhere has read."


class Cache(Protocol):
    """Something in this process that keeps what was made of memories: resident KV caches, attached adapters."""

    name: str

    def forget(self, ids: Sequence[str]) -> None:
        """Let go of everything made of these memories, and of them."""

    def holding(self, ids: Sequence[str]) -> Collection[str]:
        """Which of ``ids`` it still keeps something of."""


@dataclass(frozen=True, slots=True)
class Retrain:
    """An adapter that was dropped, and those of its sources that are still here."""

    adapter: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What went. ``kinds`` counts the ids by kind; ``unreached`` are exports that may still hold some of it."""

    ids: tuple[str, ...]
    kinds: Mapping[str, int]
    retrain: tuple[Retrain, ...] = ()
    caches: tuple[str, ...] = ()
    cleared: tuple[Path, ...] = ()
    unreached: tuple[Path, ...] = ()

    @property
    def told(self) -> tuple[str, ...]:
        """What is gone, what goes later, and what could not be reached: sentences for whoever asked."""
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(self.kinds.items()))
        gone = f"Gone: {len(self.ids)} memories ({kinds or 'none'}) from every file of the store."
        caches = f"Gone from the caches of this process: {', '.join(self.caches)}." if self.caches else ""
        cleared = f"Cleared: {', '.join(map(str, self.cleared))}." if self.cleared else ""
        left = f"May still hold it, remove them: {', '.join(map(str, self.unreached))}." if self.unreached else ""
        return tuple(filter(None, (gone, caches, cleared, left, LATER, BEYOND)))


class _DryRun(Exception):
    """Ends a transaction that was never meant to be committed."""


def reach(store: Store, ids: Collection[str], *, erasable: Erasable | None = None) -> list[str]:
    """Every id that forgetting ``ids`` erases, sorted; nothing is written. Unknown ids are left out.

    ``erasable`` says which of the turns they were taken from go too (default: all of their tenant).
    """
    wanted = dict.fromkeys(ids)
    for one in (version for id in ids for version in store.versions(id)):
        for source in one.header.provenance.sources:
            turn = store.get(source.id)
            here = turn is not None and turn.header.scope.tenant == one.header.scope.tenant
            if turn is not None and here and (erasable is None or erasable(turn)):
                wanted[source.id] = None
    return _with_descendants(store, wanted)


def _with_descendants(store: Store, ids: Collection[str]) -> list[str]:
    gone: list[str] = []
    try:
        with store.transaction() as tx:
            gone = tx.forget(list(ids), legal_override=True)
            raise _DryRun
    except _DryRun:
        return sorted(gone)


class Forgetting:
    """Erases from ``store`` and from everything that was made of it or left it.

    ``embedder`` and ``indexes`` are those that serve the store; ``caches`` are told the ids; ``exports`` with
    ``rewrite`` (``lamina.kernel.bundles.bundle_file.Rewriter``) clear copies. ``notes`` is where unfinished work is
    noted (default: beside the store's file).
    """

    def __init__(
        self,
        store: Store,
        *,
        embedder: Embedder | None = None,
        indexes: IndexCache | None = None,
        caches: Sequence[Cache] = (),
        exports: ExportRegister | None = None,
        rewrite: Rewrite | None = None,
        notes: Path | None = None,
    ) -> None:
        path = notes or getattr(store, "path", None)
        if path is None:
            raise InvalidInput("notes=None: this store has no file, so say where unfinished forgetting is noted")
        self._store, self._embedder, self._indexes = store, embedder, indexes
        self._caches, self._exports, self._rewrite = tuple(caches), exports, rewrite
        self._notes = Path(path)

    def forget(
        self,
        ids: Collection[str],
        *,
        actor: str,
        reason: str,
        legal_override: bool = False,
        erasable: Erasable | None = None,
    ) -> Receipt:
        """Erase memories for good, and all that was made of them; ``erasable`` as in ``reach``.

        Unknown ids are ignored. Raises ``FrozenCube``, before anything is erased, when a frozen memory would go and
        the law was not invoked (``legal_override``; who may invoke it is governance's question).
        """
        gone = reach(self._store, ids, erasable=erasable)
        if not gone:
            return Receipt((), {})
        cubes = [cube for id in gone for cube in self._store.versions(id)]
        frozen = [id for id, cube in {cube.id: cube for cube in cubes}.items() if cube.header.state is State.FROZEN]
        if frozen and not legal_override:
            raise FrozenCube(f"forgetting would erase frozen memories: {frozen[:3]}; unfreeze them, or override by law")
        actor = named(actor)  # whoever finishes this after a crash acts for nobody
        note = self._note(gone, actor, reason)
        return self._carry_out(note, gone, cubes, actor, reason)

    def resume(self) -> list[Receipt]:
        """Finish what a crash interrupted; call it when a store is opened, before anything is served."""
        receipts = []
        for note in sorted(self._notes.parent.glob(f"{self._notes.name}.forgetting-*")):
            told = strict_json.loads(note.read_text(encoding="utf-8"), max_bytes=_MAX_NOTE)
            ids = list(dict.fromkeys([*told["ids"], *_with_descendants(self._store, told["ids"])]))
            cubes = [cube for id in ids for cube in self._store.versions(id)]
            receipts.append(self._carry_out(note, ids, cubes, told["actor"], told["reason"]))
        return receipts

    def _carry_out(self, note: Path, ids: list[str], cubes: list[MemCube], actor: str, reason: str) -> Receipt:
        cleared = self._exports.clear(ids, self._rewrite) if self._exports else Cleared((), ())
        with self._store.transaction() as tx:
            # It was decided when it was noted; what is asked here is only that it happens, even after a crash.
            gone = tx.forget(ids, actor=actor, reason=reason, legal_override=True)
        ids = sorted({*ids, *gone})  # some may have been made meanwhile
        for cache in self._caches:
            cache.forget(ids)
        if self._indexes is not None:
            self._indexes.drop(self._store)
        if self._embedder is not None:
            self._embedder.forget([cube.text for cube in cubes if cube.header.kind == "text"])
        note.unlink(missing_ok=True)  # another process may have finished it too
        return replace(
            _receipt(ids, cubes),
            retrain=tuple(self._retrain(cubes)),
            caches=tuple(cache.name for cache in self._caches),
            cleared=cleared.removed,
            unreached=cleared.unreached,
        )

    def _retrain(self, cubes: Sequence[MemCube]) -> list[Retrain]:
        newest = {cube.id: cube for cube in cubes if cube.header.kind == "parameter"}
        return [
            Retrain(id, tuple(source for source, _ in cube.header.lineage.derived_from if self._store.get(source)))
            for id, cube in newest.items()
        ]

    def _note(self, ids: list[str], actor: str, reason: str) -> Path:
        """Say, durably, what is about to go. The file appears whole or not at all."""
        note = self._notes.with_name(f"{self._notes.name}.forgetting-{uuid.uuid4().hex}")
        unfinished = note.with_name(f".{note.name}")
        with unfinished.open("w", encoding="utf-8") as file:
            file.write(strict_json.dumps({"ids": ids, "actor": actor, "reason": reason}))
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(note)
        return note


def _receipt(ids: Sequence[str], cubes: Sequence[MemCube]) -> Receipt:
    kinds: Counter[str] = Counter({cube.id: cube.header.kind for cube in cubes}.values())
    return Receipt(tuple(ids), dict(kinds))
