"""Entities by name: a derived index over one scope, kept in step with the store by replaying its changes.

Writing a fact has to find the nodes it names, and reading a question the names in it; both cost a few dictionary
look-ups here, however many facts there are. Nothing is decided from it that the store does not hold: it is synced
inside the writing transaction, when nobody else can write, and is built anew whenever it is missing.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lamina.cube.cube import MemCube, Scope
from lamina.store.base import Store
from lamina.text.graphs.identity import PERSON, UNKNOWN, fits, is_part, key, parts

ENTITY = "entity"
_MAX_SCOPES = 256
_LONGEST = 6  # tokens of a name that is looked for in a question
_TOKEN = re.compile(r"\w+(?:[.'’&+-]\w+)*")


@dataclass(frozen=True, slots=True)
class Entity:
    """A node of the graph: the id of its memory, the name as first written, its type, and whose it is."""

    id: str
    name: str
    type: str
    scope: Scope

    @property
    def key(self) -> str:
        return key(self.name)


def entity_of(cube: MemCube) -> Entity:
    tags = cube.header.tags
    return Entity(cube.id, cube.text, tags[0] if tags else UNKNOWN, cube.header.scope)


class Directory:
    """The open entities of one scope. ``Directories`` hands it out under its ``lock``."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.lock = threading.RLock()
        self._clear()

    def _clear(self) -> None:
        self._change = 0
        self._keys: dict[str, int] = {}  # entity id -> key of its open version
        self._ids: dict[int, str] = {}
        self._entities: dict[str, Entity] = {}
        self.hubs: set[str] = set()  # entities known to have very many edges: reading them all costs and tells little
        self._named: dict[str, dict[str, None]] = {}  # name's key -> ids
        self._token: dict[str, dict[str, None]] = {}  # each word of a name -> ids

    def __len__(self) -> int:
        return len(self._entities)

    def __iter__(self) -> Iterator[Entity]:
        return iter(list(self._entities.values()))

    def sync(self, store: Store) -> None:
        """Take in what was committed since the last call."""
        newest = store.last_change()
        if newest == self._change:
            return
        if self._change == 0 or newest < self._change:
            self._load(store)
        for change in store.changes(self.scope, self._change):
            id = self._ids.pop(change.key, None)
            if id is not None and self._keys.get(id) == change.key:  # an older version may be closed after the new one
                self.remove(id)
            if change.cube is not None:
                self._take(change.key, change.cube)
        self._change = max(newest, self._change)

    def _load(self, store: Store) -> None:
        """The first time only entities are read, not every memory of the scope."""
        self._clear()
        self._change = store.last_change()  # before reading, so that nothing is missed
        keys = store.keys(self.scope, {"semantic_type": ENTITY}).tolist()
        for number, cube in zip(keys, store.load(keys), strict=True):
            self._take(number, cube)

    def _take(self, number: int, cube: MemCube) -> None:
        if cube.header.semantic_type == ENTITY and cube.header.superseded is None:
            self._ids[number], self._keys[cube.id] = cube.id, number
            self.add(entity_of(cube))

    def add(self, entity: Entity) -> None:
        self.remove(entity.id)
        self._entities[entity.id] = entity
        self._named.setdefault(entity.key, {})[entity.id] = None
        for token in set(entity.key.split()):
            self._token.setdefault(token, {})[entity.id] = None

    def remove(self, id: str) -> None:
        entity = self._entities.pop(id, None)
        self.hubs.discard(id)
        if entity is not None:
            for table, names in ((self._named, {entity.key}), (self._token, set(entity.key.split()))):
                for name in names:
                    table[name].pop(id, None)
                    if not table[name]:
                        del table[name]

    # -- look-ups --------------------------------------------------------------------------------

    def get(self, id: str) -> Entity | None:
        return self._entities.get(id)

    def at(self, number: int) -> Entity | None:
        """The entity whose open version has this key."""
        return self._entities.get(self._ids.get(number, ""))

    def named(self, name: str, scope: Scope | None = None) -> list[Entity]:
        """Entities of exactly this name (by ``key``); only those of ``scope`` itself if given."""
        found = [self._entities[id] for id in self._named.get(key(name), ())]
        return [each for each in found if scope is None or each.scope == scope]

    def longer(self, name: str, type: str, scope: Scope) -> list[Entity]:
        """Entities of whose name ``name`` is a part that can stand for it, in ``scope`` itself."""
        short = key(name)
        holders = self._token.get(short.split()[0], ()) if short else ()
        found = (self._entities[id] for id in holders)
        return [e for e in found if e.scope == scope and e.type == type and is_part(short, e.key, type)]

    def alike(self, entity: Entity) -> list[Entity]:
        """Others that are the same by name, whatever part of the scope they are of: of one name and fitting types, or a
        person's short and long name where the short one can stand for one long name only."""
        found = [each for each in self.named(entity.name) if fits(each.type, entity.type)]
        if entity.type in (PERSON, UNKNOWN):
            names = {entity.key, *parts(entity.key, PERSON)}
            for short in names:
                longer = self._bearers(short)
                if len({each.key for each in longer}) == 1 and (short != entity.key or not parts(short, PERSON)):
                    found += [e for e in (*longer, *self.named(short)) if e.type in (PERSON, UNKNOWN)]
        return [each for each in dict.fromkeys(found) if each.id != entity.id]

    def _bearers(self, short: str) -> list[Entity]:
        """People, as far as is known, of whose name the key ``short`` is a part."""
        holders = (self._entities[id] for id in self._token.get(short.split()[0], ()))
        return [e for e in holders if e.type in (PERSON, UNKNOWN) and is_part(short, e.key, PERSON)]

    def mentioned(self, text: str) -> list[Entity]:
        """Entities whose name stands in ``text``, the longest names first; a short name that is part of exactly one
        long name stands for it. A name of one word counts only where it is written with a capital or is no word."""
        tokens = [m[0] for m in _TOKEN.finditer(text.replace("’", "'"))]
        found: dict[str, Entity] = {}
        at = 0
        while at < len(tokens):
            size, here = self._at(tokens, at)
            found |= {each.id: each for each in here}
            at += size
        return list(found.values())

    def _at(self, tokens: list[str], at: int) -> tuple[int, list[Entity]]:
        for size in range(min(_LONGEST, len(tokens) - at), 0, -1):
            words = tokens[at : at + size]
            if not any(word[:1].isupper() or word[:1].isdigit() for word in words):
                continue
            if here := self.named(" ".join(words)):
                return size, here
        if tokens[at][:1].isupper() and tokens[at].isalpha():
            whole = [self._entities[id] for id in self._token.get(key(tokens[at]), ())]
            whole = [each for each in whole if is_part(key(tokens[at]), each.key, each.type)]
            if len(whole) == 1:
                return 1, whole
        return 1, []


class Directories:
    """Directories by scope, the least recently used out first. Thread-safe, and no scope waits for another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the table alone
        self._known: OrderedDict[tuple[int, Scope], tuple[Store, Directory]] = OrderedDict()

    @contextmanager
    def use(self, store: Store, scope: Scope) -> Iterator[Directory]:
        """The directory of ``scope``, up to date, for as long as the ``with`` lasts."""
        name = (id(store), scope)
        with self._lock:
            _, directory = self._known.setdefault(name, (store, Directory(scope)))
            self._known.move_to_end(name)
            if len(self._known) > _MAX_SCOPES:
                self._known.popitem(last=False)
        with directory.lock:
            directory.sync(store)
            yield directory


def choose(found: list[Entity], type: str) -> Entity | None:
    """Which of several entities of one name is meant: that of the same type, else one whose type fits."""
    same = [each for each in found if each.type == type]
    return next(iter(same or [each for each in found if fits(each.type, type)]), None)
