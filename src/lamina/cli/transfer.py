"""``lamina import`` and ``lamina export``: conversations and memories from files, and back into one.

A file is stored chunk by chunk, each whole or not at all; what is there already is skipped, so an import
that stopped is continued by running it again.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.memory import Memory
    from lamina.text.exchange import Counts

CHUNK = 256  # memories or messages in one transaction


class Format(StrEnum):
    AUTO = "auto"
    JSONL = "jsonl"
    MEM0 = "mem0"
    CHAT = "chat"


@command(OWNER)
def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(help="A file; - reads the standard input.")],
    format: Annotated[Format, typer.Option(help="jsonl is Lamina's own; chat: messages.")] = Format.AUTO,
) -> None:
    """Read memories or conversations from a file: Lamina's export, mem0's, or a chat log (also ChatGPT's)."""
    from lamina.text import exchange

    text = _read(file)
    kind = exchange.detect(text) if format is Format.AUTO else format.value
    with session.memory(new=True) as memory:
        if kind == "chat":
            counts = _import_chat(session, memory, text, _date_of(file))
        else:
            counts = _import_cubes(session, memory, text, kind)
    result = {"format": str(kind), "stored": counts.stored, "skipped": counts.skipped}
    message = f"Stored {counts.stored}, skipped {counts.skipped} that were there already."
    output.emit(session.json, result, lambda screen: screen.print(message))


def _import_cubes(session: Session, memory: Memory, text: str, kind: str) -> Counts:
    from lamina.text import exchange

    scope = session.scope()
    read = exchange.read_jsonl(text.split("\n")) if kind == "jsonl" else exchange.read_mem0(text, scope)
    cubes = (
        exchange.rescope(cube, scope.tenant, user=session.user, agent=session.agent, run=session.run) for cube in read
    )
    total = exchange.Counts()
    with _progress(session, "memories") as advance:
        try:
            while chunk := list(itertools.islice(cubes, CHUNK)):
                total += exchange.write_records(memory.store, memory.embedder, chunk, scope.tenant)
                advance(len(chunk))
        except InvalidInput as error:
            done = f"Stored before it: {total.stored}; run the import again to go on."
            raise InvalidInput(f"{error} {done}", code=error.code) from error
    return total


def _import_chat(session: Session, memory: Memory, text: str, written: datetime) -> Counts:
    from lamina.text import chat_logs, exchange

    ids = session.ids()
    said = chat_logs.read_chat(text, default=written, user=ids["user_id"], agent=ids.get("agent_id"))
    known = chat_logs.known_turns(memory.store, session.scope())
    total = exchange.Counts(skipped=len(said))
    with _progress(session, "messages") as advance:
        for group in chat_logs.sessions((item for item in said if item.fingerprint not in known), longest=CHUNK):
            memory.add_batch([{"messages": [item.message() for item in group], **ids}])
            total += exchange.Counts(len(group), -len(group))
            advance(len(group))
    return total


@command(OWNER)
def export(
    session: Session,
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to; - is the standard output.")],
    history: Annotated[bool, typer.Option("--history", help="Also old versions and ended memories.")] = False,
) -> None:
    """Write memories to a file, one JSON object a line; import reads it back without loss."""
    from lamina.text import exchange

    count = 0
    with session.memory() as memory:
        lines = exchange.export_lines(memory.store, session.scope(), history=history)
        if str(file) == "-":
            for line in lines:
                sys.stdout.write(line + "\n")
            return
        with _replacing(file) as out, _progress(session, "memories") as advance:
            for count, line in enumerate(lines, 1):  # noqa: B007 - the last one counts
                out.write(line + "\n")
                advance(1)
    output.emit(
        session.json, {"exported": count, "file": str(file)}, lambda screen: screen.print(f"Wrote {count} to {file}.")
    )


def _read(file: Path) -> str:
    """The whole file as text; a byte order mark is dropped."""
    if str(file) != "-" and not file.is_file():
        raise typer.BadParameter(f"{file} is no file.")
    data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8: byte {error.start} cannot be read. Convert it first.") from error
    if not text.strip():
        raise InvalidInput(f"{file} is empty.")
    return text


def _date_of(file: Path) -> datetime:
    """When a log without times was written, as far as one can tell: the file's date, or now for a pipe."""
    return datetime.now(UTC) if str(file) == "-" else datetime.fromtimestamp(file.stat().st_mtime, UTC)


@contextmanager
def _replacing(file: Path) -> Iterator[TextIO]:
    """Write beside ``file`` and put it in place at the end: a broken export leaves the old file alone."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with beside.open("w", encoding="utf-8") as out:
            yield out
        beside.replace(file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _progress(session: Session, what: str) -> Iterator[Callable[[int], None]]:
    """A counter on stderr, where somebody looks at it."""
    screen = output.console(stderr=True)
    if session.json or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.completed} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda count: bar.advance(task, count)
