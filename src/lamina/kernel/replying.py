"""Replying: one answer of the model, each memory in the cheapest form that suffices.

MemOS, arXiv 2507.03724, section 5.1. In the order of what a call pays for them: an adapter that knows all that was
found (nothing is read), the bundle of the scope (attached, not read), text (read, once). A bundle and an adapter never
serve together: keys and values made by the bare model are not those of the model that wears something.

What is found but is not in the bundle stands as quoted data in the message of the user, never in the system turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lamina.cube.cube import MemCube, Scope
from lamina.errors import InvalidInput, NotFound
from lamina.kernel.tiering.decisions import Tier
from lamina.kernel.tiering.tiers import Tiers
from lamina.llm.base import Message
from lamina.text.answering import QUOTES, quotes, render
from lamina.text.base import Hit

if TYPE_CHECKING:
    from lamina.activation.prefix import Bundle


@dataclass(frozen=True, slots=True)
class Used:
    """A memory that served an answer: which version, in which form."""

    id: str
    version: int
    tier: Tier


@dataclass(frozen=True, slots=True)
class Reply:
    """``first_token`` and ``seconds`` count from the call, search not included. ``read`` tokens were prefilled,
    ``reused`` were attached from a cache."""

    text: str
    used: tuple[Used, ...]
    first_token: float
    seconds: float
    read: int
    reused: int

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The forms that served, each once."""
        return tuple(dict.fromkeys(one.tier for one in self.used))


def reply(
    tiers: Tiers,
    messages: Sequence[Message],
    hits: Sequence[Hit],
    scope: Scope,
    *,
    at: datetime,
    may_read: Callable[[str], bool],
    counted: bool = True,
    max_tokens: int = 64,
    session: str = "",
) -> Reply:
    """Answer the last of ``messages``, which must be the user's. Raises ``InvalidInput``, ``LLMError``.

    A cache or an adapter serves only if ``may_read`` is true of every memory in it: it tells them all. A call that is
    not ``counted`` tells nothing of what forms are worth to the scope: it is of somebody who only named it.
    """
    question = _ending_with_user(messages)[-1]["content"]
    best = [quote.hit for quote in quotes(hits, question=question)]
    found = [hit.cube for hit in best]
    made = _adapted(tiers, messages, found, scope, may_read, max_tokens) if found else None
    if made is not None:
        used = [Used(cube.id, cube.header.version, Tier.PARAMETER) for cube in found]
    else:
        bundle = tiers.bundle(scope)
        if bundle and not all(may_read(member.id) for member in bundle.members):
            bundle = None
        ready = {member.id: member.version for member in bundle.members} if bundle else {}
        fresh = [hit for hit in best if hit.cube.id not in ready]
        used = [Used(id, version, Tier.ACTIVATION) for id, version in ready.items()]
        used += [Used(hit.cube.id, hit.cube.header.version, Tier.TEXT) for hit in fresh]
        made = _generate(tiers, _asked(messages, fresh, question, at), bundle, max_tokens)
    if counted and scope.run is None:  # in a run, text alone serves, and tells nothing of what forms are worth
        tiers.called(
            scope, found, [hit.cube for hit in hits if hit.cube.id not in {cube.id for cube in found}], session
        )
    return Reply(made.text, tuple(used), made.first_token, made.seconds, made.read, made.reused)


def plainly(tiers: Tiers, messages: Sequence[Message], *, max_tokens: int = 64) -> Reply:
    """Answer without any memory. Raises as ``reply`` does."""
    made = _generate(tiers, list(_ending_with_user(messages)), None, max_tokens)
    return Reply(made.text, (), made.first_token, made.seconds, made.read, made.reused)


def _ending_with_user(messages: Sequence[Message]) -> Sequence[Message]:
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise InvalidInput("messages must end with what the user says; pass at least one message of the user")
    return messages


def _adapted(
    tiers: Tiers,
    messages: Sequence[Message],
    found: Sequence[MemCube],
    scope: Scope,
    may_read: Callable[[str], bool],
    max_tokens: int,
) -> _Made | None:
    """The answer of the model that wears an adapter of all that was ``found``; ``None`` if there is none."""
    worn = tiers.adapter(scope, [cube.id for cube in found])
    if worn is None or not all(map(may_read, worn.parents)):
        return None
    try:
        return _generate(tiers, list(messages), None, max_tokens, names=[worn.name])
    except NotFound:  # another thread took it off since
        return None


def _asked(messages: Sequence[Message], fresh: Sequence[Hit], question: str, at: datetime) -> list[Message]:
    """The messages, with what was found as quoted data before the question."""
    block = render(fresh, at, question=question, limit=QUOTES) if fresh else ""
    if not block:
        return list(messages)
    return [*messages[:-1], {"role": "user", "content": f"{block}\n\nQuestion: {question}"}]


@dataclass(frozen=True, slots=True)
class _Made:
    text: str
    first_token: float
    seconds: float
    read: int
    reused: int


def _generate(
    tiers: Tiers,
    messages: list[Message],
    bundle: Bundle | None,
    max_tokens: int,
    *,
    names: Sequence[str] = (),
) -> _Made:
    lm = tiers.lm
    rest = bundle.rest(lm, messages) if bundle else lm.prompt(messages)
    reused = len(bundle.cube.ids) if bundle else 0
    if reused + len(rest) + max_tokens > lm.limit:
        raise InvalidInput(
            f"the prompt takes {reused + len(rest)} tokens and max_tokens={max_tokens}, over the {lm.limit} that "
            f"{lm.name} reads: shorten the messages, or demote some memories"
        )
    start = time.perf_counter()
    with tiers.migrator.adapters.using(names) if names else nullcontext():
        with lm.lock:  # not while another answer wears an adapter
            cache = bundle.cube.attach(lm) if bundle else None
        ids: list[int] = []
        first = 0.0
        for id in lm.steps(rest, max_tokens, cache=cache):
            first = first or time.perf_counter() - start
            ids.append(id)
    seconds = time.perf_counter() - start
    return _Made(lm.decode(ids).strip(), first or seconds, seconds, len(rest), reused)
