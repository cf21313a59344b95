"""Memories as plain dictionaries, in mem0's shape: what ``Memory``, the command line and HTTP hand out."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from lamina.cube.cube import MemCube
from lamina.store.base import Event, Store
from lamina.text.base import Hit, Outcome

# How the log's actions are called in a memory's history (mem0 knows ADD, UPDATE and DELETE).
_HISTORY_EVENT = {
    "add": "ADD",
    "update": "UPDATE",
    "augment": "UPDATE",
    "noop": "UPDATE",
    "evolve": "UPDATE",
    "restore": "UPDATE",
    "supersede": "DELETE",
    "close": "DELETE",
    "delete": "DELETE",
}


def iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def memory_dict(cube: MemCube) -> dict[str, Any]:
    """One memory. ``created_at`` is when it was first said, ``updated_at`` when its text last changed."""
    header = cube.header
    row: dict[str, Any] = {
        "id": cube.id,
        "memory": cube.text,
        "hash": cube.sha256,
        "metadata": dict(header.metadata) or None,
        "created_at": iso(header.created),
        "updated_at": iso(header.recorded) if header.recorded != header.created else None,
        "semantic_type": header.semantic_type,
    }
    scope = header.scope
    row |= {
        key: value
        for key, value in (("user_id", scope.user), ("agent_id", scope.agent), ("run_id", scope.run))
        if value is not None
    }
    if header.utterance is not None:
        row |= {"actor_id": header.utterance.speaker, "role": header.utterance.role}
    if header.claim is not None:
        row["attributed_to"] = header.claim.subject
    for key in ("valid_from", "valid_to", "expires", "superseded"):
        if (moment := getattr(header, key)) is not None:
            row[key] = iso(moment)
    if header.superseded_by is not None:
        row["superseded_by"] = header.superseded_by
    return row


def hit_dict(hit: Hit, *, explain: bool = False) -> dict[str, Any]:
    """One search result: the memory, its score, and the verbatim turn it rests on."""
    row = memory_dict(hit.cube) | {"score": hit.score}
    if hit.superseded_by is not None:
        row["superseded_by"] = hit.superseded_by
    if hit.source is not None and hit.source.header.utterance is not None:
        said = hit.source.header.utterance
        row["source"] = {
            "id": hit.source.id,
            "text": hit.source.text,
            "speaker": said.speaker,
            "session": said.session,
            "timestamp": iso(hit.source.header.recorded),
        }
    if explain:
        row["score_details"] = dict(hit.parts)
    return row


def outcome_dict(outcome: Outcome) -> dict[str, Any]:
    """One line of ``add``'s answer: what was stored or changed, and the rule's reason."""
    cube = outcome.cube
    row: dict[str, Any] = {
        "id": cube.id,
        "memory": cube.text,
        "event": outcome.event,
        "semantic_type": cube.header.semantic_type,
        "reason": outcome.reason,
    }
    if outcome.previous is not None:
        row["previous_memory"] = outcome.previous.text
    if cube.header.utterance is not None:
        row |= {"actor_id": cube.header.utterance.speaker, "role": cube.header.utterance.role}
    return row


def history_dicts(store: Store, id: str) -> list[dict[str, Any]]:
    """Every change of one memory, oldest first, from the log and the versions it names."""
    texts = {cube.header.version: cube for cube in store.versions(id)}
    return [_history_row(event, texts) for event in store.events(cube=id) if event.action in _HISTORY_EVENT]


def _history_row(event: Event, versions: dict[int, MemCube]) -> dict[str, Any]:
    kind = _HISTORY_EVENT[event.action]
    current, previous = versions.get(event.version), versions.get(event.version - 1)
    old = current if kind == "DELETE" else previous
    return {
        "id": event.hash[:16],
        "memory_id": event.cube,
        "old_memory": old.text if old else None,
        "new_memory": current.text if current and kind != "DELETE" else None,
        "event": kind,
        "action": event.action,
        "actor": event.actor,
        "reason": event.reason,
        "created_at": iso(current.header.created) if current else iso(event.at),
        "updated_at": iso(event.at),
        "is_deleted": kind == "DELETE",
    } | _speaker(current, event)


def _speaker(cube: MemCube | None, event: Event) -> dict[str, Any]:
    """Who said it, from the memory itself: the log knows roles only."""
    said = cube.header.utterance if cube else None
    return {"actor_id": said.speaker if said else event.actor, "role": said.role if said else event.actor}
