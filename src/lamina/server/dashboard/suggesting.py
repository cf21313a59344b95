"""Suggesting: questions that what is remembered of a user can answer, made by rules, without a model.

A fact with an attribute ("Alice lives in Denver.") is asked for by it, in the first person where it is about the user;
a name that occurs is asked about; then the user as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from lamina.cube.cube import MemCube
from lamina.kernel.governance import check
from lamina.parameter.probes import probes
from lamina.server.caller import Caller
from lamina.store.base import Filter, Store
from lamina.text import arguments

MANY = 3
_LOOKED_AT = 60  # newest memories
_SAID: Filter = {"AND": [{"kind": "text"}, {"semantic_type": {"in": ["fact", "preference", "plan"]}}]}
_ABOUT_ALL = "What do you know about me?"


def questions(store: Store, caller: Caller, user: str) -> list[str]:
    """At most ``MANY``, none if nothing is remembered of ``user``."""
    scope = arguments.scope_of(caller.tenant, {"user_id": user})
    facts = [
        cube for cube in store.query(scope, _SAID, limit=_LOOKED_AT).cubes if check(caller.principal, "read", cube)
    ]
    if not facts and not store.query(scope, {"kind": "text"}, limit=1).cubes:
        return []
    return list(dict.fromkeys([*_of_attributes(facts, user), *_of_names(facts, user), _ABOUT_ALL]))[:MANY]


def _of_attributes(facts: list[MemCube], user: str) -> Iterator[str]:
    for cube in facts:
        claim = cube.header.claim
        if claim is None or claim.slot is None or not cube.text.strip():
            continue
        mine = claim.subject.casefold() == user.casefold()
        asked = probes([cube.text], [replace(claim, subject="User") if mine else claim]).train[0].question
        if asked.endswith("?"):  # else it has no attribute that can be asked for
            yield asked


def _of_names(facts: list[MemCube], user: str) -> Iterator[str]:
    for cube in facts:
        for name in cube.header.entities:
            if name.casefold() != user.casefold() and len(name) <= 40:
                yield f"What do you know about {name}?"
