"""A-MEM in front of a real store: what is forgotten is gone, what evolves can be undone, links respect who may see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, MemCube, Scope, Utterance
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput, NotFound
from lamina.settings import Settings
from lamina.store.base import Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text import removal
from lamina.text.base import Pipeline, Turn
from lamina.text.extraction import RulesExtractor
from lamina.text.ingestion import Batch, Ingestion
from lamina.text.linked_notes import AMem, LinkedNotes
from lamina.text.notes.book import Note, NoteBook
from lamina.text.notes.construction import in_context, with_enrichment
from lamina.text.notes.evolution import MAX_EVOLUTIONS, MAX_KEYWORDS, MAX_LATER
from lamina.text.notes.export import export_graph
from lamina.text.notes.ranking import turn_of
from lamina.text.notes.register import Registers
from lamina.text.tools import Tools
from lamina.text.update import RulesUpdater

ME = Scope(user="me")
T0 = datetime(2024, 5, 1, 9, tzinfo=UTC)
ENCODER = WordVectors()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "n.db", durable=False) as store:
        yield store


@pytest.fixture
def book(store: SqliteStore) -> NoteBook:
    return NoteBook(store, ENCODER)


def put(book: NoteBook, *texts: str, day: int = 0) -> list[str]:
    return [book.add(text, scope=ME, time=T0 + timedelta(days=day + n)).id for n, text in enumerate(texts)]


def vector_of(store: SqliteStore, id: str) -> NDArray[np.float64]:
    vector = store.vector(id)
    assert vector is not None
    return vector.astype(np.float64)


def found(book: NoteBook, query: str, **how: object) -> list[str]:
    return [turn_of(hit) for hit in book.search(query, scope=ME, **how)]  # type: ignore[arg-type]


BRIDGE = ("Ann's mentor is Marta Kell.", "Kell has an office at Orbix Labs.")
FILLER = tuple(f"Ann {verb} the {noun} every day." for verb in ("likes", "painted") for noun in ("sea", "desk"))


# -- notes ---------------------------------------------------------------------------------------


def test_a_note_is_a_memory_about_its_turn(book: NoteBook, store: SqliteStore) -> None:
    note = book.add("Lena booked a week in Lisbon with the sailing club.", scope=ME, time=T0, tags=["holiday"])
    assert note.content == "Lena booked a week in Lisbon with the sailing club."
    assert {"Lisbon", "sailing club"} <= set(note.keywords)
    assert note.tags[0] == "holiday" and "2024-05" in note.tags
    assert "1 May 2024" in note.context
    (cube,) = store.query(ME, {"semantic_type": "note"}).cubes
    assert cube.header.provenance.sources[0].id == note.id
    assert cube.header.lineage.derived_from == ((note.id, 1),)
    assert cube.header.lineage.operation == "note"
    base = ENCODER.encode([note.content])[0]
    text = f"{note.context}. {', '.join((*note.keywords, 'holiday', *(t for t in note.tags[1:] if t[0] != '2')))}"
    expected = with_enrichment(base, ENCODER.encode([text])[0]).astype(np.float64)
    np.testing.assert_allclose(vector_of(store, cube.id), expected, atol=1e-5)


def test_the_same_notes_from_the_same_words(tmp_path: Path) -> None:
    written: list[list[tuple[object, ...]]] = []
    for name in ("a.db", "b.db"):
        with SqliteStore(tmp_path / name, durable=False) as store:
            book = NoteBook(store, ENCODER)
            put(book, *BRIDGE, *FILLER, "Kell was moved to another office.")
            links = sorted((edge.relation, edge.weight, edge.reason) for edge in book.all_links(ME))
            written.append([(n.content, n.keywords, n.tags, n.context, n.version) for n in book.notes(ME)] + [(links,)])
    assert written[0] == written[1]


def test_a_dialogue_turn_takes_in_its_neighbours(store: SqliteStore) -> None:
    ingestion, _ = pipeline(store)
    texts = ["We went to Lisbon.", "Was the sailing good?", "It rained all week."]
    say(ingestion, texts[:2])
    say(ingestion, texts[2:], start=2)
    vectors = ENCODER.encode(texts)
    notes = {c.header.provenance.sources[0].id: c for c in store.query(ME, {"semantic_type": "note"}).cubes}
    turns = {c.text: c for c in store.query(ME, {"semantic_type": "turn"}).cubes}
    middle = notes[turns[texts[1]].id]
    assert middle.header.version == 2, "the turn after it came in a later call"
    assert {id for id, _ in middle.header.lineage.derived_from} == {turn.id for turn in turns.values()}
    topics = [tag for tag in middle.header.tags if not tag[0].isdigit()]
    text = f"{middle.text}. {', '.join((*middle.header.keywords, *topics))}"
    mixed = 0.6 * vectors[1] + 0.2 * vectors[0] + 0.2 * vectors[2]
    mixed /= np.linalg.norm(mixed)
    np.testing.assert_allclose(in_context(vectors[1], vectors[0], vectors[2]), mixed, atol=1e-6)
    expected = 0.8 * mixed + 0.2 * ENCODER.encode([text])[0]
    np.testing.assert_allclose(vector_of(store, middle.id), expected / np.linalg.norm(expected), atol=1e-5)
    relations = {edge.relation for edge in store.edges(ME)}
    assert "follows" in relations


# -- search --------------------------------------------------------------------------------------


def test_links_reach_what_words_do_not(book: NoteBook) -> None:
    mentor, office, *_ = put(book, *BRIDGE, *FILLER)
    question = "Where does Ann's mentor spend the day?"
    assert office not in found(book, question, k=4, expand=False)
    assert mentor in found(book, question, k=4)[:2]
    assert office in found(book, question, k=4)
    hit = next(hit for hit in book.search(question, scope=ME, k=4) if turn_of(hit) == office)
    assert any(part == f"link same_entity from {mentor}" for part in hit.parts)
    assert hit.score == pytest.approx(sum(hit.parts.values()))


@pytest.mark.parametrize("expand", ["auto", True, False])
def test_never_more_than_k_and_each_once(book: NoteBook, expand: object) -> None:
    put(book, *BRIDGE, *FILLER, "Kell was moved to another office.")
    for k in (1, 2, 3, 5, 50):
        ids = found(book, "Where does Ann's mentor work?", k=k, expand=expand)
        assert len(ids) == len(set(ids)) == min(k, 7)


def test_a_question_without_a_bridge_follows_no_links(book: NoteBook) -> None:
    put(book, *BRIDGE, *FILLER)
    hits = book.search("Who painted the desk?", scope=ME, k=4)
    assert not any(part.startswith("link ") for hit in hits for part in hit.parts)


def test_notes_are_never_shown_in_place_of_what_was_said(book: NoteBook) -> None:
    put(book, *BRIDGE, *FILLER)
    hits = book.search("mentor office Orbix Labs later about", scope=ME, k=6, expand=True)
    shown = [cube for hit in hits for cube in (hit.cube, *hit.facts)]
    assert {cube.header.semantic_type for cube in shown} == {"turn"}


def test_links_respect_filters_and_time(book: NoteBook, store: SqliteStore) -> None:
    mentor, office, *_ = put(book, *BRIDGE, *FILLER)
    question = "Where does Ann's mentor spend the day?"
    before = T0 + timedelta(hours=1)
    assert found(book, question, k=4, as_of=before) == [mentor]
    (vector,) = ENCODER.encode([question])
    allow = store.keys(ME, {"id": {"ne": office}})
    hits = book.retriever.search(question, vector, store, ME, k=4, allow=allow, expand=True)
    assert office not in [turn_of(hit) for hit in hits]
    assert book.retriever.search(question, vector, store, Scope(user="you"), k=4, expand=True) == []


# -- evolution -----------------------------------------------------------------------------------

PLAN, NEWS = "Lena booked a week in Lisbon with the club.", "The Lisbon week fell through because of storms."


def test_an_old_note_learns_what_became_of_it(book: NoteBook, store: SqliteStore) -> None:
    plan, news, *_ = put(book, PLAN, NEWS, *FILLER)
    note = book.get(plan)
    assert note.content == PLAN
    assert "fell through" in note.keywords and "status:cancelled" in note.tags
    assert "later: fell through" in note.context and news in note.because
    assert [version.made_by for version in book.history(plan)] == ["note", "evolve"]
    assert found(book, "What fell through?", k=2) == [news, plan]
    cube = store.query(ME, {"semantic_type": "note"}).cubes
    assert all(np.linalg.norm(vector_of(store, each.id)) == pytest.approx(1, abs=1e-5) for each in cube)


def test_evolution_can_be_undone_and_the_past_asked(book: NoteBook, store: SqliteStore) -> None:
    (plan,) = put(book, PLAN)
    first, vector = book.get(plan), vector_of(store, note_id(store, plan))
    put(book, NEWS, day=1)
    undone = book.rollback(plan, 1)
    assert (undone.keywords, undone.tags, undone.context) == (first.keywords, first.tags, first.context)
    assert [version.made_by for version in book.history(plan)] == ["note", "evolve", "rollback"]
    np.testing.assert_allclose(vector_of(store, note_id(store, plan)), vector, atol=1e-5)
    with pytest.raises(NotFound, match="version=9"):
        book.rollback(plan, 9)
    seen = store.query(ME, {"semantic_type": "note"}, as_of=T0 + timedelta(hours=1)).cubes
    assert [cube.text for cube in seen] == [first.context]


def test_evolution_is_bounded(book: NoteBook) -> None:
    (plan,) = put(book, "Lena is going to Lisbon.")
    for hour in range(24):
        book.add(
            f"Lisbon news {_WORDS[hour % 12]}{hour} brings {_WORDS[-1 - hour % 12]}{hour}.",
            scope=ME,
            time=T0 + timedelta(minutes=30 * (hour + 1)),
        )
    versions = book.history(plan)
    assert len(versions) <= 1 + 12, "at most once an hour, over twelve hours"
    assert len(versions) > 2
    assert all(len(v.keywords) <= MAX_KEYWORDS and v.context.count("later:") <= MAX_LATER for v in versions)
    assert all(v.content == "Lena is going to Lisbon." for v in versions)


_WORDS = (
    "herring",
    "violet",
    "granite",
    "trumpet",
    "lantern",
    "pepper",
    "saddle",
    "walnut",
    "ribbon",
    "magnet",
    "oat",
    "elm",
)


def test_one_turn_teaches_three_notes_at_most(book: NoteBook) -> None:
    old = put(book, *(f"{name} is going to Lisbon with {pet}." for name, pet in zip("ABCDEF", _WORDS, strict=False)))
    put(book, "The Lisbon fair was called off.", day=9)
    assert sum(book.get(id).version > 1 and "later" in book.get(id).context for id in old) == MAX_EVOLUTIONS


def test_evolve_on_demand_after_the_hour(book: NoteBook) -> None:
    quick = [T0, T0 + timedelta(minutes=1), T0 + timedelta(hours=2)]
    texts = [PLAN, "Lisbon will be hot.", NEWS]
    plan, *_ = [book.add(text, scope=ME, time=at).id for text, at in zip(texts, quick, strict=True)]
    learned = book.get(plan).version
    assert book.evolve(plan).version in (learned, learned + 1)
    assert "fell through" in book.get(plan).keywords


# -- forgetting, deleting, refusing --------------------------------------------------------------


def test_forgetting_reaches_notes_that_took_words(book: NoteBook, store: SqliteStore, tmp_path: Path) -> None:
    plan, news = put(book, PLAN, "Zanzibarine fell through for Lisbon.")
    assert "zanzibarine" in repr(book.history(plan)).lower()
    gone = book.forget(news)
    assert news in gone and plan not in gone
    rebuilt = book.get(plan)
    assert rebuilt.content == PLAN and rebuilt.version == 1 and "zanzibarine" not in repr(book.history(plan)).lower()
    assert book.links(plan) == []
    assert found(book, "Zanzibarine", k=3) == [plan]
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and b"anzibarine" in f.read_bytes()]
    with pytest.raises(NotFound):
        book.get(news)


def test_deleting_hides_a_note_and_its_links(book: NoteBook, store: SqliteStore) -> None:
    _mentor, office, *_ = put(book, *BRIDGE, *FILLER)
    book.delete(office)
    assert office not in found(book, "Where does Ann's mentor spend the day?", k=9, expand=True)
    assert all(office not in (edge.source, edge.target) for edge in book.all_links(ME))
    assert store.get(office) is not None


def test_a_neighbour_keeps_a_note_when_what_it_learned_from_is_deleted(book: NoteBook) -> None:
    plan, news = put(book, PLAN, NEWS)
    assert "fell through" in str(book.get(plan).keywords)
    book.delete(news)
    assert [note.id for note in book.notes(ME)] == [plan]
    assert "fell through" not in str(book.get(plan))


def test_a_note_of_the_past_that_was_rolled_back_learns_again(book: NoteBook) -> None:
    (plan,) = put(book, PLAN)
    put(book, NEWS, day=1)
    assert book.rollback(plan, 1).version == 3
    put(book, "The Lisbon week was postponed after all.", day=9)
    assert book.get(plan).version == 4 and "postponed" in book.get(plan).keywords


class Keeping(WordVectors):
    """Remembers what it encoded until it is told to forget it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: set[str] = set()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.kept.update(texts)
        return super().encode(texts)

    def forget(self, texts: Iterable[str]) -> None:
        self.kept.difference_update(texts)


@pytest.mark.parametrize("name", ["a-mem", "mem0-graph"])
def test_nothing_of_what_is_forgotten_stays_in_the_embedder(tmp_path: Path, name: str) -> None:
    keeping = Keeping()
    with Memory(tmp_path / "m.db", embedder=keeping, settings=Settings(pipeline=name, tenant="default")) as memory:
        memory.add("The Zorbax kayak was sold by Wobbleton Foo and Fribble in Drognak.", user_id="me")
        for turn in memory.store.query(ME, {"semantic_type": "turn"}).cubes:
            memory.forget(turn.id)
    words = ("zorbax", "wobbleton", "fribble", "drognak")
    assert [text for text in keeping.kept if any(word in text.lower() for word in words)] == []


def test_tags_and_speakers_of_what_is_forgotten_are_not_remembered(store: SqliteStore) -> None:
    registers = Registers()
    book = NoteBook(store, ENCODER)
    kept = book.add("I like tea.", scope=ME, time=T0, tags=["drink"])
    gone = book.add("Something harmless here.", scope=ME, time=T0, tags=["canarytag", "drink"])
    assert registers.get(store, ME).tags["drink"] == 2
    book.forget(gone.id)
    register = registers.get(store, ME)
    assert "canarytag" not in register.tags and register.tags["drink"] == 1
    assert register.speakers["user"] == 1
    book.forget(kept.id)
    assert not registers.get(store, ME).tags and not register.speakers


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda book, id: book.add("x y", scope=ME, tags="abc"), "tags"),
        (lambda book, id: book.add("x y", scope="u"), "scope"),
        (lambda book, id: book.add("x y", scope=ME, time="2024-01-01"), "times"),
        (lambda book, id: book.add(None, scope=ME), "text"),
        (lambda book, id: book.add_many("abc", scope=ME), "contents"),
        (lambda book, id: book.search("x", scope=ME, k="5"), "k="),
        (lambda book, id: book.search("x", scope=ME, k=True), "k="),
        (lambda book, id: book.search("x", scope=ME, expand="yes"), "expand"),
        (lambda book, id: book.search("x", scope=ME, expand=1), "expand"),
        (lambda book, id: book.search("x", scope="u"), "scope"),
        (lambda book, id: book.search("x", scope=ME, as_of=datetime(2024, 1, 1)), "as_of"),
        (lambda book, id: book.rollback(id, None), "version"),
        (lambda book, id: book.rollback(id, True), "version"),
        (lambda book, id: book.neighbourhood(id, True), "hops"),
        (lambda book, id: book.forget(id, reason=None), "reason"),
        (lambda book, id: book.notes("u"), "scope"),
        (lambda book, id: book.consolidate(None), "scope"),
    ],
)
def test_wrong_types_are_told_by_the_name_of_the_argument(
    book: NoteBook, call: Callable[[Any, str], object], argument: str
) -> None:
    (id,) = put(book, "Anything at all.")
    with pytest.raises(InvalidInput, match=argument):
        call(book, id)
    assert len(book.notes(ME)) == 1


def test_consolidate_writes_only_what_is_missing(book: NoteBook) -> None:
    put(book, *BRIDGE)
    assert book.consolidate(ME) == 0


def test_an_error_inside_the_transaction_leaves_nothing(store: SqliteStore) -> None:
    connector = AMem(Tools(store, ENCODER, IndexCache()))
    turn = said("Ann's mentor is Marta Kell.", 0)
    vectors = ENCODER.encode([turn.text])
    connect = connector.prepare(ME, [turn], vectors)
    with pytest.raises(RuntimeError), store.transaction() as tx:
        tx.insert([Write(turn, vectors[0])])
        connect(tx, [])
        raise RuntimeError("power cut")
    assert store.query(ME).cubes == [] and store.edges(ME) == []


def test_a_change_of_a_note_that_moved_on_is_left_out(store: SqliteStore) -> None:
    book = NoteBook(store, ENCODER)
    (plan,) = put(book, PLAN)
    news = said(NEWS, 1)
    vectors = ENCODER.encode([NEWS])
    connect = book.connector.prepare(ME, [news], vectors)
    book.forget(plan)
    with store.transaction() as tx:
        tx.insert([Write(news, vectors[0])])
        connect(tx, [])
    assert [note.content for note in book.notes(ME)] == [NEWS]
    assert store.edges(ME) == []


@pytest.mark.parametrize("call", ["get", "links", "history", "neighbourhood", "delete", "forget", "evolve"])
def test_unknown_ids(book: NoteBook, call: str) -> None:
    with pytest.raises(NotFound, match="no such note"):
        getattr(book, call)("nobody")


def test_bad_arguments(book: NoteBook) -> None:
    with pytest.raises(InvalidInput, match="times"):
        book.add("x is y", scope=ME, time=datetime(2024, 1, 1))
    with pytest.raises(InvalidInput, match="k=0"):
        book.search("x", scope=ME, k=0)
    (id,) = put(book, "Anything at all.")
    with pytest.raises(InvalidInput, match="hops=3"):
        book.neighbourhood(id, 3)
    with pytest.raises(InvalidInput, match="format"):
        export_graph(book, ME, "pdf")


def test_unlink_neighbourhood_and_export(book: NoteBook) -> None:
    mentor, office = put(book, *BRIDGE)
    assert [reached.id for reached in book.neighbourhood(mentor)] == [office]
    pages = export_graph(book, ME, "obsidian")
    assert len(pages) == 2 and any("[[Kell has an office" in page for page in pages.values())
    assert "both mention" in export_graph(book, ME, "json")["notes.json"]
    assert "<edge" in export_graph(book, ME, "graphml")["notes.graphml"]
    assert book.unlink(mentor, office) == 1
    assert book.links(mentor) == [] and book.unlink(mentor, office) == 0


# -- helpers -------------------------------------------------------------------------------------


def pipeline(store: SqliteStore) -> tuple[Ingestion, LinkedNotes]:
    indexes, registers = IndexCache(), Registers()
    tools = Tools(store, ENCODER, indexes)
    retriever = LinkedNotes(tools, registers)
    parts = Pipeline(RulesExtractor(), RulesUpdater(), retriever, (AMem(tools, registers),))
    return Ingestion(store, ENCODER, parts, indexes), retriever


def say(ingestion: Ingestion, texts: list[str], start: int = 0) -> None:
    turns = [
        Turn(text, "Lena", "user", T0 + timedelta(minutes=start + n), "s1", start + n) for n, text in enumerate(texts)
    ]
    ingestion.write([Batch(ME, turns)])


def said(text: str, day: int) -> MemCube:
    at = T0 + timedelta(days=day)
    header = Header(
        semantic_type="turn", scope=ME, created=at, recorded=at, utterance=Utterance(f"s{day}", 0, "User", "user")
    )
    return MemCube(header, TextPayload(text))


def note_id(store: SqliteStore, turn: str) -> str:
    return next(
        cube.id
        for cube in store.query(ME, {"semantic_type": "note"}).cubes
        if cube.header.provenance.sources[0].id == turn
    )


def test_facts_and_notes_of_a_conversation_live_side_by_side(store: SqliteStore) -> None:
    ingestion, retriever = pipeline(store)
    say(ingestion, ["I live in Boston.", "I moved to Denver."])
    (vector,) = ENCODER.encode(["Where does Lena live?"])
    hits = retriever.search("Where does Lena live?", vector, store, ME, k=2)
    assert "Denver" in hits[0].cube.text, "what holds now comes first, whatever the notes say"
    assert hits[0].score == pytest.approx(sum(hits[0].parts.values()))
    assert all(cube.header.semantic_type != "note" for hit in hits for cube in (hit.cube, *hit.facts))
    assert isinstance(NoteBook(store, ENCODER).notes(ME)[0], Note)


@pytest.mark.parametrize("how", ["forget", "delete", "update"])
def test_neighbours_keep_a_note_when_a_turn_goes(tmp_path: Path, how: str) -> None:
    with Memory(tmp_path / "m.db", embedder=ENCODER, settings=Settings(pipeline="a-mem", tenant="default")) as memory:
        said = ["I bought a canoe in Oslo.", "The Qanary canoe leaks badly.", "A joiner will mend it."]
        memory.add([{"role": "user", "content": text} for text in said], user_id="me", timestamp="2024-05-01")
        turns = memory.store.query(ME, {"semantic_type": "turn"}, newest_first=False).cubes
        gone = turns[1].id
        if how == "update":
            memory.update(gone, "The canoe is fine.")
        else:
            getattr(memory, how)(gone)
        left = memory.store.query(ME, {"semantic_type": "turn"}).cubes
        notes = memory.store.query(ME, {"semantic_type": "note"}).cubes
        assert {note.header.provenance.sources[0].id for note in notes} == {turn.id for turn in left}
        assert len(left) == (3 if how == "update" else 2)
        assert not any("qanary" in str(note).lower() for note in notes)


class Interrupted(WordVectors):
    """Something else happens while it is asked for the third time: labels, one note, another."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        super().__init__()
        self.meanwhile, self.asked = meanwhile, 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += 1
        if self.asked == 3:
            thread = threading.Thread(target=self.meanwhile, daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive(), "the store is locked while a model is asked"
        return super().encode(texts)


def _correct(other: SqliteStore, turns: Sequence[MemCube]) -> None:
    removal.correct(other, ENCODER, turns[0], replace(turns[0].header, version=2), "I bought a boat in Bergen.")


@pytest.mark.parametrize(
    ("meanwhile", "written", "then"),
    [
        (lambda other, turns: other.query(ME), 2, 0),
        (lambda other, turns: NoteBook(other, ENCODER).consolidate(ME), 0, 0),
        (lambda other, turns: removal.delete(other, turns[0], datetime.now(UTC)), 0, 1),
        (lambda other, turns: removal.forget(other, ENCODER, [turns[0].id], reason="asked"), 0, 1),
        (_correct, 0, 2),
    ],
    ids=["nothing", "written", "deleted", "forgotten", "corrected"],
)
def test_consolidate_asks_before_it_locks_and_leaves_what_changed_meanwhile(
    tmp_path: Path, meanwhile: Callable[[SqliteStore, Sequence[MemCube]], object], written: int, then: int
) -> None:
    with SqliteStore(tmp_path / "n.db", durable=False) as store, SqliteStore(tmp_path / "n.db", durable=False) as other:
        say(pipeline(store)[0], ["I bought a canoe in Oslo.", "The canoe leaks badly."])
        turns = store.query(ME, {"semantic_type": "turn"}, newest_first=False).cubes
        with store.transaction() as tx:
            tx.forget([cube.id for cube in store.query(ME, {"semantic_type": "note"}).cubes])
        connector = AMem(Tools(store, Interrupted(lambda: meanwhile(other, turns)), IndexCache()))
        assert connector.consolidate(ME) == written
        assert connector.consolidate(ME) == then
        open_turns = {cube.id for cube in store.query(ME, {"semantic_type": "turn"}).cubes}
        notes = store.query(ME, {"semantic_type": "note"}).cubes
        assert sorted(note.header.provenance.sources[0].id for note in notes) == sorted(open_turns)
        assert all(id in open_turns for note in notes for id, _ in note.header.lineage.derived_from)
