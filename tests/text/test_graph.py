"""The graph as it is written, read, closed and forgotten, and the search that follows it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput, NotFound
from lamina.store.transaction import SqlTransaction
from lamina.text.graphs.directory import Directory
from lamina.text.graphs.identity import SAME_AS
from text.graph_desk import DANA, DAY, EVAN, T0, Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "graph.db")
    yield desk
    desk.store.close()


# -- writing -------------------------------------------------------------------------------------


def test_a_fact_becomes_an_edge_whose_evidence_leads_to_the_turn(desk: Desk) -> None:
    turn, fact = desk.tell("I work at Acme.")
    (relation,) = desk.graph.relations(DANA)
    assert relation.text == "Dana works_at Acme"
    assert (relation.source.type, relation.target.type) == ("person", "organisation")
    assert relation.edge.evidence == fact.cube.id
    assert fact.cube.header.provenance.sources[0].id == turn.cube.id
    entity = desk.store.get(relation.target.id)
    assert entity is not None
    assert (entity.header.semantic_type, entity.header.tags) == ("entity", ("organisation",))
    assert entity.header.lineage.derived_from == ()


def test_a_name_is_one_entity_however_often_and_in_one_call(desk: Desk) -> None:
    desk.tell("I work at Acme.", "Eva works at Acme.")
    desk.tell("Bob works at the Acme.", at=T0 + DAY)
    assert desk.names() == ["Acme", "Bob", "Dana", "Eva"]


def test_a_node_learns_its_type_and_keeps_its_id(desk: Desk) -> None:
    desk.tell("I met Bob Reed at the Lake District.")
    before = {entity.name: entity for entity in desk.graph.entities(DANA)}
    desk.tell("Bob Reed works at Acme.", at=T0 + DAY)
    after = {entity.name: entity for entity in desk.graph.entities(DANA)}
    assert before["Bob Reed"].type == "name"
    assert (after["Bob Reed"].id, after["Bob Reed"].type) == (before["Bob Reed"].id, "person")
    desk.tell("I called Bob Reed again.", at=T0 + 2 * DAY)
    assert desk.names().count("Bob Reed") == 1


@pytest.mark.parametrize(
    "sentences",
    [
        ("Bob works at Acme.", "Robert works at Acme."),
        ("I met Tom in York.", "I met Tom in New York."),
        ("I bought the Ford Focus 2019.", "I bought the Ford Focus 2021."),
    ],
)
def test_likeness_joins_no_names(desk: Desk, sentences: tuple[str, str]) -> None:
    desk.tell(sentences[0])
    before = len(desk.names())
    desk.tell(sentences[1], at=T0 + DAY)
    assert len(desk.names()) == before + 1
    assert not [each for each in desk.graph.relations(DANA) if each.edge.relation == SAME_AS]


@pytest.mark.parametrize("short_first", [True, False])
def test_a_short_name_stands_for_the_only_long_one(desk: Desk, short_first: bool) -> None:
    told = ["Johnson works at Acme.", "My mentor is Alice Johnson."]
    for n, text in enumerate(told if short_first else told[::-1]):
        desk.tell(text, at=T0 + n * DAY)
    assert "Johnson same_as Alice Johnson" in desk.said()


def test_two_alices_are_not_merged_and_the_short_name_stands_for_neither(desk: Desk) -> None:
    desk.tell("Alice Johnson works at Acme.", "Alice speaks Spanish.")
    assert "Alice same_as Alice Johnson" in desk.said()
    desk.tell("Alice Brown works at Kelvor Labs.", at=T0 + DAY)
    assert not [text for text in desk.said() if SAME_AS in text]
    assert "Alice same_as Alice Johnson" in desk.said(as_of=T0 + DAY / 2)
    assert {"Alice", "Alice Brown", "Alice Johnson"} <= set(desk.names())
    desk.tell("Alice Smith works at Zentra.", at=T0 + 2 * DAY)
    assert not [text for text in desk.said() if SAME_AS in text]


def test_a_superseded_fact_takes_no_name_away(desk: Desk) -> None:
    desk.tell("My mentor is Alice Johnson.", "Johnson works at Acme.")
    desk.tell("Johnson works at Zentra.", at=T0 + DAY)
    assert "Johnson same_as Alice Johnson" in desk.said()
    assert "Johnson works_at Acme" not in desk.said()


# -- time ----------------------------------------------------------------------------------------


def test_a_new_value_of_a_functional_relation_closes_the_old_edge(desk: Desk) -> None:
    desk.tell("I live in Boston.")
    desk.tell("I moved to Denver.", at=T0 + 10 * DAY)
    assert desk.said() == {"Dana lives_in Denver"}
    assert desk.said(as_of=T0 + DAY) == {"Dana lives_in Boston"}
    assert desk.said(closed=True) == {"Dana lives_in Boston", "Dana lives_in Denver"}
    (old,) = [each.edge for each in desk.graph.relations(DANA, closed=True) if each.target.name == "Boston"]
    assert old.valid_to == old.superseded == T0 + 10 * DAY


def test_news_from_the_past_comes_closed(desk: Desk) -> None:
    desk.tell("I moved to Denver in 2022.", at=T0)
    desk.tell("I moved to Boston in 2019.", at=T0 + DAY)
    assert desk.said() == {"Dana lives_in Denver"}
    times = {each.target.name: each.edge for each in desk.graph.relations(DANA, closed=True)}
    assert times["Boston"].valid_to == times["Denver"].valid_from
    assert times["Boston"].superseded is not None


def test_other_targets_of_other_relations_may_coexist(desk: Desk) -> None:
    desk.tell("I speak Spanish.", "I speak French.", "My sister is Eva.", "My sister is Mia.")
    assert desk.said() == {"Dana speaks Spanish", "Dana speaks French", "Dana sister Eva", "Dana sister Mia"}


def test_an_ending_closes_the_edge(desk: Desk) -> None:
    desk.tell("I work at Acme.")
    desk.tell("I no longer work at Acme.", at=T0 + DAY)
    assert desk.said() == set()
    assert desk.said(as_of=T0 + DAY / 2) == {"Dana works_at Acme"}


# -- whose and forgetting ------------------------------------------------------------------------


def test_nothing_crosses_scopes(desk: Desk) -> None:
    desk.tell("My mentor is Bob Reed.", "Bob Reed works at Acme.")
    desk.tell("Bob Reed lives in Oslo.", scope=EVAN, speaker="Evan")
    assert desk.said(EVAN) == {"Bob Reed lives_in Oslo"}
    assert not any("Oslo" in text for text in desk.said())
    assert desk.names(EVAN) == ["Bob Reed", "Oslo"]
    _, relations = desk.graph.neighbourhood(EVAN, "Bob Reed", hops=2)
    assert [each.text for each in relations] == ["Bob Reed lives_in Oslo"]
    assert all(hit.cube.header.scope == EVAN for hit in desk.ask("Where does Bob Reed work?", scope=EVAN))
    run = Scope(user="dana", run="one")
    desk.tell("Bob Reed speaks Welsh.", scope=run)
    assert len([name for name in desk.names() if name == "Bob Reed"]) == 2  # read together, written apart
    assert desk.names(run) == ["Bob Reed", "Welsh"]
    desk.tell("Eva speaks Welsh.")  # the Welsh of the narrower scope is not hers
    assert desk.names().count("Welsh") == 2


def test_forgetting_a_turn_leaves_nothing_of_its_edges_and_names(desk: Desk) -> None:
    _, fact = desk.tell("I work at Canaryworks.")
    desk.tell("I live in Denver.", at=T0 + DAY)
    ids = {entity.name: entity.id for entity in desk.graph.entities(DANA)}
    gone = desk.forget(fact)
    assert ids["Canaryworks"] in gone
    assert desk.names() == ["Dana", "Denver"]
    assert desk.said(closed=True) == {"Dana lives_in Denver"}
    desk.store.close()
    left = b"".join(file.read_bytes() for file in desk.path.parent.rglob("*") if file.is_file())
    assert b"canary" not in left.lower()
    assert b"Denver" in left


def test_forgetting_the_long_name_leaves_the_short_one_alone(desk: Desk) -> None:
    desk.tell("Zacharias works at Acme.")
    told = desk.tell("My mentor is Zacharias Canaryman.", at=T0 + DAY)
    assert "Zacharias same_as Zacharias Canaryman" in desk.said()
    desk.forget(told[1])
    assert desk.said(closed=True) == {"Zacharias works_at Acme"}
    assert desk.names() == ["Acme", "Zacharias"]


def test_a_failed_write_leaves_no_entity_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(SqlTransaction, "connect", broken)
        with pytest.raises(RuntimeError):
            desk.tell("I work at Acme.")
    assert desk.names() == []
    desk.tell("Eva works at Acme.")
    assert desk.said() == {"Eva works_at Acme"}


# -- reading -------------------------------------------------------------------------------------


def test_neighbourhood_is_near_and_refuses_the_rest(desk: Desk) -> None:
    desk.tell("My mentor is Bob Reed.", "Bob Reed works at Acme.", "Acme hired Eva Stone.")
    entities, relations = desk.graph.neighbourhood(DANA, "dana")
    assert {entity.name for entity in entities} == {"Dana", "Bob Reed"}
    entities, relations = desk.graph.neighbourhood(DANA, "Dana", hops=2)
    assert {each.text for each in relations} == {"Dana mentor Bob Reed", "Bob Reed works_at Acme"}
    assert {entity.name for entity in entities} == {"Dana", "Bob Reed", "Acme"}
    with pytest.raises(NotFound, match="Nobody"):
        desk.graph.neighbourhood(DANA, "Nobody")
    with pytest.raises(InvalidInput, match="hops=3"):
        desk.graph.neighbourhood(DANA, "Dana", hops=3)


def test_triplets_are_found_by_their_words(desk: Desk) -> None:
    desk.tell("My mentor is Bob Reed.", "Bob Reed works at Acme.", "I speak Spanish.")
    assert [each.text for each in desk.graph.triplets(DANA, "who works for Acme")] == ["Bob Reed works_at Acme"]
    assert desk.graph.triplets(DANA, "zebra") == []


PEOPLE = ["Ana", "Bea", "Cid", "Dov", "Eli", "Fay"]
PAIRS = st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)).filter(lambda p: p[0] != p[1]), max_size=9)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=PAIRS, hops=st.integers(1, 2))
def test_neighbourhoods_are_those_of_a_naive_graph(tmp_path: Path, pairs: list[tuple[str, str]], hops: int) -> None:
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / f"{hash((tuple(pairs), hops))}.db"
    desk = Desk(path)
    near: dict[str, set[str]] = {}
    for one, other in pairs:
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    if pairs:
        desk.tell(*(f"{one}'s sister is {other}." for one, other in pairs))
    assert set(desk.names()) == set(near)
    for start in near:
        away, queue = {start: 0}, deque([start])
        while queue:
            here = queue.popleft()
            for there in sorted(near[here] - set(away)) if away[here] < hops else ():
                away[there] = away[here] + 1
                queue.append(there)
        entities, _ = desk.graph.neighbourhood(DANA, start, hops=hops)
        assert {entity.name for entity in entities} == set(away)
    desk.store.close()


# -- search --------------------------------------------------------------------------------------


def crowd(desk: Desk) -> None:
    """Enough about Ana and about working that likeness alone never finds Bob's job."""
    desk.tell(
        *(f"Ana works near the {place} building and likes it." for place in ["Ork", "Ilm", "Ulm", "Elm", "Alm", "Olm"])
    )
    desk.tell(*(f"Ana asked where the {thing} does its work." for thing in ["mill", "lift", "oven", "pump", "lamp"]))


def test_the_second_hop_is_found_through_the_bridge(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.", "Bob Reed joined Kelvor as an engineer.")
    query = "Where does Ana's mentor work?"
    plain, found = desk.texts(query, k=5, plain=True), desk.texts(query, k=5)
    assert "Bob Reed joined Kelvor as an engineer." not in plain
    assert "Bob Reed joined Kelvor as an engineer." in found
    assert "Ana's mentor is Bob Reed." in found
    assert len(found) == len(plain) == 5
    assert found.index("Bob Reed joined Kelvor as an engineer.") == found.index("Ana's mentor is Bob Reed.") + 1


def test_a_hit_by_the_graph_explains_its_way_and_its_parts_add_up(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.", "Bob Reed joined Kelvor as an engineer.")
    hits = desk.ask("Where does Ana's mentor work?", k=5)
    (hit,) = [hit for hit in hits if any(part.startswith("graph: ") for part in hit.parts)]
    assert "graph: Ana mentor Bob Reed, Bob Reed works_at Kelvor" in hit.parts
    assert hit.score == pytest.approx(sum(hit.parts.values()))
    assert [each.score for each in hits] == sorted((each.score for each in hits), reverse=True)


def test_a_surname_alone_bridges_unless_two_bear_it(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.", "Reed joined Kelvor as an engineer.")
    assert "Reed joined Kelvor as an engineer." in desk.texts("Where does Ana's mentor work?", k=5)
    desk.tell("Eva's mentor is Sam Reed.", at=T0 + DAY)
    assert "Reed joined Kelvor as an engineer." not in desk.texts("Where does Ana's mentor work?", k=5)


def test_the_way_is_the_one_that_held_then(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.", "Bob Reed works at Kelvor.")
    desk.tell("Bob Reed works at Zentra.", at=T0 + 30 * DAY)
    query = "Where does Ana's mentor work?"
    assert "Bob Reed works at Zentra." in desk.texts(query, k=5)
    then = desk.texts(query, k=5, as_of=T0 + DAY)
    assert "Bob Reed works at Kelvor." in then
    assert "Bob Reed works at Zentra." not in then


def test_a_filter_holds_for_what_the_graph_brings(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.")
    hidden, fact = desk.tell("Bob Reed works at Kelvor.")
    allowed = desk.store.keys(DANA, {"id": {"nin": [hidden.cube.id, fact.cube.id]}})
    assert "Bob Reed works at Kelvor." not in desk.texts("Where does Ana's mentor work?", k=5, allow=allowed)
    assert "Bob Reed works at Kelvor." in desk.texts("Where does Ana's mentor work?", k=5)


@pytest.mark.parametrize(
    ("told", "more", "query"),
    [
        ("Ana's mentor is Bob Reed.", "Bob Reed joined Zentra.", "Where does the mentor of Ana work?"),
        ("Kelvor hired Ana Moss last year.", "Kelvor is based in Oslo.", "Where is the place that hired Ana Moss?"),
    ],
)
def test_who_is_meant_may_be_said_in_other_ways(desk: Desk, told: str, more: str, query: str) -> None:
    crowd(desk)
    desk.tell(told, more)
    assert more not in desk.texts(query, k=5, plain=True)
    assert more in desk.texts(query, k=5)


@pytest.mark.parametrize(
    "query",
    [
        "where does ana's idol work?",
        "Who employs the idol of Ana?",
        "Ana has an idol: where is that person's office?",
        "Which firm does the idol Ana has work for?",
    ],
)
@pytest.mark.parametrize(
    "told",
    ["Ana's idol is Bob Reed.", "As for idols, Ana chose Bob Reed.", "Bob Reed mentors Ana, as an idol does."],
)
def test_any_noun_in_any_wording_leads_on(desk: Desk, told: str, query: str) -> None:
    crowd(desk)
    desk.tell(told, "Bob Reed joined Zentra.")
    assert "Bob Reed joined Zentra." in desk.texts(query, k=5)


def test_my_mentor_is_that_of_who_asks(desk: Desk) -> None:
    crowd(desk)
    desk.tell("My mentor is Bob Reed.", "Bob Reed joined Zentra.")
    parts = [part for hit in desk.ask("Where does my mentor work?") for part in hit.parts if part.startswith("graph")]
    assert parts == [] or "Dana mentor Bob Reed" in parts[0]
    assert "Bob Reed joined Zentra." in desk.texts("Where does my mentor work?", k=5)


def test_one_name_in_two_runs_is_one_person_to_a_question_of_both(desk: Desk) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.", scope=Scope(user="dana", run="mon"))
    desk.tell("Bob Reed joined Zentra.", scope=Scope(user="dana", run="tue"))
    assert "Bob Reed joined Zentra." in desk.texts("Where does Ana's mentor work?", k=5)


def test_a_search_of_one_scope_waits_for_no_other(desk: Desk) -> None:
    desk.tell("My mentor is Bob Reed.", "Bob Reed works at Acme.")
    desk.tell("Tom lives in Oslo.", scope=EVAN, speaker="Evan")
    with desk.directories.use(desk.store, EVAN), ThreadPoolExecutor(1) as other:
        assert other.submit(desk.names).result(timeout=20) == ["Acme", "Bob Reed", "Dana"]


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda graph: graph.entities("u"), "scope"),
        (lambda graph: graph.relations(DANA, as_of=datetime(2024, 1, 1)), "as_of"),
        (lambda graph: graph.relations(DANA, closed="yes"), "closed"),
        (lambda graph: graph.neighbourhood(DANA, "Ana", hops=True), "hops"),
        (lambda graph: graph.neighbourhood(DANA, 5), "name"),
        (lambda graph: graph.neighbourhood(DANA, "Ana", limit=0), "limit"),
        (lambda graph: graph.triplets(DANA, None), "query"),
        (lambda graph: graph.triplets(DANA, "x", limit="5"), "limit"),
    ],
)
def test_wrong_types_are_named(desk: Desk, call: Callable[[Any], object], argument: str) -> None:
    with pytest.raises(InvalidInput, match=argument):
        call(desk.graph)


@pytest.mark.parametrize(
    "query",
    ["Where does Ana work?", "Who is Ana's mentor?", "What did the pump do?", "mentor", "What has Ana read?"],
)
def test_other_questions_are_answered_as_without_a_graph(desk: Desk, query: str) -> None:
    crowd(desk)
    desk.tell("Ana's mentor is Bob Reed.")
    desk.tell("Ana plays the flute.", "Eva works at Zentra.", "Ana read Dune.", "Eva wrote about Dune.")
    assert desk.texts(query) == desk.texts(query, plain=True)


# -- size ----------------------------------------------------------------------------------------


def test_one_more_fact_costs_the_same_in_a_large_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many facts are stored, writing one more takes in only what was written since, and a few edges."""
    desk, count = Desk(tmp_path / "large.db"), 1_000
    desk.tell(*(f"I met Person{n}x Reed{n}x." for n in range(count)))
    desk.tell("Zoe works at Acme.", at=T0 + 90 * DAY)
    assert len(desk.names()) == count + 3
    touched = []
    add, edges = Directory.add, SqlTransaction.edges
    monkeypatch.setattr(Directory, "add", lambda self, *given: (touched.append(1), add(self, *given))[1])
    monkeypatch.setattr(
        SqlTransaction, "edges", lambda self, ids: (found := edges(self, ids), touched.extend(found))[0]
    )
    desk.tell("Reed77x works at Acme.", at=T0 + 91 * DAY)
    desk.tell("I met Zoe at the Acme party.", at=T0 + 92 * DAY)
    assert 0 < len(touched) < 20
    assert "Zoe works_at Acme" in desk.said()
    desk.store.close()
