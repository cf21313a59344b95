"""Recalled text that comes back is not read again; what people say is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Scope
from lamina.text.answering import render
from lamina.text.base import Hit, Turn
from lamina.text.prompted.echo import CONTEXTS, INJECTED, OWNERS, Echoes

BLOCK = "Quotes from earlier:\n- Alice lives in Denver since June\n- Bob owns three kayaks\n"
T0 = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = Scope(user="alice")


def told(text: str, role: str = "user", *, minutes: int = 1) -> Turn:
    return Turn(text, "Alice", role, T0 + timedelta(minutes=minutes), "s", 0)


def primed(text: str = BLOCK, scope: Scope = ALICE) -> Echoes:
    echoes = Echoes()
    echoes.remember(text, scope, T0)
    return echoes


def test_a_context_and_its_lines_in_any_list_are_echoes() -> None:
    echoes = primed()
    assert echoes.is_echo(BLOCK, ALICE)
    assert echoes.is_echo("1. alice lives  in Denver since June\n* Bob owns three kayaks", ALICE)
    assert not echoes.is_echo("- Bob owns four kayaks", ALICE)
    assert not echoes.is_echo(" \n ", ALICE)


def test_new_words_around_a_context_stay_where_they_were() -> None:
    text = f"{BLOCK}\nI sold one of them."
    blanked = primed().without(told(text), ALICE)
    assert blanked.strip() == "I sold one of them." and blanked.index("I sold") == text.index("I sold")


def test_a_person_who_says_it_again_is_heard_and_a_machine_is_not() -> None:
    echoes = primed("I live in Boston by the river.\nI work at Globex as a nurse.\n")
    for text in ("I live in Boston by the river.", "I live in Boston by the river.\nI work at Globex as a nurse."):
        assert echoes.without(told(text), ALICE) == text
        assert not echoes.without(told(text, "tool"), ALICE).strip()
        assert not echoes.without(told(text, "assistant"), ALICE).strip()
        assert echoes.without(replace(told(text, "assistant"), named=True), ALICE) == text


def test_lines_of_two_contexts_make_no_block() -> None:
    echoes = primed("- Alice lives in Denver since June")
    echoes.remember("- Bob owns three kayaks", ALICE, T0)
    text = "- Alice lives in Denver since June\n- Bob owns three kayaks"
    assert echoes.without(told(text), ALICE) == text


def test_nobody_hears_less_because_of_another_owner() -> None:
    echoes = primed()
    for scope in (Scope(tenant="acme", user="alice"), Scope(user="bob"), Scope(agent="alice")):
        assert echoes.without(told(BLOCK, "tool"), scope) == BLOCK
    assert not echoes.without(told(BLOCK, "tool"), Scope(user="alice", agent="a", run="r")).strip()


def test_what_was_said_before_a_context_is_no_echo_of_it() -> None:
    assert primed().without(told(BLOCK, "tool", minutes=-1), ALICE) == BLOCK


def test_only_the_last_contexts_and_owners_are_remembered() -> None:
    echoes = Echoes()
    for n in range(CONTEXTS + 1):
        echoes.remember(f"- memory with the number {n}", ALICE)
    assert not echoes.is_echo("memory with the number 0", ALICE)
    assert echoes.is_echo("memory with the number 1", ALICE)
    assert echoes.is_echo(f"memory with the number {CONTEXTS}", ALICE)
    for n in range(OWNERS):
        echoes.remember("- somebody else's memory", Scope(user=f"u{n}"))
    assert not echoes.is_echo("memory with the number 1", ALICE)


@given(st.text(), st.text(), st.sampled_from(["user", "tool"]))
def test_length_never_changes(context: str, text: str, role: str) -> None:
    assert len(primed(context).without(told(text, role), ALICE)) == len(text)


def test_of_what_was_found_only_what_is_current_and_read_is_remembered(tmp_path: Path) -> None:
    """The superseded may come true again; a turn that waits for its reader is not known yet."""
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        memory.add("I live in Boston by the river.", user_id="alice")
        memory.add("I live in Denver near the park now.", user_id="alice")
        cubes = memory.store.query(ALICE, {"semantic_type": {"ne": "turn"}}, closed=True).cubes
        waits = memory.store.query(ALICE, {"semantic_type": "turn"}).cubes[0]
    waits = replace(waits, header=replace(waits.header, tags=("pending",)))
    echoes = Echoes()
    echoes.remember_hits(ALICE, [Hit(cube, 1.0, {}) for cube in [*cubes, waits]])
    known = {cube.text: echoes.is_echo(cube.text, ALICE) for cube in cubes}
    assert sorted(known.values()) == [False, True] and not echoes.is_echo(waits.text, ALICE)
    assert next(text for text, is_known in known.items() if is_known).count("Denver") == 1


def test_an_agent_that_stores_its_own_prompt_learns_nothing_from_it(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        memory.add("I live in Denver and I work at Globex.", user_id="alice")
        hits = memory.hits("Where does Alice live, what does she do?", Scope(user="alice"), threshold=0.0)
        block = render(hits, datetime.now(UTC))
        assert "Denver" in block and INJECTED.is_echo(block, Scope(user="alice"))
        results = memory.add(f"{block}\n\nI bought a kayak.", user_id="alice")["results"]
    facts = [row["memory"] for row in results if row["semantic_type"] != "turn"]
    assert len(facts) == 1 and "kayak" in facts[0]
