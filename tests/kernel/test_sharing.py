"""What leaves is signed, marked, redacted and permitted; what arrives is checked, rewritten and in quarantine."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.store import cube, insert, revise
from lamina.cube import file as cube_file
from lamina.cube.cube import Header, Lineage, MemCube, Policy, Provenance, Scope, Source, State, now
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.errors import (
    CorruptCube,
    CorruptStore,
    FrozenCube,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotPermitted,
    UntrustedBundle,
)
from lamina.kernel import lifecycle
from lamina.kernel.bundles import bundle_file
from lamina.kernel.bundles.keys import Key
from lamina.kernel.bundles.publishing import MemStore, Subscription, Terms
from lamina.kernel.forgetting import Forgetting, Receipt
from lamina.kernel.governance import Principal
from lamina.kernel.governing import exports, traces
from lamina.kernel.sharing import Loaded, MemDumper, MemLoader, local_id
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore
from lamina.text.prompted.quarantine import is_quarantined, quarantined, reason

KEY, OTHER = Key("alice", b"a" * 32), Key("mallory", b"m" * 32)
TRUSTED = [KEY.public]
ALICE, BOB = Principal("home", "alice"), Principal("work", "bob", roles=frozenset({"governance"}))
HOME, WORK = Scope("home", "alice"), Scope("work", "bob")
MODEL = Fingerprint("llama", "w", "t", "float32")
TO_WORK = Policy(share=("tenant:work",))


class Embedder:
    """Eight or sixteen dimensions: the two stores disagree about vectors."""

    def __init__(self, dimension: int) -> None:
        self.name, self.dimension = f"hash{dimension}", dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.asarray([[ord(c) for c in (t * 16)[: self.dimension]] for t in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def forget(self, texts: Any) -> None:
        """Nothing is kept."""


class Side:
    """One party: a store with its embedder, register, dumper and loader."""

    def __init__(self, folder: Path, dimension: int, key: Key = KEY, model: Fingerprint | None = MODEL) -> None:
        folder.mkdir()
        self.folder, self.embedder = folder, Embedder(dimension)
        self.store = SqliteStore(folder / "m.db", embedder=self.embedder.name, durable=False)
        self.exports = exports.beside(self.store.path)
        self.dumper = MemDumper(self.store, key, self.exports)
        self.loader = MemLoader(self.store, self.embedder, TRUSTED, model=model)
        self.forgetting = Forgetting(
            self.store, embedder=self.embedder, exports=self.exports, rewrite=bundle_file.rewriter(key)
        )

    def put(self, text: str, **header: Any) -> MemCube:
        one = cube(text, **{"scope": HOME, "policy": TO_WORK, **header})
        with self.store.transaction() as tx:
            tx.insert([Write(one, self.embedder.encode([text])[0])])
        return one

    def tensors(self, *parents: MemCube, kind: Any = "activation", seed: int = 1) -> MemCube:
        payload = TensorPayload.from_numpy({"k": np.random.default_rng(seed).standard_normal(64)}, MODEL)
        lineage = Lineage(tuple((one.id, one.header.version) for one in parents), "promote")
        one = MemCube(Header(scope=HOME, kind=kind, lineage=lineage, policy=TO_WORK), payload)
        insert(self.store, one)
        return one


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path / "home", 8)
    yield side
    assert side.store.verify() == []
    side.store.close()


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Side]:
    side = Side(tmp_path / "work", 16)
    yield side
    assert side.store.verify() == []
    side.store.close()


def dump(home: Side, *ones: MemCube, name: str = "x.bundle", destination: str | None = "tenant:work") -> Path:
    path = home.folder / name
    home.dumper.dump([one.id for one in ones], path, actor=ALICE, destination=destination)
    return path


# -- leaving and arriving ----------------------------------------------------------------------------


def test_a_memory_arrives_as_a_guest_in_quarantine(home: Side, work: Side) -> None:
    one = home.put("Alice likes tea", tags=("drink",), keywords=("tea",), valid_from=now(), importance=0.9)
    kv = home.tensors(one)
    loaded = work.loader.load(dump(home, one, kv), WORK, actor=BOB)
    assert (len(loaded.new), loaded.left_out, loaded.signer) == (2, {}, KEY.public)
    mine = work.store.get(loaded.ids[one.id])
    assert mine is not None and mine.id not in (one.id, kv.id)
    header = mine.header
    assert (mine.text, header.scope, header.trust, header.policy) == (one.text, WORK, "import", None)
    assert (header.provenance.extractor, header.valid_from) == ("import", one.header.valid_from)
    assert header.watermark == KEY.watermark(one.id, one.sha256)
    assert is_quarantined(mine) and reason(mine) == "import: alice"
    assert work.store.query(WORK).cubes == [] and work.store.match("tea", WORK) == []
    assert [c.id for c in quarantined(work.store, WORK) if c.header.kind == "text"] == [mine.id]
    vector = work.store.vector(mine.id)
    assert vector is not None
    np.testing.assert_array_equal(vector, work.embedder.encode([one.text])[0])
    tensors = work.store.get(loaded.ids[kv.id])
    assert tensors is not None and tensors.payload == kv.payload
    assert tensors.header.lineage.derived_from == ((mine.id, 1),)
    assert work.store.derived(mine.id) == [tensors.id], "forgetting the text reaches the cache"
    active = work.loader.confirm(mine.id, actor=BOB)
    assert (active.header.state, active.header.tags) == (State.ACTIVE, ("drink",))
    assert [c.id for c in work.store.query(WORK).cubes] == [mine.id]
    with pytest.raises(IllegalTransition):
        work.loader.confirm(mine.id, actor=BOB)
    with pytest.raises(NotFound):
        work.loader.confirm("nobody", actor=BOB)
    with pytest.raises(InvalidInput, match="tenant"):
        work.loader.load(home.folder / "x.bundle", HOME, actor=BOB)


def test_nobody_loads_or_confirms_for_others(home: Side, work: Side) -> None:
    path = dump(home, home.put("Alice likes tea"))
    carol, stranger = Principal("work", "carol"), Principal("elsewhere", "bob", roles=frozenset({"admin"}))
    with pytest.raises(NotPermitted, match="take memories in for"):
        work.loader.load(path, WORK, actor=carol)
    (id,) = work.loader.load(path, WORK, actor=BOB).new
    for who in (carol, stranger):
        with pytest.raises(NotFound):
            work.loader.confirm(id, actor=who)
    assert work.loader.waiting([id]) == [id]


def test_a_bundle_cannot_touch_what_is_here_by_naming_its_id(home: Side, work: Side) -> None:
    """A trusted but hostile publisher names ids of the receiving store as its own, as parents, as sources."""
    victim = cube("The plan is secret", scope=Scope("elsewhere", "eve"))
    insert(work.store, victim)
    own = cube("Bob's own", scope=WORK)
    insert(work.store, own)
    lineage, sources = Lineage(((victim.id, 1), (own.id, 1)), "merge"), Provenance((Source(victim.id, 0, 4),))
    fakes = [
        MemCube(replace(victim.header, scope=HOME), TextPayload("The plan is off")),
        MemCube(Header(scope=Scope("elsewhere", "eve"), lineage=lineage, provenance=sources), TextPayload("It is off")),
    ]
    bundle_file.write(home.folder / "x", fakes, KEY)
    loaded = work.loader.load(home.folder / "x", WORK, actor=BOB)
    assert work.store.versions(victim.id) == [victim] and work.store.versions(own.id) == [own]
    mine = [work.store.get(id) for id in loaded.new]
    assert all(one is not None and one.header.scope == WORK for one in mine)
    assert all(one is not None and not one.header.provenance.sources for one in mine)
    assert work.store.derived(victim.id) == work.store.derived(own.id) == []
    work.forgetting.forget(loaded.new, actor="user:bob", reason="")
    assert work.store.get(victim.id) == victim and work.store.get(own.id) == own


def test_loading_again_changes_nothing_and_a_newer_bundle_revises(home: Side, work: Side) -> None:
    one, two = home.put("Alice likes tea"), home.put("Alice has a cat")
    first = dump(home, one, two)
    ids = work.loader.load(first, WORK, actor=BOB).ids
    work.loader.confirm(ids[one.id], actor=BOB)
    again = work.loader.load(first, WORK, actor=BOB)
    assert (again.new, again.revised, len(again.same)) == ((), (), 2)
    newer = revise(home.store, one, "Alice likes coffee")
    with work.store.transaction() as tx:
        tx.close(ids[two.id], at=now())
    later = work.loader.load(dump(home, newer, two, name="y"), WORK, actor=BOB)
    assert (later.revised, later.same) == ((ids[one.id],), (ids[two.id],)), "what was deleted here stays deleted"
    mine = work.store.get(ids[one.id])
    assert mine is not None and mine.text == "Alice likes coffee" and is_quarantined(mine)
    assert [v.text for v in work.store.versions(mine.id)] == ["Alice likes tea"] * 2 + ["Alice likes coffee"]
    lifecycle.freeze(work.store, mine.id, actor=BOB, reason="")
    third = revise(home.store, newer, "Alice likes milk")
    with pytest.raises(FrozenCube):
        work.loader.load(dump(home, third, home.put("new"), name="z"), WORK, actor=BOB)
    assert work.store.get(mine.id) is not None and len(work.store.query(WORK, closed=True).cubes) == 5, "all or none"


def test_an_old_bundle_handed_out_again_takes_nothing_back(home: Side, work: Side) -> None:
    one = home.put("Alice likes tea")
    old = dump(home, one, name="old")
    newer = revise(home.store, one, "Alice likes coffee")
    new = dump(home, newer, home.tensors(newer), name="new")
    (id, _) = work.loader.load(new, WORK, actor=BOB).new
    work.loader.confirm(id, actor=BOB)
    before = work.store.get(id)
    replayed = work.loader.load(old, WORK, actor=BOB)
    assert (replayed.ids, replayed.revised) == ({}, ()) and "version 2 came before" in replayed.left_out[one.id]
    assert work.store.get(id) == before
    work.forgetting.forget([id], actor="user:bob", reason="")
    assert work.loader.load(old, WORK, actor=BOB).left_out, "nor after it was forgotten"
    assert work.loader.load(new, WORK, actor=BOB).ids, "what is not older may be taken in again"


def test_policy_and_redaction_apply_on_the_way_out(home: Side, work: Side) -> None:
    fine = home.put("Alice likes tea")
    private = home.put("Alice likes gin", policy=None)
    mail = home.put("Write to alice@example.com", keywords=("alice@example.com",))
    foreign = home.put("Carol's own", scope=Scope("home", "carol"))
    kv_fine, kv_mail, kv_private = home.tensors(fine), home.tensors(mail, seed=2), home.tensors(fine, private, seed=3)
    stale = home.tensors(fine, seed=4)
    free = home.tensors(kind="parameter", seed=5)
    path = home.folder / "x"
    ones = [fine, private, mail, foreign, kv_fine, kv_mail, kv_private, free]
    ids = [one.id for one in ones] + ["nobody"]
    done = home.dumper.dump(ids, path, actor=ALICE, destination="tenant:work")
    assert set(done.ids) == {fine.id, mail.id, kv_fine.id, free.id}
    why = done.left_out
    assert (
        "does not share" in why[private.id]
        and "redacted" in why[kv_mail.id]
        and "not in the bundle" in why[kv_private.id]
    )
    assert why[foreign.id] == why["nobody"] == "there is no such memory"
    assert done.redacted == {mail.id: ("email",)}
    assert b"alice@example.com" not in path.read_bytes() and b"gin" not in path.read_bytes()
    assert home.exports.exports()[0].ids == tuple(sorted(done.ids))
    boss = Principal("home", "boss", roles=frozenset({"governance"}))
    lifecycle.freeze(home.store, fine.id, actor=boss, reason="")
    assert home.dumper.dump([fine.id, stale.id], home.folder / "w", actor=ALICE).left_out == {}, "it says the same"
    thawed = lifecycle.unfreeze(home.store, fine.id, actor=boss, reason="")
    newer = revise(home.store, thawed, "Alice likes green tea")
    left = home.dumper.dump([newer.id, stale.id], home.folder / "y", actor=ALICE, destination="tenant:work").left_out
    assert "version 1" in left[stale.id]
    with pytest.raises(InvalidInput, match="nothing may leave"):
        home.dumper.dump([fine.id], home.folder / "z", actor=ALICE, destination="tenant:else")
    assert not (home.folder / "z").exists()
    own = home.dumper.dump([private.id], home.folder / "backup", actor=ALICE)
    assert own.ids == (private.id,), "an owner's backup needs no destination"


@pytest.mark.parametrize("model", [None, replace(MODEL, weights="others")])
def test_tensors_of_another_model_are_dropped_and_their_text_kept(
    home: Side, tmp_path: Path, model: Fingerprint | None
) -> None:
    one = home.put("Alice likes tea")
    kv = home.tensors(one)
    work = Side(tmp_path / "w2", 16, model=model)
    loaded = work.loader.load(dump(home, one, kv), WORK, actor=BOB)
    assert (set(loaded.ids), set(loaded.left_out)) == ({one.id}, {kv.id})
    assert "its text was taken" in loaded.left_out[kv.id]
    only = work.loader.load(dump(home, one, kv, name="y"), WORK, actor=BOB, only=[kv.id])
    assert only.ids == {}
    work.store.close()


# -- hostile bundles ---------------------------------------------------------------------------------


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repack(path: Path, parts: dict[str, bytes], *, compress: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def resign(parts: dict[str, bytes], key: Key, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    manifest = json.loads(parts["manifest.json"])
    change(manifest)
    parts["manifest.json"] = json.dumps(manifest, separators=(",", ":")).encode()
    signature = key.sign("bundle", parts["manifest.json"])
    sealed = {"algorithm": "Ed25519", "key": str(key.public), "signature": signature}
    parts["signature.json"] = json.dumps(sealed).encode()


def swap(parts: dict[str, bytes]) -> None:
    parts["000000.cube"], parts["000001.cube"] = parts["000001.cube"], parts["000000.cube"]


def other_cube(parts: dict[str, bytes]) -> None:
    parts["000000.cube"] = cube_file.dumps(MemCube(Header(), TextPayload("I am not what was signed")))


def edit_signature(parts: dict[str, bytes], **said: Any) -> None:
    parts["signature.json"] = json.dumps(json.loads(parts["signature.json"]) | said).encode()


def old_form(parts: dict[str, bytes]) -> None:
    parts["signature.json"] = b'{"algorithm":"HMAC-SHA256","key":"alice","mac":"00"}'


HOSTILE: dict[str, Callable[[dict[str, bytes]], object]] = {
    "swapped": swap,
    "replaced": other_cube,
    "re-signed by a stranger": lambda parts: resign(parts, OTHER),
    "in another's name": lambda parts: resign(parts, Key("alice", b"m" * 32)),
    "signed for a feed": lambda parts: edit_signature(parts, signature=KEY.sign("feed", parts["manifest.json"])),
    "signed by a stranger for her": lambda parts: edit_signature(
        parts, signature=OTHER.sign("bundle", parts["manifest.json"])
    ),
    "a short signature": lambda parts: edit_signature(parts, signature="00"),
    "no hex": lambda parts: edit_signature(parts, signature="z" * 128),
    "a number": lambda parts: edit_signature(parts, signature=7),
    "a key of no length": lambda parts: edit_signature(parts, key="ed25519:alice:"),
    "the old form": old_form,
    "twice the same memory": lambda parts: resign(
        parts, KEY, lambda m: m["cubes"][1].update({k: m["cubes"][0][k] for k in ("id", "version", "kind")})
    ),
    "larger than any number": lambda parts: resign(parts, KEY, lambda m: m["cubes"][0].update(bytes=10**300)),
    "manifest edited": lambda parts: parts.update({"manifest.json": parts["manifest.json"].replace(b"text", b"tect")}),
    "climbing": lambda parts: parts.update({"../../evil.cube": b"x"}),
    "absolute": lambda parts: parts.update({"/tmp/evil.cube": b"x"}),
    "an extra member": lambda parts: parts.update({"000009.cube": b"x"}),
    "a member gone": lambda parts: parts.pop("000001.cube"),
    "no signature": lambda parts: parts.pop("signature.json"),
    "no manifest": lambda parts: parts.pop("manifest.json"),
    "climbing as signed": lambda parts: resign(parts, KEY, lambda m: m["cubes"][0].update(name="../x.cube")),
    "huge as declared": lambda parts: resign(parts, KEY, lambda m: m["cubes"][0].update(bytes=1 << 60)),
    "negative": lambda parts: resign(parts, KEY, lambda m: m["cubes"][0].update(bytes=-1)),
    "another version": lambda parts: resign(parts, KEY, lambda m: m["cubes"][0].update(version=7)),
    "another format": lambda parts: resign(parts, KEY, lambda m: m.update(format="lamina.bundle/9")),
    "a list": lambda parts: resign(parts, KEY, lambda m: m.update(cubes={})),
    "no time": lambda parts: resign(parts, KEY, lambda m: m.update(created="yesterday")),
    "algorithm none": lambda parts: parts.update(
        {"signature.json": b'{"algorithm":"none","key":"alice","signature":""}'}
    ),
    "not JSON": lambda parts: parts.update({"manifest.json": b"{" * 1000}),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_bundles_are_refused(how: str, home: Side, work: Side) -> None:
    path = dump(home, home.put("Alice likes tea"), home.put("Alice has a cat"))
    parts = members(path)
    HOSTILE[how](parts)
    repack(path, parts)
    with pytest.raises((UntrustedBundle, CorruptCube)):
        work.loader.load(path, WORK, actor=BOB)
    assert work.store.query(WORK, closed=True).cubes == []
    assert list(work.store.events()) == []
    assert {entry.name for entry in work.folder.iterdir()} <= {"m.db", "m.db-wal", "m.db-shm"}


def test_compressed_oversized_and_truncated_files_are_refused(home: Side, work: Side) -> None:
    path = dump(home, home.put("Alice likes tea"), home.put("Alice has a cat"))
    data = path.read_bytes()
    bomb = repack(home.folder / "bomb", members(path), compress=True)
    with pytest.raises(CorruptCube, match="without compression"):
        work.loader.load(bomb, WORK, actor=BOB)
    with pytest.raises(CorruptCube, match="over the limit"):
        work.loader.load(path, WORK, actor=BOB, max_bytes=100)
    rng = random.Random(1)
    for cut in [0, 1, 30, len(data) - 1, *rng.sample(range(len(data)), 60)]:
        path.write_bytes(data[:cut])
        with pytest.raises((UntrustedBundle, CorruptCube)):
            work.loader.load(path, WORK, actor=BOB)
    sealed = bundle_file.read(repack(path, members(bomb)), TRUSTED)
    for place in rng.sample(range(len(data)), 300):
        path.write_bytes(data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :])
        try:  # dates and flags of the archive may change: what is read may not
            assert bundle_file.read(path, TRUSTED) == sealed
        except (UntrustedBundle, CorruptCube):
            continue
    with pytest.raises(NotFound):
        work.loader.load(home.folder / "none", WORK, actor=BOB)


def test_members_that_lie_in_one_another_are_refused(home: Side, work: Side) -> None:
    """A small file whose directory names the same bytes a thousand times would be read a thousand times."""
    path = dump(home, home.put("tea " * 500))
    with zipfile.ZipFile(path, "a") as archive:
        (cube,) = (info for info in archive.filelist if info.filename == "000000.cube")
        for number in range(1, 1000):
            again = copy(cube)
            again.filename = again.orig_filename = f"{number:06d}.cube"
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    with pytest.raises(CorruptCube, match="larger than the file"):
        work.loader.load(path, WORK, actor=BOB)


def test_ten_thousand_members_are_all_or_none(home: Side, work: Side) -> None:
    cubes = [MemCube(Header(scope=HOME), TextPayload(f"Alice knows {n}")) for n in range(10_000)]
    path = home.folder / "many"
    bundle_file.write(path, cubes, KEY)
    assert [one.id for one in bundle_file.read(path, TRUSTED).cubes] == [one.id for one in cubes]
    parts = members(path)
    data = parts["009999.cube"]
    parts["009999.cube"] = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(UntrustedBundle, match="009999"):
        work.loader.load(repack(path, parts), WORK, actor=BOB)
    assert list(work.store.events()) == []


def test_the_old_form_and_a_changed_signer_are_named(home: Side, work: Side) -> None:
    path = dump(home, home.put("Alice likes tea"))
    parts = members(path)
    impostor = Key("alice", b"m" * 32)
    resign(parts, impostor)
    with pytest.raises(UntrustedBundle) as changed:
        work.loader.load(repack(path, parts), WORK, actor=BOB)
    assert impostor.public.fingerprint in str(changed.value) and KEY.public.fingerprint in str(changed.value)
    old_form(parts)
    with pytest.raises(UntrustedBundle, match="readers share, an old form"):
        work.loader.load(repack(path, parts), WORK, actor=BOB)


def test_the_exporter_alone_can_prove_its_mark(home: Side) -> None:
    one = home.put("Alice likes tea")
    (left,) = bundle_file.read(dump(home, one), TRUSTED).cubes
    assert left.header.watermark == KEY.watermark(left.id, left.sha256)
    assert left.header.watermark != OTHER.watermark(left.id, left.sha256)


def test_a_bundle_holds_at_least_one() -> None:
    with pytest.raises(InvalidInput, match="bundle holds"):
        bundle_file.write("x", [], KEY)


def test_forgetting_takes_it_out_of_bundles_that_left(home: Side) -> None:
    word = "4jz81kq0vx7m2tnw5hd9yr3cb6fgpsae"
    secret, other = home.put(f"the secret {word}"), home.put("Alice likes tea")
    kv = home.tensors(secret, other)
    path = dump(home, secret, other, kv)
    needles = [word, bytes(kv.payload.tensors["k"].data)]  # type: ignore[union-attr]
    assert not traces.verify(home.store, needles, exports=home.exports)
    receipt = home.forgetting.forget([secret.id], actor="user:alice", reason="")
    assert (set(receipt.ids), receipt.cleared) == ({secret.id, kv.id}, (path,))
    assert traces.verify(home.store, needles, [secret.id, kv.id], exports=home.exports).traces == ()
    left = bundle_file.read(path, TRUSTED)
    assert [(c.id, c.text) for c in left.cubes] == [(other.id, other.text)]


# -- publishing and subscribing ----------------------------------------------------------------------


def subscription(work: Side, shop: MemStore, name: str = "bob", **options: Any) -> Subscription:
    cursor = work.folder / f"{name}.cursor"
    return Subscription(shop, name, work.loader, work.forgetting, WORK, actor=BOB, cursor=cursor, **options)


def test_versions_and_forgets_reach_a_subscriber(home: Side, work: Side, tmp_path: Path) -> None:
    shop = MemStore(tmp_path / "shop", TRUSTED)
    one, two = home.put("Alice likes tea"), home.put("Alice has a cat")
    bob = subscription(work, shop, confirmed=True)
    assert bob.pull() == []
    assert shop.publish(dump(home, one, two), Terms(license="CC0"), KEY) == 1
    (first,) = bob.pull()
    assert isinstance(first, Loaded) and len(first.new) == 2
    mine = local_id(KEY.public, one.id, WORK)
    assert {c.text for c in work.store.query(WORK).cubes} == {one.text, two.text}
    newer = revise(home.store, one, "Alice likes coffee")
    shop.publish(dump(home, newer, name="y"), Terms(), KEY)
    assert len(bob.pull()) == 1
    assert {c.text for c in work.store.query(WORK).cubes} == {"Alice likes coffee", two.text}
    assert "Alice likes tea" in [v.text for v in work.store.versions(mine)]
    home.forgetting.forget([one.id], actor="user:alice", reason="")
    assert shop.forget([one.id], KEY) == 3
    (gone,) = bob.pull()
    assert isinstance(gone, Receipt) and gone.ids == (mine,)
    needles = ["Alice likes coffee", "Alice likes tea"]
    assert traces.verify(work.store, needles, [mine]).traces == ()
    files = [path for path in (tmp_path / "shop").rglob("*") if path.is_file()]
    assert not [p for p in files if b"Alice likes coffee" in p.read_bytes() or b"Alice likes tea" in p.read_bytes()]
    late = Side(tmp_path / "late", 16)
    assert [type(r) for r in subscription(late, shop).pull()] == [Loaded, Receipt]
    assert [c.text for c in late.store.query(WORK, {"state": "archived"}).cubes] == [two.text]
    late.store.close()
    assert [(r.actor, r.action, r.version) for r in shop.deliveries()[:3]] == [
        ("bob", "publish", 1), ("bob", "publish", 2), ("bob", "forget", 3),
    ]  # fmt: skip
    assert bob.pull() == [] and bob.position == 3
    (work.folder / "bob.cursor").unlink()
    before = work.store.last_change()
    bob.pull()
    assert work.store.get(mine) is None and len(work.store.query(WORK).cubes) == 1
    assert work.store.last_change() == before, "a delivery taken in again changes nothing"


def test_terms_filters_and_counts(home: Side, work: Side, tmp_path: Path) -> None:
    shop = MemStore(tmp_path / "shop", TRUSTED)
    one, two = home.put("Alice likes tea", tags=("drink",)), home.put("Alice has a cat")
    path = dump(home, one, two)
    end = now() + timedelta(days=30)
    shop.publish(path, Terms(audience=("carol",)), KEY)
    shop.publish(path, Terms(expires=now() - timedelta(days=1)), KEY)
    shop.publish(path, Terms(max_deliveries=1, expires=end), KEY)
    drinks = subscription(work, shop, where={"tags": {"contains": "drink"}})
    (loaded,) = drinks.pull()
    assert isinstance(loaded, Loaded) and list(loaded.ids) == [one.id]
    mine = work.store.get(loaded.new[0])
    assert mine is not None and mine.header.expires == end, "what was delivered ends with the terms"
    assert is_quarantined(mine)
    assert subscription(work, shop, "second").pull() == [], "the one delivery was made"
    assert [d.seq for d in shop.subscribe("carol")] == [1]
    assert list(shop.subscribe("bob", {"tags": {"contains": "food"}})) == []
    before = sorted((tmp_path / "shop" / "bundles").iterdir())
    with pytest.raises(NotPermitted):
        shop.publish(bundle(home, one, OTHER), Terms(), OTHER)
    with pytest.raises(UntrustedBundle):
        shop.publish(path, Terms(), OTHER)
    assert sorted((tmp_path / "shop" / "bundles").iterdir()) == before


def bundle(home: Side, one: MemCube, key: Key) -> Path:
    path = home.folder / "other"
    bundle_file.write(path, [one], key)
    return path


def test_nobody_publishes_or_forgets_in_anothers_name(home: Side, work: Side, tmp_path: Path) -> None:
    shop = MemStore(tmp_path / "shop", TRUSTED)
    one = home.put("Alice likes tea")
    shop.publish(dump(home, one), Terms(), KEY)
    bob = subscription(work, shop, confirmed=True)
    bob.pull()
    forger = MemStore(tmp_path / "shop", [KEY.public, OTHER.public])
    forger.forget([one.id], OTHER)
    feed = tmp_path / "shop" / "feed.jsonl"
    lines = [json.loads(line) for line in feed.read_text().splitlines()]
    forged = lines[1] | {"seq": 3, "signer": "alice"}
    feed.write_text(feed.read_text() + json.dumps(forged) + "\n")
    assert bob.pull() == []
    assert len(work.store.query(WORK).cubes) == 1
    assert [d.kind for d in shop.subscribe("dora")] == ["publish"]
    log = tmp_path / "shop" / "deliveries.jsonl"
    log.write_text(log.read_text().replace("bob", "eve"))
    with pytest.raises(CorruptStore, match="altered"):
        shop.deliveries()


def test_another_bundle_of_the_publisher_cannot_stand_in(home: Side, work: Side, tmp_path: Path) -> None:
    """Whoever may write to the folder puts an old, well signed bundle in the place of a new one."""
    shop = MemStore(tmp_path / "shop", TRUSTED)
    one = home.put("Alice likes tea")
    shop.publish(dump(home, one, name="old"), Terms(), KEY)
    newer = revise(home.store, one, "Alice likes coffee")
    shop.publish(dump(home, newer, name="new"), Terms(), KEY)
    bundles = tmp_path / "shop" / "bundles"
    shutil.copy(bundles / "00000001.bundle", bundles / "00000002.bundle")
    bob = subscription(work, shop)
    with pytest.raises(UntrustedBundle, match="another bundle than line 2"):
        bob.pull()
    mine = local_id(KEY.public, one.id, WORK)
    assert [v.text for v in work.store.versions(mine)] == ["Alice likes tea"]


def test_a_damaged_bundle_keeps_no_forget_back(home: Side, work: Side, tmp_path: Path) -> None:
    """Whoever may write to the folder breaks a file so that what was taken back stays with the subscribers."""
    shop = MemStore(tmp_path / "shop", TRUSTED)
    one, two = home.put("Alice likes tea"), home.put("Alice has a cat")
    shop.publish(dump(home, one, name="x"), Terms(), KEY)
    bob = subscription(work, shop)
    bob.pull()
    shop.publish(dump(home, two, name="y"), Terms(), KEY)
    shop.forget([one.id], KEY)
    (tmp_path / "shop" / "bundles" / "00000002.bundle").write_bytes(b"PK junk")
    with pytest.raises(CorruptCube):
        bob.pull()
    assert work.store.get(local_id(KEY.public, one.id, WORK)) is None
    assert bob.pull() == [], "told once; the rest goes on"


def test_strangers_are_passed_over_until_they_are_trusted(home: Side, work: Side, tmp_path: Path) -> None:
    both = MemStore(tmp_path / "shop", [KEY.public, OTHER.public])
    theirs = MemCube(Header(scope=HOME), TextPayload("Mallory sells oboes"))
    bundle_file.write(home.folder / "theirs", [theirs], OTHER)
    both.publish(home.folder / "theirs", Terms(max_deliveries=1), OTHER)
    both.publish(dump(home, home.put("Alice likes tea")), Terms(max_deliveries=1), KEY)
    bob = subscription(work, MemStore(tmp_path / "shop", TRUSTED))
    assert len(bob.pull()) == 1 and bob.position == 2
    assert both.signers() == [OTHER.public, KEY.public]
    work.loader = MemLoader(work.store, work.embedder, [KEY.public, OTHER.public])
    (late,) = subscription(work, both).pull()
    assert isinstance(late, Loaded) and late.signer == OTHER.public, "heard from the beginning, Alice not again"
    (work.folder / "bob.cursor").write_text('{"x": "y"}')
    with pytest.raises(CorruptStore, match="remove it"):
        bob.pull()


def test_a_torn_last_line_is_dropped(home: Side, tmp_path: Path) -> None:
    shop = MemStore(tmp_path / "shop", TRUSTED)
    path = dump(home, home.put("Alice likes tea"))
    shop.publish(path, Terms(), KEY)
    feed = tmp_path / "shop" / "feed.jsonl"
    feed.write_text(feed.read_text() + '{"seq": 2, "ki')
    shutil.copy(path, home.folder / "copy")
    assert shop.publish(home.folder / "copy", Terms(), KEY) == 2
    assert [d.seq for d in shop.subscribe("bob")] == [1, 2]
