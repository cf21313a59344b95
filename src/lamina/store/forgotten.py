"""What was forgotten after a backup was made must not come back with it: the journal, and carrying it out.

An old backup holds what people have asked to be erased since. Their requests are rows of the log, which holds ids and
times and no contents, so it may be kept where memories may not: the journal is those rows alone (forgotten memories and
revoked keys), a line of JSON each, beside the backups and sooner than them. It is read from any newer log: a journal,
an export of the log (``lamina audit export``), a database.

A log is of one store, and the hash of its first row names it: no other store has it, and no row of a chain is ever
changed. Backups of a store, stores restored from them and copies of its file share it. A journal begins with a line
that says whose it is, and no other store's is taken for a newer log. A store whose log is empty has no name yet: it
never held anything, so it has no journal and needs none.

A journal ends with a line that says how far the log was read (number and hash of its last row). It has that line once,
so one that was cut anywhere, also at a line's end, is noticed: it is refused until the next run has mended it from the
database. Each run replaces the journal at once by a longer one (a hidden file that is renamed): one that is killed, or
finds the disk full, leaves the journal of the run before it, whole.

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
from typing import Any, BinaryIO, get_type_hints

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
_HASH = "SELECT hash FROM log WHERE seq = ?"
_LAST = "SELECT seq, hash FROM log WHERE seq >= ? ORDER BY seq DESC LIMIT 1"
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
    """The journal of a store, and which store it is (both ``None`` while its log is empty); how many requests are new
    in it."""

    journal: Path | None
    store: str | None
    new: int


@dataclass(frozen=True, slots=True)
class _End:
    """How far a log was read: its last row."""

    seq: int
    hash: str


_TYPES = get_type_hints(Request)


def journal_of(folder: Path, store: str) -> Path:
    """Where the journal of the store lies among the backups in ``folder``; several stores may share one."""
    return folder / f"forgotten-{store[:16]}.jsonl"


def read(place: str, store: str, *, cut: bool = False) -> list[Request]:
    """Every request in a newer log of ``store`` (the hash of its first row): a journal, an export of the log, or a
    database (a file, also one that is damaged elsewhere, or ``postgresql://...``).

    ``cut``: of a journal without its end take what is there, which is for who has another newer log besides. Raises
    ``NotFound``; ``InvalidInput`` for what is of another store, does not say whose it is, or was cut off, naming a line
    where it can; what the stores raise.
    """
    path = Path(place).expanduser()
    if not is_server(place):
        if not path.is_file():
            raise NotFound(f"{place!r}: there is no such file to read what was forgotten from")
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return _requests(path, store, cut=cut)
    with _log(place) as rows:
        _refuse_other(without_password(place), _first(rows), store)
        return _after(rows, 0)


def keep(place: str, folder: Path) -> Kept:
    """Add to the journal in ``folder`` (both made when missing) what the log of the database at ``place`` has and it
    has not. The database is asked first: one that is not there leaves nothing behind, which would pass for a journal.

    Durable on return. Several processes may do so; what was cut off is written again. Raises ``InvalidInput`` for a
    journal that is another store's, or does not say whose it is; ``StoreUnavailable`` for a folder that cannot be
    written; what the stores raise.
    """
    with _log(place) as rows:
        store = _first(rows)
        if store is None:
            return Kept(None, None, 0)
        journal = journal_of(folder, store)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _alone(journal) as (work, file):
                return Kept(journal, store, _renew(journal, store, rows, work, file))
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


@contextmanager
def _alone(journal: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """The next journal under a hidden name, empty, of one process at a time; unless it was renamed it goes."""
    work = journal.with_name(f".{journal.name}")
    while True:
        with os.fdopen(os.open(work, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(work, file):  # the one that was waited for has renamed or removed it
                continue
            file.truncate()  # of one who was killed
            try:
                yield work, file
            finally:
                if _is_at(work, file):
                    work.unlink()
            return


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _renew(journal: Path, store: str, rows: Rows, work: Path, file: BinaryIO) -> int:
    """Write the whole journal as it is to be into ``file`` and put it in place; how many requests are new."""
    known, end = _journal(journal, store) if journal.exists() else ([], None)
    last = _End(*rows(_LAST, 1)[0])  # before the requests: one of a row that is written in between does no harm
    found = rows(_HASH, end.seq) if end else []
    followed = end.seq if end and found and found[0][0] == end.hash else 0  # else a backup was restored, or it was cut
    hashes = {request.hash for request in known}
    new = [request for request in _after(rows, followed) if request.hash not in hashes]
    if end == last and not new:
        os.utime(journal)  # its age is that of the last look
        return 0
    requests = [*known, *new]
    file.write(_line({"lamina.forgotten": FORMAT, "store": store}))
    file.writelines(_line(asdict(request)) for request in requests)
    file.write(_line({"read_to": asdict(last), "requests": len(requests)}))
    file.flush()
    os.fsync(file.fileno())
    work.rename(journal)
    descriptor = os.open(journal.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return len(new)


def _line(value: dict[str, Any]) -> bytes:
    return f"{strict_json.dumps(value)}\n".encode()


def _journal(path: Path, store: str) -> tuple[list[Request], _End | None]:
    """Its requests, and how far it goes; ``None`` when its end is not there, or others than it had."""
    values = _values(path)
    _, first = next(values, (0, {}))
    if first.get("lamina.forgotten", FORMAT) != FORMAT:
        raise StoreUnavailable(f"{path}: of format {first['lamina.forgotten']!r}; this Lamina reads {FORMAT}: upgrade")
    _refuse_other(path, first.get("store"), store)
    found: list[Request] = []
    end = None
    for number, value in values:
        end = None
        if "read_to" in value:
            end = _end(path, number, value["read_to"]) if value.get("requests") == len(found) else None
        elif value:
            found.append(_request(path, number, value))
    return found, end


def _end(path: Path, number: int, value: Any) -> _End:
    if not isinstance(value, dict) or type(value.get("seq")) is not int or type(value.get("hash")) is not str:
        raise InvalidInput(f"{path}: line {number} is no row of a log")
    return _End(value["seq"], value["hash"])


# -- any log --------------------------------------------------------------------------------------


def _requests(path: Path, store: str, *, cut: bool) -> list[Request]:
    """Of a journal or an export of the log."""
    _, first = next(_values(path), (0, {}))
    if "seq" in first:
        return _exported(path, store)
    found, end = _journal(path, store)
    if end is None and not cut:
        raise InvalidInput(
            f"{path}: the end of this journal is missing, and what was forgotten last with it. Run lamina backup "
            "journal where the database is, which mends it, or name another newer log with --forgotten"
        )
    return found


def _exported(path: Path, store: str) -> list[Request]:
    values = _values(path)
    head = next(values)
    _refuse_other(path, head[1].get("hash") if head[1]["seq"] == 1 else None, store)
    found, ended = [], False
    for number, value in chain([head], values):
        ended = "lamina.audit" in value
        if value.get("action") in (FORGET, REVOKE):
            found.append(_request(path, number, value))
        elif value and "action" not in value and not ended:
            raise InvalidInput(f"{path}: line {number} is no row of a log")
    if not ended:
        raise InvalidInput(f"{path}: the end of this export is missing, and what was forgotten last with it")
    return found


def _values(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line by line; ``{}`` for what is no whole line at the end: it was cut off."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                yield number, {}
                return
            try:
                value = strict_json.loads(line.decode(), max_bytes=_MAX_LINE)
            except (InvalidInput, UnicodeDecodeError) as error:
                raise InvalidInput(f"{path}: line {number} is no row of a log: {error}") from error
            if not isinstance(value, dict) or not value:
                raise InvalidInput(f"{path}: line {number} is no row of a log")
            yield number, value


def _request(path: Path, number: int, value: dict[str, Any]) -> Request:
    if not all(type(value.get(name)) is kind for name, kind in _TYPES.items()):
        raise InvalidInput(f"{path}: line {number} is no row of a log")
    return Request(**{name: value[name] for name in _TYPES})


def _refuse_other(place: object, whose: object, store: str) -> None:
    """``Move it away`` is said of what lies where the journal of ``store`` belongs: the rest may be another's."""
    if whose == store:
        return
    if whose is None:
        problem = "is empty, or does not begin as a log does: it does not say of which store it is"
    else:
        problem = f"is of another store ({str(whose)[:16]}), not of {store[:16]}"
    if isinstance(place, Path) and place.name == journal_of(place.parent, store).name:
        remedy = "Move it away; then run lamina backup journal where the database is, which makes it anew"
    else:
        remedy = "Run lamina backup journal where the database of this store is"
    raise InvalidInput(f"{place} {problem}. {remedy}, or name another newer log with --forgotten")


def _first(rows: Rows) -> str | None:
    """Which store it is."""
    found = rows(_HASH, 1)
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
