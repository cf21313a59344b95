"""Recalled text that comes back is not read again; what people say is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.text.answering import render
from lamina.text.prompted.echo import CONTEXTS, INJECTED, Echoes, without_echoes

BLOCK = "Quotes from earlier:\n- Alice lives in Denver since June\n- Bob owns three kayaks\n"


def test_a_context_and_its_lines_in_any_list_are_echoes() -> None:
    echoes = Echoes()
    echoes.remember(BLOCK)
    assert echoes.is_echo(BLOCK)
    assert echoes.is_echo("1. alice lives  in Denver since June\n* Bob owns three kayaks")
    assert not echoes.is_echo("- Bob owns four kayaks")
    assert not echoes.is_echo(" \n ")


def test_new_words_around_a_context_stay_where_they_were() -> None:
    echoes = Echoes()
    echoes.remember(BLOCK)
    text = f"{BLOCK}\nI sold one of them."
    blanked = without_echoes(text, person=True, echoes=echoes)
    assert blanked.strip() == "I sold one of them." and blanked.index("I sold") == text.index("I sold")


def test_a_person_who_says_it_again_is_heard_and_a_tool_is_not() -> None:
    echoes = Echoes()
    echoes.remember(BLOCK)
    line = "Bob owns three kayaks"
    assert without_echoes(line, person=True, echoes=echoes) == line
    assert not without_echoes(line, person=False, echoes=echoes).strip()


def test_only_the_last_contexts_are_remembered() -> None:
    echoes = Echoes()
    for n in range(CONTEXTS + 1):
        echoes.remember(f"- memory with the number {n}")
    assert not echoes.is_echo("memory with the number 0")
    assert echoes.is_echo("memory with the number 1") and echoes.is_echo(f"memory with the number {CONTEXTS}")


@given(st.text(), st.text())
def test_length_never_changes(context: str, text: str) -> None:
    echoes = Echoes()
    echoes.remember(context)
    assert len(echoes.without(text)) == len(text)


def test_an_agent_that_stores_its_own_prompt_learns_nothing_from_it(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        memory.add("I live in Denver and I work at Globex.", user_id="alice")
        hits = memory.hits("Where does Alice live, what does she do?", Scope(user="alice"), threshold=0.0)
        block = render(hits, datetime.now(UTC))
        assert "Denver" in block and INJECTED.is_echo(block)
        results = memory.add(f"{block}\n\nI bought a kayak.", user_id="alice")["results"]
    facts = [row["memory"] for row in results if row["semantic_type"] != "turn"]
    assert len(facts) == 1 and "kayak" in facts[0]
