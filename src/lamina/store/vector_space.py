"""Which embedder a store's vectors come from: vectors of two models must never be compared.

The table ``meta`` keeps the embedder's name and dimension from the first vector on. Vectors are stored
as little-endian float32.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lamina.errors import CorruptStore, InvalidInput
from lamina.store.base import Vector

_DTYPE = np.dtype("<f4")


class VectorSpace:
    """The embedder (``None``: not said) this store was opened for."""

    def __init__(self, embedder: str | None, path: Path) -> None:
        self._embedder = embedder
        self._path = path

    def opened(self, connection: sqlite3.Connection) -> None:
        """Raise ``InvalidInput`` when the file holds vectors of another embedder."""
        name, dimension = stored(connection)
        if name is not None and self._embedder is not None and name != self._embedder:
            raise InvalidInput(
                f"{self._path} holds vectors of embedder {name!r} ({dimension} dimensions), but it was opened for "
                f"{self._embedder!r}. Open it with {name!r}, or compute all vectors anew, once: "
                f"SqliteStore({str(self._path)!r}).reembed(embedder)"
            )

    def check(self, vectors: Sequence[Vector | None], connection: sqlite3.Connection) -> list[bytes | None]:
        """The vectors as stored bytes. The first one ever settles the dimension; call inside a transaction.

        Raises ``InvalidInput`` for another dimension or embedder than the store's, NaN or infinity.
        """
        present = [vector for vector in vectors if vector is not None]
        if not present:
            return [None] * len(vectors)
        self.opened(connection)
        name, dimension = stored(connection)
        if dimension is None:
            dimension = int(np.asarray(present[0]).size)
        self._settle(connection, name, dimension)
        table = self._table(present, dimension)
        packed = iter([row.tobytes() for row in table])
        return [None if vector is None else next(packed) for vector in vectors]

    def _table(self, vectors: Sequence[Vector], dimension: int) -> Vector:
        for vector in vectors:
            shape = np.shape(vector)
            if shape != (dimension,) or not dimension:
                raise InvalidInput(
                    f"vector has shape {shape}, but {self._path} holds vectors of shape ({dimension},) of embedder "
                    f"{self._embedder!r}: use one embedder for a store, or reembed it"
                )
        table = np.stack(vectors).astype(_DTYPE, copy=False)
        if not np.isfinite(table).all():
            raise InvalidInput("vector holds NaN or infinity: the embedder failed on this text")
        return table

    def _settle(self, connection: sqlite3.Connection, name: str | None, dimension: int) -> None:
        if name is None and self._embedder is not None:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('embedder', ?)", (self._embedder,))
        connection.execute("INSERT OR IGNORE INTO meta VALUES ('dimension', ?)", (str(dimension),))


def stored(connection: sqlite3.Connection) -> tuple[str | None, int | None]:
    """Name and dimension of the file's embedder, as far as they are known."""
    rows = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')").fetchall())
    return rows.get("embedder"), int(rows["dimension"]) if "dimension" in rows else None


def replace_all(connection: sqlite3.Connection, name: str, dimension: int) -> None:
    """Forget all vectors and their embedder; those that follow are of ``name``."""
    connection.execute("DELETE FROM vectors")
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('embedder', ?)", (name,))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('dimension', ?)", (str(dimension),))


def unpack(data: bytes | None) -> Vector | None:
    """The vector of a stored row, read-only. Raises ``CorruptStore`` for an impossible length."""
    if data is None:
        return None
    if len(data) % _DTYPE.itemsize:
        raise CorruptStore(f"a vector takes {len(data)} bytes, which is no number of float32 values")
    return np.frombuffer(data, dtype=_DTYPE)
