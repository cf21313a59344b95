"""MemGAS: what each part does to a ranking, what a bad call gets, and that building in steps is building at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from lamina.bench.synthetic import WordVectors
from lamina.errors import Conflict, InvalidInput, NotFound
from lamina.text.granularities.mixture import accept_set
from lamina.text.granularities.session import Session
from lamina.text.granularity import DENSE, PAPER, MemGAS, Recipe

TOPICS = ("sailing boat harbour wind", "bread oven flour yeast", "chess rook tournament board", "oak storm tree leaves")


def talk(number: int, topic: str | None = None, extra: str = "") -> Session:
    words = (topic or TOPICS[number % len(TOPICS)]).split()
    said = (f"[Ann]: My {words[0]} and the {words[1]}.", f"[Ben]: Tell me of {words[2]}.", f"[Ann]: {words[3]} {extra}")
    return Session(f"s{number}", said)


def filled(count: int = 12, recipe: Recipe | None = None) -> MemGAS:
    memory = MemGAS(WordVectors(), recipe)
    for number in range(count):
        memory.add(talk(number))
    return memory


class Broken(WordVectors):
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().encode(texts) * np.float32(np.nan)


class Narrow(WordVectors):
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return super().encode(texts)[:, :100]


class Silent:
    """Vectors that say nothing: all the same."""

    name, dimension = "silent", 8

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.full((len(texts), 8), 8**-0.5, np.float32)

    def forget(self, texts: Iterable[str]) -> None:
        """Keeps nothing."""


# -- ranking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe(), PAPER, replace(PAPER, router="released"), replace(Recipe(), walk=0)])
def test_sessions_on_the_topic_come_first(recipe: Recipe) -> None:
    memory = filled(12, recipe)
    assert {hit.id for hit in memory.search("boat in the harbour", 3)} == {"s0", "s4", "s8"}
    assert {hit.id for hit in memory.search("yeast for bread", 3)} == {"s1", "s5", "s9"}
    hits = memory.search("oak tree", 50)
    assert len(hits) == 12
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_explain_says_what_a_score_is_made_of() -> None:
    memory = filled()
    hits = memory.search("boat in the harbour", 12, explain=True)
    for hit in hits:
        assert list(hit.parts) == list(hit.weights) == ["session", "turn", "summary", "keyword", "lexical"]
        assert sum(hit.weights.values()) == pytest.approx(1.0)
        assert hit.path[-1] == hit.id
    assert hits[0].parts["lexical"] > 0 == hits[-1].parts["lexical"]
    assert any(len(hit.path) == 2 and hit.path[0] in {"s0", "s4", "s8"} for hit in hits[:3])
    plain = memory.search("boat in the harbour", 12)
    assert [(hit.id, hit.score) for hit in plain] == [(hit.id, hit.score) for hit in hits]
    assert not plain[0].parts and not plain[0].path


def test_parts_are_the_scores_of_each_granularity() -> None:
    memory, encoder, query = filled(), WordVectors(), "boat in the harbour"
    vector = encoder.encode([query])[0]
    session = talk(4)
    pairs = encoder.encode(["\n".join(session.utterances[:2]), session.utterances[2]])
    (hit,) = (hit for hit in memory.search(query, 12, explain=True) if hit.id == "s4")
    assert hit.parts["session"] == pytest.approx(float(encoder.encode([session.text])[0] @ vector), abs=1e-5)
    assert hit.parts["turn"] == pytest.approx(float((pairs @ vector).max()), abs=1e-5)
    paper = filled(12, PAPER)
    (hit,) = (hit for hit in paper.search(query, 12, explain=True) if hit.id == "s4")
    assert hit.parts["turn"] == pytest.approx(float(pairs.mean(axis=0) @ vector), abs=1e-5)
    assert "lexical" not in hit.parts


def test_weights_move_when_a_granularity_says_nothing() -> None:
    """A router that is a constant would pass every other test."""
    sessions = [replace(talk(n), summary=talk(n).text, keywords=(TOPICS[n % 4],)) for n in range(12)]
    sessions[0] = replace(talk(0, extra="canary"), summary="A canary.", keywords=("canary",))
    told, blank = MemGAS(WordVectors()), MemGAS(WordVectors())
    for session in sessions:
        told.add(session)
        blank.add(replace(session, summary="the same for all"))
    before, after = (memory.search("canary", 1, explain=True)[0] for memory in (told, blank))
    assert before.id == after.id == "s0"
    share = dict(zip(Recipe().granularities, Recipe().shares, strict=True))
    assert after.weights["summary"] / share["summary"] < 0.9 * before.weights["summary"] / share["summary"]
    assert after.weights["summary"] / share["summary"] == min(after.weights[n] / share[n] for n in share)
    uniform = MemGAS(WordVectors(), replace(Recipe(), router="uniform"))
    for session in sessions:
        uniform.add(session)
    weights = uniform.search("canary", 1, explain=True)[0].weights
    assert [weights[name] / share[name] for name in share] == pytest.approx([1 / sum(share.values())] * 5)


def test_a_word_no_vector_keeps_is_found_by_the_lexical_granularity() -> None:
    memory = MemGAS(Silent(), None)
    for number in range(9):
        memory.add(talk(number, extra="zanzibar" if number == 3 else ""))
    assert memory.search("zanzibar", 1)[0].id == "s3"


def test_links_lead_to_sessions_that_the_question_does_not_name() -> None:
    """PageRank alone: with one seed, only sessions linked to it get any score."""
    memory = filled(12, replace(PAPER, seeds=1))
    hits = memory.search("sailing boat harbour wind", 12, explain=True)
    reached = {hit.id for hit in hits if hit.score > 0}
    assert {"s0", "s4", "s8"} & reached
    assert len(reached) > 1
    assert hits[0].path[-1] == hits[0].id
    assert all(len(hit.path) == 2 and hit.path[0] in reached for hit in hits[1:] if hit.score > 0)
    assert any(hit.path[0] == hits[0].id for hit in hits[1:])
    alone = filled(12, replace(PAPER, seeds=1, damping=0.0)).search("sailing boat harbour wind", 12)
    assert sum(hit.score > 0 for hit in alone) == 1


def test_ties_go_to_the_newer_session() -> None:
    memory = MemGAS(Silent())
    for number in range(4):
        memory.add(Session(f"s{number}", ("[Ann]: same",)))
    assert [hit.id for hit in memory.search("other", 4)] == ["s3", "s2", "s1", "s0"]


# -- building ------------------------------------------------------------------------------------


def naive_edges(memory: MemGAS) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    names: list[tuple[str, str]] = [(id, name) for id in memory.ids for name in DENSE]
    nodes = memory.nodes.astype(np.float64)
    found: set[tuple[tuple[str, str], tuple[str, str]]] = set()
    for node in range(5 * 4, len(names)):
        earlier = nodes[: node // 4 * 4] @ nodes[node]
        best = sorted(range(len(earlier)), key=lambda other: (-earlier[other], other))[: memory.recipe.candidates]
        taken = accept_set(earlier[best], min_gap=memory.recipe.min_gap)
        found |= {(names[node], names[other]) for other, yes in zip(best, taken, strict=True) if yes}
    return found


@settings(max_examples=20)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.booleans())
def test_building_in_steps_is_building_at_once(topics: list[int], paper: bool) -> None:
    memory = MemGAS(WordVectors(), PAPER if paper else None)
    for number, topic in enumerate(topics):
        memory.add(talk(number, TOPICS[topic], extra=f"word{number}"))
        memory.search("boat", 3)  # asking changes nothing
    assert memory.edges == naive_edges(memory)


def test_removing_leaves_no_trace_and_adding_again_restores() -> None:
    memory = filled()
    before, hits = memory.edges, memory.search("boat", 12)
    memory.add(talk(12, extra="canary"))
    assert memory.search("canary", 1)[0].id == "s12"
    memory.remove("s12")
    assert memory.edges == before
    assert memory.search("boat", 12) == hits
    memory.remove("s4")
    assert memory.edges == {(one, two) for one, two in before if "s4" not in (one[0], two[0])}
    assert "s4" not in {hit.id for hit in memory.search("boat", 20)}
    assert len(memory) == 11 and len(memory.nodes) == 44


def test_links_join_different_sessions_of_one_topic() -> None:
    edges = filled(16).edges
    assert edges
    assert all(one[0] != two[0] and int(one[0][1:]) > int(two[0][1:]) for one, two in edges)
    same = [int(one[0][1:]) % 4 == int(two[0][1:]) % 4 for one, two in edges]
    assert np.mean(same) > 0.8


def test_own_summaries_and_keywords_replace_the_extracted_ones() -> None:
    written = MemGAS(WordVectors(), summarizer=lambda said: "SUMMARY", keyworder=lambda text: ("KEY", "WORDS"))
    written.add(talk(0))
    nodes, vectors = written.nodes, WordVectors().encode(["SUMMARY", "KEY; WORDS"])
    assert np.allclose(nodes[2:], vectors)
    brought = MemGAS(WordVectors())
    brought.add(replace(talk(0), summary="SUMMARY", keywords=("KEY", "WORDS"), turns=np.eye(2, 384, dtype=np.float32)))
    assert np.allclose(brought.nodes[2:], vectors)
    assert np.allclose(brought.nodes[1, :3], [0.5, 0.5, 0])


# -- edges of the domain -------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [Recipe(), PAPER])
def test_few_sessions_are_no_special_case(recipe: Recipe) -> None:
    memory = MemGAS(WordVectors(), recipe)
    assert memory.search("boat") == []
    memory.add(talk(0))
    (hit,) = memory.search("boat", 10, explain=True)
    assert hit.id == "s0" and np.isfinite(hit.score)
    assert sum(hit.weights.values()) == pytest.approx(1.0)
    memory.add(talk(1))
    assert [hit.id for hit in memory.search("boat")] == ["s0", "s1"]
    memory.remove("s0")
    memory.remove("s1")
    assert memory.search("boat") == []


@pytest.mark.parametrize("recipe", [Recipe(), PAPER])
def test_empty_words_are_remembered_like_any_other(recipe: Recipe) -> None:
    memory = MemGAS(WordVectors(), recipe)
    for number in range(8):
        memory.add(Session(f"blank{number}", ("", "  ")))
    memory.add(talk(0))
    hits = memory.search("boat", 20)
    assert len(hits) == 9
    assert recipe == PAPER or hits[0].id == "s0"  # with fifteen seeds the paper's may miss it
    assert all(np.isfinite(hit.score) for hit in memory.search("?!", 20))


def test_bad_calls_are_refused_and_change_nothing() -> None:
    memory = filled(6)
    for query in ("", "  \n"):
        with pytest.raises(InvalidInput, match="query"):
            memory.search(query)
    with pytest.raises(InvalidInput, match="k="):
        memory.search("boat", 0)
    with pytest.raises(ValueError, match="one encoder"):
        memory.search("boat", vector=np.ones(100, np.float32))
    with pytest.raises(Conflict, match="s0"):
        memory.add(talk(0))
    with pytest.raises(InvalidInput, match="utterances"):
        memory.add(Session("empty", ()))
    with pytest.raises(NotFound, match="nobody"):
        memory.remove("nobody")
    with pytest.raises(InvalidInput, match="turns of shape"):
        memory.add(replace(talk(9), turns=np.ones((2, 100), np.float32)))
    assert memory.ids == tuple(f"s{n}" for n in range(6))
    assert len(memory.nodes) == 24


def test_another_encoder_or_a_failing_one_is_refused() -> None:
    memory = filled(6)
    memory._encoder = Narrow()
    with pytest.raises(InvalidInput, match="one encoder"):
        memory.add(talk(6))
    memory._encoder = Broken()
    with pytest.raises(InvalidInput, match="NaN"):
        memory.add(talk(6))
    assert len(memory) == 6 and len(memory.search("boat", 9, vector=WordVectors().encode(["boat"])[0])) == 6
    with pytest.raises(InvalidInput, match="query holds NaN"):
        memory.search("boat", 9)


@pytest.mark.parametrize("vector", [np.full(384, np.nan, np.float32), np.full(384, np.inf, np.float32)])
def test_a_query_vector_that_is_no_vector_is_refused(vector: NDArray[np.float32]) -> None:
    with pytest.raises(InvalidInput, match="vector"):
        filled(6).search("boat", vector=vector)


@pytest.mark.parametrize("k", [0, -1, 2.5, float("nan"), True, "3"])
def test_k_is_a_positive_whole_number(k: object) -> None:
    with pytest.raises(InvalidInput, match="k="):
        filled(2).search("boat", k)  # type: ignore[arg-type]
    assert len(filled(3).search("boat", np.int64(2))) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("router", "best"), ("turn_pool", "median"), ("granularities", ("word",)), ("granularities", ())),
        *(("granularities", ("session",) * 5), ("shares", (1.0,)), ("shares", (0.0,) * 5)),
        *(("shares", (1.0, 1.0, 1.0, 1.0, -1.0)), ("shares", (1.0, 1.0, 1.0, 1.0, float("nan")))),
        *(("temperature", value) for value in (0, -1.0, float("nan"), float("inf"), "1")),
        *(("seeds", value) for value in (0, -3, 1.5, True)),
        *(("candidates", value) for value in (0, 2.5)),
        *(("min_gap", value) for value in (-1.0, float("inf"))),
        *(("damping", value) for value in (1.0, 1.5, -0.1, float("nan"))),
        *(("walk", value) for value in (-0.1, float("inf"))),
    ],
)
def test_a_recipe_that_cannot_be_names_its_field_at_once(name: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=f"^{name}="):
        replace(Recipe(), **{name: value})  # type: ignore[arg-type]


def test_a_string_is_no_list_of_strings() -> None:
    with pytest.raises(InvalidInput, match="keywords"):
        Session("s", ("x",), keywords="abc")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="utterances"):
        Session("s", "hello")  # type: ignore[arg-type]


# -- many at once --------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_many_at_once_and_cut_back_is_one_by_one(topics: list[int], first: int, keep: int) -> None:
    sessions = [talk(n, TOPICS[topic], extra=f"word{n}") for n, topic in enumerate(topics)]
    single, many = MemGAS(WordVectors()), MemGAS(WordVectors())
    many.extend(sessions[:first])
    many.extend(sessions[first:])
    many.truncate(keep)
    for session in sessions[:keep]:
        single.add(session)
    assert many.ids == single.ids
    assert many.edges == single.edges
    assert many.nodes.tobytes() == single.nodes.tobytes()
    hits = [memory.search("boat word1 word3", 20, explain=True) for memory in (many, single)]
    assert hits[0] == hits[1]
    assert repr(many._words.scores("boat word1 word3")) == repr(single._words.scores("boat word1 word3"))


def test_what_is_refused_of_many_leaves_none_of_them() -> None:
    memory = filled(6)
    before = memory.search("boat canary", 9, explain=True)
    canary = talk(7, extra="canary")
    for bad, error in (
        (replace(talk(8), turns=np.ones((2, 100), np.float32)), InvalidInput),
        (Session("empty", ()), InvalidInput),
        (talk(0), Conflict),
        (talk(7), Conflict),
    ):
        with pytest.raises(error):
            memory.extend([canary, bad])
    assert memory.search("boat canary", 9, explain=True) == before
    assert "canari" not in repr(vars(memory._words))


def test_removing_leaves_links_and_keywords_of_others_as_they_were_fitted() -> None:
    """As documented: not what a memory built without the session has; truncate and extend give that."""
    sessions = [talk(n, extra=f"word{n}") for n in range(16)]
    memory, fresh = MemGAS(WordVectors()), MemGAS(WordVectors())
    memory.extend(sessions)
    before, nodes = memory.edges, memory.nodes.copy()
    memory.remove("s3")
    fresh.extend([session for session in sessions if session.id != "s3"])
    assert memory.edges == {(one, two) for one, two in before if "s3" not in (one[0], two[0])} != fresh.edges
    assert np.array_equal(memory.nodes, np.delete(nodes, np.s_[12:16], axis=0))
    memory.truncate(3)
    memory.extend(sessions[4:])
    assert memory.edges == fresh.edges
    assert np.array_equal(memory.nodes, fresh.nodes)
