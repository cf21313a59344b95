"""How much is kept in each form: what ``lamina tiers`` and the dashboard show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lamina.cube.cube import Scope
from lamina.store.base import Store

FORMS: tuple[Literal["text", "activation", "parameter"], ...] = ("text", "activation", "parameter")


@dataclass(frozen=True, slots=True)
class Count:
    """``cubes`` of a form, their bytes, and how many different memories are in them."""

    tier: str
    cubes: int
    bytes: int
    memories: int


def census(store: Store, scope: Scope) -> list[Count]:
    """What is open in ``scope``, form by form; of texts and tensors nothing is read."""
    sizes = {size.kind: size for size in store.sizes(scope)}
    found = []
    for form in FORMS:
        size = sizes.get(form)
        cubes, held, parents = (size.cubes, size.bytes, size.parents) if size else (0, 0, 0)
        found.append(Count(form, cubes, held, cubes if form == "text" else parents))
    return found
