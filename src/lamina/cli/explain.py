"""``lamina explain``: which form a memory is used in, and why."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lamina.cli import output
from lamina.cli.command import STORE, Session, command
from lamina.cli.show import Id


@command(STORE)
def explain(session: Session, id: Id) -> None:
    """Say where a memory is (text, cache, adapter), how much it is used, and the reasons of its last moves."""
    with session.memos() as system:
        found = system.explain(id)
    result = asdict(found) | {"tier": str(found.tier)}
    output.emit(session.json, result, lambda screen: _show(screen, result))


def _show(screen: Any, result: dict[str, Any]) -> None:
    screen.print(output.styled(f"{result['id']} is {result['tier']}{', pinned' if result['pinned'] else ''}", "bold"))
    if result["text"]:
        screen.print(output.styled(result["text"]), soft_wrap=True)
    screen.print(f"heat {result['heat']:.2f}, in {result['share']:.0%} of calls, {result['uses']} uses in two weeks")
    for form in result["forms"]:
        screen.print(output.styled(f"made of it: {form}", "dim"))
    for sentence in result["decisions"] or ["no move yet"]:
        screen.print(output.styled(sentence), soft_wrap=True)
