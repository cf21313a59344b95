"""A canary of 32 characters is nowhere, in no form, once it is forgotten; a kill in the middle changes nothing."""

from __future__ import annotations

import gzip
import os
import random
import signal
import sqlite3
import string
import subprocess
import sys
import time
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.store import ALICE, cube, insert, revise, unit
from lamina.cube import file as cube_file
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptStore, FrozenCube, InvalidInput
from lamina.kernel import lifecycle
from lamina.kernel.forgetting import Forgetting, reach
from lamina.kernel.governance import Principal
from lamina.kernel.governing import exports, traces
from lamina.kernel.governing.exports import ExportRegister
from lamina.store import snapshot
from lamina.store.base import Edge, Write
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore

BOSS = Principal(user="boss", roles=frozenset({"governance"}))
MODEL = Fingerprint("llama", "w", "t", "float32")


def canary(seed: int) -> str:
    return "".join(random.Random(seed).choices(string.ascii_lowercase + string.digits, k=32))


class Resident:
    """Keeps something of every id it was given, as a cache of KV tensors would."""

    name = "resident KV"

    def __init__(self, ids: Collection[str] = ()) -> None:
        self.kept = set(ids)

    def forget(self, ids: Sequence[str]) -> None:
        self.kept -= set(ids)

    def holding(self, ids: Sequence[str]) -> Collection[str]:
        return sorted(self.kept & set(ids))


def tensors(kind: Any, seed: int, *parents: MemCube) -> MemCube:
    """What a model made of ``parents``."""
    payload = TensorPayload.from_numpy({"k": unit(seed, 64)}, MODEL)
    lineage = Lineage(tuple((one.id, one.header.version) for one in parents), "promote")
    return MemCube(Header(scope=ALICE, kind=kind, lineage=lineage), payload)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "m.db") as store:
        yield store
        assert store.verify() == []


def test_every_form_goes_and_the_search_would_have_found_each(store: SqliteStore, tmp_path: Path) -> None:
    word = canary(1)
    turn = cube(f"I said: my secret is {word}, and I like tea.", semantic_type="turn")
    fact = cube(f"The secret is {word}", provenance=Provenance((Source(turn.id, 8, 40),)))
    tea = cube("Alice likes tea", provenance=Provenance((Source(turn.id, 45, 56),)))
    other, third = cube("Alice lives in Boston"), cube("Bob likes chess")
    bundle, own = tensors("activation", 2, fact, other), tensors("activation", 3, other)
    adapter = tensors("parameter", 4, fact, other, third)
    with store.transaction() as tx:
        tx.insert([Write(turn, unit(1)), Write(fact, unit(5)), Write(tea), Write(other), Write(third)])
        tx.insert([Write(bundle), Write(own), Write(adapter)])
        edge = Edge(source=fact.id, target=other.id, relation="about", reason=f"because {word}", recorded=now())
        tx.connect([edge])
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    revise(store, fact, f"The secret is still {word}")
    indexes = IndexCache(snapshot_rows=1)
    indexes.get(store, ALICE)
    assert snapshot.index_folder(store.path).exists()
    register = exports.beside(store.path)
    copies = {"one.cube": [fact.id], "two.gz": [fact.id, other.id], "three.zip": [turn.id], "four.txt": [third.id]}
    for name, ids in copies.items():
        register.add(tmp_path / "out" / name, ids)
    (tmp_path / "out").mkdir()
    cube_file.write(fact, tmp_path / "out" / "one.cube")
    (tmp_path / "out" / "two.gz").write_bytes(gzip.compress(word.encode()))
    with zipfile.ZipFile(tmp_path / "out" / "three.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", word * 50)
    (tmp_path / "out" / "four.txt").write_text("chess")
    resident = Resident([bundle.id, own.id, adapter.id])
    told: list[str] = []
    everything = [turn.id, fact.id, tea.id, bundle.id, adapter.id]
    needles = [word, unit(5).tobytes(), unit(2, 64).tobytes(), unit(4, 64).tobytes()]
    probes = {"adapter": lambda text: (-1.0 if resident.kept & {adapter.id} else -5.0, -5.0)}

    def search() -> traces.Report:
        return traces.verify(store, needles, everything, caches=[resident], exports=register, probes=probes)

    before = search()
    assert {trace.tier for trace in before.traces} >= {
        "database", "write-ahead log", "blobs", "exports", "rows", "caches", "adapters",
    }  # fmt: skip
    assert {trace.what for trace in before.traces} >= {f"needle {n}" for n in range(4)} | set(everything)
    assert {Path(trace.where.split(" ")[0].split("!")[0]).name for trace in before.traces} >= set(copies) - {"four.txt"}

    class Embedder:
        name, dimension = "none", 8
        encode: Any = None

        def forget(self, texts: Any) -> None:
            told.extend(texts)

    forgetting = Forgetting(store, embedder=Embedder(), indexes=indexes, caches=[resident], exports=register)
    assert reach(store, [fact.id]) == sorted(everything)
    assert store.get(fact.id) is not None, "reach writes nothing"
    receipt = forgetting.forget([fact.id], actor="user:alice", reason="asked")
    assert receipt.ids == tuple(sorted(everything))
    assert receipt.kinds == {"text": 3, "activation": 1, "parameter": 1}
    assert [(one.adapter, set(one.sources)) for one in receipt.retrain] == [(adapter.id, {other.id, third.id})]
    assert {path.name for path in receipt.cleared} == set(copies) - {"four.txt"}
    assert receipt.unreached == ()
    assert len([text for text in told if word in text]) == 3
    after = search()
    assert after.traces == () and after
    assert after.searched["database"] > 0 and after.searched["blobs"] > 0
    assert resident.kept == {own.id}
    assert [one.id for one in store.query(ALICE, {"kind": "activation"}).cubes] == [own.id]
    assert (tmp_path / "out" / "four.txt").exists()
    rows = [event for event in store.events(cube=fact.id) if event.action == "forget"]
    assert [(row.actor, row.reason) for row in rows] == [("user:alice", "asked")]
    assert forgetting.forget([fact.id], actor="x", reason="again").ids == ()


def test_frozen_memories_go_by_law_only(store: SqliteStore) -> None:
    parent = cube("tea")
    child = cube("green tea", lineage=Lineage(((parent.id, 1),), "extract"))
    insert(store, parent, child)
    lifecycle.freeze(store, child.id, actor=BOSS, reason="evidence")
    forgetting = Forgetting(store)
    with pytest.raises(FrozenCube, match="frozen"):
        forgetting.forget([parent.id], actor="user:alice", reason="")
    assert store.get(parent.id) == parent
    receipt = forgetting.forget([parent.id], actor="user:boss", reason="court", legal_override=True)
    assert set(receipt.ids) == {parent.id, child.id}


def test_a_copy_that_was_moved_is_told_and_stays_registered(store: SqliteStore, tmp_path: Path) -> None:
    one, two = cube("tea"), cube("coffee")
    insert(store, one, two)
    register = exports.beside(store.path)
    register.add(tmp_path / "moved", [one.id])
    register.add(tmp_path / "kept", [one.id, two.id])
    (tmp_path / "kept").write_text("tea coffee")

    def rewrite(path: Path, ids: Collection[str]) -> bool:
        path.write_text("coffee")
        return True

    forgetting = Forgetting(store, exports=register, rewrite=rewrite)
    receipt = forgetting.forget([one.id], actor="user", reason="")
    assert receipt.unreached == (tmp_path / "moved",)
    assert receipt.cleared == (tmp_path / "kept",)
    assert (tmp_path / "kept").read_text() == "coffee"
    assert [(e.file.name, e.ids) for e in register.exports()] == [("moved", (one.id,)), ("kept", (two.id,))]
    report = traces.verify(store, ["tea!"], [one.id], exports=register)
    assert [trace.where for trace in report.traces] == [str(tmp_path / "moved")]


def test_the_register_survives_a_torn_line_and_refuses_a_bad_one(tmp_path: Path) -> None:
    register = ExportRegister(tmp_path / "r")
    assert register.exports() == []
    register.add("a", ["1"])
    with register.path.open("a") as file:
        file.write('{"file": "/b", "i')
    assert [e.ids for e in register.exports()] == [("1",)]
    with register.path.open("a") as file:
        file.write("\n")
    with pytest.raises(CorruptStore, match="line 2"):
        register.exports()


def test_search_finds_what_hides(store: SqliteStore, tmp_path: Path) -> None:
    """Upper case, UTF-16, escapes, the full-text index's halves of words, across block borders."""
    word = canary(7)
    hiding = [
        word.upper().encode(),
        f"x{word}".encode("utf-16-le"),
        word[6:].encode(),
        b" " * ((1 << 20) - 10) + word.encode(),
    ]
    for data in hiding:
        (tmp_path / "m.db.other").write_bytes(data)
        assert [trace.tier for trace in traces.verify(store, [word]).traces] == ["beside"]
    (tmp_path / "m.db.other").write_bytes(rb"{\"a\": \"Stra\u00dfe 12\"}".replace(rb"\"", b'"'))
    assert traces.verify(store, ["Straße 12"]).traces
    (tmp_path / "m.db.other").write_bytes(b"\x1f\x8bno gzip at all " + word.encode())
    assert traces.verify(store, [word]).traces
    (tmp_path / "m.db.other").unlink()
    assert traces.verify(store, [word])
    with pytest.raises(InvalidInput, match="shorter"):
        traces.verify(store, ["abc"])


def test_what_other_tenants_say_is_theirs_and_once_more_is_a_trace(store: SqliteStore, tmp_path: Path) -> None:
    word = canary(11)
    there = Scope("there", "bob")
    theirs = [
        cube(f"The code is {word}", scope=there, semantic_type="turn"),
        cube(f"Bob says {word} and {word}", scope=there, keywords=(word,), metadata={"note": word}),
    ]
    friend = cube("Bob knows Eve", scope=there)
    mine = cube(f"My code is {word}")
    with store.transaction() as tx:
        tx.insert([Write(one, unit(n)) for n, one in enumerate([*theirs, friend, mine])])
        why = Edge(source=theirs[0].id, target=friend.id, relation="about", reason=f"as {word}", recorded=now())
        tx.connect([why])
    Forgetting(store).forget([mine.id], actor="user", reason="")
    needles = [word, "My code is", unit(0).tobytes(), unit(3).tobytes()]
    assert traces.verify(store, needles, [mine.id], tenant="default").traces == ()
    blind = traces.verify(store, needles, [mine.id])
    assert {(one.tier, one.what) for one in blind.traces} >= {("database", "needle 0"), ("database", "needle 2")}
    assert "needle 1" not in {one.what for one in blind.traces}, "no other tenant says that"
    asked_there = traces.verify(store, needles, [mine.id], tenant="there")
    assert {one.what for one in asked_there.traces} == {one.what for one in blind.traces}, "they are its own"
    with store.path.open("ab") as file:  # behind the last page, where no row is
        file.write(word.encode())
    found = traces.verify(store, needles, [mine.id], tenant="default").traces
    assert [(one.tier, one.what) for one in found] == [("database", "needle 0")]
    with store.path.open("r+b") as file:
        file.truncate(store.path.stat().st_size - len(word))


def test_occurrences_are_counted_once_across_blocks(store: SqliteStore) -> None:
    """A needle that ends in one block, lies across two, or stands in the overlap of both is counted once."""
    word = "walnuts"
    beside = store.path.with_name(f"{store.path.name}.other")
    for shift in range(-10, 11):
        data = bytearray(b"." * (3 << 20))
        for place in ((1 << 20) + shift, (2 << 20) + 2 * shift):
            data[place : place + len(word)] = word.encode()
        with beside.open("wb") as file:
            file.write(data)
        with beside.open("rb") as file:
            assert traces._search(file, [[b"walnuts", b"nuts"], [b"no such long needle at all"]]) == (3 << 20, {0: 4})
    beside.unlink()


def test_an_adapter_that_learned_it_is_told_apart_from_one_that_did_not(store: SqliteStore) -> None:
    def knows(text: str) -> tuple[float, float]:
        return (-0.5, -4.0) if "secret" in text else (-4.0, -4.0)

    report = traces.verify(
        store, ["my secret", "my tea", b"\xff\xfe\xfd\xfc"], probes={"a": knows, "b": lambda _: (-4.0, -4.02)}
    )
    assert [(trace.where, trace.what) for trace in report.traces] == [("a", "needle 0")]
    assert report.searched["adapters"] == 2


CHILD = """
import sys, time
from pathlib import Path
from lamina.kernel.governing import exports
from lamina.kernel.forgetting import Forgetting
from lamina.store.sqlite import SqliteStore

path, id, stage = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def stop(at):
    if at == stage:
        print("here", flush=True)
        time.sleep(60)

class Slow:
    name = "slow"
    def forget(self, ids): stop("cache")
    def holding(self, ids): return []

class Register(exports.ExportRegister):
    def clear(self, ids, rewrite=None):
        stop("noted")
        done = super().clear(ids, rewrite)
        stop("cleared")
        return done

with SqliteStore(path) as store:
    register = Register(exports.beside(path).path)
    forgetting = Forgetting(store, caches=[Slow()], exports=register)
    if stage == "anywhere":
        print("here", flush=True)
    forgetting.forget([id], actor="user", reason="asked")
"""


@pytest.mark.parametrize("stage", ["noted", "cleared", "cache", "anywhere", "anywhere", "anywhere", "anywhere"])
def test_killed_in_the_middle_and_continued(stage: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    word, path = canary(9), tmp_path / "m.db"
    secret = cube(f"the secret {word}")
    made = tensors("activation", 3, secret)
    with SqliteStore(path) as store:
        insert(store, secret, made, *[cube(f"bystander {n}") for n in range(20)])
    exports.beside(path).add(tmp_path / "copy.cube", [secret.id])
    cube_file.write(secret, tmp_path / "copy.cube")
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), secret.id, stage], stdout=subprocess.PIPE)
    assert child.stdout is not None and child.stdout.readline() == b"here\n"
    if stage == "anywhere":
        time.sleep(random.Random(request.node.nodeid).uniform(0, 0.03))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with SqliteStore(path) as store:
        resident = Resident([made.id])
        register = exports.beside(path)
        forgetting = Forgetting(store, caches=[resident], exports=register)
        receipts = forgetting.resume()
        if stage != "anywhere":
            assert [set(receipt.ids) for receipt in receipts] == [{secret.id, made.id}]
        elif not receipts and store.get(secret.id) is not None:  # killed before it was noted: nothing has happened
            assert (tmp_path / "copy.cube").exists()
            forgetting.forget([secret.id], actor="user", reason="asked")
        else:
            resident.forget([made.id])
        needles = [word, np.asarray(unit(3, 64)).tobytes()]
        report = traces.verify(store, needles, [secret.id, made.id], caches=[resident], exports=register)
        assert report.traces == ()
        assert not (tmp_path / "copy.cube").exists()
        assert len(store.query(ALICE).cubes) == 20
        assert forgetting.resume() == []
        assert store.verify() == []
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and word.encode() in file.read_bytes()]
