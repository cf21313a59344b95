"""What was forgotten after a backup was made must not come back with it: the journal, and carrying it out.

An old backup holds what people have asked to be erased since. Their requests are rows of the log, which holds ids and
times and no contents, so it may be kept where memories may not: the journal is those rows alone (forgotten memories and
revoked keys), a line of JSON each, beside the backups and sooner than them. It is read from any newer log: a journal,
an export of the log (``lamina audit export``), a database.

A request is carried out in a restored store unless its row stands in the log of that store (then it was carried out
before the backup), or the memory was made anew after it (ids that follow from an owner or an idempotency key return).
So the order of requests, and what was restored between them, do not matter: lines of a history that ended with a
restored backup stay true.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

from lamina.cube import strict_json
from lamina.errors import InvalidInput, NotFound
from lamina.store.address import is_server, without_password
from lamina.store.connection import connect, mapped
from lamina.store.rows import micros, moment
from lamina.store.sqlite import SqliteStore

FORGET, REVOKE = "forget", "revoke key"
ACTOR, REASON = "restore", "asked for after the backup was made"
_MAGIC = b"SQLite format 3\0"
_MAX_LINE = 1 << 20
_ROWS = f"SELECT seq, at, action, cube, hash FROM log WHERE action IN ('{FORGET}', '{REVOKE}') AND seq > ? ORDER BY seq"


@dataclass(frozen=True, slots=True)
class Request:
    """A row of a log that ends something for good: ``at`` in microseconds since 1970, ``hash`` as in the log."""

    seq: int
    at: int
    action: str
    cube: str
    hash: str


_TYPES = get_type_hints(Request)


def read(place: str) -> list[Request]:
    """Every request in a journal, an export of the log, or the log of a database (a file, also one that is damaged
    elsewhere, or ``postgresql://...``). Raises ``NotFound``, ``InvalidInput`` naming a line, what the stores raise."""
    if is_server(place):
        return _rows(place, 0)
    path = Path(place).expanduser()
    if not path.is_file():
        raise NotFound(f"{place!r}: there is no such file to read what was forgotten from")
    with path.open("rb") as file:
        return _rows(place, 0) if file.read(len(_MAGIC)) == _MAGIC else list(_lines(path))


def keep(place: str, journal: Path) -> int:
    """Add to ``journal`` (made when missing) what the log of the database at ``place`` has and it has not; how many.

    Durable on return. Several processes may do so; a line that a crash has cut off is written again.
    """
    _ask(place, _ROWS, 0)  # a database that is not there leaves no journal behind, which would pass for one
    descriptor = os.open(journal, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        known = {request.hash: request for request in _lines(journal)}
        last = max((request.seq for request in known.values()), default=0)
        new = _rows(place, 0 if _restored(place, last, known) else last)
        new = [request for request in new if request.hash not in known]
        file.seek(whole)
        file.write("".join(strict_json.dumps(asdict(request)) + "\n" for request in new).encode())
        file.flush()
        os.utime(file.fileno())  # its age is that of the last look, also where nothing was new
        os.fsync(file.fileno())
    return len(new)


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


def _rows(place: str, since: int) -> list[Request]:
    return [Request(*row) for row in _ask(place, _ROWS, since)]


def _restored(place: str, last: int, known: dict[str, Request]) -> bool:
    """Whether the log is not the one that the journal followed until ``last``."""
    row = _ask(place, "SELECT hash FROM log WHERE seq = ?", last)
    return not row or row[0][0] not in known


def _ask(place: str, sql: str, value: int) -> Sequence[Any]:
    if is_server(place):
        from lamina.store.postgres import PostgresStore

        with PostgresStore(place, connections=2) as store, store.whole() as db:
            return db.execute(sql, (value,)).fetchall()
    path = Path(place).expanduser()
    if not path.is_file():
        raise NotFound(f"{without_password(place)!r}: there is no such database")
    with mapped(path), closing(connect(path, readonly=True)) as connection:
        return connection.execute(sql, (value,)).fetchall()


def _lines(path: Path) -> Iterator[Request]:
    """What follows the last line end was cut off by a crash."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        try:
            value = strict_json.loads(line, max_bytes=_MAX_LINE)
            if "lamina.audit" in value or value["action"] not in (FORGET, REVOKE):
                continue
            request = Request(**{name: value[name] for name in _TYPES})
        except (InvalidInput, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}: line {number} is no row of a log: {error}") from error
        if not all(type(getattr(request, name)) is kind for name, kind in _TYPES.items()):
            raise InvalidInput(f"{path}: line {number} is no row of a log")
        yield request
