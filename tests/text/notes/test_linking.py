"""Links: each channel does what it says, against a naive count; few per turn; names mean one person or nobody."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.store.analysis import terms
from lamina.store.sqlite import SqliteStore
from lamina.text.notes.book import NoteBook
from lamina.text.notes.linking import MAX_LINKS, SIMILAR
from lamina.text.notes.register import Keys, Postings, Register

ME = Scope(user="me")
T0 = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[NoteBook]:
    with SqliteStore(tmp_path / "n.db", durable=False) as store:
        yield NoteBook(store, WordVectors())


def put(book: NoteBook, *texts: str, day: int = 0) -> list[str]:
    return [book.add(text, scope=ME, time=T0 + timedelta(days=day + n)).id for n, text in enumerate(texts)]


def linked(book: NoteBook, id: str) -> dict[str, tuple[str, float]]:
    return {(e.target if e.source == id else e.source): (e.relation, e.weight) for e in book.links(id)}


def test_a_bare_surname_means_the_only_bearer(book: NoteBook) -> None:
    mentor, _, work = put(book, "Ann's mentor is Marta Kell.", "The tram was late today.", "Kell works at Orbix Labs.")
    relation, weight = linked(book, work)[mentor]
    assert relation == "same_entity"
    assert weight == pytest.approx(1 / math.log2(1 + 2))  # two turns mention Kell


def test_with_two_bearers_a_bare_surname_means_neither(book: NoteBook) -> None:
    marta, jon, bare = put(
        book, "Ann's mentor is Marta Kell.", "Somebody called Jon Kell moved in.", "Kell works at Orbix Labs."
    )
    assert not {marta, jon} & linked(book, bare).keys()
    (full,) = put(book, "We met Marta Kell again.", day=5)
    assert linked(book, full)[marta][0] == "same_entity"
    assert jon not in linked(book, full)


def test_a_link_over_a_surname_ends_when_a_second_bearer_appears(book: NoteBook) -> None:
    mentor, bare = put(book, "Ann's mentor is Marta Kell.", "Kell works at Orbix Labs.")
    assert mentor in linked(book, bare)
    put(book, "Somebody called Jon Kell moved in.", day=3)
    assert mentor not in linked(book, bare)


def test_what_everybody_mentions_links_nobody(book: NoteBook) -> None:
    ids = put(book, *(f"Number {n} of the visits to old Lisbon, {word}." for n, word in enumerate(_WORDS)))
    reasons = {edge.reason for id in ids for edge in book.links(id)}
    assert "both mention 'lisbon'" not in reasons, "ten turns carry it: the links of the first eight ended"
    assert len(ids) > 8


_WORDS = ["herring", "violet", "granite", "trumpet", "lantern", "pepper", "saddle", "walnut", "ribbon", "magnet"]


@pytest.mark.parametrize("at_once", [True, False])
def test_turns_written_together_link_like_turns_written_one_by_one(book: NoteBook, at_once: bool) -> None:
    texts = ["Ann's mentor is Marta Kell.", "The tram was late today.", "Marta Kell works at Orbix Labs."]
    times = [T0 + timedelta(days=n) for n in range(3)]
    together = book.add_many(texts, scope=ME, times=times) if at_once else []
    ids = [note.id for note in together] or put(book, *texts)
    relation, weight = linked(book, ids[2])[ids[0]]
    assert (relation, round(weight, 6)) == ("same_entity", round(1 / math.log2(3), 6))
    assert ids[1] not in linked(book, ids[0])


def test_similar_means_mutual_nearest_and_above_the_floor(book: NoteBook) -> None:
    rng = np.random.default_rng(3)
    pool = ["apple", "orchard", "harvest", "cider", "ladder", "basket", "wasps", "autumn"]
    texts = [" ".join(["people saw", *rng.choice(pool, 5)]) + "." for _ in range(40)]
    ids = put(book, *texts)
    vectors = WordVectors().encode(texts).astype(np.float64)
    cosines = vectors @ vectors.T - 2 * np.eye(len(texts))
    for source in range(len(texts)):
        for other, (relation, weight) in linked(book, ids[source]).items():
            edge = next(e for e in book.links(ids[source]) if other in (e.source, e.target))
            if relation == "same_topic" and edge.reason.startswith("similar"):
                newer, older = ids.index(edge.source), ids.index(edge.target)
                seen = cosines[: newer + 1, : newer + 1]
                assert weight == pytest.approx(cosines[newer, older], abs=1e-5)
                assert weight >= SIMILAR
                assert (seen[newer] > weight + 1e-5).sum() < 5
                assert (seen[older] > weight + 1e-5).sum() < 5


def test_no_turn_has_more_than_eight_links(book: NoteBook) -> None:
    rng = np.random.default_rng(1)
    names = [f"{a}{b}" for a in ("Bra", "Kor", "Lim", "Tov") for b in ("nik", "sel", "dan", "mur", "fip")]
    texts = [f"We saw {' and '.join(rng.choice(names, 4, replace=False))} at noon." for _ in range(30)]
    for id in put(book, *texts):
        assert len(book.links(id)) <= MAX_LINKS


def test_links_lead_from_the_newer_to_the_older_and_name_their_evidence(book: NoteBook) -> None:
    old, new = put(book, "Ann's mentor is Marta Kell.", "Marta Kell works at Orbix Labs.")
    (edge,) = book.links(new)
    assert (edge.source, edge.target, edge.evidence) == (new, old, new)
    assert edge.recorded == T0 + timedelta(days=1)


def test_scopes_never_meet(book: NoteBook) -> None:
    book.add("Ann's mentor is Marta Kell.", scope=Scope(user="you"), time=T0)
    book.add("Marta Kell gave a talk.", scope=Scope(user="me", run="r1"), time=T0)
    (mine,) = put(book, "Marta Kell works at Orbix Labs.", day=2)
    assert book.links(mine) == []


@given(st.lists(st.lists(st.sampled_from(["ann", "kell", "lisbon", "kayak"]), min_size=1, max_size=3), max_size=14))
def test_postings_count_what_a_naive_scan_counts(rows: list[list[str]]) -> None:
    postings = Postings()
    kept: dict[str, Keys] = {}
    for number, row in enumerate(rows):
        keys = Keys.of(" ".join(row))
        if number % 4 == 3:
            gone, old = kept.popitem()
            postings.remove(gone, old)
        kept[str(number)] = keys
        postings.add(str(number), keys)
    for word in ("ann", "kell", "lisbon", "kayak"):
        expected = [id for id, keys in kept.items() if word in keys.words]
        assert postings.frequency(*terms(word)) == len(expected) if expected else True
        carriers = postings.carriers(*terms(word))
        assert carriers is None or sorted(carriers) == sorted(expected)


def test_a_register_read_anew_knows_the_same(book: NoteBook) -> None:
    ids = put(book, "Ann's mentor is Marta Kell.", "Kell works at Orbix Labs.", "A third one about Orbix Labs.")
    book.forget(ids[1])
    fresh = Register(ME)
    fresh.sync(book._store)
    grown = book.connector._registers.get(book._store, ME)
    assert fresh.notes == grown.notes
    assert sorted(fresh.open_turns()) == sorted(grown.open_turns()) == sorted([ids[0], ids[2]])
    assert fresh.postings._carriers == grown.postings._carriers
    assert fresh.postings.owners == grown.postings.owners
