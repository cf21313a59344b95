"""Random readings through every verb of ``MemOS``, for users of two tenants: does anyone get what is another's?"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import ClassVar

from lamina.cube.cube import Scope, now
from lamina.errors import LaminaError, NotPermitted
from lamina.kernel.governance import Principal
from lamina.kernel.memos import MemOS
from lamina.kernel.pipelines.pipeline import Pipeline
from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.pipelines.steps import Retrieve

_QUESTION = "What does Ilvane keep?"

Reading = Callable[[MemOS, str, str], list[Scope]]


def leaks(system: MemOS, seed: int, accesses: int) -> int:
    """Of random readings through all verbs, for users of two tenants: how many gave what is another's."""
    ids = [cube.id for user in ("ann", "cleo", "dan") for cube in system.store.query(Scope(user=user)).cubes]
    doors = [
        MemOS(system.memory, model=system.tiers.lm, principal=Principal(tenant, user, roles=roles))
        for tenant, roles in (("default", frozenset[str]()), ("elsewhere", frozenset({"admin"})))
        for user in ("ann", "cleo", "dan", "eve")
    ]
    rng, found = random.Random(seed), 0
    for _ in range(accesses):
        door, id, owner = rng.choice(doors), rng.choice(ids), rng.choice(("ann", "cleo", "dan"))
        who = door.principal
        for scope in rng.choice(_READINGS)(door, id, owner):
            found += (scope.tenant, scope.user) != (who.tenant, who.user)
    return found


def _by_id(read: Callable[[MemOS, str], object]) -> Reading:
    """A verb that takes an id: whose memory it gave away, if it answered at all."""

    def reading(door: MemOS, id: str, owner: str) -> list[Scope]:  # noqa: ARG001 - as the others
        try:
            answered = read(door, id)
        except LaminaError:
            return []
        cube = door.store.get(id)
        return [cube.header.scope] if answered and cube is not None else []

    return reading


def _recalled(door: MemOS, id: str, owner: str) -> list[Scope]:  # noqa: ARG001
    return [hit.cube.header.scope for hit in door.recall(_QUESTION, user_id=owner)]


def _piped(door: MemOS, id: str, owner: str) -> list[Scope]:  # noqa: ARG001
    seen = _Seen()
    with suppress(NotPermitted):
        door.run(Pipeline([Retrieve(query=_QUESTION), seen]), user_id=owner)
    return seen.scopes


@dataclass(frozen=True, slots=True)
class _Seen:
    """A step that looks at what the steps before it left."""

    name: ClassVar[str] = "seen"
    scopes: list[Scope] = field(default_factory=list)

    def run(self, context: PipelineContext) -> str:
        self.scopes.extend(hit.cube.header.scope for hit in context.hits)
        return ""


_READINGS: tuple[Reading, ...] = (
    _by_id(lambda door, id: door.scope_of(id)),
    _by_id(lambda door, id: door.log(id)),
    _by_id(lambda door, id: door.explain(id)),
    _by_id(lambda door, id: door.as_of(id, now())),
    _recalled,
    _piped,
)
