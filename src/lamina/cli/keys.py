"""``lamina keys``: who may use ``lamina serve``, for which tenant, and for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import STORE, Session, command

if TYPE_CHECKING:
    from lamina.server.keys import KeyRing


@command(STORE)
def create(
    session: Session,
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    rights: Annotated[list[str] | None, typer.Option("--right", help="read, write, forget, admin.")] = None,
    only: Annotated[str | None, typer.Option(help="The only user whose memories it reaches.")] = None,
    days: Annotated[float | None, typer.Option(min=0.001, help="Until it expires.")] = None,
) -> None:
    """Make a key for a tenant (--tenant) and print its token: once, it is not kept."""
    from lamina.cube.cube import now
    from lamina.server.routes.keys import key_dict

    with _ring(session, new=True) as ring:
        expires = now() + timedelta(days=days) if days is not None else None
        key, token = ring.create(
            name, session.settings().tenant, rights or ("read", "write"), user=only, expires=expires
        )
    result = {**key_dict(key), "token": token}
    told = f"Key {key.id} of tenant {key.tenant}: {', '.join(sorted(key.rights))}. Its token is not shown again."
    output.emit(session.json, result, lambda screen: _show_token(screen, token, told))


@command(STORE)
def list_(session: Session) -> None:
    """List keys, oldest first; never their tokens."""
    from lamina.server.routes.keys import key_dict

    with _ring(session) as ring:
        rows = [key_dict(key) for key in ring.list()]
    output.emit(session.json, {"keys": rows}, lambda screen: _show(screen, rows))


@command(STORE)
def revoke(session: Session, id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """From the next request on, the key proves nothing."""
    from lamina.server.routes.keys import key_dict

    with _ring(session) as ring:
        result = key_dict(ring.revoke(id))
    output.emit(session.json, result, lambda screen: screen.print(f"Key {id} is revoked."))


@contextmanager
def _ring(session: Session, *, new: bool = False) -> Iterator[KeyRing]:
    from lamina._optional import require

    require("fastapi", "lamina keys")
    from lamina.server.keys import KeyRing

    with session.memory(new=new) as memory:
        yield KeyRing(memory.store)


def _show_token(screen: Any, token: str, told: str) -> None:
    screen.print(token, soft_wrap=True)
    screen.print(output.styled(told, "dim"))


def _show(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Column, Table

    if not rows:
        screen.print("There are no keys. lamina keys create makes one.")
        return
    name, tenant, only = (Column(head, overflow="fold") for head in ("name", "tenant", "only"))
    made_at, state = Column("made", no_wrap=True), Column("state", min_width=10)
    table = Table(Column("id", no_wrap=True), name, tenant, "rights", only, made_at, state, box=SIMPLE_HEAD)
    for row in rows:
        rights, made = ", ".join(row["rights"]), row["created"][:10]
        cells = (row["id"], row["name"], row["tenant"], rights, row["user"] or "", made, _state(row))
        table.add_row(*map(output.styled, cells))
    screen.print(table)


def _state(row: dict[str, Any]) -> str:
    from lamina.cube.cube import now

    if row["revoked"]:
        return "revoked"
    if not row["expires"]:
        return "valid"
    ended = datetime.fromisoformat(row["expires"]) <= now()
    return f"{'expired' if ended else 'until'} {row['expires'][:10]}"


keys = typer.Typer(help="Keys for lamina serve: who may ask, for which tenant, for what.", no_args_is_help=True)
keys.command("create")(create)
keys.command("list")(list_)
keys.command("revoke")(revoke)
