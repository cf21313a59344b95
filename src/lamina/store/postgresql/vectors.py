"""Vectors on the way to pgvector and back, and the nearest of them.

A scope of up to ``EXACT_ROWS`` open memories is compared whole, so its answer is exact. Beyond, the HNSW graph
(Malkov and Yashunin, arXiv 1603.09320, pgvector's) is walked in order of distance, row-level security and filter
applied on the way, until enough memories passed (pgvector's iterative scan). Where the walk ends with too few, which a
narrow filter over a large table can do, the answer is computed exactly after all.

The graph is built by the first question that needs it, while writers wait, and kept current from then on: keeping it
triples the time of a write, which nobody should pay whose scopes are small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from lamina.errors import InvalidInput
from lamina.store import vector_space
from lamina.store.base import Vector
from lamina.store.reading import Fragment
from lamina.store.sql import Connection

EXACT_ROWS = 10_000  # compared in some 50 ms on one core
_WIDEST = 2_000  # dimensions of a vector that pgvector indexes
_BREADTH = 200  # candidates the graph search keeps (HNSW's ef)
_HEAD = np.dtype(">u2").itemsize * 2  # dimension and a field that is not used

_EXACT = """
WITH here AS MATERIALIZED (
    SELECT v.key, v.vector <=> ? AS distance FROM cubes c JOIN vectors v ON v.key = c.key WHERE {condition}
) SELECT key, 1 - distance FROM here ORDER BY distance, key LIMIT ?
"""
_GRAPH = """
SELECT v.key, 1 - (v.vector::vector({dimension}) <=> ?) FROM vectors v JOIN cubes c ON c.key = v.key
WHERE {condition} ORDER BY v.vector::vector({dimension}) <=> ? LIMIT ?
"""
_WALK = f"""
SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', '{_BREADTH}', true),
    set_config('enable_sort', 'off', true)
"""


class GraphMissing(Exception):
    """A question needs the graph, for vectors of ``dimension``."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.dimension = dimension


class Packed(NamedTuple):
    """A vector in pgvector's binary form."""

    data: bytes


class PackedDumper(Dumper):
    """Sends ``Packed``; the statement says that it is a vector."""

    format = Format.BINARY
    oid = 0

    def dump(self, obj: Packed) -> Buffer:
        return obj.data


def packed(data: bytes) -> Packed:
    """From what ``VectorSpace`` packs: little-endian float32."""
    values = np.frombuffer(data, "<f4")
    return Packed(len(values).to_bytes(2, "big") + b"\0\0" + values.astype(">f4").tobytes())


def unpacked(data: bytes | None) -> Vector | None:
    """From ``vector_send``; float32, read-only."""
    if data is None:
        return None
    vector = np.frombuffer(data, ">f4", offset=_HEAD).astype(np.float32)
    vector.flags.writeable = False
    return vector


def repacked(data: bytes) -> bytes:
    """From ``vector_send`` to what ``VectorSpace`` packs."""
    return np.frombuffer(data, ">f4", offset=_HEAD).astype("<f4").tobytes()


def nearest(db: Connection, query: Vector, where: Fragment, limit: int) -> list[tuple[int, float]]:
    """Key and cosine of the nearest vectors among ``cubes AS c`` that pass ``where``, best first.

    Raises ``GraphMissing`` where it takes the graph and there is none, ``InvalidInput`` for another dimension.
    """
    _, dimension = vector_space.stored(db)
    if dimension is None:
        return []
    if np.shape(query) != (dimension,):
        raise InvalidInput(
            f"query vector has shape {np.shape(query)}, the store holds vectors of {dimension}: "
            "encode it with the embedder the memories were stored with"
        )
    condition, values = where
    asked = packed(np.asarray(query, "<f4").tobytes())
    if dimension <= _WIDEST and _is_large(db, where):
        if db.execute("SELECT to_regclass('vectors_nearest') IS NULL").fetchone()[0]:
            raise GraphMissing(dimension)
        db.execute(_WALK)
        sql = _GRAPH.format(dimension=dimension, condition=condition)
        found = db.execute(sql, [asked, *values, asked, limit]).fetchall()
        if len(found) == limit:
            return found
    return db.execute(_EXACT.format(condition=condition), [asked, *values, limit]).fetchall()


def _is_large(db: Connection, where: Fragment) -> bool:
    condition, values = where
    sql = f"SELECT count(*) FROM (SELECT 1 FROM cubes c WHERE {condition} LIMIT {EXACT_ROWS + 1}) t"
    return bool(db.execute(sql, values).fetchone()[0] > EXACT_ROWS)
