"""Upkeep: what counts as an event, who does the work, that a kill loses nothing and repeats nothing, and forgetting."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memos_systems import MINUTE, START, Clock, ask, eager, system, tell, tiny

from lamina import Memory, MemOS
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, Lineage, MemCube, Scope, State
from lamina.errors import LaminaError
from lamina.kernel.migration import Migration
from lamina.kernel.rhythm import NestedRhythm, Tick
from lamina.kernel.rhythms.upkeep import LEVELS, Upkeep
from lamina.kernel.rhythms.upkeep_log import ACTOR, UpkeepLog, counts
from lamina.kernel.tiering.decisions import Reason, Tier, decision
from lamina.parameter.distillation import fresh
from lamina.store.base import Event, Store, Write

FACT = "Ann is allergic to walnuts and to every other kind of nut, as a doctor found out last summer."
QUESTION = "What is Ann allergic to?"
EVER = timedelta(days=36_500)
GONE = "2030-01-01"  # before the clock of these tests begins

OPEN = """
import os, signal, sys
from datetime import timedelta
from lamina import Memory, MemOS
from lamina.bench.synthetic import WordVectors
made = MemOS(Memory(sys.argv[1], embedder=WordVectors()), model="none", clock=lambda: 2_000_000_000 * 10**9)
made.upkeep.archive_after = timedelta(days=36_500)
"""


def text_only(path: Path, **options: Any) -> MemOS:
    """A system whose model does not exist: it would be an error to load it."""
    made = MemOS(Memory(path, embedder=WordVectors()), model="none", **{"clock": Clock()} | options)
    made.upkeep.archive_after = EVER
    return made


def write(os: MemOS, count: int, user: str = "ann", first: int = 0, **options: Any) -> list[str]:
    """``count`` events in one transaction, not yet counted by the clock."""
    items = [{"messages": f"Fact {first + n} of {user}.", "user_id": user, **options} for n in range(count)]
    return [row["results"][0]["id"] for row in os.memory.add_batch(items, infer=False)]


def process(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OPEN + script, *arguments], text=True, stdout=subprocess.PIPE)


def events(store: Store) -> int:
    """The naive count: rows that nobody of the kernel wrote, and calls."""
    return sum(row.action == "call" or row.actor not in ("rhythm", "memos", "agent:kernel") for row in store.events())


def rows(store: Store, action: str, reason: str) -> list[str]:
    return [row.cube for row in store.events() if (row.action, row.reason) == (action, reason)]


def watermarks(os: MemOS) -> list[int]:
    return [row["watermark"] for row in os.upkeep.status()]


# -- events and levels ---------------------------------------------------------------------------


def test_what_people_do_counts_and_what_the_kernel_does_not(tmp_path: Path) -> None:
    with system(tmp_path / "m.db", tiny()) as os:
        id = tell(os, FACT)
        assert os.upkeep.n == 1
        os.update(id, FACT + " Cashews too.")
        counted = os.upkeep.n
        os.promote(id, "activation")
        assert os.tiers.save(Scope(user="ann")) is not None
        os.upkeep.follow()
        assert os.upkeep.n == counted == events(os.store)
        ask(os, QUESTION)
        assert os.upkeep.n == counted + 1 == events(os.store)
        os.retract(id)
        other = tell(os, "Ann rows.")
        os.forget(other)
        os.upkeep.follow()
        assert os.upkeep.n == events(os.store)


def test_writing_counts_and_leaves_the_work_to_a_lull(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        old = write(os, 1, expiration_date=GONE)[0]
        write(os, 59, first=1)
        os.upkeep.follow()
        assert os.upkeep.n == 60 and watermarks(os) == [56, 0, 0, 0]
        os.upkeep.ripple()
        assert watermarks(os) == [56, 0, 0, 0], "somebody asked a moment ago"
        os.upkeep._asked -= 1
        os.upkeep.ripple()
        assert watermarks(os) == [56, 56, 0, 0], "once, for the trough at 32 that it slept through"
        write(os, 100, first=60)
        os.upkeep._asked -= 1
        os.upkeep.ripple()
        assert watermarks(os) == [160, 160, 160, 0] and rows(os.store, "retract", "TTL") == [old]
        status = os.upkeep.status()
        assert [row["does"] for row in status] == list(LEVELS) and all(row["mean_lag"] < 8 for row in status)


def test_work_that_is_two_periods_late_does_not_wait_for_a_lull(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        write(os, 64)
        os.upkeep.follow()
        os.upkeep.ripple()
        assert watermarks(os)[1] == 0
        write(os, 1)
        os.upkeep.follow()
        os.upkeep.ripple()
        assert watermarks(os)[1] == 64


def test_text_only_users_never_pay_for_a_model(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        write(os, 520)
        os.upkeep.follow()
        os.upkeep._asked -= 1
        os.upkeep.ripple()
        os.upkeep.drain()
        assert watermarks(os) == [520, 520, 520, 0] and os._tiers is None
        with pytest.raises(LaminaError):  # a model is needed for lessons alone, and only where they are allowed
            os.upkeep.drain(consolidate=True)
        assert watermarks(os)[3] == 0, "what failed is not taken for done"
    code = (
        "write = made.memory.add_batch([{'messages': f'Fact {n}.', 'user_id': 'a'} for n in range(140)], infer=False)\n"
        "made.upkeep.drain()\nprint('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    out, _ = process(code, str(tmp_path / "light.db")).communicate(timeout=60)
    assert out.split() == ["False", "False"]


def test_an_index_in_use_is_brought_up_to_date(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        write(os, 8)
        assert os.recall("Fact 3", user_id="ann")
        (scope,) = os.memory.indexes.scopes(os.store)
        index = os.memory.indexes.get(os.store, scope)
        write(os, 130, first=8)
        assert len(index) == 8
        os.upkeep.drain()
        assert len(index) == 138


def test_a_new_clock_on_an_old_store_begins_where_every_level_is_due_once(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        write(os, 1500)
        os.upkeep.follow()
        assert os.upkeep.n == 1024 and events(os.store) == 1500


def test_the_same_events_give_the_same_trace(tmp_path: Path) -> None:
    def run(path: Path) -> tuple[list[tuple[int, int, float]], list[dict[str, Any]]]:
        seen: list[tuple[int, int, float]] = []
        with text_only(path) as os:
            os.upkeep.trace = lambda row: seen.append((row["n"], row["level"], row["work"]))
            for part in range(9):
                write(os, 60, f"user{part % 4}", 60 * part, expiration_date=None if part % 3 else GONE)
                os.upkeep.follow()
                if part % 2:
                    os.upkeep._asked -= 1
                    os.upkeep.ripple()
            os.upkeep.drain()
            return seen, os.upkeep.status()

    first = run(tmp_path / "a.db")
    assert first == run(tmp_path / "b.db") and {level for _, level, _ in first[0]} == {0, 1, 2}


# -- use -----------------------------------------------------------------------------------------


def test_what_is_asked_for_is_not_archived_also_by_a_later_process(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "m.db"
    with text_only(path, clock=clock) as os:
        tell(os, "Ann collects stamps of Peru.")
        used, idle = tell(os, FACT), tell(os, "Bruno keeps bees.", "bob")
        clock.forward(80 * 1440 * MINUTE)
        assert os.recall("allergic to walnuts", k=1, user_id="ann")[0].cube.id == used
    clock.forward(20 * 1440 * MINUTE)
    with text_only(path, clock=clock) as os:
        os.upkeep.archive_after = timedelta(days=90)
        os.upkeep.drain()
        states = {id: os.store.get(id).header.state for id in (used, idle)}  # type: ignore[union-attr]
        assert states == {used: State.ACTIVE, idle: State.ARCHIVED}
        os.restore(idle)
        os.upkeep.drain()


def test_nothing_is_archived_before_uses_were_noted_that_long(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        id = tell(os, FACT)
        os.upkeep.archive_after = timedelta(days=1)
        os.upkeep.drain()  # years later, by the clock of this test, but the first time that anybody looks
        assert os.store.get(id).header.state is State.ACTIVE  # type: ignore[union-attr]
        os.upkeep.drain()
        assert os.store.get(id).header.state is State.ARCHIVED  # type: ignore[union-attr]
        assert os.recall("walnuts", user_id="ann") == []


@pytest.mark.model
def test_heat_survives_the_process(tmp_path: Path) -> None:
    clock, path, lm = Clock(), tmp_path / "m.db", tiny()
    os = system(path, lm, clock=clock)
    ids = tell(os, FACT), tell(os, "Ann is allergic to birch pollen in spring and to ragweed in the autumn.")
    for _ in range(3):
        ask(os, QUESTION, session="Ann's own")
        clock.forward()
    told = [os.explain(id) for id in ids]
    os.store.close()  # as if killed: nothing more is written
    with system(path, lm, clock=clock) as os:
        for again in (
            [os.explain(id) for id in ids],
            [os.tiers.explain(id) for id in ids],
        ):  # without the model, with it
            assert [(one.heat, one.share, one.uses) for one in again] == [
                (one.heat, one.share, one.uses) for one in told
            ]
        assert {one.cube for one in os.tick()} == {*ids}, "the third use promotes, whichever process saw the first"
        assert ask(os, QUESTION).tiers[0] is Tier.ACTIVATION
        assert "ann" not in json.dumps([dict(r.details) for r in os.store.events(cube=os.upkeep.log.id)]).lower()


@pytest.mark.model
def test_what_was_forgotten_is_not_told_as_used(tmp_path: Path) -> None:
    path, lm = tmp_path / "m.db", tiny()
    with system(path, lm) as os:
        id, kept = tell(os, FACT), tell(os, "Ann is allergic to dust.")
        ask(os, QUESTION)
        os.forget(id)
    with system(path, lm) as os:
        assert os.explain(kept).uses == 1 and id not in os.tiers._account.ledger


# -- crashes, errors, other processes ------------------------------------------------------------


@pytest.mark.parametrize("owner", [1, 3])
def test_killed_in_the_middle_of_a_sweep_and_done_once(tmp_path: Path, owner: int) -> None:
    path = tmp_path / "m.db"
    with text_only(path) as os:
        expired = [id for n in range(4) for id in write(os, 3, f"user{n}", expiration_date=GONE)]
        kept = write(os, 120, "user1")
    script = f"""
left, mend = [{owner}], made.memory.mend
def dying(cube):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)  # what this owner had is closed; the tick is not over
    mend(cube)
made.memory.mend = dying
made.upkeep.drain()
"""
    child = process(script, str(path))
    assert child.wait(60) == -signal.SIGKILL
    with text_only(path) as os:
        closed = rows(os.store, "retract", "TTL")
        assert len(closed) == 3 * owner and watermarks(os)[2] == 0
        os.upkeep.drain()
        assert sorted(rows(os.store, "retract", "TTL")) == sorted(expired), "each once"
        assert watermarks(os)[:3] == [132] * 3 and all(len(os.store.versions(id)) == 1 for id in (*expired, *kept))
        assert os.store.verify() == []


def test_a_sweep_of_many_owners_is_spread_and_goes_on_in_another_process(tmp_path: Path) -> None:
    swept: list[float] = []
    path = tmp_path / "m.db"
    with text_only(path) as os:
        expired = [write(os, 2, f"user{n}", expiration_date=GONE)[0] for n in range(80)]
        os.upkeep.trace = lambda row: swept.append(row["work"]) if row["level"] == 2 else None
        os.upkeep.ripple()
        assert 0 < swept[0] < 80 and watermarks(os)[2] == 0
    with text_only(path) as os:
        os.upkeep.trace = lambda row: swept.append(row["work"]) if row["level"] == 2 else None
        os.upkeep.ripple()
        assert sum(swept) == 80 and watermarks(os)[2] == 160, "no owner twice, none left out"
        closed = rows(os.store, "retract", "TTL")
        assert len(closed) == len({*closed}) == 160 and {*expired} <= {*closed}


def test_killed_while_writing_and_counted_to_the_same_state(tmp_path: Path) -> None:
    script = """
for n in range(int(sys.argv[2])):
    made.remember(f"Fact {n}.", user_id="ann", infer=False)
    if n % 37 == 36:
        made.upkeep._asked -= 1
        made.upkeep.ripple()
if len(sys.argv) > 3:
    os.kill(os.getpid(), signal.SIGKILL)
made.close()
"""
    whole, cut = tmp_path / "whole.db", tmp_path / "cut.db"
    children = [process(script, str(whole), "76"), process(script, str(cut), "76", "kill")]
    assert [child.wait(100) for child in children] == [0, -signal.SIGKILL]
    with text_only(whole) as one, text_only(cut) as other:
        assert one.upkeep.status() == other.upkeep.status() and other.upkeep.n == 76
        assert other.upkeep.log.newest_tick()["state"]["n"] < 76, "events behind the last tick were counted again"  # type: ignore[index]


def test_two_processes_share_one_clock(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with text_only(path) as os:
        expired = [id for n in range(6) for id in write(os, 4, f"user{n}", expiration_date=GONE)]
    script = """
for n in range(40):
    made.remember(f"Fact {n} of {sys.argv[2]}.", user_id=sys.argv[2], infer=False)
    made.upkeep._asked -= 1
    made.upkeep.ripple()
made.close()
"""
    children = [process(script, str(path), user) for user in ("user1", "user2")]
    assert [child.wait(100) for child in children] == [0, 0]
    with text_only(path) as os:
        os.upkeep.drain()
        assert os.upkeep.n == events(os.store) == 24 + 80
        assert sorted(rows(os.store, "retract", "TTL")) == sorted(expired)
        marks = [row.details["state"]["n"] for row in os.store.events(cube=os.upkeep.log.id) if row.action == "tick"]
        assert marks == sorted(marks), "no process wrote an older state over a newer one"
        assert os.store.verify() == []


MOVES = st.tuples(st.integers(0, 1), st.sampled_from(["write", "follow", "ripple", "restart"]))


@given(moves=st.lists(MOVES, max_size=30))
@settings(max_examples=12, deadline=None)
def test_however_two_clocks_take_turns_they_agree(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, str]]
) -> None:
    with text_only(tmp_path_factory.mktemp("turns") / "m.db") as os:
        clocks = [os.upkeep, second(os)]
        for n, (who, what) in enumerate(moves):
            if what == "write":
                write(os, 13, first=13 * n)
            elif what == "restart":
                clocks[who] = second(os)
            elif what == "ripple":
                clocks[who]._asked -= 1
                clocks[who].ripple()
            else:
                clocks[who].follow()
        for clock in clocks:
            clock.drain()
        one, other = (clock.status() for clock in clocks)
        assert one == other and [row["watermark"] for row in one] == [clocks[0].n] * 3 + [0]
        assert clocks[0].n == clocks[1].n == events(os.store)


def second(os: MemOS) -> Upkeep:
    """The clock that another process would have."""
    made = Upkeep(os.memory, policy=list, tiers=lambda: os.tiers, clock=Clock())
    made.archive_after = EVER
    return made


def test_while_another_works_nobody_waits(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        other = second(os)
        with other._taking_turns(wait=True) as mine:
            assert mine
            tell(os, FACT)  # would hang here
            os.upkeep.ripple()
            assert os.upkeep.n == 0
        os.upkeep.follow()
        assert os.upkeep.n == 1


def test_what_fails_is_taken_up_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failing = [True]

    def policy() -> list[Any]:
        if failing:
            failing.pop()
            raise LaminaError("the disk was full")
        return []

    with text_only(tmp_path / "m.db") as os:
        clock = os.upkeep = Upkeep(os.memory, policy=policy, tiers=lambda: os.tiers)
        write(os, 40)
        clock.follow()
        clock._asked -= 1
        with pytest.raises(LaminaError, match="disk was full"):
            clock.ripple()
        assert watermarks(os)[1] == 0
        clock.ripple()
        assert watermarks(os)[1] == 40
        (tmp_path / "m.db.rhythm").unlink()
        (tmp_path / "m.db.rhythm").mkdir()  # cannot be opened for writing
        tell(os, FACT)
        assert "stands still" in caplog.text and os.recall("walnuts", user_id="ann"), "the memory is kept all the same"


def test_forgetting_between_two_slices(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        ids = [id for n in range(3) for id in write(os, 2, f"user{n}", expiration_date=GONE)]
        kept = write(os, 1, "user1")[0]
        steps = os.upkeep._sweep(Tick(8, 2, (0, 1, 2), 64.0, (), 0, 8))
        assert next(steps) == 1
        os.forget(ids[0])
        os.forget(ids[2])
        assert list(steps)[:2] == [1, 1]
        assert {id for id in ids if os.store.get(id) is not None} == {*ids} - {ids[0], ids[2]}
        closed = rows(os.store, "retract", "TTL")
        assert sorted(closed) == sorted({*ids} - {ids[2]}), "the first was closed, then erased"
        assert os.store.get(kept).header.superseded is None and os.store.verify() == []  # type: ignore[union-attr]


def test_forgetting_while_ripples_run(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        ids = [id for n in range(30) for id in write(os, 4, f"user{n}", expiration_date=GONE if n % 2 else None)]
        stop = threading.Event()

        def ripples() -> None:
            while not stop.is_set():
                os.upkeep.drain()

        thread = threading.Thread(target=ripples)
        thread.start()
        for id in ids[::5]:
            os.forget(id)
        stop.set()
        thread.join()
        assert all((os.store.get(id) is None) == (n % 5 == 0) for n, id in enumerate(ids))
        assert len(set(rows(os.store, "retract", "TTL"))) == len(rows(os.store, "retract", "TTL"))
        assert os.store.verify() == []


# -- lessons -------------------------------------------------------------------------------------


class Lessons:
    """Stands for minutes of training: stores an adapter at once, or fails."""

    def __init__(self, os: MemOS, monkeypatch: pytest.MonkeyPatch) -> None:
        self.os, self.given = os, list[list[str]]()
        monkeypatch.setattr(os.tiers.migrator, "to_parameter", self)

    def __call__(self, ids: list[str], *, seed: int = 0, progress: object = None) -> Migration:
        self.given.append(sorted(ids))
        lm, store = self.os.tiers.lm, self.os.store
        payload = fresh(lm, ("q_proj",), 2, 4.0, torch.Generator().manual_seed(seed)).to_payload(lm.fingerprint)
        parents = tuple((id, store.get(id).header.version) for id in ids)  # type: ignore[union-attr]
        cube = MemCube(Header(scope=Scope(user="ann"), kind="parameter", lineage=Lineage(parents, "distil")), payload)
        with store.transaction() as tx:
            tx.insert([Write(cube, actor="memos")])
        return Migration("distil", parents, cube, 0.0, 0, payload.nbytes, 1.0, 0.9)


def learner(path: Path) -> MemOS:
    """One that learns what was used three times."""
    policy = eager(parameter_heat=2.5, parameter_sessions=1, parameter_age=0, parameter_group=1, up_heat=100.0)
    return system(path, tiny(), policy=policy)


@pytest.mark.model
def test_a_lesson_that_was_kept_is_not_given_again_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.db"
    os = learner(path)
    os.upkeep.archive_after = EVER
    id = tell(os, FACT)
    for _ in range(3):
        ask(os, QUESTION)
    first = Lessons(os, monkeypatch)
    os.upkeep.drain()
    assert first.given == [], "lessons take minutes: only where they are allowed"
    monkeypatch.setattr(os.upkeep, "_save", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # the adapter is stored, that the clock did it is not
        os.upkeep.drain(consolidate=True)
    assert first.given == [[id]]
    os.store.close()
    with learner(path) as again:
        second = Lessons(again, monkeypatch)
        again.upkeep.archive_after = EVER
        again.upkeep.drain(consolidate=True)
        assert second.given == [] and watermarks(again)[3] == again.upkeep.n
        assert again.explain(id).tier is Tier.PARAMETER


@pytest.mark.model
def test_a_lesson_is_remembered_to_be_due_by_a_process_that_saw_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.db"
    with learner(path) as os:
        id = tell(os, FACT)
        for _ in range(3):
            ask(os, QUESTION)
    with learner(path) as os:
        lessons = Lessons(os, monkeypatch)
        os.upkeep.archive_after = EVER
        os.upkeep.drain(consolidate=True)
        assert lessons.given == [[id]]
        assert os.explain(id).tier is Tier.PARAMETER


@pytest.mark.model
def test_what_ended_since_it_was_hot_is_not_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with learner(tmp_path / "m.db") as os:
        id = tell(os, FACT)
        for _ in range(3):
            ask(os, QUESTION)
        lessons = Lessons(os, monkeypatch)
        os.archive(id)
        os.upkeep.drain(consolidate=True)
        assert lessons.given == []


@pytest.mark.model
def test_a_memory_forgotten_during_its_lesson_breaks_off_that_lesson_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with learner(tmp_path / "m.db") as os:
        for user in ("ann", "bob"):
            id = tell(os, FACT, user)
            ask(os, QUESTION, user)
        ledger, now = os.tiers._account.ledger, START
        wanted = [decision(stats, Tier.PARAMETER, Reason.HOT_STABLE, now) for stats in ledger.cubes.values()]
        taught: list[str] = []
        gone = os.store.get(wanted[0].cube)
        assert gone is not None

        def to_parameter(ids: list[str], *, seed: int = 0, progress: object = None) -> Migration:
            taught.extend(ids)
            if len(taught) == 1:
                os.forget(ids[0])
                return os.tiers.migrator._kept("distil", [gone], None, 0.0, 0, 0, 1.0, 0.9, "")
            return Migration("distil", ((ids[0], 1),), None, 0.0, 0, 0, 0.0, 0.9, "refused")

        os.tiers.migrator.to_parameter = to_parameter  # type: ignore[method-assign, assignment]
        os.upkeep._policy = lambda: wanted
        os.upkeep.drain(consolidate=True)
        assert taught == [one.cube for one in wanted] and id == taught[1]
        assert "broken off" in caplog.text and watermarks(os) == [4] * 4


# -- the clock itself ----------------------------------------------------------------------------


def test_a_level_that_is_held_waits_and_an_error_loses_no_work() -> None:
    done: list[tuple[int, int]] = []
    broken = [True]

    def action(tick: Tick) -> Any:
        for event in range(tick.since + tick.done + 1, tick.input + 1):
            if event == 5 and tick.level == 1 and broken:
                broken.pop()
                raise OSError("disk full")
            done.append((tick.level, event))
            yield 1

    clock = NestedRhythm(2, 2, 3)
    for level in range(3):
        clock.register(level, action, 100)
    for level in (1, 2):
        clock.enable(level, False)
    for n in range(1, 16):
        clock.observe(n)
    assert clock.watermark(2) == 0 and not any(level for level, _ in done) and clock.overdue() == (1, 2)
    assert [tick.level for tick in clock.catch_up()] == [], "both are held"
    clock.enable(1, True)
    with pytest.raises(OSError, match="disk full"):
        clock.catch_up()
    assert clock.watermark(1) == 0
    clock.catch_up()
    assert clock.watermark(1) == 14 and {event for level, event in done if level == 1} == set(range(1, 15))
    clock.drain()
    assert clock.watermark(1) == 15 and clock.watermark(2) == 0
    clock.enable(2, True)
    assert [tick.input for tick in clock.catch_up()] == [15], "level 2 reads what level 1 has reached"
    assert clock.overdue() == () and clock.catch_up() == []


def test_rows_of_upkeep_do_not_drive_the_clock(tmp_path: Path) -> None:
    with text_only(tmp_path / "m.db") as os:
        log = UpkeepLog(os.store, "elsewhere")
        log.write("tick", {"at": 1, "seq": 0, "state": {}})
        log.write("call", {"at": 1, "used": [], "found": [], "session": "", "named": []})
        found: list[Event] = list(os.store.events())
        assert [counts(row) for row in found] == [False, False, True] and {row.actor for row in found} == {ACTOR}
        assert os.upkeep.log.newest_tick() is None
