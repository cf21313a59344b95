"""Pipelines: all writes land together or not at all, each step's fate is told, declared pipelines fail clearly."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina import Memory
from lamina.cube.cube import Header, Lineage, MemCube, Policy, Scope, State
from lamina.cube.payload import TextPayload
from lamina.errors import Conflict, FrozenCube, IllegalTransition, InvalidInput, LLMUnavailable, NotFound, NotPermitted
from lamina.kernel.governance import Principal
from lamina.kernel.lifecycle import freeze
from lamina.kernel.pipelines.pipeline import Pipeline, PipelineResult
from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.pipelines.steps import (
    STEPS,
    Add,
    Archive,
    Augment,
    LogQuery,
    Provenance,
    Read,
    Retract,
    Retrieve,
    Step,
    Update,
)
from lamina.kernel.pipelines.text_changes import changed
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore

ALICE = Scope(user="alice")
AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Boom:
    """Fails after what came before it."""

    error: Exception = field(default_factory=lambda: NotFound("boom"))
    name: ClassVar[str] = "boom"

    def run(self, context: PipelineContext) -> str:
        raise self.error


@dataclass(frozen=True)
class Meanwhile:
    """Something that happens between two steps, at somebody else's hands."""

    act: Callable[[], object]
    name: ClassVar[str] = "meanwhile"

    def run(self, context: PipelineContext) -> str:
        self.act()
        return "somebody else was here"


def put(memory: Memory, text: str, scope: Scope = ALICE, **fields: Any) -> MemCube:
    """A memory stored as it is, without a turn."""
    cube = MemCube(Header(scope=scope, created=AT, recorded=AT, semantic_type="note", **fields), TextPayload(text))
    with memory.store.transaction() as tx:
        tx.insert([Write(cube, memory.embedder.encode([text])[0])])
    return cube


def context(memory: Memory, text: str = "", scope: Scope = ALICE, **fields: Any) -> PipelineContext:
    return PipelineContext(
        store=memory.store, embedder=memory.embedder, searcher=memory, scope=scope, text=text,
        at=AT + timedelta(days=1), **fields,
    )  # fmt: skip


def rows(memory: Memory) -> list[tuple[Any, ...]]:
    """Every row of the database that a write touches, read past the store."""
    assert isinstance(memory.store, SqliteStore)
    with sqlite3.connect(memory.store.path) as db:
        tables = ("cubes", "parents", "texts", "vectors", "log")
        return [
            row for table in tables for row in db.execute(f"SELECT '{table}', * FROM {table} ORDER BY 2").fetchall()
        ]


def statuses(result: PipelineResult) -> list[str]:
    return [step.status for step in result.steps]


# -- all or nothing --------------------------------------------------------------------------------


def test_a_pipeline_reads_finds_shows_changes_and_archives(memory: Memory) -> None:
    tea, car = put(memory, "Anna drinks green tea."), put(memory, "The car is parked on level 3.")
    ctx = context(memory, "What tea does Anna drink?")
    steps: list[Step] = [Read(), Retrieve(k=1), Update(text="She buys it in Porto."), Augment(), Archive(ids=(car.id,))]
    result = Pipeline(steps).run(ctx).check()
    assert statuses(result) == ["done"] * 5 and result.written == (tea.id, car.id)
    assert [step.writes for step in result.steps] == [0, 0, 1, 0, 1]
    assert ctx.call is not None and ctx.call.intent == "recall"
    now = memory.store.get(tea.id)
    assert now is not None and now.text == "Anna drinks green tea.\nShe buys it in Porto."
    assert (now.header.version, now.header.lineage) == (2, Lineage(((tea.id, 1),), "update"))
    assert "Porto" in ctx.prompt  # what the run has staged is what it shows
    assert memory.search("Where is the car?", filters={"user_id": "alice"}, threshold=0.4)["results"] == []
    assert (moved := memory.store.get(car.id)) is not None and moved.header.state is State.ARCHIVED
    vector = memory.store.vector(tea.id)
    assert vector is not None and float(vector @ memory.embedder.encode([now.text])[0]) > 0.999


def test_every_row_of_a_run_names_it_and_its_actor(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    result = Pipeline([Add(text="A note."), Update(ids=(tea.id,), text="And coffee."), Retract(ids=(tea.id,))]).run(
        context(memory)
    )
    result.check()
    mine = [event for event in memory.store.events() if event.details.get("run") == result.run_id]
    assert [event.action for event in mine] == ["add", "update", "retract"]
    assert {event.actor for event in mine} == {"user:alice"}
    assert memory.store.verify() == []


@pytest.mark.parametrize("place", range(4))
def test_a_failing_step_anywhere_leaves_every_row_as_it_was(memory: Memory, place: int) -> None:
    tea, car = put(memory, "Anna drinks green tea."), put(memory, "The car is on level 3.")
    steps: list[Step] = [Add(text="A note."), Update(ids=(tea.id,), text="And coffee."), Retract(ids=(car.id,))]
    steps.insert(place, Boom())
    before = rows(memory)
    result = Pipeline(steps).run(context(memory))
    assert rows(memory) == before
    assert not result.ok and result.failed == "boom" and result.written == ()
    assert statuses(result) == ["rolled back"] * place + ["failed"] + ["skipped"] * (3 - place)
    with pytest.raises(NotFound, match="boom"):
        result.check()


def test_a_write_that_fails_inside_the_transaction_undoes_those_before_it(memory: Memory) -> None:
    """The second update names a version that somebody else took after it was staged."""
    tea, car = put(memory, "Anna drinks green tea."), put(memory, "The car is on level 3.")
    taken: list[list[tuple[Any, ...]]] = []

    def somebody() -> None:
        memory.update(car.id, "The car is on level 4.")
        taken.append(rows(memory))

    steps: list[Step] = [
        Update(ids=(tea.id,), text="x"),
        Update(ids=(car.id,), text="y"),
        Meanwhile(somebody),
        Add(text="z"),
    ]
    result = Pipeline(steps).run(context(memory))
    assert isinstance(result.error, Conflict)
    assert statuses(result) == ["rolled back", "failed", "done", "rolled back"]
    assert rows(memory) == taken[0]


def test_it_is_one_transaction_and_none_is_open_while_steps_run(memory: Memory) -> None:
    """Another thread can write while a step takes its time; the run's own rows become visible together."""
    tea = put(memory, "Anna drinks green tea.")
    seen: list[int] = []

    def other_thread() -> None:
        def work() -> None:
            seen.append(len(list(memory.store.events())))
            put(memory, "Written meanwhile.")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(timeout=10)
        assert not thread.is_alive()

    steps: list[Step] = [Add(text="one"), Update(ids=(tea.id,), text="two"), Meanwhile(other_thread)]
    Pipeline(steps).run(context(memory)).check()
    assert seen == [1]  # the first row of the log alone: nothing of the run was written yet
    assert len(list(memory.store.events())) == 4


def test_a_fault_in_a_step_passes_through_and_nothing_is_written(memory: Memory) -> None:
    before = rows(memory)
    with pytest.raises(ZeroDivisionError) as caught:
        Pipeline([Add(text="x"), Boom(ZeroDivisionError("one half"))]).run(context(memory))
    assert any("steps[1] (boom)" in note for note in caught.value.__notes__)
    assert rows(memory) == before


def test_an_embedder_that_is_away_ends_the_run_before_anything_is_written(memory: Memory) -> None:
    @dataclass
    class Away:
        name: str = "away"
        dimension: int = 384

        def encode(self, texts: Any) -> Any:
            raise LLMUnavailable("no network")

        def forget(self, texts: Any) -> None: ...

    before = rows(memory)
    ctx = context(memory)
    ctx.embedder = Away()
    result = Pipeline([Add(text="x")]).run(ctx)
    assert (result.failed, statuses(result)) == ("commit", ["rolled back"])
    assert rows(memory) == before


def test_a_context_may_run_again_and_repeats_nothing(memory: Memory) -> None:
    ctx = context(memory)
    Pipeline([Add(text="first"), Boom()]).run(ctx)
    result = Pipeline([Add(text="second")]).run(ctx).check()
    assert len(result.written) == 1
    assert [cube.text for cube in memory.store.query(ALICE).cubes] == ["second"]


def test_reading_steps_write_nothing(memory: Memory) -> None:
    put(memory, "Anna drinks green tea.")
    before = rows(memory)
    Pipeline([Read(), Retrieve(), Augment(), LogQuery()]).run(context(memory, "What does Anna drink?")).check()
    assert rows(memory) == before


# -- update, archive, retract ----------------------------------------------------------------------


def test_two_changes_of_one_memory_are_two_versions(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    Pipeline([Update(ids=(tea.id,), text="Daily."), Archive(ids=(tea.id,))]).run(context(memory)).check()
    versions = memory.store.versions(tea.id)
    assert [(one.header.version, one.header.state.value, one.text) for one in versions] == [
        (1, "active", "Anna drinks green tea."),
        (2, "active", "Anna drinks green tea.\nDaily."),
        (3, "archived", "Anna drinks green tea.\nDaily."),
    ]


def test_an_update_of_what_changed_since_it_was_retrieved_is_a_conflict(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    steps: list[Step] = [
        Retrieve(),
        Meanwhile(lambda: memory.update(tea.id, "Anna drinks coffee.")),
        Update(text="Daily."),
    ]
    result = Pipeline(steps).run(context(memory, "What does Anna drink?"))
    assert isinstance(result.error, Conflict) and result.failed == "update"
    assert [one.text for one in memory.store.versions(tea.id)] == ["Anna drinks green tea.", "Anna drinks coffee."]


def test_an_update_may_name_the_version_it_follows(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    assert isinstance(Pipeline([Update(ids=(tea.id,), text="x", expect=2)]).run(context(memory)).error, Conflict)
    Pipeline([Update(ids=(tea.id,), text="x", expect=1)]).run(context(memory)).check()


def test_overwriting_a_fact_retires_the_turn_that_said_it(memory: Memory) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp=AT)
    ctx = context(memory, "Where does Alice live?")
    Pipeline([Retrieve(), Update(text="Alice lives in Denver.", mode="overwrite")]).run(ctx).check()
    found = memory.search("Where does Alice live?", filters={"user_id": "alice"})["results"]
    assert [row["memory"] for row in found] == ["Alice lives in Denver."]
    turn = ctx.hits[0].source
    assert turn is not None and (closed := memory.store.get(turn.id)) is not None
    assert closed.header.superseded_by == ctx.hits[0].cube.id
    assert any("Boston" in cube.text for cube in memory.store.query(ALICE, as_of=AT + timedelta(hours=1)).cubes)


def test_what_a_run_closes_stays_closed_in_its_later_steps(memory: Memory) -> None:
    """Archiving the group of a hit after its turn was retired must not open the turn again."""
    memory.add("I live in Boston.", user_id="alice", timestamp=AT)
    ctx = context(memory, "Where does Alice live?")
    steps: list[Step] = [Retrieve(), Update(text="Alice lives in Denver.", mode="overwrite"), Archive(), Augment()]
    Pipeline(steps).run(ctx).check()
    turn = ctx.hits[0].source
    assert turn is not None and (closed := memory.store.get(turn.id)) is not None
    assert closed.header.superseded is not None and closed.header.version == 1
    assert ctx.prompt == ""
    tea = put(memory, "Anna drinks green tea.")
    again = Pipeline([Retract(ids=(tea.id,)), Retract(ids=(tea.id,))]).run(context(memory))
    assert again.failed == "retract" and statuses(again) == ["rolled back", "failed"]
    assert (kept := memory.store.get(tea.id)) is not None and kept.header.superseded is None


@pytest.mark.parametrize("step", [Archive(), Retract()])
def test_what_was_archived_or_retracted_is_found_no_more_by_any_of_its_wordings(memory: Memory, step: Any) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp=AT)
    memory.add("The car is on level 3.", user_id="alice", timestamp=AT)
    Pipeline([Retrieve(), step]).run(context(memory, "Where does Alice live?")).check()
    left = [row["memory"] for row in memory.search("Boston", filters={"user_id": "alice"}, threshold=0.0)["results"]]
    assert left and not any("Boston" in text for text in left)
    everything = memory.store.query(ALICE, closed=True).cubes
    assert any("Boston" in cube.text for cube in everything)  # it is kept


def test_frozen_closed_and_archived_memories_are_refused(memory: Memory) -> None:
    governor = Principal(user="alice", roles=frozenset({"governance"}))
    tea, car = put(memory, "Anna drinks green tea."), put(memory, "The car is on level 3.")
    freeze(memory.store, tea.id, actor=governor, reason="hold")
    assert isinstance(Pipeline([Update(ids=(tea.id,), text="x")]).run(context(memory)).error, FrozenCube)
    assert isinstance(Pipeline([Retract(ids=(tea.id,))]).run(context(memory)).error, FrozenCube)
    Pipeline([Archive(ids=(car.id,))]).run(context(memory)).check()
    assert isinstance(Pipeline([Archive(ids=(car.id,))]).run(context(memory)).error, IllegalTransition)
    Pipeline([Retract(ids=(car.id,))]).run(context(memory)).check()
    assert isinstance(Pipeline([Update(ids=(car.id,), text="x")]).run(context(memory)).error, Conflict)
    twice = Pipeline([Add(text="x"), Retract(ids=(car.id,))]).run(context(memory))
    assert isinstance(twice.error, Conflict)


def test_nothing_retrieved_is_an_error_for_first_and_none_for_all(memory: Memory) -> None:
    assert isinstance(Pipeline([Archive()]).run(context(memory)).error, NotFound)
    assert Pipeline([Archive(which="all")]).run(context(memory)).check().written == ()


def test_merging_what_is_known_writes_no_version(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    result = Pipeline([Update(ids=(tea.id,), text="anna drinks green tea", mode="merge")]).run(context(memory)).check()
    assert result.written == () and len(memory.store.versions(tea.id)) == 1


def test_provenance_is_stamped_on_all_writes_and_sources_stay(memory: Memory) -> None:
    memory.add("I live in Boston.", user_id="alice", timestamp=AT)
    ctx = context(memory, "Where does Alice live?")
    steps: list[Step] = [
        Retrieve(),
        Update(text="Near the river."),
        Add(text="Summary.", derived=True),
        Provenance("nightly", "m1"),
    ]
    result = Pipeline(steps).run(ctx).check()
    updated, added = (memory.store.get(id) for id in result.written)
    assert updated is not None and added is not None
    assert {one.header.provenance.extractor for one in (updated, added)} == {"nightly"}
    assert updated.header.provenance.sources == ctx.hits[0].cube.header.provenance.sources != ()
    assert added.header.lineage.derived_from == ((updated.id, updated.header.version),)
    gone = memory.forget(updated.id)["forgotten"]
    assert added.id in gone  # what was made of it goes with it


# -- who may ---------------------------------------------------------------------------------------


def test_no_step_reaches_another_owner(memory: Memory) -> None:
    bobs = put(memory, "Bob drinks green tea.", Scope(user="bob"))
    before = rows(memory)
    for step in (Update(ids=(bobs.id,), text="x"), Archive(ids=(bobs.id,)), Retract(ids=(bobs.id,))):
        assert isinstance(Pipeline([step]).run(context(memory)).error, NotFound)
    ctx = context(memory, "Who drinks green tea?")
    Pipeline([Retrieve(threshold=0.0), LogQuery()]).run(ctx).check()
    assert ctx.hits == [] and ctx.events == []
    assert rows(memory) == before


def test_a_reader_by_policy_finds_but_changes_nothing(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.", policy=Policy(read=("user:bob",)))
    put(memory, "Alice hides the tea.")
    ctx = context(memory, "Who drinks tea?", principal=Principal(user="bob"))
    assert isinstance(Pipeline([Retrieve(), Update(text="x")]).run(ctx).error, NotPermitted)
    assert [hit.cube.id for hit in ctx.hits] == [tea.id]  # and the hidden one neither shows nor takes a place
    hidden = put(memory, "Alice hides the keys.")
    blind = context(memory, principal=Principal(user="bob"))
    assert isinstance(Pipeline([Update(ids=(hidden.id,), text="x")]).run(blind).error, NotFound)  # as if it were not
    add = context(memory, principal=Principal(user="bob"))
    assert isinstance(Pipeline([Add(text="x")]).run(add).error, NotPermitted)


# -- retrieval and the log -------------------------------------------------------------------------


def test_the_window_of_the_call_comes_first_and_others_fill_up(memory: Memory) -> None:
    old = put(memory, "We talked about the budget for paint.")
    recent = put(memory, "We talked about the budget for tiles.")
    later = replace(recent.header, version=2, recorded=AT + timedelta(days=40))
    with memory.store.transaction() as tx:
        tx.revise(Write(MemCube(later, recent.payload), memory.store.vector(recent.id)), expect=1)
    ctx = context(memory, "What did we say about the budget yesterday?")
    ctx.at = AT + timedelta(days=41)
    Pipeline([Read(k=2), Retrieve()]).run(ctx).check()
    assert [hit.cube.id for hit in ctx.hits] == [recent.id, old.id]
    Pipeline([Read(k=1), Retrieve()]).run(ctx).check()
    assert [hit.cube.id for hit in ctx.hits] == [recent.id]


def test_each_name_of_a_question_gets_its_turn(memory: Memory) -> None:
    for number in range(4):
        put(memory, f"Anna likes sushi, especially roll number {number}.")
    tom = put(memory, "Tom prefers dumplings.")
    ctx = context(memory, "What food do Anna and Tom like?")
    Pipeline([Read(k=2), Retrieve()]).run(ctx).check()
    assert tom.id in {hit.cube.id for hit in ctx.hits}


def test_retrieve_takes_a_filter(memory: Memory) -> None:
    put(memory, "Anna drinks green tea.")
    tagged = put(memory, "Anna drinks black coffee.", tags=("kitchen",))
    ctx = context(memory, "What does Anna drink?")
    Pipeline([Retrieve(where={"tags": {"contains": "kitchen"}})]).run(ctx).check()
    assert [hit.cube.id for hit in ctx.hits] == [tagged.id]


def test_the_log_is_filtered_by_time_actor_action_type_and_memory(memory: Memory) -> None:
    tea, car = put(memory, "Anna drinks green tea."), put(memory, "The car is on level 3.")
    memory.add("I live in Boston.", user_id="alice", timestamp=AT)
    agent = Principal(user="alice", agent="bot")
    Pipeline([Update(ids=(tea.id,), text="x")]).run(context(memory, principal=agent)).check()
    memory.delete(car.id)
    everything = list(memory.store.events())

    def query(**arguments: Any) -> list[int]:
        ctx = context(memory)
        Pipeline([LogQuery(**arguments)]).run(ctx).check()
        return [event.seq for event in ctx.events]

    assert query() == [event.seq for event in everything]
    assert query(memory=tea.id) == [event.seq for event in everything if event.cube == tea.id]
    assert query(action="delete") == [event.seq for event in everything if event.action == "delete"] != []
    assert query(actor="user:alice agent:bot") == [e.seq for e in everything if "bot" in e.actor] != []
    turns = {event.cube for event in everything} & {
        c.id for c in memory.store.query(ALICE, {"semantic_type": "turn"}).cubes
    }
    assert query(semantic_type="turn") == [event.seq for event in everything if event.cube in turns] != []
    middle = everything[2].at
    assert query(since=middle) == [event.seq for event in everything if event.at >= middle]
    assert query(until=middle) == [event.seq for event in everything if event.at < middle]
    assert query(limit=2) == [event.seq for event in everything][-2:]


# -- text changes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "told", "mode", "label", "new"),
    [
        ("a", "b", "append", None, "a\nb"),
        ("a", "b", "overwrite", None, "b"),
        ("Tea is green. It is hot.", "It is hot! Cheap, too.", "merge", None, "Tea is green. It is hot.\nCheap, too."),
        ("name: Ana\naddress: 1 Elm St\nage: 4", "2 Oak Rd", "overwrite", "Address",
         "name: Ana\naddress: 2 Oak Rd\nage: 4"),
        ("likes: tea", "coffee", "append", "likes", "likes: tea; coffee"),
        ("likes: tea; coffee", "Coffee; milk", "merge", "likes", "likes: tea; coffee; milk"),
        ("likes: tea", "TEA", "merge", "likes", "likes: tea"),
        ("name: Ana", "blue", "append", "colour", "name: Ana\ncolour: blue"),
    ],
)  # fmt: skip
def test_text_changes(old: str, told: str, mode: Any, label: str | None, new: str) -> None:
    assert changed(old, told, mode, label) == new


@given(
    st.lists(st.text("abc :", max_size=8), max_size=6),
    st.sampled_from(["append", "merge", "overwrite"]),
    st.text("xyz", min_size=1),
)
def test_a_labelled_change_leaves_every_other_line_alone(lines: list[str], mode: Any, told: str) -> None:
    old = "\n".join([*lines, "mark: here", *lines])
    after = changed(old, told, mode, "mark").split("\n")
    assert after[: len(lines)] == lines and after[len(lines) + 1 :] == lines
    assert after[len(lines)].startswith("mark: ") and told in after[len(lines)]


@given(st.text("ab. ", max_size=20), st.text("ab. ", min_size=1, max_size=20).filter(str.strip))
def test_merging_twice_is_merging_once(old: str, told: str) -> None:
    once = changed(old, told, "merge")
    assert changed(once, told, "merge") == once and once.startswith(old)


@pytest.mark.parametrize(("told", "label"), [(" ", None), ("x", "a:b"), ("x", " ")])
def test_a_change_without_sense_is_refused(told: str, label: str | None) -> None:
    with pytest.raises(InvalidInput):
        changed("old", told, "append", label)


# -- declared pipelines ----------------------------------------------------------------------------

TOML = """
[[steps]]
step = "retrieve"
query = "What does Anna drink?"
k = 3
where = {tags = {contains = "kitchen"}}

[[steps]]
step = "update"
mode = "append"
text = "Daily."

[[steps]]
step = "log_query"
since = 2026-01-01T00:00:00Z
"""
JSON = """[
  {"step": "retrieve", "query": "What does Anna drink?", "k": 3, "where": {"tags": {"contains": "kitchen"}}},
  {"step": "update", "mode": "append", "text": "Daily."},
  {"step": "log_query", "since": "2026-01-01T00:00:00Z"}
]"""


def test_toml_json_and_objects_say_the_same(memory: Memory) -> None:
    where = {"tags": {"contains": "kitchen"}}
    objects = (
        Retrieve(query="What does Anna drink?", k=3, where=where),
        Update(mode="append", text="Daily."),
        LogQuery(since=datetime(2026, 1, 1, tzinfo=UTC)),
    )
    assert Pipeline.from_toml(TOML).steps == Pipeline.from_json(JSON).steps == objects
    assert Pipeline.from_json(f'{{"steps": {JSON}}}').steps == objects
    tea = put(memory, "Anna drinks green tea.", tags=("kitchen",))
    Pipeline.from_toml(TOML).run(context(memory)).check()
    assert (after := memory.store.get(tea.id)) is not None and after.text.endswith("\nDaily.")


def test_lists_become_tuples() -> None:
    assert Pipeline.from_json('[{"step": "archive", "ids": ["a", "b"]}]').steps == (Archive(ids=("a", "b")),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", ["no JSON"]),
        ("{}", ["list of steps"]),
        ("[]", ["at least one step"]),
        ('["retrieve"]', ["steps[0]", "name as 'step'"]),
        ('[{"step": "retreive"}]', ["steps[0]", "unknown step 'retreive'", "retrieve"]),
        ('[{"step": "read"}, {"step": "retrieve", "kk": 3}]', ["steps[1] (retrieve)", "'kk'", "query, k, where"]),
        ('[{"step": "retrieve", "k": "3"}]', ["steps[0] (retrieve)", "k='3'", "integer"]),
        ('[{"step": "retrieve", "k": true}]', ["k=True"]),
        ('[{"step": "retrieve", "k": 0}]', ["steps[0] (retrieve)", "k=0", "from 1"]),
        ('[{"step": "update", "mode": "shred"}]', ["mode='shred'", "overwrite"]),
        ('[{"step": "log_query", "since": "yesterday"}]', ["since='yesterday'"]),
        ('[{"step": "log_query", "since": "2026-01-01T00:00:00"}]', ["time zone"]),
        ('[{"step": "archive", "ids": "all"}]', ["ids='all'"]),
    ],
)
def test_a_declaration_that_is_wrong_says_where_and_what(text: str, words: list[str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Pipeline.from_json(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_broken_toml_and_objects_that_are_no_steps_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no TOML"):
        Pipeline.from_toml("[[steps]")
    with pytest.raises(InvalidInput, match=r"steps\[1\]"):
        Pipeline([Read(), object()])  # type: ignore[list-item]


@dataclass(frozen=True)
class Shout:
    """A step of one's own: changes the first hit through the context, and leaves a value."""

    mark: str = "!"
    name: ClassVar[str] = "shout"

    def run(self, context: PipelineContext) -> str:
        old = context.newest(context.hits[0].cube.id)
        header = replace(old.header, version=old.header.version + 1, recorded=context.at)
        context.revise(MemCube(header, TextPayload(old.text.upper() + self.mark)), action="shout")
        context.values["shouted"] = old.id
        return "loud"


def test_a_step_of_ones_own_runs_as_object_and_by_name(memory: Memory) -> None:
    tea = put(memory, "Anna drinks green tea.")
    ctx = context(memory, "What does Anna drink?")
    text = '[{"step": "retrieve"}, {"step": "shout", "mark": "?!"}]'
    Pipeline.from_json(text, steps={**STEPS, "shout": Shout}).run(ctx).check()
    assert (after := memory.store.get(tea.id)) is not None and after.text == "ANNA DRINKS GREEN TEA.?!"
    assert ctx.values == {"shouted": tea.id}
    result = Pipeline([Retrieve(), Shout(), Boom()]).run(context(memory, "What does Anna drink?"))
    assert statuses(result) == ["done", "rolled back", "failed"]
    assert len(memory.store.versions(tea.id)) == 2


def test_every_step_of_the_table_has_its_name() -> None:
    assert [str(kind.name) for kind in STEPS.values()] == list(STEPS)
