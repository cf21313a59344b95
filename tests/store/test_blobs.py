"""Blobs appear whole or not at all, are checked on every read, and go when nothing names them."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from contracts.store import ALICE, insert
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptStore, StoreUnavailable
from lamina.store.base import Write
from lamina.store.blobs import BlobStore, pack, unpack
from lamina.store.sqlite import SqliteStore

FINGERPRINT = Fingerprint("llama", "w", "t", "float32", rope="theta=1e4")


def tensors(seed: int) -> TensorPayload:
    rng = np.random.default_rng(seed)
    return TensorPayload.from_numpy({"k": rng.standard_normal((4, 5)).astype(np.float32)}, FINGERPRINT)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files(blobs: BlobStore) -> list[str]:
    return sorted(path.name for path in blobs.root.rglob("*") if path.is_file())


def test_the_address_is_the_hash_of_the_bytes(blobs: BlobStore) -> None:
    assert blobs.write(b"abc") == blobs.write(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert files(blobs) == list(blobs.addresses()) == [hashlib.sha256(b"abc").hexdigest()]
    assert blobs.read(hashlib.sha256(b"abc").hexdigest()) == b"abc"
    assert blobs.size() == 3


def test_a_payload_survives_packing() -> None:
    assert unpack(pack(tensors(1))) == tensors(1)
    for bad in (b"", b"\0" * 100, pack(tensors(1))[:-1]):
        with pytest.raises(CorruptStore, match="tensors"):
            unpack(bad)


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "gone"])
def test_a_damaged_blob_is_never_returned(tmp_path: Path, damage: str) -> None:
    one = MemCube(Header(scope=ALICE, kind="parameter"), tensors(2))
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, one)
        (path,) = (p for p in (tmp_path / "m.db.blobs").rglob("*") if p.is_file())
        data = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
        else:
            data[-1] ^= 1
            path.write_bytes({"flip": data, "truncate": data[:-1], "empty": b""}[damage])
        with pytest.raises(CorruptStore, match=path.name):
            store.get(one.id)
        (problem,) = store.verify()
        assert path.name in problem


def test_a_write_that_fails_leaves_no_file(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreUnavailable, match="No space left"):
            blobs.write(b"abc")
    assert files(blobs) == []
    assert blobs.read(blobs.write(b"abc")) == b"abc"


def test_collect_spares_what_is_named_or_young(blobs: BlobStore) -> None:
    named, old, young = blobs.write(b"named"), blobs.write(b"old"), blobs.write(b"young")
    unfinished = blobs.root / "aa" / "0123.tmp"
    unfinished.parent.mkdir(exist_ok=True)
    unfinished.write_bytes(b"half")
    past = time.time() - 7200
    for name in (named, old):
        os.utime(blobs.root / name[:2] / name, (past, past))
    os.utime(unfinished, (past, past))
    assert set(blobs.collect({named})) == {old, "0123.tmp"}
    assert files(blobs) == sorted([named, young])
    assert blobs.collect({named}, grace=0) == [young]
    assert BlobStore(blobs.root / "nowhere").collect(set()) == []


def test_a_rolled_back_write_leaves_garbage_that_is_collected(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        insert(store, kept := MemCube(Header(scope=ALICE, kind="activation"), tensors(3)))
        with pytest.raises(ZeroDivisionError), store.transaction() as tx:
            tx.insert([Write(MemCube(Header(scope=ALICE, kind="activation"), tensors(4)))])
            raise ZeroDivisionError
        assert store.collect_blobs() == []  # young: perhaps somebody is about to commit it
        for path in (tmp_path / "m.db.blobs").rglob("*"):
            os.utime(path, (0, 0))
        assert len(store.collect_blobs()) == 1
        assert store.get(kept.id) == kept
        assert store.verify() == []
