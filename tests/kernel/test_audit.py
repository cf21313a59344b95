"""No row can be changed, removed, moved, repeated or added unseen: in the export, and in the database file itself."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.store import cube, insert, revise
from lamina.cube.cube import now
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.governing import audit
from lamina.kernel.governing.audit import Head
from lamina.store.log import GENESIS, Chain, Row
from lamina.store.sqlite import SqliteStore

COLUMNS = ("seq", "at", "actor", "action", "cube", "version", "reason", "details", "hash")
SECRET = "nobody may read this in a log"


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Head]:
    """A closed database with a dozen rows in its log, their export, and the head kept elsewhere."""
    folder = tmp_path_factory.mktemp("audit")
    with SqliteStore(folder / "m.db") as store:
        ones = [cube(f"{SECRET} {n}") for n in range(5)]
        insert(store, *ones)
        for one in ones[:3]:
            revise(store, one, f"{SECRET} again")
        with store.transaction() as tx:
            tx.close(ones[4].id, at=now(), reason='ünïcode "quoted" \\ reason')
            tx.forget([ones[0].id], reason="asked")
        assert audit.verify(store) == []
        head = audit.export(store, folder / "log.jsonl")
        assert head == audit.head(store)
        assert audit.verify(store, head) == []
    return folder / "m.db", folder / "log.jsonl", head


@pytest.fixture
def lines(sealed: tuple[Path, Path, Head]) -> list[bytes]:
    return sealed[1].read_bytes().splitlines(keepends=True)


def problems(path: Path, lines: list[bytes], head: Head | None) -> list[str]:
    path.write_bytes(b"".join(lines))
    return audit.verify_export(path, head)


def test_a_whole_export_is_proved_and_holds_no_content(sealed: tuple[Path, Path, Head]) -> None:
    _, export, head = sealed
    assert audit.verify_export(export) == audit.verify_export(export, head) == []
    assert SECRET.encode() not in export.read_bytes()
    assert Head.parse(str(head)) == head
    with pytest.raises(NotFound):
        audit.verify_export(export.with_name("none"))
    for bad in ("", "7", "x:" + "0" * 64, "7:zz"):
        with pytest.raises(InvalidInput, match="head="):
            Head.parse(bad)


def test_every_byte_of_the_export_counts(lines: list[bytes], tmp_path: Path) -> None:
    data = b"".join(lines)
    for place in range(len(data)):
        change = 32 if place % 2 else 1  # another case, another character
        changed = data[:place] + bytes([data[place] ^ change]) + data[place + 1 :]
        assert problems(tmp_path / "x", [changed], None), f"byte {place} may change"


def test_every_field_of_every_row_counts(lines: list[bytes], tmp_path: Path) -> None:
    """Also when the line is written anew just as Lamina would."""
    for number, line in enumerate(lines[:-1]):
        for name in COLUMNS:
            row = json.loads(line)
            row[name] = row[name] + 1 if isinstance(row[name], int) else row[name] + "x"
            told = audit._line(Row(**row)).encode() + b"\n"
            assert problems(tmp_path / "x", [*lines[:number], told, *lines[number + 1 :]], None), (number, name)


def test_removing_repeating_and_moving_rows(
    lines: list[bytes], sealed: tuple[Path, Path, Head], tmp_path: Path
) -> None:
    head, n = sealed[2], len(lines)
    for i in range(n):
        assert problems(tmp_path / "x", lines[:i] + lines[i + 1 :], None), f"line {i} may go"
        assert problems(tmp_path / "x", [*lines[: i + 1], lines[i], *lines[i + 1 :]], None), f"line {i} may be doubled"
        for j in range(i):
            moved = list(lines)
            moved[i], moved[j] = moved[j], moved[i]
            assert problems(tmp_path / "x", moved, None), f"lines {i} and {j} may change places"
    for end in range(n - 1):
        shorter = lines[:end]
        last = json.loads(shorter[-1]) if shorter else {"seq": 0, "hash": GENESIS}
        trailer = audit._trailer(Head(last["seq"], last["hash"]), end).encode() + b"\n"
        assert problems(tmp_path / "x", [*shorter, trailer], None) == [], "a shorter log is a log"
        assert "missing at its end" in problems(tmp_path / "x", [*shorter, trailer], head)[0]


def test_a_log_forged_as_a_whole_differs_from_the_sealed_head(
    lines: list[bytes], sealed: tuple[Path, Path, Head], tmp_path: Path
) -> None:
    chain, forged = Chain(0, GENESIS), []
    for line in lines[:-1]:
        row = json.loads(line)
        forged.append(chain.append(*[row[name] if name != "actor" else "somebody" for name in COLUMNS[1:8]]))
    end = Head(forged[-1].seq, forged[-1].hash)
    told = [audit._line(row).encode() + b"\n" for row in forged]
    told.append(audit._trailer(end, len(forged)).encode() + b"\n")
    assert problems(tmp_path / "x", told, None) == []
    assert "written anew" in problems(tmp_path / "x", told, sealed[2])[0]


# -- the table in the database file ------------------------------------------------------------------


def edited(sealed: tuple[Path, Path, Head], folder: Path, *statements: str) -> list[str]:
    """The verdict on a copy of the file after somebody with the sqlite3 tool was there."""
    path = folder / "copy.db"
    shutil.copy(sealed[0], path)
    db = sqlite3.connect(path)
    db.execute("DROP TRIGGER log_no_update")
    db.execute("DROP TRIGGER log_no_delete")
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    with SqliteStore(path) as store:
        found = audit.verify(store, sealed[2])
    path.unlink()
    return found


def rows(sealed: tuple[Path, Path, Head]) -> Iterator[int]:
    return iter(range(1, sealed[2].seq + 1))


def test_every_field_of_every_row_of_the_table_counts(sealed: tuple[Path, Path, Head], tmp_path: Path) -> None:
    assert edited(sealed, tmp_path) == []
    for seq in rows(sealed):
        for name in COLUMNS:
            value = f"{name} + 100" if name in ("seq", "at", "version") else f"{name} || ' '"
            assert edited(sealed, tmp_path, f"UPDATE log SET {name} = {value} WHERE seq = {seq}"), (seq, name)
        assert edited(sealed, tmp_path, f"DELETE FROM log WHERE seq = {seq}"), seq
        assert edited(sealed, tmp_path, f"DELETE FROM log WHERE seq >= {seq}"), seq


def test_moved_and_repeated_rows_of_the_table(sealed: tuple[Path, Path, Head], tmp_path: Path) -> None:
    last = sealed[2].seq
    columns = ", ".join(COLUMNS[1:])
    for seq in range(1, last):
        swap = [
            f"UPDATE log SET seq = -1 WHERE seq = {seq}",
            f"UPDATE log SET seq = {seq} WHERE seq = {seq + 1}",
            f"UPDATE log SET seq = {seq + 1} WHERE seq = -1",
        ]
        assert edited(sealed, tmp_path, *swap), seq
        again = f"INSERT INTO log (seq, {columns}) SELECT {last + 1}, {columns} FROM log WHERE seq = {seq}"
        assert edited(sealed, tmp_path, again), seq


def test_the_end_is_missing_only_for_those_who_kept_no_head(sealed: tuple[Path, Path, Head], tmp_path: Path) -> None:
    (found,) = edited(sealed, tmp_path, f"DELETE FROM log WHERE seq > {sealed[2].seq - 2}")
    assert "missing at its end" in found
    path = tmp_path / "copy.db"
    shutil.copy(sealed[0], path)
    with SqliteStore(path) as store:
        insert(store, cube("written later"))
        assert audit.verify(store, sealed[2]) == [], "a log that grew still holds what was sealed"
        assert audit.head(store).seq == sealed[2].seq + 1
        with pytest.raises(InvalidInput, match="exists"):
            audit.export(store, sealed[1])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_other_text_in_any_field(data: st.DataObject, lines: list[bytes], tmp_path: Path) -> None:
    number = data.draw(st.integers(0, len(lines) - 2))
    name = data.draw(st.sampled_from(COLUMNS))
    row = json.loads(lines[number])
    value = data.draw(st.integers(0, 2**62) if isinstance(row[name], int) else st.text(st.characters(codec="utf-8")))
    if value == row[name]:
        return
    told = json.dumps(row | {name: value}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    assert problems(tmp_path / "x", [*lines[:number], told, *lines[number + 1 :]], None)


def test_an_empty_log(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "m.db") as store:
        head = audit.head(store)
        assert head == Head(0, GENESIS)
        assert audit.verify(store, head) == []
        assert audit.export(store, tmp_path / "x") == head
    assert audit.verify_export(tmp_path / "x", head) == []
