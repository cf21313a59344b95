"""A request that is sent twice is written once: the ids of its turns follow from an idempotency key.

A client that got no answer cannot know whether its words were stored. Sending them again under the same key either
writes them or answers what is already there; the check and the write are one transaction, because an id can be
inserted once only. This holds across threads, processes and crashes, and needs no record beside the memories.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lamina.errors import Conflict
from lamina.store.base import Store
from lamina.text.base import Outcome
from lamina.text.ingestion import KEPT, Batch, turn_id

_Writer = Callable[[Sequence[Batch]], list[list[Outcome]]]


def write_once(store: Store, write: _Writer, batches: Sequence[Batch]) -> list[list[Outcome]]:
    """Outcomes per batch: of writing it, or of its first writing. Raises ``Conflict`` for a key with other words."""
    known = [earlier(store, batch) for batch in batches]
    new = [batch for batch, found in zip(batches, known, strict=True) if found is None]
    try:
        written = iter(write(new) if new else [])
    except Conflict:
        if all(earlier(store, batch) is None for batch in new):
            raise
        return write_once(store, write, batches)  # another process was faster
    return [next(written) if found is None else found for found in known]


def earlier(store: Store, batch: Batch) -> list[Outcome] | None:
    """What is left of the first writing under this key; ``None`` if there was none."""
    if batch.key is None or not batch.turns:
        return None
    kept = [store.get(turn_id(batch, place)) for place in range(len(batch.turns) + 1)]
    if kept[0] is None:
        return None
    turns = [cube for cube in kept[:-1] if cube is not None]
    said = [store.get(cube.id, version=1) or cube for cube in turns]  # they may have been corrected since
    if kept[-1] is not None or [cube.text for cube in said] != [turn.text for turn in batch.turns]:
        raise Conflict("this idempotency_key came with other messages before; use a new one for each request")
    outcomes = [Outcome("ADD", cube, KEPT) for cube in turns]
    seen = dict.fromkeys(id for cube in turns for id in store.derived(cube.id))
    facts = [fact for id in seen if (fact := store.get(id)) is not None and fact.header.kind == "text"]
    return outcomes + [Outcome("ADD", fact, "written before, under the same key") for fact in facts]
