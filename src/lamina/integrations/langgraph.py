"""``LaminaStore``: LangGraph's long-term memory (``BaseStore``) in a Lamina memory, of this process or behind HTTP.

    from lamina import Memory
    from lamina.integrations.langgraph import LaminaStore

    graph = builder.compile(store=LaminaStore(Memory("agents.db")))

An item is one memory (``items``): ``put`` writes its next version, so the old values stay in ``Memory.history``;
``delete`` takes it out of use, or erases it (``on_delete="forget"``). Search by meaning is Lamina's, over the text of
an item. What is unusual: items belong to an owner as all memories do, and with ``user_at`` to the user whose id is a
label of the namespace, so that what is done with all memories of a user is done with the items, too.

Two processes that put a new key at the same moment write two memories; the newer one counts, and the next ``put`` or
``delete`` takes the other one away.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from lamina._optional import require
from lamina.client import Client
from lamina.errors import Conflict, InvalidInput, NotFound
from lamina.integrations import items, matching
from lamina.integrations.items import Entry, Namespace
from lamina.integrations.verbs import Verbs
from lamina.text import arguments

require("langgraph.store.base", "lamina.integrations.langgraph")
from langgraph.store.base import (  # noqa: E402 - after the check that says what to install
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
)

if TYPE_CHECKING:
    from lamina.memory import Memory

_PAGE = 10_000  # memories in one answer; a collection that fits is read in one piece
_TRIES = 5  # of a put whose memory somebody else changes at the same time


class LaminaStore(BaseStore):
    """Thread-safe. The owner of all items is given by ``user_id``, ``agent_id`` or both (default: the agent
    ``"langgraph"``); a store of one owner never reads another's. With a service's key of one user, ``user_id`` is that.

    ``user_at`` is the place of the label that names the user: 1 in ``("memories", "alice")``. ``fields`` are the paths
    that are searched by meaning (``["text", "notes[*].body"]``); default: ``text`` if that is a string, else the whole
    value. ``on_delete``: "delete" keeps the history, "forget" erases. Raises ``InvalidInput``.
    """

    def __init__(
        self,
        memory: Memory | Client,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        user_at: int | None = None,
        fields: Sequence[str] | None = None,
        on_delete: Literal["delete", "forget"] = "delete",
    ) -> None:
        if user_at is not None and (user_id is not None or user_at < 0):
            raise InvalidInput(f"user_at={user_at!r}: pass the place of a label, from 0, and no user_id")
        if on_delete not in ("delete", "forget"):
            raise InvalidInput(f"on_delete={on_delete!r}: use 'delete' or 'forget'")
        owner = {"user_id": user_id, "agent_id": agent_id or (None if user_id else "langgraph")}
        checked = ((name, arguments.identity(name, id)) for name, id in owner.items())
        self._memory: Verbs = memory
        self._owner = {name: id for name, id in checked if id is not None}
        unnamed = [{name: "*"} for name in owner if name not in self._owner]
        self._others = {"NOT": unnamed} if unnamed and user_at is None else {}  # owners are met exactly
        self._user_at, self._fields, self._on_delete = user_at, fields, on_delete
        self._keyed = isinstance(memory, Client)  # whether its key might add a user to what is written
        self._lock = threading.Lock()

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        """Reads see what was there before the call; of several puts of one key the last counts."""
        results: list[Result] = []
        puts: dict[tuple[Namespace, str], PutOp] = {}
        for op in ops:
            if isinstance(op, PutOp):
                puts[(op.namespace, op.key)] = op
                results.append(None)
            else:
                results.append(self._read(op))
        for op in puts.values():
            self._put(op)
        return results

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        """``batch``, in a thread."""
        return await asyncio.to_thread(self.batch, list(ops))

    # -- reading ---------------------------------------------------------------------------------

    def _read(self, op: Op) -> Result:
        if isinstance(op, GetOp):
            found = self._find(op.namespace, op.key)
            return Item(**_item(found[0])) if found else None
        if isinstance(op, SearchOp):
            return self._search(op)
        if isinstance(op, ListNamespacesOp):
            return self._namespaces(op)
        raise InvalidInput(f"{type(op).__name__} is no operation of a store")

    def _find(self, namespace: Namespace, key: str) -> list[Entry]:
        """The memories of one key, newest first: one, but for a race."""
        where = {"run_id": items.run_of(namespace), f"{items.MARK}.key": items.checked_key(key)}
        rows = self._entries(namespace, where)
        return _newest_first(one for one in rows if one.key == key)

    def _search(self, op: SearchOp) -> list[SearchItem]:
        there: dict[tuple[Namespace, str], Entry] = {}
        for one in _newest_first(self._under(tuple(op.namespace_prefix))):
            there.setdefault((one.namespace, one.key), one)
        kept = [one for one in there.values() if matching.passes(one.value, op.filter)]
        scores = self._scores(op, there.values()) if kept and op.query and op.query.strip() else {}
        kept.sort(key=lambda one: scores.get(one.id, -math.inf), reverse=True)  # without a score: newest first
        page = kept[op.offset : op.offset + op.limit]
        return [SearchItem(**_item(one), score=scores.get(one.id)) for one in page]

    def _scores(self, op: SearchOp, there: Collection[Entry]) -> dict[str, float]:
        """By id, of as many items as may be on the page."""
        assert op.query is not None
        silent = {one.id for one in there if not one.indexed}
        wanted = len(there) if op.filter else op.offset + op.limit + len(silent)
        prefix = tuple(op.namespace_prefix)
        filters = {**self._owned(prefix), **self._others, **items.under(prefix)}
        top_k = min(max(1, wanted), _PAGE)
        hits = self._memory.search(op.query, filters=filters, top_k=top_k, threshold=0.0)["results"]
        return {hit["id"]: float(hit["score"]) for hit in hits if hit["id"] not in silent}

    def _namespaces(self, op: ListNamespacesOp) -> list[Namespace]:
        there = {one.namespace for one in self._under(())}
        for condition in op.match_conditions or ():
            there = {one for one in there if matching.fits(one, condition.match_type, condition.path)}
        cut = {one[: op.max_depth] for one in there}
        return sorted(cut)[op.offset : op.offset + op.limit]

    def _under(self, prefix: Namespace) -> Iterator[Entry]:
        found = self._entries(prefix, {**self._others, **items.under(prefix)})
        return (one for one in found if one.namespace[: len(prefix)] == prefix)

    def _entries(self, namespace: Namespace, where: Mapping[str, Any]) -> Iterator[Entry]:
        """Items of the owner alone, who may be none: a query without a user finds those of all."""
        filters, cursor = {**self._owned(namespace), **where}, None
        while True:
            page = self._memory.get_all(filters=filters, top_k=_PAGE, cursor=cursor)
            found = (items.entry(row) for row in page["results"])
            yield from (one for one in found if one is not None and self._owns(one))
            if (cursor := page["cursor"]) is None:
                return

    def _owned(self, namespace: Namespace) -> dict[str, str]:
        if self._user_at is None or len(namespace) <= self._user_at:
            return self._owner
        user = arguments.identity("user_id", namespace[self._user_at])
        return {**self._owner, "user_id": user} if user else self._owner

    def _owns(self, one: Entry) -> bool:
        try:
            return one.owner == self._owned(one.namespace)
        except InvalidInput:  # a label that names nobody: no put writes it
            return False

    # -- writing ---------------------------------------------------------------------------------

    def _put(self, op: PutOp) -> None:
        with self._lock:
            for left in reversed(range(_TRIES)):
                try:
                    return self._write(op) if op.value is not None else self._remove(self._find(op.namespace, op.key))
                except (Conflict, NotFound):  # it was changed or deleted since it was found
                    if not left:
                        raise

    def _write(self, op: PutOp) -> None:
        assert op.value is not None
        namespace, found = tuple(op.namespace), self._find(op.namespace, op.key)
        paths, updated = self._fields if op.index is None else op.index, datetime.now(UTC)
        text, metadata = items.written(op.key, namespace, op.value, paths, updated)
        if found:
            self._memory.update(found[0].id, text, metadata=metadata)
            return self._remove(found[1:])
        owner, run_id = self._owned(namespace), items.run_of(namespace)
        told = self._memory.add(text, **owner, run_id=run_id, metadata=metadata, timestamp=updated, infer=False)
        if self._keyed and "user_id" not in owner:
            self._check(told["results"][0]["id"])

    def _check(self, id: str) -> None:
        """That the item is found again: a key of one user adds that user to the owner of all it writes. Once is enough,
        since a client has one key. Raises ``InvalidInput``; then the item is gone."""
        row = self._memory.get(id)
        if row is not None and (user := row.get("user_id")) is not None:
            self._memory.delete(id)
            raise InvalidInput(f"user_id is missing: the key speaks for the user {user!r} alone; pass user_id={user!r}")
        self._keyed = False

    def _remove(self, found: Sequence[Entry]) -> None:
        for one in found:
            self._memory.forget(one.id) if self._on_delete == "forget" else self._memory.delete(one.id)


def _item(one: Entry) -> dict[str, Any]:
    return {
        "value": one.value,
        "key": one.key,
        "namespace": one.namespace,
        "created_at": one.created,
        "updated_at": one.updated,
    }


def _newest_first(found: Iterable[Entry]) -> list[Entry]:
    return sorted(found, key=lambda one: (one.updated, one.id), reverse=True)
