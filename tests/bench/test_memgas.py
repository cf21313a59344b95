"""The card: it measures every claim, from the published file as it is or from the generator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lamina.bench.experiments.text.session_corpus import generate, read_sessions
from lamina.bench.synthetic import WordVectors
from lamina.bench.systems.memgas import (
    ABLATIONS,
    CARD,
    EQUAL_GRAPH_R3,
    EQUAL_GRAPH_R10,
    EQUAL_ROUTER_R3,
    EQUAL_ROUTER_R10,
    GRAPH_R3,
    GRAPH_R10,
    OVER_EACH,
    OVER_EACH_MULTI,
    PAPER_R3,
    R3,
    ROUTER_R3,
    ROUTER_R10,
    SAME_EDGES,
    Truncating,
    edges_at_once,
)
from lamina.errors import InvalidInput
from lamina.llm.embed import MiniLM
from lamina.text.granularity import PAPER, MemGAS, Recipe

pytestmark = pytest.mark.model


def test_a_toy_run_measures_every_claim() -> None:
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert found[SAME_EDGES].ours == 0
    assert found[SAME_EDGES].holds
    assert found[PAPER_R3].ours is None  # no published conversations, no absolute number
    assert not found[R3].holds
    margins = [OVER_EACH, OVER_EACH_MULTI, ROUTER_R3, ROUTER_R10, GRAPH_R3, GRAPH_R10]
    for claim in (*margins, EQUAL_ROUTER_R3, EQUAL_ROUTER_R10, EQUAL_GRAPH_R3, EQUAL_GRAPH_R10):
        assert found[claim].ours is not None
        assert "at" in found[claim].baseline_name


def test_ablations_change_what_their_name_says_and_nothing_else() -> None:
    default, equal = Recipe(), ABLATIONS["equal shares"]
    assert {*ABLATIONS.values()}.isdisjoint({default})
    assert len({*ABLATIONS.values()}) == len(ABLATIONS)
    assert replace(ABLATIONS["uniform weights"], router="entropy") == default
    assert replace(ABLATIONS["no graph"], walk=default.walk) == default
    assert replace(ABLATIONS["shares only"], walk=default.walk, router="entropy") == default
    assert replace(equal, shares=default.shares, temperature=default.temperature) == default
    assert replace(ABLATIONS["equal shares, no graph"], walk=equal.walk) == equal
    assert replace(ABLATIONS["equal shares, uniform weights, no graph"], walk=equal.walk, router="entropy") == equal


def test_edges_at_once_would_find_a_difference() -> None:
    memory = MemGAS(WordVectors(), PAPER)
    for session in generate(3, 1, turns_each=4)[0].sessions[:12]:
        memory.add(session)
    assert memory.edges == edges_at_once(memory) != set()
    memory._graph._links[-1] = memory._graph._links[-1][:0]
    assert memory.edges != edges_at_once(memory)


def test_truncating_reads_the_first_pieces_only(minilm: MiniLM) -> None:
    cut = Truncating(minilm, 8)
    text = "the boat left the harbour in the morning and came back with the wind"
    short = cut.cut(text)
    assert text.startswith(short) and short != text
    assert minilm.count_tokens(short) <= 8 < minilm.count_tokens(f"{short} {text[len(short) :].split()[0]}") + 1
    assert (cut.encode([text]) == minilm.encode([short])).all()
    assert cut.cut("boat") == "boat"


def test_generated_conversations_have_the_shape_of_locomo() -> None:
    talks = generate(1, 4)
    assert [talk.name for talk in talks] == [f"generated-{n}" for n in range(4)]
    for talk in talks:
        names = {session.id for session in talk.sessions}
        assert 19 <= len(talk.sessions) <= 32
        assert 369 <= sum(len(session.utterances) for session in talk.sessions) <= 689
        assert all(1 <= len(question.gold) <= 15 and question.gold <= names for question in talk.questions)
    golds = [len(question.gold) for talk in talks for question in talk.questions]
    assert min(golds) == 1 < max(golds)
    assert generate(1, 2) == talks[:2]
    assert generate(2, 1) != talks[:1]


def test_evidence_is_in_the_sessions_and_its_question_asks_for_it() -> None:
    (talk,) = generate(5, 1)
    text = {session.id: session.text for session in talk.sessions}
    for question in talk.questions:
        if question.category == 4:  # a detail, in its own words
            member = question.text.removesuffix("?").split(" about the ")[1]
            name = question.text.split(" did ")[1].split(" say ")[0]
            assert all(member in text[gold] and name in text[gold] for gold in question.gold)


def sample() -> list[dict[str, object]]:
    talk = {
        "speaker_a": "Ann",
        "speaker_b": "Ben",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ann", "dia_id": "D1:1", "text": "Look!", "blip_caption": "a red boat", "query": "secret"},
            {"speaker": "Ben", "dia_id": "D1:2", "text": "Nice."},
        ],
        "session_2_date_time": "1:56 pm on 9 May, 2023",
        "session_10": [{"speaker": "Ben", "dia_id": "D10:1", "text": "Bye."}],
    }
    qa = [
        {"question": "What?", "answer": "boat", "evidence": ["D1:1"], "category": 4},
        {"question": "Who?", "adversarial_answer": "x", "evidence": ["D8:6; D9:17"], "category": 5},
    ]
    summaries = {"session_1_summary": "A boat.", "session_10_summary": "Bye."}
    return [{"sample_id": "t", "conversation": talk, "qa": qa, "session_summary": summaries}]


def test_the_published_file_is_read_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "locomo10.json"
    file.write_text(json.dumps(sample()))
    (talk,) = read_sessions(file)
    assert [session.id for session in talk.sessions] == ["session_1", "session_10"]
    assert talk.sessions[0].utterances == ("[Ann]: Look!\n[image]: a red boat", "[Ben]: Nice.")
    assert talk.sessions[0].summary == "A boat."
    assert talk.sessions[0].keywords is None
    assert [(question.gold, question.category) for question in talk.questions] == [
        (frozenset({"session_1"}), 4),
        (frozenset(), 5),
    ]
    for broken in ("{", "[{}]", "[3]"):
        file.write_text(broken)
        with pytest.raises(InvalidInput, match="LoCoMo"):
            read_sessions(file)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_sessions(tmp_path / "none.json")
