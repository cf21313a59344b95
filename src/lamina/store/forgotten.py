"""What was forgotten after a backup was made must not come back with it: the journal, and carrying it out.

An old backup holds what people have asked to be erased since. Their requests are rows of the log, which holds ids and
times and no contents, so it may be kept where memories may not: the journal is those rows alone (forgotten memories and
revoked keys), a line of JSON each, beside the backups and sooner than them. It is read from any newer log: a journal,
an export of the log (``lamina audit export``), a database.

A log is of one store, and the hash of its first row names it: no other store has it, and no row of a chain is ever
changed. Backups of a store, stores restored from them and copies of its file share it. A journal begins with a line
that says whose it is, and no other store's is taken for a newer log. A store whose log is empty has no name yet: it
never held anything, so it has no journal and needs none.

A request is carried out in a restored store unless its row stands in the log of that store (then it was carried out
before the backup), or the memory was made anew after it (ids that follow from an owner or an idempotency key return).
So the order of requests, and what was restored between them, do not matter: lines of a history that ended with a
restored backup stay true.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, get_type_hints

from lamina.cube import strict_json
from lamina.errors import InvalidInput, NotFound, StoreUnavailable
from lamina.store.address import is_server, without_password
from lamina.store.connection import APPLICATION_ID, connect, mapped
from lamina.store.rows import micros, moment
from lamina.store.sqlite import SqliteStore

FORMAT = 1
FORGET, REVOKE = "forget", "revoke key"
ACTOR, REASON = "restore", "asked for after the backup was made"
_MAGIC = b"SQLite format 3\0"
_MAX_LINE = 1 << 20
_FIRST = "SELECT hash FROM log WHERE seq = ?"
_ROWS = f"SELECT seq, at, action, cube, hash FROM log WHERE action IN ('{FORGET}', '{REVOKE}') AND seq > ? ORDER BY seq"


Rows = Callable[[str, int], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Request:
    """A row of a log that ends something for good: ``at`` in microseconds since 1970, ``hash`` as in the log."""

    seq: int
    at: int
    action: str
    cube: str
    hash: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The journal of a store, ``None`` while its log is empty; how many requests are new in it."""

    journal: Path | None
    new: int


_TYPES = get_type_hints(Request)


def journal_of(folder: Path, store: str) -> Path:
    """Where the journal of the store lies among the backups in ``folder``; several stores may share one."""
    return folder / f"forgotten-{store[:16]}.jsonl"


def read(place: str, store: str) -> list[Request]:
    """Every request in a newer log of ``store`` (the hash of its first row): a journal, an export of the log, or a
    database (a file, also one that is damaged elsewhere, or ``postgresql://...``).

    Raises ``NotFound``; ``InvalidInput`` for what is of another store, does not say whose it is, or was cut off,
    naming a line where it can; what the stores raise.
    """
    path = Path(place).expanduser()
    if not is_server(place):
        if not path.is_file():
            raise NotFound(f"{place!r}: there is no such file to read what was forgotten from")
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return _requests(path, store)
    with _log(place) as rows:
        _refuse_other(without_password(place), _first(rows), store)
        return _after(rows, 0)


def keep(place: str, folder: Path) -> Kept:
    """Add to the journal in ``folder`` (both made when missing) what the log of the database at ``place`` has and it
    has not. The database is asked first: one that is not there leaves nothing behind, which would pass for a journal.

    Durable on return. Several processes may do so; a line that a crash has cut off is written again. Raises
    ``InvalidInput`` for a journal that is another store's, or does not say whose it is; ``StoreUnavailable`` for a
    folder that cannot be written; what the stores raise.
    """
    with _log(place) as rows:
        store = _first(rows)
        if store is None:
            return Kept(None, 0)
        journal = journal_of(folder, store)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = None if journal.exists() else _begin(journal, store, _after(rows, 0))
            return Kept(journal, _add(journal, store, rows) if new is None else new)
        except OSError as error:
            raise StoreUnavailable(f"{journal}: {error.strerror or error}. Check rights and free space") from error


def carry_out(store: SqliteStore, requests: Iterable[Request]) -> tuple[list[str], list[str]]:
    """Forget and revoke in a restored ``store`` what was after it was copied: ids that went, and of keys revoked."""
    requests = list(requests)
    asked = {one.seq for one in requests}
    carried_out = {event.hash for event in store.events() if event.seq in asked}
    late = [one for one in requests if one.hash not in carried_out and not _made_anew(store, one)]
    revoked = []
    with store.transaction() as tx:
        for id in sorted({one.cube for one in late if one.action == REVOKE}):
            cube = tx.newest(id)
            if cube is not None and cube.header.superseded is None:
                at = max(one.at for one in late if one.cube == id)
                tx.close(id, at=moment(at), action=REVOKE, actor=ACTOR, reason=REASON)
                revoked.append(id)
        wanted = sorted({one.cube for one in late if one.action == FORGET})
        gone = tx.forget(wanted, actor=ACTOR, reason=REASON, legal_override=True)
    return gone, revoked


def _made_anew(store: SqliteStore, request: Request) -> bool:
    """Whether the memory that is stored under this id was first written after the request."""
    events = list(store.events(cube=request.cube))
    ends = [number for number, event in enumerate(events, 1) if event.action == FORGET]
    written = events[ends[-1] if ends else 0 :]
    return bool(written) and micros(written[0].at) > request.at


# -- the journal ----------------------------------------------------------------------------------


def _begin(journal: Path, store: str, requests: Sequence[Request]) -> int | None:
    """Make the journal, with everything that is in the log by now: less would pass for a newer log than it is. How
    many, or ``None`` if another process was faster."""
    work = journal.with_name(f".{journal.name}")
    with os.fdopen(os.open(work, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if journal.exists():
            work.unlink(missing_ok=True)
            return None
        file.truncate()  # of one who was killed
        file.write(_line({"lamina.forgotten": FORMAT, "store": store}) + _lines(requests))
        file.flush()
        os.fsync(file.fileno())
        work.rename(journal)
    descriptor = os.open(journal.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return len(requests)


def _add(journal: Path, store: str, rows: Rows) -> int:
    with journal.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = {request.hash: request for request in _requests(journal, store)}
        file.truncate(whole := file.read().rfind(b"\n") + 1)
        last = max((request.seq for request in known.values()), default=0)
        here = rows(_FIRST, last)
        restored = not here or here[0][0] not in known  # it is not the history that the journal followed until then
        new = [request for request in _after(rows, 0 if restored else last) if request.hash not in known]
        file.seek(whole)
        file.write(_lines(new))
        file.flush()
        os.utime(file.fileno())  # its age is that of the last look, also where nothing was new
        os.fsync(file.fileno())
    return len(new)


def _line(value: dict[str, Any]) -> bytes:
    return f"{strict_json.dumps(value)}\n".encode()


def _lines(requests: Iterable[Request]) -> bytes:
    return b"".join(_line(asdict(request)) for request in requests)


# -- any log --------------------------------------------------------------------------------------


def _requests(path: Path, store: str) -> list[Request]:
    """Of a journal or an export of the log; what is no whole line at the end of a journal was cut off by a crash."""
    values = _values(path)
    number, first = next(values, (0, {}))
    if is_journal := "lamina.forgotten" in first:
        whose = first.get("store")
        if first["lamina.forgotten"] != FORMAT:
            raise StoreUnavailable(
                f"{path}: of format {first['lamina.forgotten']!r}; this Lamina reads {FORMAT}: upgrade"
            )
    else:
        whose = first.get("hash") if first.get("seq") == 1 else None
        values = chain([(number, first)], values)
    _refuse_other(path, whose, store)
    found, ended = [], is_journal
    for number, value in values:
        ended = is_journal or "lamina.audit" in value
        if value.get("action") in (FORGET, REVOKE):
            found.append(_request(path, number, value))
        elif "action" not in value and (is_journal or not ended):
            raise InvalidInput(f"{path}: line {number} is no row of a log")
    if not ended:
        raise InvalidInput(f"{path}: the end of this export is missing, and what was forgotten last with it")
    return found


def _values(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                value = strict_json.loads(line.decode(), max_bytes=_MAX_LINE)
            except (InvalidInput, UnicodeDecodeError) as error:
                raise InvalidInput(f"{path}: line {number} is no row of a log: {error}") from error
            if not isinstance(value, dict):
                raise InvalidInput(f"{path}: line {number} is no row of a log")
            yield number, value


def _request(path: Path, number: int, value: dict[str, Any]) -> Request:
    if not all(type(value.get(name)) is kind for name, kind in _TYPES.items()):
        raise InvalidInput(f"{path}: line {number} is no row of a log")
    return Request(**{name: value[name] for name in _TYPES})


def _refuse_other(place: object, whose: object, store: str) -> None:
    if whose == store:
        return
    if whose is None:
        problem = "is empty, or does not begin as a log does: it does not say of which store it is"
    else:
        problem = f"is of another store ({str(whose)[:16]}), not of {store[:16]}"
    raise InvalidInput(
        f"{place} {problem}. Move it away; then run lamina backup journal where the database is, which makes it anew, "
        "or name another newer log with --forgotten"
    )


def _first(rows: Rows) -> str | None:
    """Which store it is."""
    found = rows(_FIRST, 1)
    return str(found[0][0]) if found else None


def _after(rows: Rows, since: int) -> list[Request]:
    return [Request(*row) for row in rows(_ROWS, since)]


@contextmanager
def _log(place: str) -> Iterator[Rows]:
    """Asks the database at ``place``; nothing is written."""
    if is_server(place):
        from lamina.store.postgres import PostgresStore

        with PostgresStore(place, connections=2) as store, store.whole() as db:
            yield lambda sql, value: db.execute(sql, (value,)).fetchall()
        return
    path = Path(place).expanduser()
    if not path.is_file():
        raise NotFound(f"{place!r}: there is no such database")
    with mapped(path), closing(connect(path, readonly=True)) as connection:
        if connection.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
            raise InvalidInput(f"{place!r} holds no memories of Lamina; give its database")
        yield lambda sql, value: connection.execute(sql, (value,)).fetchall()
