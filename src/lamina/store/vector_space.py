"""Which embedder a store's vectors come from: vectors of two models must never be compared.

The table ``meta`` keeps the embedder's name and dimension from the first vector on. Vectors are stored
as little-endian float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from lamina.errors import CorruptStore, InvalidInput
from lamina.store.base import Vector
from lamina.store.sql import Connection

_DTYPE = np.dtype("<f4")
_SET = "INSERT INTO meta VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Embedder(Protocol):
    """What makes the vectors of a store anew."""

    name: str
    dimension: int

    def encode(self, texts: Sequence[str]) -> Vector: ...


class VectorSpace:
    """The embedder (``None``: not said) this store was opened for."""

    def __init__(self, embedder: str | None, path: Path | str) -> None:
        self._embedder = embedder
        self._path = path

    def opened(self, connection: Connection) -> None:
        """Raise ``InvalidInput`` when the file holds vectors of another embedder."""
        self._agree(*stored(connection))

    def _agree(self, name: str | None, dimension: int | None) -> None:
        if name is not None and self._embedder is not None and name != self._embedder:
            raise InvalidInput(
                f"{self._path} holds vectors of embedder {name!r} ({dimension} dimensions), but it was opened for "
                f"{self._embedder!r}. Open it with {name!r}, or compute all vectors anew, once: open it without an "
                "embedder and call reembed(embedder)"
            )

    def check(self, vectors: Sequence[Vector | None], connection: Connection) -> list[bytes | None]:
        """The vectors as stored bytes. The first one ever settles the dimension; call inside a transaction.

        Raises ``InvalidInput`` for another dimension or embedder than the store's, NaN or infinity.
        """
        present = [vector for vector in vectors if vector is not None]
        if not present:
            return [None] * len(vectors)
        name, dimension = stored(connection)
        self._agree(name, dimension)
        table = self._table(present, int(np.asarray(present[0]).size) if dimension is None else dimension)
        if name is None and self._embedder is not None:
            connection.execute(_SET, ("embedder", self._embedder))
        if dimension is None:
            connection.execute(_SET, ("dimension", str(table.shape[1])))
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


def stored(connection: Connection) -> tuple[str | None, int | None]:
    """Name and dimension of the file's embedder, as far as they are known."""
    rows = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('embedder', 'dimension')").fetchall())
    return rows.get("embedder"), int(rows["dimension"]) if "dimension" in rows else None


def replace_all(connection: Connection, name: str, dimension: int) -> None:
    """Forget all vectors and their embedder; those that follow are of ``name``."""
    connection.execute("DELETE FROM vectors")
    connection.execute(_SET, ("embedder", name))
    connection.execute(_SET, ("dimension", str(dimension)))


def unpack(data: bytes | None) -> Vector | None:
    """The vector of a stored row, read-only. Raises ``CorruptStore`` for an impossible length."""
    if data is None:
        return None
    if len(data) % _DTYPE.itemsize:
        raise CorruptStore(f"a vector takes {len(data)} bytes, which is no number of float32 values")
    return np.frombuffer(data, dtype=_DTYPE)
