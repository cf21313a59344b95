"""The typed memory: what each tool does, and that failures are recorded, never raised into the chat."""

from __future__ import annotations

import pytest
from rank_bm25 import BM25Okapi

from lamina.text.policy.tools import CUT, ToolCall, ToolError, TypedMemory, bm25, valid_form


def test_insert_update_delete() -> None:
    memory = TypedMemory()
    first = memory.insert("semantic", "The sea is cold.")
    second = memory.insert("episodic", "On 3 May we swam.")
    assert [(e.id, e.memory_type, e.text) for e in memory.entries] == [
        (first, "semantic", "The sea is cold."),
        (second, "episodic", "On 3 May we swam."),
    ]
    memory.update("semantic", "The sea is warm.", first)
    assert [e.text for e in memory.entries] == ["The sea is warm.", "On 3 May we swam."]  # it keeps its place
    memory.delete("episodic", second)
    assert [e.id for e in memory.entries] == [first]
    assert memory.tokens == 4
    assert len(first) == 16  # 64 bits


def test_the_core_is_one_paragraph_and_is_cut() -> None:
    memory = TypedMemory(core_limit=4)
    memory.update("core", "I like tea.")
    memory.update("core", "I do not like any coffee at all.")
    assert memory.core == f"I do not like {CUT}"
    assert memory.core_fill == 1.0
    memory.delete("core")
    assert memory.core == "" and memory.core_fill == 0.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (ToolCall("memory_insert", {"memory_type": "core", "content": "x"}), "update the core"),
        (ToolCall("memory_insert", {"memory_type": "diary", "content": "x"}), "diary"),
        (ToolCall("memory_insert", {"memory_type": "semantic", "content": "Known."}), "already"),
        (ToolCall("memory_insert", {"memory_type": "semantic", "content": "  "}), "give a text"),
        (ToolCall("memory_insert", {"memory_type": "semantic", "content": 7}), "give a text"),
        (ToolCall("memory_insert", {"memory_type": "semantic"}), "content"),
        (ToolCall("memory_insert", {"memory_type": ["semantic"], "content": "x"}), "semantic"),
        (ToolCall("memory_update", {"memory_type": "semantic", "new_content": "x", "memory_id": "0"}), "no such"),
        (ToolCall("memory_update", {"memory_type": "core", "new_content": None}), "paragraph"),
        (ToolCall("memory_delete", {"memory_type": "episodic"}), "no such"),
        (ToolCall("memory_delete", {"memory_type": "core"}), "empty already"),
        (ToolCall("format_disk", {}), "no such tool"),
    ],
)
def test_a_call_that_cannot_be_carried_out_is_a_failed_call(call: ToolCall, says: str) -> None:
    memory = TypedMemory()
    memory.insert("semantic", "Known.")
    result = memory.call(call)
    assert not result.ok and says in (result.error or "")
    assert memory.results == [result]
    assert [e.text for e in memory.entries] == ["Known."] and memory.core == ""


def test_the_same_text_may_stand_in_two_stores_but_not_twice_in_one() -> None:
    memory = TypedMemory()
    memory.insert("semantic", "Same.")
    other = memory.insert("episodic", "Same.")
    changed = memory.insert("semantic", "Else.")
    with pytest.raises(ToolError, match="exactly this"):
        memory.update("semantic", "Same.", changed)
    with pytest.raises(ToolError, match="no such"):
        memory.update("semantic", "New.", other)  # it is episodic


def test_skip_is_a_call_that_works() -> None:
    memory = TypedMemory()
    assert memory.call(ToolCall("skip")).ok and memory.tokens == 0


def test_search_is_bm25_and_the_first_of_equals_wins() -> None:
    memory = TypedMemory()
    for text in ("Rome is old", "Paris is large", "Rome is large", "Oslo is cold", "Rome is old indeed"):
        memory.insert("semantic", text)
    memory.insert("episodic", "Rome is old")
    assert [e.text for e in memory.search("rome old", 3)] == ["Rome is old", "Rome is old", "Rome is old indeed"]
    assert [e.memory_type for e in memory.search("rome old", 3)][:2] == ["semantic", "episodic"]
    assert memory.search("zebra") == [] and TypedMemory().search("rome") == []


def test_bm25_ranks_as_another_implementation_does() -> None:
    documents = [d.split() for d in ("a b c", "a a d", "e f g h", "b e d c a", "h", "i j", "k l m", "n o")]
    theirs = BM25Okapi(documents, k1=1.2, b=0.75)
    for query in (["a", "d"], ["h"], ["b", "e", "g"]):
        ours = bm25(query, documents)
        weights = {word: max(theirs.idf[word], 0) for word in query}
        assert all(weights.values())  # rank_bm25 floors common words; none is here
        order = sorted(range(len(documents)), key=lambda place: -ours[place])
        expected = theirs.get_scores(query)
        hits = [place for place in order if ours[place] > 0]
        assert hits == sorted(hits, key=lambda place: (-expected[place], order.index(place)))
        assert {place for place in order if ours[place] > 0} == {p for p in order if expected[p] > 0}


def test_forms() -> None:
    assert valid_form("episodic", "We met on 3 May 2024.") and not valid_form("episodic", "We met.")
    assert valid_form("semantic", "The sea is cold.") and not valid_form("semantic", "Is the sea cold?")
    assert valid_form("core", "I like tea.") and not valid_form("core", "The sea is cold.")
