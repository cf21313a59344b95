"""What the SQL of a checked filter has in common in every dialect: how conditions are joined and negated."""

from __future__ import annotations

from collections.abc import Callable

from lamina.store.filters import Condition, Node
from lamina.store.reading import Fragment


def combined(node: Node, condition: Callable[[Condition], Fragment]) -> Fragment:
    """The SQL of ``node``, whose conditions a dialect writes as it can: each is true or false, never NULL, so that NOT
    means what it says."""
    if isinstance(node, Condition):
        return condition(node)
    joined, parameters = join(
        " AND " if node.logic == "and" else " OR ", [combined(part, condition) for part in node.parts]
    )
    return (f"NOT {joined}", parameters) if node.logic == "not" else (joined, parameters)


def join(glue: str, parts: list[Fragment]) -> Fragment:
    return "(" + glue.join(sql for sql, _ in parts) + ")", [p for _, parameters in parts for p in parameters]
