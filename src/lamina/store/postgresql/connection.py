"""The way to a PostgreSQL server: a pool, the role and tenant of each transaction, errors as Lamina's, and patience.

Every transaction begins by taking one of the two roles of ``schema`` and by naming its tenant, both ``LOCAL``: they
end with it, and a connection lent next starts with nothing. A connection that is in no transaction is
``lamina_app`` without a tenant, and sees no row.

A server that restarts closes all connections. What only reads is asked again for ``PATIENCE`` seconds; what writes is
told, unless it had not begun, or the answer to its COMMIT was lost: then the server is asked what became of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from lamina.errors import Conflict, CorruptStore, InvalidInput, LaminaError, NotPermitted, StoreUnavailable
from lamina.store.address import without_password
from lamina.store.postgresql import schema
from lamina.store.postgresql.dialect import PgConnection
from lamina.store.postgresql.vectors import Packed, PackedDumper

T = TypeVar("T")
PATIENCE = 30.0  # seconds: for a server that restarts, for the right to write, for a connection of the pool
_PAUSE = 0.1
_BEGIN = """
SELECT set_config('role', %s, true), set_config('lamina.tenant', %s, true), set_config('lock_timeout', %s, true),
    set_config('synchronous_commit', CASE WHEN NOT %s THEN 'off' WHEN current_setting('synchronous_commit') = 'off'
        THEN 'on' ELSE current_setting('synchronous_commit') END, true),
    set_config('transaction_read_only', CASE WHEN %s THEN 'on' ELSE current_setting('transaction_read_only') END, true)
"""
# A client that vanished without a word must not hold the right to write for hours.
_SETTINGS = """
SELECT set_config('role', 'lamina_app', false),
    set_config('tcp_keepalives_idle', '30', false), set_config('tcp_keepalives_interval', '10', false),
    set_config('tcp_keepalives_count', '3', false)
"""
_E = psycopg.errors
_MEANING: tuple[tuple[type[psycopg.Error], type[LaminaError], str], ...] = (
    (_E.UniqueViolation, Conflict, "an id exists already, here or in another tenant: insert is for new memories"),
    (_E.InsufficientPrivilege, NotPermitted, "this login or tenant may not do that; nothing was written"),
    (_E.LockNotAvailable, StoreUnavailable, "another writer kept the store locked for too long. Try again, or end it"),
    (_E.DiskFull, StoreUnavailable, "the server's disk is full. Free space and try again; nothing was written"),
    (_E.ReadOnlySqlTransaction, StoreUnavailable, "it is read-only: name the primary server"),
    (_E.FeatureNotSupported, StoreUnavailable, "the server lacks pgvector. Install it: github.com/pgvector/pgvector"),
    (_E.UndefinedFile, StoreUnavailable, "the server lacks pgvector. Install it: github.com/pgvector/pgvector"),
    (_E.DataCorrupted, CorruptStore, "the database is damaged. Restore a backup"),
    (_E.IndexCorrupted, CorruptStore, "an index is damaged. Run REINDEX DATABASE, or restore a backup"),
    (psycopg.DataError, InvalidInput, "a value cannot be stored. Nothing was written"),
    (psycopg.IntegrityError, InvalidInput, "a value breaks a rule of the schema. Nothing was written"),
)
_GONE = (_E.AdminShutdown, _E.CrashShutdown, _E.CannotConnectNow)


class ConnectionLost(StoreUnavailable):
    """The server went away: the same call may succeed when it is back."""


@contextmanager
def mapped(place: str) -> Iterator[None]:
    """Errors of psycopg inside the block leave it as Lamina's."""
    try:
        yield
    except PoolClosed as error:
        raise StoreUnavailable(f"{place}: the store was closed; open it again") from error
    except psycopg.Error as error:
        _raise(error, place)
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{error.object[error.start]!r} is a lone surrogate, which is not valid Unicode; "
            "decode the text with errors='replace'"
        ) from error


def _raise(error: psycopg.Error, place: str) -> NoReturn:
    said = str(error).strip().partition("\n")[0]
    for kind, meant, told in _MEANING:
        if isinstance(error, kind):
            raise meant(f"{place}: {told} (PostgreSQL says: {said})") from error
    if isinstance(error, psycopg.ProgrammingError) and not error.sqlstate:  # psycopg's own, before it asked
        raise InvalidInput(f"{place}: a value has a type that cannot be stored ({said})") from error
    if isinstance(error, (*_GONE, PoolTimeout)) or (isinstance(error, psycopg.OperationalError) and not error.sqlstate):
        raise ConnectionLost(
            f"{place}: the server cannot be reached, or refused or closed the connection. Nothing was written that was "
            f"not acknowledged; check address and server, and try again ({said})"
        ) from error
    raise StoreUnavailable(f"{place}: PostgreSQL refused (it says: {said})") from error


class Server:
    """Connections to one database, lent with a role and a tenant."""

    def __init__(self, url: str, *, connections: int, durable: bool) -> None:
        self.place = without_password(url)
        self._durable = durable
        try:
            conninfo_to_dict(url)
        except psycopg.ProgrammingError:  # its message may quote the password
            raise InvalidInput(f"{self.place}: give an address such as postgresql://user@host:5432/memories") from None
        with mapped(self.place), psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            schema.migrate(connection, self.place)
            self.may_operate = _may(connection, schema.OPERATOR)
        self._pool = ConnectionPool(
            url,
            kwargs={"autocommit": True},
            min_size=1,
            max_size=connections,
            timeout=PATIENCE,
            configure=_configure,
            open=True,
            name="lamina",
        )

    def read(self, tenant: str | None, work: Callable[[PgConnection], T]) -> T:
        """``work`` in a transaction that only reads, as ``tenant`` or (``None``) as operator; again if the server went
        away meanwhile."""

        def once() -> T:
            with self.lend() as connection:
                raw = connection.raw
                with raw.pipeline(), raw.transaction():
                    self.begin(connection, tenant, reads=True)
                    return work(connection)

        return self.patiently(once)

    def patiently(self, work: Callable[[], T]) -> T:
        """``work``, again while the server is away. Only for what may be done twice."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return work()
            except ConnectionLost:
                if time.monotonic() > end:
                    raise
            time.sleep(_PAUSE)
            with mapped(self.place):
                self._pool.check()

    @contextmanager
    def lend(self) -> Iterator[PgConnection]:
        """A connection in no transaction. Errors inside the block leave it as Lamina's."""
        with mapped(self.place), self._pool.connection() as raw:
            yield PgConnection(raw)

    def take(self) -> PgConnection:
        """A connection for longer; ``give_back`` must follow."""
        with mapped(self.place):
            return PgConnection(self._pool.getconn())

    def give_back(self, connection: PgConnection) -> None:
        """Into the pool, or away with it if it broke; a transaction left open is rolled back."""
        if connection.in_transaction:
            with suppress(psycopg.Error):
                connection.raw.rollback()
        self._pool.putconn(connection.raw)

    def begin(self, connection: PgConnection, tenant: str | None, *, reads: bool = False) -> None:
        """Role and tenant of the transaction that has been begun; one that ``reads`` can do nothing else."""
        role = schema.OPERATOR if tenant is None else schema.APP
        connection.raw.execute(_BEGIN, (role, tenant or "", f"{PATIENCE:.0f}s", self._durable, reads))

    def wait_for_end(self, transaction: str, tenant: str | None) -> None:
        """Until a transaction whose connection was lost is over, one way or the other."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            try:
                if not self.read(tenant, lambda db: _in_progress(db, transaction)):
                    return
            except InvalidInput:  # the server crashed before it had written that the number was given out
                return
            time.sleep(_PAUSE)

    def close(self) -> None:
        self._pool.close()


class Turn:
    """Threads of a process write one after another, so that those who wait hold no connection; nobody twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    def refuse_nesting(self) -> None:
        if self._owner == threading.get_ident():
            raise InvalidInput("a transaction of this thread is open already: use it, or end it first")

    @contextmanager
    def taken(self) -> Iterator[None]:
        self.refuse_nesting()
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None


def _configure(connection: psycopg.Connection[TupleRow]) -> None:
    connection.adapters.register_dumper(Packed, PackedDumper)
    connection.execute(schema.SEARCH_PATH, (False,))
    connection.execute(_SETTINGS)


def _may(connection: psycopg.Connection[TupleRow], role: str) -> bool:
    row = connection.execute("SELECT pg_has_role(session_user, %s, 'MEMBER')", (role,)).fetchone()
    return row is not None and bool(row[0])


def _in_progress(db: PgConnection, transaction: str) -> bool:
    row = db.execute("SELECT pg_xact_status(?::xid8)", (transaction,)).fetchone()
    return row is not None and row[0] == "in progress"
