"""``lamina backup``: copies of everything while others go on writing, and stores made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.store.forgotten import Request

_DATABASE = ("db", "json")
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the backups are; made when missing.")]
One = Annotated[Path, typer.Argument(metavar="BACKUP", help="One of them: FOLDER/2026-06-12T030000.417Z.")]


@command(_DATABASE)
def create(
    session: Session,
    folder: Folder,
    keep: Annotated[int | None, typer.Option(min=1, help="Remove all but so many of the newest.")] = None,
) -> None:
    """Copy all memories of all tenants, with history, tensors, keys and log, into a new folder; writers go on."""
    from lamina.store.backup import create as make

    made = make(_place(session), folder, keep=keep)
    result = {"backup": str(made.folder), "rows": made.rows, "bytes": made.bytes, "log_head": made.log_head}
    told = f"{made.folder}: {made.rows['cubes']} versions, {made.bytes:,} bytes, proved. Log: {made.log_head}"
    removed = [str(path) for path in made.removed]
    output.emit(session.json, {**result, "removed": removed}, lambda screen: screen.print(told, soft_wrap=True))


@command(_DATABASE)
def journal(session: Session, folder: Folder) -> None:
    """Note what was forgotten since (ids, no contents), so that no backup brings it back. Quick: run it each minute."""
    from lamina.store.backup import JOURNAL
    from lamina.store.forgotten import keep

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = keep(_place(session), folder / JOURNAL)
    result = {"journal": str(folder / JOURNAL), "new": new}
    output.emit(session.json, result, lambda screen: screen.print(f"{new} new requests in {folder / JOURNAL}"))


@command(PLAIN)
def verify(session: Session, backup: One) -> None:
    """Prove that a backup is as it was written; exit 1 and say where if it is not."""
    from lamina.store.backup import manifest
    from lamina.store.backup import verify as problems_of

    said, problems = manifest(backup), problems_of(backup)
    result = {"whole": not problems, "made": said["made"], "log_head": said["log"], "problems": problems}
    lines = problems or [f"{backup} is whole. Made {said['made']}; log: {said['log']}"]
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
) -> None:
    """Make a store of a backup, without what was forgotten and the keys revoked since; never over another store."""
    from lamina.store.address import is_server, without_password
    from lamina.store.restoring import restore as make

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
    """Of the journal beside the backup, and all that were named."""
    from lamina.store.backup import JOURNAL
    from lamina.store.forgotten import read

    beside = backup.absolute().parent / JOURNAL
    places = [*([str(beside)] if beside.is_file() else []), *newer]
    if not places:
        raise InvalidInput(
            f"there is no {JOURNAL} beside {backup}: what was forgotten after the backup was made would come back. "
            "Name a newer log with --forgotten (a journal, an audit export, the old database), or say --as-it-was"
        )
    return [request for place in places for request in read(place)]


def _place(session: Session) -> str:
    from lamina.store.address import is_server

    place = str(session.settings().database_path)
    if is_server(place):
        from lamina._optional import require

        for package in ("psycopg", "psycopg_pool"):
            require(package, "backups of PostgreSQL")
    return place


backup = typer.Typer(help="Copies of everything, and stores made of them without what was forgotten since.",
                     no_args_is_help=True)  # fmt: skip
backup.command("create")(create)
backup.command("journal")(journal)
backup.command("verify")(verify)
backup.command("restore")(restore)
