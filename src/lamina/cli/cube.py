"""``lamina cube``: look into memories, compare, merge and write them out, one ``.cube`` file each.

A memory is named by its id, by ``ID@VERSION``, or by the path of a ``.cube`` file, which needs no database.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.cube.cube import MemCube
    from lamina.kernel.governing.guarded import Guarded

_TENSORS = 12  # lines of a listing; --json has all
Named = Annotated[str, typer.Argument(metavar="ID", help="An id, ID@VERSION, or the path of a .cube file.")]
Other = Annotated[str, typer.Argument(metavar="ID", help="What to compare with, named alike.")]


@command(STORE)
def inspect(session: Session, name: Named) -> None:
    """Show a memory as it is kept: header, content or tensors with shapes and bytes, and the model they belong to."""
    result = _described(_load(session, name))
    output.emit(session.json, result, lambda screen: _show(screen, result))


@command(STORE)
def diff(session: Session, a: Named, b: Other) -> None:
    """Show how one memory, version or .cube file differs from another: header, text line by line, tensors."""
    from lamina.cube.merge import diff as compare

    found = compare(_load(session, a), _load(session, b))
    result = {"equal": not found, **dataclasses.asdict(found)}
    output.emit(session.json, result, lambda screen: _show_diff(screen, result))


@command(STORE)
def merge(
    session: Session,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Memories of one owner and one kind.")],
    reason: Annotated[str, typer.Option(help="Goes into the log.")] = "merged by hand",
) -> None:
    """Make one memory of several. They become merged: the new one names them, and they stay in history."""
    from lamina.cube.merge import fuse
    from lamina.kernel import lifecycle
    from lamina.kernel.governance import require
    from lamina.kernel.governing.guarded import Guarded

    if len(set(ids)) < 2:
        raise InvalidInput(f"ID: merging takes at least two different memories, got {len(set(ids))}")
    with session.memos() as system:
        parents = [_stored(Guarded(system.store, system.principal), id) for id in ids]
        for parent in parents:
            require(system.principal, "write", parent)
        made = fuse(parents)
        vector = system.memory.embedder.encode([made.text])[0] if made.header.kind == "text" else None
        lifecycle.merge(system.store, made, vector, actor=system.principal, reason=reason)
    result = _described(made)
    output.emit(session.json, result, lambda screen: _show(screen, result))


@command(STORE)
def export(
    session: Session,
    id: Annotated[str, typer.Argument(metavar="ID", help="A memory, or ID@VERSION.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, .cube by custom.")],
) -> None:
    """Write one memory to a .cube file, exact to the bit; forgetting the memory removes the file, too."""
    from lamina.cube import file as cube_file
    from lamina.kernel.governance import require
    from lamina.kernel.governing import exports
    from lamina.kernel.governing.guarded import Guarded

    if file.exists():
        raise InvalidInput(f"FILE {str(file)!r} exists: name a new file, an export never overwrites.")
    with session.memos() as system:
        cube = _stored(Guarded(system.store, system.principal), id)
        require(system.principal, "export", cube)
        path = getattr(system.store, "path", None)
        if path is not None:  # registered first, so that a file left by a crash is known too
            exports.beside(path).add(file, [cube.id])
        cube_file.write(cube, file)
    size = file.stat().st_size
    result = {"file": str(file), "id": cube.id, "version": cube.header.version, "bytes": size}
    told = f"Wrote version {cube.header.version} of {cube.id} to {file} ({written(size)})."
    output.emit(session.json, result, lambda screen: screen.print(output.styled(told), soft_wrap=True))


def _load(session: Session, name: str) -> MemCube:
    """The cube in the file of that name, or the memory of that id."""
    from lamina.cube import file as cube_file
    from lamina.kernel.governing.guarded import Guarded

    if Path(name).suffix == ".cube" or Path(name).is_file():
        return cube_file.read(name)
    with session.memos() as system:
        return _stored(Guarded(system.store, system.principal), name)


def _stored(guard: Guarded, name: str) -> MemCube:
    id, _, version = name.partition("@")
    if version and not (version.isascii() and version.isdigit()):
        raise InvalidInput(f"ID {name!r}: what follows the @ is the number of a version")
    cube = guard.get(id, version=int(version) if version else None)
    if cube is None:
        raise NotFound(f"ID {name!r}: no such memory, version or file. See: lamina list, lamina history")
    return cube


def _described(cube: MemCube) -> dict[str, Any]:
    from lamina.cube import header
    from lamina.cube.payload import TensorPayload

    told: dict[str, Any] = {"id": cube.id, "kind": cube.header.kind, "bytes": cube.nbytes, "sha256": cube.sha256}
    told["header"] = json.loads(header.to_json(cube.header))
    if isinstance(cube.payload, TensorPayload):
        told["fingerprint"] = dataclasses.asdict(cube.payload.fingerprint)
        told["tensors"] = [
            {"name": name, "dtype": view.dtype, "shape": list(view.shape), "bytes": view.nbytes}
            for name, view in cube.payload.tensors.items()
        ]
    else:
        told["text"] = cube.text
    return told


def _show(screen: Any, told: dict[str, Any]) -> None:
    from rich.table import Table

    screen.print(output.styled(f"{told['kind']} {told['id']}, {written(told['bytes'])}", "bold"))
    screen.print(output.styled(f"sha256 {told['sha256']}", "dim"), soft_wrap=True)
    _lines(screen, told["header"])
    if "text" in told:
        screen.print(output.styled(told["text"], "green"))
        return
    screen.print(output.styled("belongs to the model", "bold"))
    _lines(screen, told["fingerprint"])
    table = Table("tensor", "dtype", "shape", "bytes")
    for row in told["tensors"][:_TENSORS]:
        shape = " x ".join(map(str, row["shape"])) or "scalar"
        table.add_row(output.styled(row["name"]), row["dtype"], shape, written(row["bytes"]))
    screen.print(table)
    if (more := len(told["tensors"]) - _TENSORS) > 0:
        screen.print(f"and {more} tensors more; --json lists them all")


def _lines(screen: Any, values: dict[str, Any]) -> None:
    for name, value in values.items():
        if value in (None, "", [], {}) or name == "id":
            continue
        line = output.styled(f"  {name:<14} ", "dim")
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        screen.print(line.append_text(output.styled(shown)), soft_wrap=True)


def _show_diff(screen: Any, found: dict[str, Any]) -> None:
    if found["equal"]:
        screen.print("They are equal.")
    for part in ("header", "fingerprint"):
        for name, (old, new) in found[part].items():
            screen.print(output.styled(f"{name}: {old} -> {new}"), soft_wrap=True)
    for line in found["text"]:
        style = {"+": "green", "-": "red"}.get(line[:1], "dim")
        screen.print(output.styled(line, style), soft_wrap=True)
    for name in found["added"]:
        screen.print(output.styled(f"+ tensor {name}", "green"))
    for name in found["removed"]:
        screen.print(output.styled(f"- tensor {name}", "red"))
    for name, distance in found["changed"].items():
        screen.print(output.styled(f"~ tensor {name}: differs by up to {distance:g}", "yellow"))


cube = typer.Typer(help="Inspect, compare, merge and write out single memories.", no_args_is_help=True)
cube.command("inspect")(inspect)
cube.command("diff")(diff)
cube.command("merge")(merge)
cube.command("export")(export)
