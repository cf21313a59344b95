"""``lamina backup``: copies of everything while others go on writing, and stores made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput, LaminaError, NotFound

if TYPE_CHECKING:
    from lamina.store.forgotten import Request

_DATABASE = ("db", "json")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the backups are; made when missing.")]
One = Annotated[Path, typer.Argument(metavar="BACKUP", help="One of them: FOLDER/2026-06-12T030000.417Z.")]
Whose = Annotated[
    str | None,
    typer.Option("--store", metavar="HASH", help="Refuse a backup of another store; 8 or more characters will do."),
]


@command(_DATABASE)
def create(
    session: Session,
    folder: Folder,
    keep: Annotated[int | None, typer.Option(min=1, help="Remove all but so many of this store's newest.")] = None,
) -> None:
    """Copy all memories of all tenants, with history, tensors, keys and log, into a new folder; writers go on."""
    from lamina.store.backup import create as make

    made = make(_place(session), folder, keep=keep)
    result = {"backup": str(made.folder), "store": made.store, "rows": made.rows, "bytes": made.bytes}
    result |= {"log_head": made.log_head, "journal": str(made.journal) if made.journal else None}
    told = f"{made.folder}: {made.rows['cubes']} versions, {made.bytes:,} bytes, proved. Log: {made.log_head}."
    told = f"{told} {_named(made.store)}"
    removed = [str(path) for path in made.removed]
    output.emit(session.json, {**result, "removed": removed}, lambda screen: screen.print(told, soft_wrap=True))


@command(_DATABASE)
def journal(session: Session, folder: Folder) -> None:
    """Note what was forgotten since (ids, no contents), so that no backup brings it back. Quick: run it each minute."""
    from lamina.store.forgotten import keep

    done = keep(_place(session), folder)
    result = {"journal": str(done.journal) if done.journal else None, "store": done.store, "new": done.new}
    told = f"{done.new} new in {done.journal}. {_named(done.store)}" if done.journal else _named(None)
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told), soft_wrap=True))


@command(PLAIN)
def verify(session: Session, backup: One, store: Whose = None) -> None:
    """Prove that a backup is as it was written, and the journal beside it whole; exit 1 and say where if not."""
    from lamina.store.backup import expect, manifest
    from lamina.store.backup import verify as problems_of

    if store is not None:
        expect(backup, store)
    said, problems = manifest(backup), problems_of(backup)
    beside = _journal(backup, said["store"])
    if beside is not None and not problems:
        problems = _unreadable(beside, said["store"])
    result = {"whole": not problems, "made": said["made"], "store": said["store"], "log_head": said["log"]}
    result |= {"journal": str(beside) if beside else None, "problems": problems}
    lines = problems or [f"{backup} is whole. Made {said['made']}; log: {said['log']}. {_named(said['store'])}"]
    if said["store"] and beside is None:
        lines = [*lines, "No journal is beside it: to restore it, name a newer log with --forgotten."]
    output.emit(session.json, result, lambda screen: screen.print(output.styled("\n".join(lines)), soft_wrap=True))
    if problems:
        raise typer.Exit(1)


@command(PLAIN)
def restore(
    session: Session,
    backup: One,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A new file, or an empty database: postgresql://...")],
    newer: Annotated[
        list[str] | None,
        typer.Option("--forgotten", metavar="LOG", help="A newer log: journal, audit export, database, URL."),
    ] = None,
    as_it_was: Annotated[
        bool, typer.Option("--as-it-was", help="Also what was forgotten after the backup was made.")
    ] = False,
    store: Whose = None,
) -> None:
    """Make a store of a backup, without what was forgotten and the keys revoked since; never over another store."""
    from lamina.store.address import is_server, without_password
    from lamina.store.backup import expect
    from lamina.store.restoring import restore as make

    if store is not None:
        expect(backup, store)
    if is_server(target):
        from lamina._optional import require

        for package in ("psycopg", "psycopg_pool"):
            require(package, "restoring to PostgreSQL")
    requests = [] if as_it_was else _requests(backup, newer or [])
    done = make(backup, target, requests)
    result = {"target": without_password(target), "versions": done.versions}
    result |= {"forgotten": [*done.forgotten], "revoked": [*done.revoked]}
    told = f"{result['target']}: {done.versions} versions, proved. Forgotten on the way: {len(done.forgotten)} memories"
    told = f"{told}; keys revoked: {len(done.revoked)}."
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told), soft_wrap=True))


def _requests(backup: Path, newer: list[str]) -> list[Request]:
    """Of the journal beside the backup, and all that were named. A store that was empty holds nothing to forget."""
    from lamina.store.backup import manifest
    from lamina.store.forgotten import journal_of, read

    store: str | None = manifest(backup)["store"]
    if store is None:
        return []
    beside = _journal(backup, store)
    if beside is None and not newer:
        raise InvalidInput(
            f"there is no {journal_of(backup.parent, store)}: what was forgotten after the backup was made would come "
            "back. Name a newer log with --forgotten (a journal, an audit export, the old database), or say --as-it-was"
        )
    # Where another newer log was named, what is left of a journal that was cut counts besides.
    known = read(str(beside), store, cut=bool(newer)) if beside else []
    return [*known, *(request for place in newer for request in read(place, store))]


def _named(store: str | None) -> str:
    return f"Store: {store}" if store else "Nothing was ever written to this store: it has no name and no journal yet."


def _journal(backup: Path, store: str | None) -> Path | None:
    """That of the same store, beside the backup."""
    from lamina.store.forgotten import journal_of

    beside = journal_of(backup.absolute().parent, store) if store else None
    return beside if beside is not None and beside.is_file() else None


def _unreadable(journal: Path, store: str) -> list[str]:
    from lamina.store.forgotten import read

    try:
        read(str(journal), store)
    except LaminaError as error:
        return [str(error)]
    return []


def _place(session: Session) -> str:
    from lamina.store.address import is_server

    place = str(session.settings().database_path)
    if is_server(place):
        from lamina._optional import require

        for package in ("psycopg", "psycopg_pool"):
            require(package, "backups of PostgreSQL")
    elif not Path(place).expanduser().is_file():
        raise NotFound(f"{place!r}: there is no such database. Check --db, or LAMINA_DATABASE")
    return place


backup = typer.Typer(help="Copies of everything, and stores made of them without what was forgotten since.",
                     no_args_is_help=True)  # fmt: skip
backup.command("create")(create)
backup.command("journal")(journal)
backup.command("verify")(verify)
backup.command("restore")(restore)
