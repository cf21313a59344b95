"""``lamina promote`` and ``demote``: move memories between text, caches and adapters by hand."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import STORE, Session, command

if TYPE_CHECKING:
    from lamina.kernel.memos import MemOS

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Memories of one owner, by id.")]


class Form(StrEnum):
    """What a memory can become."""

    ACTIVATION = "activation"
    PARAMETER = "parameter"


@command(STORE)
def promote(
    session: Session,
    ids: Ids,
    to: Annotated[Form, typer.Option(help="A cache that is attached, or an adapter that is worn.")] = Form.ACTIVATION,
) -> None:
    """Make memories ready: a cache the model need not read, or an adapter that knows them."""
    with session.memos() as system:
        migration = system.promote(ids, to.value)
        rows = _kept(system, ids)
    result: dict[str, Any] = {"memories": rows, "accepted": migration is None or migration.cube is not None}
    if migration is not None:
        result |= {"reason": migration.reason, **migration.figures}
    output.emit(session.json, result, lambda screen: _show(screen, result))
    if not result["accepted"]:
        raise typer.Exit(1)


@command(STORE)
def demote(session: Session, ids: Ids) -> None:
    """Back to text alone. Nothing is lost: caches and adapters are made of it."""
    with session.memos() as system:
        system.demote(ids)
        rows = _kept(system, ids)
    output.emit(session.json, {"memories": rows}, lambda screen: _show(screen, {"memories": rows}))


def _kept(system: MemOS, ids: list[str]) -> list[dict[str, Any]]:
    """Keep the bundles that changed for the next process; where each memory is now."""
    scopes = {cube.header.scope for id in ids if (cube := system.store.get(id)) is not None}
    for scope in scopes:
        system.tiers.save(scope)
    return [{"id": id, "tier": str(system.explain(id).tier)} for id in dict.fromkeys(ids)]


def _show(screen: Any, result: dict[str, Any]) -> None:
    for row in result["memories"]:
        screen.print(output.styled(f"{row['tier']:<12} {row['id']}"))
    if "fidelity" in result:
        verdict = "accepted" if result["accepted"] else f"refused: {result['reason']}"
        told = (
            f"{result['operation']}: {verdict}. Fidelity {result['fidelity']:.3f} (at least {result['threshold']:g}), "
            f"{written(result['nbytes'])}, {result['seconds']:.1f} s"
        )
        screen.print(output.styled(told, "green" if result["accepted"] else "yellow"), soft_wrap=True)
