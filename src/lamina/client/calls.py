"""Each call as a value: what is sent, whether it may be sent again, and of which type the answer is.

Names and parameters are those of ``Memory`` and ``MemOS``; ``Client`` and ``AsyncClient`` take them from here, so that
they cannot differ. What is ``None`` is not sent. A call is repeated only if that does nothing twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Generic, Literal, TypeVar

from lamina.errors import InvalidInput

Answer = dict[str, Any]
Messages = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]
Moment = str | date | datetime | int | float  # numbers are seconds since 1970
R = TypeVar("R")

_OWNER = ("user_id", "agent_id", "run_id")


@dataclass(frozen=True, slots=True)
class Request(Generic[R]):
    """``again``: it may be sent more than once. ``optional``: 404 means ``None``."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    optional: bool = False


# -- writing ------------------------------------------------------------------------------------------


def add(
    messages: Messages,
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    timestamp: Moment | None = None,
    expiration_date: Moment | None = None,
    infer: bool = True,
    idempotency_key: str | None = None,
    sensitivity: Sequence[str] = (),
) -> Request[Answer]:
    """Remember a message or a list of them: ``{"results": [{"id", "memory", "event", ...}]}``. Written once, however
    often it has to be sent."""
    body = {
        "messages": messages,
        "user_id": user_id,
        "agent_id": agent_id,
        "run_id": run_id,
        "metadata": metadata,
        "timestamp": _iso(timestamp),
        "expiration_date": _iso(expiration_date),
        "infer": infer,
        "sensitivity": list(sensitivity),
    }
    headers = {"Idempotency-Key": str(uuid.uuid4()) if idempotency_key is None else idempotency_key}
    return Request("POST", "/memories", _given(body), headers=headers, again=True)


def retry() -> Request[dict[str, int]]:
    """Read what waits for a language model that could not be reached: ``{"extracted": n, "waiting": m}``."""
    return Request("POST", "/memories/retry", again=True)


def update(
    memory_id: str,
    text: str | None = None,
    *,
    metadata: Mapping[str, Any] | None = None,
    expiration_date: Moment | Literal["unchanged"] | None = "unchanged",
) -> Request[Answer]:
    """The next version of a memory; the old one stays in ``history``. Sent once, since a repeat would make another."""
    body = _given({"text": text, "metadata": metadata})
    expiry = {} if expiration_date == "unchanged" else {"expiration_date": _iso(expiration_date)}
    return Request("PUT", _memory(memory_id), {**body, **expiry})


def delete(memory_id: str) -> Request[Answer]:
    """Out of use; the history stays."""
    return Request("DELETE", _memory(memory_id))


def forget(memory_id: str, *, reason: str = "asked to forget", legal_override: bool = False) -> Request[Answer]:
    """Erased everywhere: ``{"forgotten": ids}``. Needs the right "forget", and to erase what is frozen "admin"."""
    parameters = {"forget": True, "reason": reason, "legal_override": legal_override}
    return Request("DELETE", _memory(memory_id), parameters=parameters)


def restore(memory_id: str, *, version: int | None = None, reason: str = "") -> Request[Answer]:
    """A deletion or supersession taken back; with a ``version`` it says again what it said then."""
    return Request("POST", f"{_memory(memory_id)}/restore", _given({"version": version, "reason": reason or None}))


def accept(memory_id: str, text: str | None = None) -> Request[Answer]:
    """Believe a statement that was set aside, or ``text`` in its place."""
    return Request("POST", f"{_memory(memory_id)}/accept", _given({"text": text}))


def feedback(memory_id: str, good: bool, *, correction: str | None = None, reason: str = "") -> Request[Answer]:
    """A memory that was used is right, wrong (it is retracted), or wrong with a ``correction`` (its next version)."""
    body = {"good": good, "correction": correction, "reason": reason}
    return Request("POST", f"{_memory(memory_id)}/feedback", _given(body))


def delete_all(user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None) -> Request[Answer]:
    """Everything of an owner out of use: ``{"deleted": n}``."""
    return Request("DELETE", "/memories", parameters=_owner(user_id, agent_id, run_id), again=True)


def reset(confirm: str) -> Request[Answer]:
    """Erase everything of the tenant, whose name is ``confirm``: ``{"forgotten": [ids]}``. Nothing goes if some of it
    is frozen."""
    return Request("POST", "/reset", body={"confirm": confirm}, again=True)


# -- reading ------------------------------------------------------------------------------------------


def search(
    query: str,
    *,
    top_k: int = 20,
    filters: Mapping[str, Any] | None = None,
    threshold: float = 0.1,
    rerank: bool = False,
    explain: bool = False,
    reference_date: Moment | None = None,
    as_of: Moment | None = None,
) -> Request[Answer]:
    """The memories that answer ``query``, best first; ``filters`` holds the owner's ids and any conditions."""
    body = {
        "query": query,
        "top_k": top_k,
        "filters": dict(filters or {}),
        "threshold": threshold,
        "rerank": rerank,
        "explain": explain,
        "reference_date": _iso(reference_date),
        "as_of": _iso(as_of),
    }
    return Request("POST", "/search", _given(body), again=True)


def get(memory_id: str, *, as_of: Moment | None = None) -> Request[Answer | None]:
    """One memory, deleted or not, or ``None``; with ``as_of`` the version that was current then."""
    return Request("GET", _memory(memory_id), parameters=_given({"as_of": _iso(as_of)}), again=True, optional=True)


def get_all(
    *,
    filters: Mapping[str, Any] | None = None,
    top_k: int = 20,
    as_of: Moment | None = None,
    cursor: str | None = None,
) -> Request[Answer]:
    """Memories of an owner, newest first; ``cursor`` of one answer continues it in the next. ``filters`` are the
    owner's ids and any conditions."""
    owner = {name: value for name, value in (filters or {}).items() if name in _OWNER and isinstance(value, str)}
    rest = {name: value for name, value in (filters or {}).items() if name not in owner}
    parameters = owner | {"top_k": top_k, "as_of": _iso(as_of), "cursor": cursor, "filters": rest or None}
    return Request("GET", "/memories", parameters=_given(parameters), again=True)


def history(memory_id: str) -> Request[list[Answer]]:
    """Every change of a memory, oldest first."""
    return Request("GET", f"{_memory(memory_id)}/history", again=True)


def log(memory_id: str) -> Request[list[Answer]]:
    """The rows of the hash-chained log about a memory, oldest first."""
    return Request("GET", "/log", parameters={"memory_id": memory_id}, again=True)


def quarantined(
    *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
) -> Request[Answer]:
    """Statements that were set aside: ``accept`` or ``delete`` each."""
    return Request("GET", "/memories/quarantined", parameters=_owner(user_id, agent_id, run_id), again=True)


# -- the kernel ---------------------------------------------------------------------------------------


def chat(
    messages: str | Sequence[Mapping[str, str]],
    *,
    user_id: str | None = None,
    agent_id: str | None = None,
    run_id: str | None = None,
    memory: bool = True,
    k: int = 10,
    max_tokens: int = 64,
    session: str = "",
) -> Request[Answer]:
    """The answer of the service's local model, and which memories served it in which form."""
    said = messages if isinstance(messages, str) else list(messages)
    body = {"messages": said, "memory": memory, "k": k, "max_tokens": max_tokens, "session": session}
    return Request("POST", "/chat", {**body, **_owner(user_id, agent_id, run_id)})


def explain(memory_id: str) -> Request[Answer]:
    """In which form a memory is used, how hot it is, and the reasons of its last moves."""
    return Request("GET", f"{_memory(memory_id)}/explain", again=True)


def tiers(
    *, user_id: str | None = None, agent_id: str | None = None, run_id: str | None = None
) -> Request[list[Answer]]:
    """Memories and bytes in each form; without an owner, of the tenant."""
    return Request("GET", "/tiers", parameters=_owner(user_id, agent_id, run_id), again=True)


def promote(memory_ids: str | Sequence[str]) -> Request[list[Answer]]:
    """Hold memories ready as a cache; in which form each is now. An adapter takes minutes: ``learn_job``."""
    return Request("POST", "/tiers/move", {"ids": _ids(memory_ids), "to": "activation"})


def demote(memory_ids: str | Sequence[str]) -> Request[list[Answer]]:
    """Back to text; nothing is lost by it."""
    return Request("POST", "/tiers/move", {"ids": _ids(memory_ids), "to": "text"})


def archive(memory_id: str, *, reason: str = "") -> Request[Answer]:
    """Out of search, for later. Needs the right "admin", as do ``freeze`` and ``unfreeze``."""
    return Request("POST", f"{_memory(memory_id)}/archive", {"reason": reason})


def freeze(memory_id: str, *, reason: str = "") -> Request[Answer]:
    """Nothing may change it until ``unfreeze``."""
    return Request("POST", f"{_memory(memory_id)}/freeze", {"reason": reason})


def unfreeze(memory_id: str, *, reason: str = "") -> Request[Answer]:
    """It may be changed again."""
    return Request("POST", f"{_memory(memory_id)}/unfreeze", {"reason": reason})


# -- jobs ---------------------------------------------------------------------------------------------


def add_job(items: Sequence[Mapping[str, Any]], *, infer: bool = True) -> Request[Answer]:
    """Begin to remember many messages: items are dicts of ``add``'s arguments, each with its owner."""
    return Request("POST", "/jobs", {"kind": "add", "items": [dict(item) for item in items], "infer": infer})


def learn_job(memory_ids: Sequence[str]) -> Request[Answer]:
    """Begin to teach an adapter these memories, all of one owner."""
    return Request("POST", "/jobs", {"kind": "learn", "ids": _ids(memory_ids)})


def job(job_id: str) -> Request[Answer]:
    """How a job stands: ``state``, ``progress`` in [0, 1], and in the end its ``result`` or ``error``."""
    return Request("GET", f"/jobs/{_part('job_id', job_id)}", again=True)


def cancel_job(job_id: str) -> Request[Answer]:
    """It ends at its next report; what it committed stays."""
    return Request("DELETE", f"/jobs/{_part('job_id', job_id)}", again=True)


# -- keys ---------------------------------------------------------------------------------------------


def create_key(
    name: str,
    *,
    rights: Sequence[Literal["read", "write", "forget", "admin"]] = ("read", "write"),
    user: str | None = None,
    expires: Moment | None = None,
) -> Request[Answer]:
    """A key of the caller's tenant; ``token`` is told now and never again. Keys need the right "admin"."""
    body = {"name": name, "rights": list(rights), "user": user, "expires": _iso(expires)}
    return Request("POST", "/keys", _given(body))


def list_keys() -> Request[list[Answer]]:
    """The keys of the caller's tenant, oldest first, revoked ones too; never their tokens."""
    return Request("GET", "/keys", again=True)


def revoke_key(key_id: str) -> Request[Answer]:
    """From the next request on it proves nothing."""
    return Request("DELETE", f"/keys/{_part('key_id', key_id)}")


# -- inside -------------------------------------------------------------------------------------------


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _owner(user_id: str | None, agent_id: str | None, run_id: str | None) -> dict[str, Any]:
    return _given({"user_id": user_id, "agent_id": agent_id, "run_id": run_id})


def _iso(moment: Moment | None) -> str | None:
    """Times in JSON. What text means, the service says."""
    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, date):
        return moment.isoformat()
    try:
        return datetime.fromtimestamp(moment, UTC).isoformat()
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise InvalidInput(f"{moment!r}: pass a time as ISO 8601, a date, a datetime, or seconds since 1970") from error


def _ids(memory_ids: str | Sequence[str]) -> list[str]:
    return [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)


def _memory(memory_id: str) -> str:
    return f"/memories/{_part('memory_id', memory_id)}"


def _part(name: str, id: str) -> str:
    """An id as a part of a path: never a path of its own."""
    if not id or not all(letter.isalnum() or letter in "-_.:" for letter in id) or set(id) == {"."}:
        raise InvalidInput(f"{name}={id[:80]!r}: is no id")
    return id
