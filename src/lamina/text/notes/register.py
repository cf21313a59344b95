"""Which turns of one scope share which rare names and phrases, and which note belongs to which turn.

Derived from the store by replaying its changes, so it costs what was written since the last call, and can be
lost at any time. Document frequencies are those of exactly this scope: links never cross it.

A key is worth a link while between 2 and 8 turns carry it. The list of a key that more carry is dropped and the
key stays *common* until the register is rebuilt: memory is bounded by what is rare.

Names: a bare "Kell" means "Marta Kell" if she is the only Kell of the scope (containment, as in mem0's graph);
with two of them it means neither, and only the full names link.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.store.analysis import terms
from lamina.store.base import Change, Store
from lamina.store.growing import Growing
from lamina.text.english.entities import entities, keywords

NOTE = "note"
WINDOW = (2, 8)  # turns that carry a key worth a link, the new one included
MAX_TURNS = 200_000  # of all scopes in memory together; the least recently used go first


@dataclass(frozen=True, slots=True)
class Keys:
    """What a text can be linked by: full ``names``, ``phrases`` of two words, single ``words``.

    ``words`` are all its content words; ``telling`` are those among them that stand in a name or a keyphrase.
    All are cut to stems.
    """

    names: frozenset[str]
    phrases: frozenset[str]
    words: frozenset[str]
    telling: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Keys:
        named = {" ".join(terms(name)) for name in entities(text)} - {""}
        said = {" ".join(terms(phrase)) for phrase in keywords(text)} - {""}
        telling = frozenset(word for phrase in named | said for word in phrase.split())
        # "winter piano" and "winter piano found" share a phrase: pairs of neighbours, not whole runs.
        pairs = {" ".join(pair) for phrase in said for pair in pairwise(phrase.split())}
        return cls(frozenset(named), frozenset(pairs - named), frozenset(terms(text)) | telling, telling)

    def postings(self) -> list[str]:
        """The keys by which a turn is found again."""
        return [*(f"{name} name" for name in self.names), *(f"{p} phrase" for p in self.phrases), *self.words]


class Postings:
    """Key -> the turns that carry it, while they are few; ``owners``: word -> full names it is a part of."""

    def __init__(self) -> None:
        self._carriers: dict[str, list[str] | int] = {}  # of a common key only how many
        self.owners: dict[str, Counter[str]] = {}

    def add(self, turn: str, keys: Keys, slots: Iterable[str] = ()) -> None:
        for key in (*keys.postings(), *slots):
            self._append(key, turn)
        for name in keys.names:
            for word in name.split() if " " in name else ():
                self.owners.setdefault(word, Counter())[name] += 1

    def remove(self, turn: str, keys: Keys, slots: Iterable[str] = ()) -> None:
        for key in (*keys.postings(), *slots):
            carriers = self._carriers.get(key, [])
            if isinstance(carriers, int):
                self._carriers[key] = carriers - 1
            elif turn in carriers:
                carriers.remove(turn)
                if not carriers:
                    del self._carriers[key]
        for name in keys.names:
            for word in name.split() if " " in name else ():
                self._disown(word, name)

    def carriers(self, key: str) -> list[str] | None:
        """Turns that carry ``key``, oldest first; ``None`` if it is common."""
        carriers = self._carriers.get(key, [])
        return None if isinstance(carriers, int) else carriers

    def frequency(self, key: str) -> int:
        """How many turns carry ``key``."""
        carriers = self._carriers.get(key, [])
        return carriers if isinstance(carriers, int) else len(carriers)

    def _append(self, key: str, turn: str) -> None:
        carriers = self._carriers.setdefault(key, [])
        if isinstance(carriers, int):
            self._carriers[key] = carriers + 1
        elif turn not in carriers:
            carriers.append(turn)
            if len(carriers) > WINDOW[1]:
                self._carriers[key] = len(carriers)

    def _disown(self, word: str, name: str) -> None:
        known = self.owners.get(word)
        if known is not None:
            known[name] -= 1
            if known[name] <= 0:
                del known[name]
            if not known:
                del self.owners[word]


class Register:
    """The turns, notes and keys of one scope. Hold ``lock`` while reading."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self.change = 0
        self.postings = Postings()
        self.notes: dict[str, str] = {}  # turn id -> note id, of open notes in exactly this scope
        self.speakers: Counter[str] = Counter()  # words of their names, in stems
        self.tags: Counter[str] = Counter()  # of the newest versions of notes
        self._counted: dict[str, tuple[str, ...]] = {}  # note id -> its tags, turn id -> its speaker's stems
        self._turns: dict[str, tuple[int, Keys | None]] = {}  # id -> newest version seen, its keys while open
        self._versions: dict[str, int] = {}  # note id -> newest version seen
        self._rows: dict[int, tuple[str, str]] = {}  # key of a version -> what it is, id of its turn
        self._noted: dict[int, str] = {}  # key of a version of a note -> id of the note
        self._note_keys = Growing(np.int64)

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, turn: object) -> bool:
        """Whether ``turn`` is the id of an open turn in exactly this scope."""
        return isinstance(turn, str) and self._turns.get(turn, (0, None))[1] is not None

    @property
    def note_keys(self) -> NDArray[np.int64]:
        """Keys of every version of every note in the scope and inside it: the ``allow`` of a search among notes."""
        return np.asarray(self._note_keys.array)

    def open_turns(self) -> list[str]:
        return [id for id, (_, keys) in self._turns.items() if keys is not None]

    def keys(self, turn: str) -> Keys | None:
        return self._turns.get(turn, (0, None))[1]

    def sync(self, store: Store) -> None:
        """Take in what was written since the last call. Thread-safe."""
        with self.lock:
            newest = store.last_change()
            if newest == self.change:
                return
            try:
                if newest < self.change:
                    self._clear()
                for change in store.changes(self.scope, self.change):
                    self._apply(change)
                    self.change = change.change
            except BaseException:  # torn in the middle: read anew next time
                self._clear()
                raise
            self.change = max(self.change, newest)

    def _apply(self, change: Change) -> None:
        cube = change.cube
        if cube is None:
            self._bury(change.key)
        elif cube.header.semantic_type == NOTE and cube.header.provenance.sources:
            self._take_note(change.key, cube, cube.header.provenance.sources[0].id)
        elif cube.header.scope == self.scope and cube.header.utterance is not None:
            self._take_turn(change.key, cube)
        elif cube.header.scope == self.scope and (slot := slot_key(cube)) is not None:
            self.postings.add(cube.header.provenance.sources[0].id, _NONE, [slot])

    def _take_turn(self, key: int, cube: MemCube) -> None:
        self._rows[key] = "turn", cube.id
        version, keys = self._turns.get(cube.id, (0, None))
        if cube.header.version < version:
            return
        if keys is not None:
            self.postings.remove(cube.id, keys)
        fresh = Keys.of(cube.text) if cube.header.superseded is None else None
        self._turns[cube.id] = cube.header.version, fresh
        if fresh is not None:
            self.postings.add(cube.id, fresh)
            assert cube.header.utterance is not None
            self._count(self.speakers, cube.id, terms(cube.header.utterance.speaker))

    def _take_note(self, key: int, cube: MemCube, turn: str) -> None:
        if key not in self._rows:
            self._rows[key] = NOTE, turn
            self._noted[key] = cube.id
            self._note_keys.extend([key])
        if cube.header.scope != self.scope or cube.header.version < self._versions.get(cube.id, 0):
            return
        self._count(self.tags, cube.id, cube.header.tags)
        self._versions[cube.id] = cube.header.version
        if cube.header.superseded is None:
            self.notes[turn] = cube.id
        elif self.notes.get(turn) == cube.id:
            del self.notes[turn]

    def _count(self, counter: Counter[str], id: str, words: Sequence[str]) -> None:
        """What ``id`` counts for now instead of what it did: nothing stays of what is forgotten."""
        old = self._counted.pop(id, ())
        counter.update(words)
        counter.subtract(old)
        for word in set(old):
            if counter[word] <= 0:
                del counter[word]
        if words:
            self._counted[id] = tuple(words)

    def _bury(self, key: int) -> None:
        kind, turn = self._rows.pop(key, ("", ""))
        if kind == NOTE:
            note = self._noted.pop(key, "")
            self._count(self.tags, note, ())
            self._versions.pop(note, None)
            if self.notes.get(turn) == note:
                del self.notes[turn]
        elif kind == "turn" and turn in self._turns:
            _, keys = self._turns.pop(turn)
            self._count(self.speakers, turn, ())
            if keys is not None:
                self.postings.remove(turn, keys)


class Registers:
    """Registers by (store, scope), least recently used out first. Thread-safe."""

    def __init__(self, *, max_turns: int = MAX_TURNS) -> None:
        self._max_turns = max_turns
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, Scope], tuple[Store, Register]] = OrderedDict()

    def get(self, store: Store, scope: Scope) -> Register:
        """The register of ``scope``, up to date with ``store``."""
        name = (id(store), scope)
        with self._lock:
            _, register = self._known.setdefault(name, (store, Register(scope)))
            self._known.move_to_end(name)
        register.sync(store)
        with self._lock:
            total = sum(len(each) for _, each in self._known.values())
            while len(self._known) > 1 and total > self._max_turns:
                total -= len(self._known.popitem(last=False)[1][1])
        return register


def slot_key(cube: MemCube) -> str | None:
    """The posting key of the attribute a fact is about: same subject, same slot."""
    claim = cube.header.claim
    if claim is None or claim.slot is None or not cube.header.provenance.sources:
        return None
    return slot_of(claim.subject, claim.slot)


def slot_of(subject: str, slot: str) -> str:
    return f"{subject.casefold()} {slot} slot"


def union(lists: Sequence[list[str] | None]) -> list[str] | None:
    """Carriers of a key over several registers, or of several keys; ``None`` if one of them is common."""
    found: dict[str, None] = {}
    for one in lists:
        if one is None:
            return None
        found |= dict.fromkeys(one)
    return list(found)


_NONE = Keys(frozenset(), frozenset(), frozenset(), frozenset())
