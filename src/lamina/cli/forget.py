"""``lamina forget``: erase memories for good, after showing which ones; ``--verify`` proves that they are gone.

The proof searches every file for the words and the vectors that went, and the store for rows, edges and whatever was
made of them. Words that another memory of the tenant says as well stay, and are no trace: they are counted apart. Those
of other tenants are theirs, and it is not told whether there are any.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.kernel.governing.traces import Report
    from lamina.memory import Memory
    from lamina.store.base import Store

_SHORTEST = 4  # characters: anything shorter is found everywhere


@command(OWNER)
def forget(
    session: Session,
    id: Annotated[str | None, typer.Argument(metavar="[ID]", help="The memory to erase.")] = None,
    about: Annotated[str | None, typer.Option(metavar="QUERY", help="Erase what a search for this finds.")] = None,
    count: Annotated[int, typer.Option("-k", min=1, help="With --about: the best how many.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[str, typer.Option(help="Goes into the log, which keeps no content.")] = "asked to forget",
    verify: Annotated[bool, typer.Option("--verify", help="Search all tiers for what is left; exit 1 if any.")] = False,
) -> None:
    """Erase memories, the words they came from and everything taken from those. There is no way back."""
    if (id is None) == (about is None):
        raise typer.BadParameter("give an ID, or --about QUERY.")
    with session.memory() as memory:
        rows = _chosen(session, memory, id, about, count)
        if not yes and not _confirmed(session, rows):
            raise InvalidInput("nothing was erased. Answer y, or pass --yes.", code="CANCELLED")
        store, ids = memory.store, [row["id"] for row in rows]
        needles = _needles(store, ids) if verify else {}
        gone = _erased(memory, ids, reason)
        proof = _proved(store, gone, needles, memory.settings.tenant) if verify else None
    result: dict[str, Any] = {"forgotten": gone, **({"verified": proof} if proof else {})}
    output.emit(session.json, result, lambda screen: _show(screen, result))
    if proof and proof["found"]:
        raise typer.Exit(1)


def _chosen(session: Session, memory: Memory, id: str | None, about: str | None, count: int) -> list[dict[str, Any]]:
    if about is not None:
        found = memory.search(about, top_k=count, filters=session.ids())["results"]
        if not found:
            raise NotFound(f"--about {about!r}: nothing found.")
        return list(found)
    row = memory.get(id or "")
    if row is None:
        raise NotFound(f"ID {id!r}: no such memory. See: lamina list")
    return [row]


def _confirmed(session: Session, rows: list[dict[str, Any]]) -> bool:
    """Show on stderr what would go, with its source, and ask."""
    screen = output.console(stderr=True)
    screen.print("To be erased, with the words they came from and all that was taken from those:")
    for row in rows:
        output.memory_line(screen, row)
        if (source := row.get("source")) and source["id"] != row["id"]:
            screen.print(output.styled(f'{"":<12} from: "{source["text"]}"', "dim"))
    if session.json and not sys.stdin.isatty():
        return False
    return typer.confirm("Erase?", err=True)


def _erased(memory: Memory, ids: list[str], reason: str) -> list[str]:
    """Erase, with the copies that this store has exported; every id that went."""
    from lamina.kernel.governing import exports

    gone: list[str] = []
    for id in ids:
        if id not in gone:
            gone += memory.forget(id, reason=reason)["forgotten"]
    path = getattr(memory.store, "path", None)
    cleared = exports.beside(path).clear(gone) if path is not None else None
    for file in cleared.removed if cleared else ():
        output.note(f"Removed {file}, which held a copy.")
    for file in cleared.unreached if cleared else ():
        output.note(f"Note: {file} held a copy and is out of reach: remove it where it is now.")
    return gone


def _needles(store: Store, ids: list[str]) -> dict[str, list[bytes]]:
    """Every text that is about to go, with the raw vectors of the memories that say it."""
    from lamina.kernel.forgetting import reach

    found: dict[str, list[bytes]] = {}
    for id in reach(store, ids):
        vector = store.vector(id)
        for cube in store.versions(id):
            if cube.header.kind == "text" and len(cube.text) >= _SHORTEST:
                found.setdefault(cube.text, []).extend([] if vector is None else [vector.tobytes()])
    return found


def _proved(store: Store, gone: list[str], needles: dict[str, list[bytes]], tenant: str) -> dict[str, Any]:
    from lamina.kernel.governing import exports
    from lamina.kernel.governing.traces import verify

    said = _remaining(store, tenant)
    own = [text for text in needles if text.casefold() not in said]
    vectors = list(dict.fromkeys(vector for text in own for vector in needles[text]))
    path = getattr(store, "path", None)
    copies = exports.beside(path) if path is not None else None
    report = verify(store, [*own, *vectors], gone, exports=copies, tenant=tenant)
    return _told(report) | {"texts": len(own), "vectors": len(vectors), "said_elsewhere": len(needles) - len(own)}


def _remaining(store: Store, tenant: str) -> str:
    """All text that is still remembered, old versions too, for looking up what is said twice."""
    from lamina.cube.cube import Scope

    texts, cursor = list[str](), None
    while True:
        page = store.query(Scope(tenant), {"kind": "text"}, closed=True, limit=500, cursor=cursor)
        texts += [version.text for cube in page.cubes for version in store.versions(cube.id)]
        if (cursor := page.cursor) is None:
            return "\n".join(texts).casefold()


def _told(report: Report) -> dict[str, Any]:
    found = [{"tier": one.tier, "where": one.where, "what": one.what} for one in report.traces]
    return {"searched": dict(report.searched), "found": found}


def _show(screen: Any, result: dict[str, Any]) -> None:
    from rich.table import Table

    from lamina.kernel.forgetting import LATER

    screen.print(f"Erased {len(result['forgotten'])} memories for good.")
    screen.print(output.styled(LATER, "dim"))
    if (proof := result.get("verified")) is None:
        return
    table = Table("tier", "searched", "found")
    for tier in dict.fromkeys([*proof["searched"], *(one["tier"] for one in proof["found"])]):
        amount = proof["searched"].get(tier, 0)
        here = sum(one["tier"] == tier for one in proof["found"])
        table.add_row(tier, f"{amount:,} {'entries' if tier == 'rows' else 'bytes'}", f"{here}")
    screen.print(table)
    screen.print(f"Looked for {proof['texts']} texts, {proof['vectors']} vectors, and everything made of them.")
    if proof["said_elsewhere"]:
        screen.print(f"{proof['said_elsewhere']} texts are said by other memories too, which stay.")
    for one in proof["found"]:
        screen.print(output.styled(f"{one['tier']}: {one['what']} in {one['where']}", "bold red"), soft_wrap=True)
