"""Tensors as rows: content-addressed, in parts, beside the memory that names them and in its transaction.

N workers on N machines see the same tensors, a backup of the database has them, and they go with ``forget``. Equal
tensors of one tenant share their rows; tenants share nothing.
"""

from __future__ import annotations

import hashlib

from lamina.errors import CorruptStore
from lamina.store.sql import Connection

_PART = 8 << 20  # bytes in a row: PostgreSQL builds a row in memory, and holds 1 GB at most


class PgBlobs:
    """The tensors a connection sees; ``tenant`` is whose those are that it writes.

    What was written is noted in ``written``, tenant and address: a memory that is refused afterwards leaves them.
    """

    def __init__(self, connection: Connection, tenant: str = "", written: list[tuple[str, str]] | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._written = [] if written is None else written

    def write(self, data: bytes) -> str:
        """Store ``data`` unless it is there; its address."""
        address = hashlib.sha256(data).hexdigest()
        known = "SELECT 1 FROM blobs WHERE tenant = ? AND address = ? LIMIT 1"
        if self._connection.execute(known, (self._tenant, address)).fetchone() is None:
            for part, start in enumerate(range(0, max(len(data), 1), _PART)):
                row = (self._tenant, address, part, data[start : start + _PART])
                self._connection.execute("INSERT INTO blobs VALUES (?, ?, ?, ?)", row)
            self._written.append((self._tenant, address))
        return address

    def read(self, address: str) -> bytes:
        """The bytes at ``address``. Raises ``CorruptStore`` when they are missing or not what they were."""
        sql = "SELECT DISTINCT ON (part) data FROM blobs WHERE address = ? ORDER BY part"
        parts = [row[0] for row in self._connection.execute(sql, (address,)).fetchall()]
        if not parts:
            raise CorruptStore(f"tensor {address} is missing: restore it from a backup, or forget the memory")
        data = b"".join(parts)
        if hashlib.sha256(data).hexdigest() != address:
            raise CorruptStore(
                f"tensor {address} was altered: its bytes do not match its name. Restore it from a backup"
            )
        return data
