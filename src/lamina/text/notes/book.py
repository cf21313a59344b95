"""``NoteBook``: A-MEM for people who keep notes rather than conversations.

    book = NoteBook(store, embedder)
    note = book.add("Ann's mentor is Marta Kell.", scope=Scope(user="me"))
    book.search("Where does Ann's mentor work?", scope=Scope(user="me"))

A note is known by the id of its content (the verbatim turn). Content is never changed: keywords, tags and context
are, by what comes later; ``history`` shows every version of them and ``rollback`` returns to one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lamina.cube.cube import Header, MemCube, Scope, Utterance, new_id, now
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput, NotFound
from lamina.llm.base import ChatModel, Embedder
from lamina.store.base import Edge, Reached, Store, Write
from lamina.store.index import IndexCache
from lamina.text import checks, removal
from lamina.text.arguments import clean_text, memory_text, positive, short
from lamina.text.base import Hit
from lamina.text.linked_notes import AMem, LinkedNotes
from lamina.text.notes.following import Expand
from lamina.text.notes.linking import RELATIONS
from lamina.text.notes.register import Registers
from lamina.text.tools import Tools

MAX_RESULTS, MAX_VERSION = 10_000, 2**31 - 1


@dataclass(frozen=True, slots=True)
class Note:
    """Content and what is noted of it. ``made_by`` is the operation of this version: note, evolve, rollback."""

    id: str
    content: str
    time: datetime
    keywords: tuple[str, ...]
    tags: tuple[str, ...]
    context: str
    version: int
    made_by: str
    because: tuple[str, ...]  # ids of the turns it rests on beside its own


class NoteBook:
    """Notes of any number of scopes in one store. Thread-safe; ``llm`` writes notes where rules would."""

    def __init__(
        self,
        store: Store,
        embedder: Embedder,
        llm: ChatModel | None = None,
        *,
        links: bool = True,
        evolve: bool = True,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._indexes = IndexCache()
        tools = Tools(store, embedder, self._indexes, llm)
        registers = Registers()
        self.connector = AMem(tools, registers, links=links, evolve=evolve)
        self.retriever = LinkedNotes(tools, registers)

    # -- writing ---------------------------------------------------------------------------------

    def add(self, content: str, *, scope: Scope, time: datetime | None = None, tags: Sequence[str] = ()) -> Note:
        """Keep ``content``, write its note, link it, let older notes learn from it. Raises ``InvalidInput``."""
        return self.add_many([content], scope=scope, times=None if time is None else [time], tags=tags)[0]

    def add_many(
        self,
        contents: Sequence[str],
        *,
        scope: Scope,
        times: Sequence[datetime] | None = None,
        tags: Sequence[str] = (),
    ) -> list[Note]:
        """``add`` for several, in order, in one transaction. ``times`` (with a time zone) default to now."""
        checks.scope(scope)
        texts = [memory_text(content) for content in checks.several("contents", contents)]
        stamps = checks.several("times", times) if times is not None else [now()] * len(texts)
        if len(stamps) != len(texts):
            raise InvalidInput(f"times={short(times)}: give one time for each of {len(texts)} contents")
        stamps = [checks.zoned("times", stamp) for stamp in stamps]
        labels = [clean_text("tags", tag, 40) for tag in checks.several("tags", tags)]
        turns = [_content(text, scope, at) for text, at in zip(texts, stamps, strict=True)]
        vectors = self._embedder.encode(texts)
        plan = self.connector.plan(scope, turns, vectors, labels)
        with self._store.transaction() as tx:
            tx.insert([Write(turn, vector) for turn, vector in zip(turns, vectors, strict=True)])
            plan.write(tx)
        return [self.get(turn.id) for turn in turns]

    def evolve(self, id: str) -> Note:
        """Let a note learn now from the newer notes it is linked to, within the usual bounds."""
        self.connector.relearn(self._turn(id))
        return self.get(id)

    def rollback(self, id: str, version: int) -> Note:
        """A new version of the note with keywords, tags and context of an older one. Raises ``NotFound``."""
        positive("version", version, MAX_VERSION)
        old = self._store.get(self._note(id).id, version=version)
        if old is None:
            raise NotFound(f"version={short(version)}: note {id} has no such version; history() lists them")
        self.connector.restore(self._turn(id), old)
        return self.get(id)

    def unlink(self, one: str, other: str) -> int:
        """Close all links between two notes; how many there were. They stay in the past (``as_of``)."""
        self._turn(one), self._turn(other)
        with self._store.transaction() as tx:
            edges = [edge for edge in tx.edges([one]) if {edge.source, edge.target} == {one, other}]
            at = max([now(), *(edge.recorded for edge in edges)])
            return sum(tx.disconnect(e.source, e.target, e.relation, at=at) for e in edges if e.relation in RELATIONS)

    def delete(self, id: str) -> None:
        """Take content and note out of use; both stay in history. Raises ``NotFound``.

        Notes that took words from it go too, and are written anew without it.
        """
        turn = self._turn(id)
        removal.delete(self._store, turn, now())
        self.connector.mend(turn.header.scope)

    def forget(self, id: str, *, reason: str = "asked to forget") -> list[str]:
        """Erase content, note and links, and every note that took words from it; then write those anew without it.

        Returns the ids that were erased. Raises ``NotFound``.
        """
        scope = self._turn(id).header.scope
        clean_text("reason", reason)
        gone = removal.forget(self._store, self._embedder, [id], reason=reason)
        self._indexes.drop(self._store)
        self.consolidate(scope)
        return gone

    def consolidate(self, scope: Scope) -> int:
        """Write the notes that are missing; how many. See ``AMem.consolidate``."""
        return self.connector.consolidate(checks.scope(scope))

    # -- reading ---------------------------------------------------------------------------------

    def get(self, id: str) -> Note:
        """A note in its newest version. Raises ``NotFound``."""
        return _note(self._turn(id), self._note(id))

    def search(
        self, query: str, *, scope: Scope, k: int = 10, expand: Expand = "auto", as_of: datetime | None = None
    ) -> list[Hit]:
        """The ``k`` notes that answer ``query``; the parts of a hit say which link led to it, if one did."""
        checks.scope(scope)
        positive("k", k, MAX_RESULTS)
        if expand is not True and expand is not False and expand != "auto":
            raise InvalidInput(f"expand={short(expand)}: pass 'auto', True or False")
        if as_of is not None:
            checks.zoned("as_of", as_of)
        (vector,) = self._embedder.encode([memory_text(query)])
        return self.retriever.search(query, vector, self._store, scope, k=k, as_of=as_of, expand=expand)

    def links(self, id: str) -> list[Edge]:
        """Open links of a note, the strongest first. Raises ``NotFound``."""
        edges = self._store.edges(self._turn(id).header.scope, [id], relations=sorted(RELATIONS))
        return sorted(edges, key=lambda edge: (-edge.weight, edge.source, edge.target))

    def neighbourhood(self, id: str, hops: int = 1) -> list[Reached]:
        """Notes within one or two links. Raises ``NotFound``, ``InvalidInput``."""
        positive("hops", hops, 2)
        return self._store.reach(self._turn(id).header.scope, [id], hops=hops, relations=sorted(RELATIONS))

    def history(self, id: str) -> list[Note]:
        """Every version of a note, oldest first. Raises ``NotFound``."""
        turn = self._turn(id)
        return [_note(turn, version) for version in self._store.versions(self._note(id).id)]

    def notes(self, scope: Scope) -> list[Note]:
        """Open notes of a scope, oldest first."""
        checks.scope(scope)
        found: list[Note] = []
        cursor: str | None = None
        while True:
            page = self._store.query(scope, {"semantic_type": "note"}, limit=1000, cursor=cursor, newest_first=False)
            for note in page.cubes:
                turn = self._store.get(note.header.provenance.sources[0].id)
                if turn is not None and turn.header.superseded is None:
                    found.append(_note(turn, note))
            if (cursor := page.cursor) is None:
                return sorted(found, key=lambda note: (note.time, note.id))

    def all_links(self, scope: Scope) -> list[Edge]:
        """Open links within a scope."""
        return self._store.edges(checks.scope(scope), relations=sorted(RELATIONS))

    def _turn(self, id: str) -> MemCube:
        cube = self._store.get(clean_text("id", id, 255))
        if cube is None or cube.header.utterance is None:
            raise NotFound(f"id={short(id)}: no such note; notes() lists them")
        return cube

    def _note(self, id: str) -> MemCube:
        note = self.connector.note_about(self._turn(id))
        if note is None:
            raise NotFound(f"id={short(id)}: its note was lost with what it rested on; consolidate() writes it anew")
        return note


def _content(text: str, scope: Scope, at: datetime) -> MemCube:
    """A note's content: a turn in a session of its own."""
    id = new_id()
    header = Header(
        id=id, semantic_type="turn", scope=scope, created=at, recorded=at, utterance=Utterance(id, 0, "User", "user")
    )
    return MemCube(header, TextPayload(text))


def _note(turn: MemCube, note: MemCube) -> Note:
    header = note.header
    return Note(
        turn.id,
        turn.text,
        turn.header.recorded,
        header.keywords,
        header.tags,
        note.text,
        header.version,
        header.lineage.operation,
        tuple(id for id, _ in header.lineage.derived_from if id != turn.id),
    )
