"""A store holds the vectors of one embedder; another is refused by name, or replaces them all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.store import ALICE, cube, revise, unit
from lamina.errors import InvalidInput
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore


class Lengths:
    """Embeds a text as a direction given by its length."""

    name = "lengths"
    dimension = 3

    def encode(self, texts: Sequence[str]) -> Any:
        table = np.array([[len(text), 1, 0] for text in texts], np.float32)
        return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with SqliteStore(tmp_path / "m.db", embedder="first") as store, store.transaction() as tx:
        tx.insert([Write(cube("a"), unit(1))])
    return tmp_path / "m.db"


def test_the_first_vector_settles_name_and_dimension(path: Path) -> None:
    with SqliteStore(path) as store:
        assert (store.stats()["embedder"], store.stats()["dimension"]) == ("first", 8)


def test_another_embedder_is_refused_with_both_names_and_the_way_out(path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"'first' \(8 dimensions\).*'second'.*reembed\(embedder\)"):
        SqliteStore(path, embedder="second")
    with SqliteStore(path, embedder="first") as store:
        assert store.verify() == []


def test_two_stores_that_opened_an_empty_file_do_not_mix_vectors(tmp_path: Path) -> None:
    with (
        SqliteStore(tmp_path / "m.db", embedder="first") as first,
        SqliteStore(tmp_path / "m.db", embedder="second") as second,
    ):
        with first.transaction() as tx:
            tx.insert([Write(cube("a"), unit(1))])
        with pytest.raises(InvalidInput, match=r"'first'.*'second'"), second.transaction() as tx:
            tx.insert([Write(cube("b"), unit(2))])
        assert len(first.query(ALICE).cubes) == 1


def test_another_dimension_is_refused_with_both_shapes(path: Path) -> None:
    with (
        SqliteStore(path) as store,
        pytest.raises(InvalidInput, match=r"shape \(4,\).*shape \(8,\)"),
        store.transaction() as tx,
    ):
        tx.insert([Write(cube("b"), unit(2, 4))])


def test_vectors_come_back_bit_for_bit_and_read_only(path: Path) -> None:
    with SqliteStore(path) as store:
        (change,) = store.changes(ALICE)
        assert change.vector is not None
        assert change.vector.tobytes() == unit(1).tobytes()
        assert not change.vector.flags.writeable
        with store.transaction() as tx:  # other float types are narrowed
            tx.insert([Write(one := cube("b"), unit(2).astype(np.float64))])  # type: ignore[arg-type]
        np.testing.assert_array_equal(store.vector(one.id), unit(2))


def test_reembed_replaces_every_vector_and_tells_the_indexes(path: Path) -> None:
    with SqliteStore(path, embedder="first") as store:
        with store.transaction() as tx:
            tx.insert([Write(cube("x" * n), unit(n)) for n in range(1, 700)])
        revise(store, store.query(ALICE, newest_first=False).cubes[0], "longer than before")
        before = store.last_change()
        assert store.reembed(Lengths()) == 701
        changes = list(store.changes(ALICE, before))
        assert len(changes) == 701
        for change in changes:
            assert change.cube is not None
            np.testing.assert_array_equal(change.vector, Lengths().encode([change.cube.text])[0])
        with store.transaction() as tx:
            tx.insert([Write(cube("new"), unit(1, 3))])
        assert store.verify() == []
    with pytest.raises(InvalidInput, match="'lengths'"):
        SqliteStore(path, embedder="first")
    with SqliteStore(path, embedder="lengths") as store:
        assert store.stats()["dimension"] == 3


def test_an_embedder_that_fails_changes_nothing(path: Path) -> None:
    class Broken(Lengths):
        def encode(self, texts: Sequence[str]) -> Any:
            return np.full((len(texts), 3), np.nan, np.float32)

    with SqliteStore(path) as store:
        before = store.vector(store.query(ALICE).cubes[0].id)
        with pytest.raises(InvalidInput, match="NaN"):
            store.reembed(Broken())
        np.testing.assert_array_equal(store.vector(store.query(ALICE).cubes[0].id), before)
        assert store.stats()["embedder"] == "first"
