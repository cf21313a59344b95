"""Residents: the bundles of memories that stand ready in this process, one for each scope, within one byte budget.

MemOS, arXiv 2507.03724, section 5.1. A bundle is shared by calls of one scope alone: what users have in common is not
cached in common, because the time a prefix takes would tell one of them what the other remembers. Room is made before
anything is read, so resident bytes never exceed the budget, not even while a bundle is built.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

from lamina.activation.eligibility import layout
from lamina.activation.prefix import Bundle, Member, render, shadow
from lamina.cube.cube import Header, MemCube, Scope, State
from lamina.errors import BudgetError
from lamina.kernel.governance import Deny, Form, may_take
from lamina.kernel.lifecycle import Read, still_says
from lamina.llm.causal import CausalLM

SERVED = (State.GENERATED, State.ACTIVE, State.FROZEN)


def shared_scope(scope: Scope) -> Scope:
    """Whose forms serve ``scope``: those of its user and agent in all runs. A call within one run must not know of
    the others, so it is served by text alone."""
    return replace(scope, run=None)


def bundle_name(scope: Scope) -> str:
    """The bundle of a scope, as decisions and stats name it. Different users, agents or tenants differ in it, whatever
    characters their names have."""
    return "/".join("*" if part is None else quote(part, safe="") for part in (scope.tenant, scope.user, scope.agent))


def is_current(version: int, newest: MemCube | None, now: float, form: Form = "activation", *, read: Read) -> bool:
    """Whether a form made of ``version`` of a memory may still be served at ``now`` (seconds since 1970): the
    ``newest`` version, which may differ in its state, says the same, is in use, and may take the form."""
    if newest is None or refused(newest.header, form, now):
        return False
    return still_says(newest, version, read)


def refused(header: Header, form: Form, now: float) -> str:
    """Why a memory may not be served in a form at ``now``; empty if it may."""
    if header.state not in SERVED:
        return f"it is {header.state}"
    verdict = may_take(header, form, datetime.fromtimestamp(now, UTC))
    return verdict.reason if isinstance(verdict, Deny) else ""


class Residents:
    """Bundles by name. Thread-safe; a bundle handed out stays whole for whoever answers with it."""

    def __init__(self, lm: CausalLM, budget: int, *, read: Read) -> None:
        """``budget`` in bytes; ``read`` is ``Store.get``."""
        self._lm = lm
        self._read = read
        self._lock = threading.RLock()
        self._bundles: dict[str, Bundle] = {}
        self.budget = budget
        self._logits = 4 * int(lm.model.config.vocab_size)  # bytes kept beside the keys and values of a bundle
        self.prefilled = 0  # tokens read for bundles so far

    @property
    def nbytes(self) -> int:
        """Live bytes of all bundles."""
        with self._lock:
            return sum(self._bytes(bundle) for bundle in self._bundles.values())

    @property
    def room(self) -> int:
        """The budget for members: what is left beside what a bundle takes even without any."""
        frame = self._logits + layout(self._lm).bytes_per_token * len(render(self._lm, []))
        with self._lock:
            return max(0, self.budget - frame * max(1, len(self._bundles)))

    def get(self, name: str) -> Bundle | None:
        """The bundle as it is; whether it may be served is for ``valid`` to say."""
        with self._lock:
            return self._bundles.get(name)

    def members(self, name: str) -> tuple[Member, ...]:
        bundle = self.get(name)
        return bundle.members if bundle else ()

    def all(self) -> Mapping[str, tuple[Member, ...]]:
        with self._lock:
            return {name: bundle.members for name, bundle in self._bundles.items()}

    def valid(self, name: str, now: float) -> tuple[Bundle | None, list[str]]:
        """The bundle, if every member may be served at ``now`` (seconds since 1970) and the model is its own; and the
        members that may not. The comparison is made at every call, whatever events did or did not arrive."""
        bundle = self.get(name)
        if bundle is None:
            return None, []
        stale = [
            member.id
            for member in bundle.members
            if not is_current(member.version, self._read(member.id), now, read=self._read)
        ]
        if stale:
            return None, stale
        with self._lm.lock:  # not in the middle of an answer that wears an adapter
            return (bundle if bundle.cube.fingerprint == self._lm.fingerprint else None), []

    def revise(self, name: str, *, drop: Sequence[str] = (), add: Sequence[Member] = ()) -> int:
        """Change a bundle at one reading; the tokens read for it. Raises ``BudgetError``, and changes nothing then."""
        if not drop and not add:
            return 0
        with self._lock:
            old = self._bundles.get(name)
            if old is not None and {member.id for member in old.members} <= set(drop) and not add:
                del self._bundles[name]
                return 0
            planned = shadow(self._lm, old, drop=drop, add=add)
            replaced = self._bytes(old) if old else 0
            needed = self.nbytes - replaced + planned.nbytes + self._logits
            if needed > self.budget:
                raise BudgetError(
                    f"bundle {name!r} would take {planned.nbytes} bytes, all together {needed}, over the budget of"
                    f" {self.budget}: demote something, or raise the budget"
                )
            if old is not None and needed + replaced > self.budget:
                # While the new one is built the old one is still there: no room for both, so it is read anew.
                del self._bundles[name]
                old = None
            made = old.revise(self._lm, drop=drop, add=add) if old else Bundle.build(self._lm, planned.members)
            self._bundles[name] = made
            read = made.prefilled - (old.prefilled if old else 0)
            self.prefilled += read
            return read

    def adopt(self, name: str, bundle: Bundle) -> bool:
        """Take up a bundle that was kept elsewhere; whether there was room, and none by that name."""
        with self._lock:
            if name in self._bundles or self.nbytes + self._bytes(bundle) > self.budget:
                return False
            self._bundles[name] = bundle
            return True

    def clear(self, name: str | None = None) -> None:
        """Let go of one bundle, or of all."""
        with self._lock:
            if name is None:
                self._bundles.clear()
            else:
                self._bundles.pop(name, None)

    def forget(self, ids: Sequence[str]) -> list[str]:
        """Drop every bundle that holds one of ``ids``; their names. What is left is read again when asked for."""
        gone = set(ids)
        with self._lock:
            held = [name for name, one in self._bundles.items() if any(member.id in gone for member in one.members)]
            for name in held:
                del self._bundles[name]
            return held

    def _bytes(self, bundle: Bundle) -> int:
        return bundle.nbytes + self._logits
