"""A-MEM: do linked, evolving notes reach what a question's words do not? No language model: the rules are measured.

Four experiments. *Bridging* and *evolution* run on invented notes (``lamina.bench.experiments.text.note_corpora``), 40
notes at a time through ``NoteBook``, in wordings that the rules were not developed on. The ablations are the same
code and the same results count with a part switched off; the paper's own way to propose links is an arm too: the 5
nearest notes by cosine. *LoCoMo* (where ``LAMINA_LOCOMO`` names the file) compares a note's vector with that of its
turn (who speaks put before it, as plain vector stores do: notes name the speaker too), and what ``expand="auto"``
costs questions that need no link. *Cost* adds notes to a box of 10 000 with vectors that need no model.

Every arm returns at most 10 notes a question, cut where they would have more words than the 10 nearest by cosine:
links must not buy recall with context.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.conversations.dataset import Conversation, load_locomo
from lamina.bench.conversations.locomo import data_file, has_data
from lamina.bench.experiments.text.note_corpora import Corpus, bridging, evolution
from lamina.bench.synthetic import Chatter, WordVectors
from lamina.cube.cube import Header, MemCube, Scope, Utterance
from lamina.cube.payload import TextPayload
from lamina.llm.base import Embedder
from lamina.store.base import Edge, Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.linked_notes import AMem, LinkedNotes
from lamina.text.notes.book import NoteBook
from lamina.text.notes.following import Expand
from lamina.text.notes.ranking import turn_of
from lamina.text.notes.register import Registers
from lamina.text.tools import Tools

K = 10
_ME = Scope(user="me")
_WRITE = 40  # notes added at a time
_NEAREST = 5  # candidates of the paper's code

BRIDGED = Claim("Links reach the note over a third name", "recall@10 of the second note", "", 0.60, of="ours")
OVER_NEAREST = Claim(
    "Shared rare names propose bridges that the nearest notes do not", "recall@10 of the second note", "", 5.0
)
UNREACHABLE = Claim(
    "The question alone does not find the second note", "recall@10 of cosine", "", 0.10, better="less", of="ours"
)
KEPT = Claim("The first note is not lost for it", "loss of recall@10", "", 0.05, better="less", of="ours")
WRONG = Claim(
    "Links do not lead to namesakes",
    "share of questions with a note linked wrongly",
    "",
    0.15,
    better="less",
    of="ours",
)
EVOLVED = Claim("Old notes are found by what became of them", "recall@10 gained by evolution", "", 0.15, of="ours")
EVOLVED_OTHERWISE = Claim(
    "Also where the outcome is told in no word of status",
    "recall@10 gained by evolution, half told otherwise",
    "",
    0.15,
    of="ours",
)
LINKED = Claim("Links without evolution still help", "recall@10 gained by links alone", "", 0.001, of="ours")
ENRICHED = Claim(
    "The enriched vector finds more than that of the content", "recall@10 gained, dense only", "", 0.05, of="ours"
)
HARMLESS = Claim(
    "Following links where needed costs other questions little",
    "recall@10 lost by auto",
    "",
    0.01,
    better="less",
    of="ours",
)
COST = Claim("Adding a note stays cheap", "p95 of an add with 10 000 notes kept", "ms", 40.0, better="less", of="ours")
CONTEXT = Claim("All arms pay the same context", "words of the results", "words", 1.0, better="less")


@dataclass(frozen=True, slots=True)
class _Result:
    """Of one arm: recall of the wanted notes, of those that lead to them, wrong links, words of context."""

    wanted: float
    via: float
    wrong: float
    words: float


@dataclass(frozen=True, slots=True)
class _Box:
    """A note book filled with a corpus, and the ids of its notes in the corpus' order."""

    book: NoteBook
    store: SqliteStore
    ids: list[str]


def run(seed: int, scale: Scale) -> list[Measurement]:
    """See ``Card.run``."""
    from lamina.llm import embedder

    model = embedder("minilm")
    small = scale == "smoke"
    return [
        *_bridging(bridging(seed, persons=10 if small else 120), model),
        *_evolution(evolution(seed, items=10 if small else 200), model),
        *_locomo(model, scale),
        _cost(seed, notes=200 if small else 10_000, timed=20 if small else 200),
    ]


# -- bridging and evolution ----------------------------------------------------------------------


def _bridging(corpus: Corpus, model: Embedder) -> list[Measurement]:
    vectors = model.encode([question.text for question in corpus.questions])
    texts = model.encode([entry.text for entry in corpus.entries])
    by_cosine = [[(n, False) for n in np.argsort(-(texts @ v), kind="stable")[:K].tolist()] for v in vectors]
    budgets = [_words(corpus, found) for found in by_cosine]
    cosine = _score(corpus, by_cosine, budgets)
    with _filled(corpus, model) as box:
        ours = _score(corpus, _answers(corpus, box, vectors, "auto"), budgets)
        plain = _score(corpus, _answers(corpus, box, vectors, False), budgets)
    with _filled(corpus, model, links=False) as box:
        _link_nearest(box, texts)
        nearest = _score(corpus, _answers(corpus, box, vectors, True), budgets)
    return [
        BRIDGED.measured(ours.wanted, plain.wanted, "the same search, links not followed"),
        OVER_NEAREST.measured(ours.wanted, nearest.wanted, "links to the 5 nearest notes"),
        UNREACHABLE.measured(cosine.wanted),
        KEPT.measured(max(0.0, plain.via - ours.via), 0.0, "the same search, links not followed"),
        WRONG.measured(ours.wrong),
        CONTEXT.measured(ours.words, cosine.words, "the 10 nearest by cosine"),
    ]


def _evolution(corpus: Corpus, model: Embedder) -> list[Measurement]:
    vectors = model.encode([question.text for question in corpus.questions])
    recalls, otherwise = [], []
    rest = [n for n, question in enumerate(corpus.questions) if not question.outright]
    half = replace(corpus, questions=tuple(corpus.questions[n] for n in rest))
    for links, evolve in ((True, True), (True, False), (False, False)):
        with _filled(corpus, model, links=links, evolve=evolve) as box:
            answers = _answers(corpus, box, vectors, "auto")
            recalls.append(_score(corpus, answers).wanted)
            otherwise.append(_score(half, [answers[n] for n in rest]).wanted)
    full, without, bare = recalls
    return [
        EVOLVED.measured(full - without, 0.0, "the same without evolution"),
        EVOLVED_OTHERWISE.measured(otherwise[0] - otherwise[1], 0.0, "the same without evolution"),
        LINKED.measured(without - bare, 0.0, "the same without links and evolution"),
    ]


@contextmanager
def _store(model: Embedder) -> Iterator[SqliteStore]:
    with (
        tempfile.TemporaryDirectory(prefix="lamina-notes-") as folder,
        SqliteStore(Path(folder) / "notes.db", durable=False, embedder=model.name) as store,
    ):
        yield store


@contextmanager
def _filled(corpus: Corpus, model: Embedder, *, links: bool = True, evolve: bool = True) -> Iterator[_Box]:
    with _store(model) as store:
        book = NoteBook(store, model, links=links, evolve=evolve)
        ids: list[str] = []
        for begin in range(0, len(corpus.entries), _WRITE):
            part = corpus.entries[begin : begin + _WRITE]
            added = book.add_many([e.text for e in part], scope=_ME, times=[e.time for e in part])
            ids += [note.id for note in added]
        yield _Box(book, store, ids)


def _answers(corpus: Corpus, box: _Box, vectors: NDArray[np.float32], expand: Expand) -> list[list[tuple[int, bool]]]:
    """For each question the places of the notes found, each with whether a link led there."""
    place = {id: n for n, id in enumerate(box.ids)}
    rows = []
    for question, vector in zip(corpus.questions, vectors, strict=True):
        hits = box.book.retriever.search(question.text, vector, box.store, _ME, k=K, expand=expand)
        rows.append([(place[turn_of(hit)], any(part.startswith("link ") for part in hit.parts)) for hit in hits])
    return rows


def _link_nearest(box: _Box, vectors: NDArray[np.float32]) -> None:
    """The paper's candidates, all taken: each note and the 5 nearest notes before it."""
    with box.store.transaction() as tx:
        for n, vector in enumerate(vectors):
            near = vectors[:n] @ vector
            best = np.argsort(-near, kind="stable")[:_NEAREST]
            tx.connect([_edge(box.ids[n], box.ids[m], min(float(near[m]), 1.0)) for m in best.tolist() if near[m] > 0])


def _edge(source: str, target: str, weight: float) -> Edge:
    return Edge(source=source, target=target, relation="same_topic", weight=weight, recorded=datetime.now(UTC))


def _words(corpus: Corpus, found: Sequence[tuple[int, bool]]) -> int:
    return sum(len(corpus.entries[n].text.split()) for n, _ in found)


def _score(
    corpus: Corpus, answers: Sequence[Sequence[tuple[int, bool]]], budgets: Sequence[int] | None = None
) -> _Result:
    rows = []
    for number, (question, answer) in enumerate(zip(corpus.questions, answers, strict=True)):
        found = list(answer)
        while budgets is not None and _words(corpus, found) > budgets[number]:
            found.pop()
        places, led = {n for n, _ in found}, {n for n, linked in found if linked}
        wrong = bool(led & set(question.wrong))
        rows.append((question.wanted in places, question.via in places, wrong, _words(corpus, found)))
    return _Result(*(float(mean) for mean in np.asarray(rows, np.float64).mean(axis=0)))


# -- LoCoMo --------------------------------------------------------------------------------------


def _locomo(model: Embedder, scale: Scale) -> list[Measurement]:
    if not has_data(None):
        return [ENRICHED.measured(None), HARMLESS.measured(None)]
    talks = load_locomo(data_file(None))[: {"smoke": 1, "laptop": 5, "full": None}[scale]]
    rows = np.concatenate([_talk(talk, model, most=10 if scale == "smoke" else None) for talk in talks])
    enriched, content, auto, off = rows.mean(axis=0).tolist()
    return [
        ENRICHED.measured(enriched - content, 0.0, "vector of the content, speaker named"),
        HARMLESS.measured(off - auto, 0.0, "links not followed"),
    ]


def _talk(talk: Conversation, model: Embedder, most: int | None) -> NDArray[np.float64]:
    """Recall@10 of each question by enriched and content vectors, and by search with links by need and without."""
    scope = Scope(user=talk.name)
    said = [turn for turn in talk.turns if turn.text.strip()]
    sessions = [list(turns) for _, turns in groupby(said, key=lambda turn: turn.session)]
    with _store(model) as store:
        tools, registers = Tools(store, model, IndexCache()), Registers()
        connector, retriever = AMem(tools, registers), LinkedNotes(tools, registers)
        source: dict[str, str] = {}
        for turns in sessions:
            cubes = [_turn(turn.text, scope, turn.at, turn.session, turn.ordinal, turn.speaker) for turn in turns]
            source |= {cube.id: turn.dia_id for cube, turn in zip(cubes, turns, strict=True)}
            vectors = model.encode([turn.text for turn in turns])
            connect = connector.prepare(scope, cubes, vectors)
            with store.transaction() as tx:
                tx.insert([Write(cube, vector) for cube, vector in zip(cubes, vectors, strict=True)])
                connect(tx, [])
        ids = list(source)
        content = model.encode([f"{turn.speaker}: {turn.text}" for turn in said])
        notes = registers.get(store, scope).notes
        enriched = np.stack([_vector(store, notes[id]) for id in ids])
        rows = []
        for question in talk.answerable()[:most]:
            (vector,) = model.encode([question.text])
            wanted = set(question.evidence)
            found = [_top(ids, matrix @ vector) for matrix in (enriched, content)]
            for expand in ("auto", False):
                hits = retriever.search(question.text, vector, store, scope, k=K, expand=expand)
                found.append([turn_of(hit) for hit in hits])
            rows.append([len(wanted & {source[id] for id in row}) / len(wanted) for row in found])
    return np.asarray(rows, np.float64)


def _top(ids: Sequence[str], scores: NDArray[np.float32]) -> list[str]:
    return [ids[n] for n in np.argsort(-scores, kind="stable")[:K].tolist()]


def _vector(store: SqliteStore, id: str) -> NDArray[np.float32]:
    vector = store.vector(id)
    assert vector is not None
    return vector


def _turn(text: str, scope: Scope, at: datetime, session: str, ordinal: int, speaker: str) -> MemCube:
    said = Utterance(session, ordinal, speaker, "user")
    header = Header(semantic_type="turn", scope=scope, created=at, recorded=at, utterance=said)
    return MemCube(header, TextPayload(text))


# -- cost ----------------------------------------------------------------------------------------


def _cost(seed: int, *, notes: int, timed: int) -> Measurement:
    """Single adds after ``notes`` were kept; the encoder is a table of words, so that it is not what is timed."""
    texts = Chatter(seed).messages(notes + timed)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    times = [start + timedelta(minutes=10 * n) for n in range(len(texts))]
    with tempfile.TemporaryDirectory(prefix="lamina-notes-") as folder:
        model = WordVectors()
        with SqliteStore(Path(folder) / "notes.db", embedder=model.name) as store:
            book = NoteBook(store, model)
            for begin in range(0, notes, 500):
                end = min(begin + 500, notes)
                book.add_many(texts[begin:end], scope=_ME, times=times[begin:end])
            taken = []
            for text, at in zip(texts[notes:], times[notes:], strict=True):
                begun = time.perf_counter()
                book.add(text, scope=_ME, time=at)
                taken.append(1000 * (time.perf_counter() - begun))
    return COST.measured(float(np.percentile(taken[timed // 10 :], 95)))


CARD = Card(
    name="a-mem",
    paper="A-MEM: Agentic Memory for LLM Agents",
    arxiv="2502.12110",
    module="lamina.text.linked_notes",
    summary="Every turn gets a note; notes are linked, learn from later ones, and lead a search where words do not.",
    claims=(
        BRIDGED, OVER_NEAREST, UNREACHABLE, KEPT, WRONG, CONTEXT, EVOLVED, EVOLVED_OTHERWISE, LINKED,
        ENRICHED, HARMLESS, COST,
    ),
    run=run,
)  # fmt: skip
