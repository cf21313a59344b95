"""A service of two tenants, and how each endpoint is asked for what belongs to the other one.

``CASES`` has a case for every operation of the OpenAPI document and every tool of MCP: what to send, where ``{id}``,
``{user}``, ``{cursor}``, ``{job}``, ``{key}`` and ``{once}`` stand for ids, users, cursors, jobs, keys and idempotency
keys. They are filled once with those of the tenant "acme", once with such that never were; whoever asks is an
administrator of the tenant "umbrella", or of one that is made for a case that writes.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from lamina import Memory
from lamina.cube.cube import Header, MemCube, Scope, new_id, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.cube.tensor import TensorView
from lamina.server import observing
from lamina.server.caller import Caller
from lamina.server.keys import Key
from lamina.server.service import Service
from lamina.store import connection as sqlite_connection
from lamina.store.base import Write
from lamina.store.blobs import BlobStore
from lamina.store.postgresql.dialect import PgConnection

SECRET = "Our margin is 41 percent, and the vault is behind the clock."
USER = "ada-of-acme"


@dataclass(frozen=True)
class Case:
    """``there``: the status where something answers without naming what is another's; ``None``: 404. ``writes``: the
    answer depends on what was written before, so that the work it takes is not compared."""

    method: str
    path: str
    body: Any = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    there: int | None = None
    writes: bool = False

    @property
    def text(self) -> str:
        return json.dumps([self.path, self.body, dict(self.params), dict(self.headers)])

    def names(self, what: str) -> bool:
        return f"{{{what}}}" in self.text


_OWNER = {"user_id": "{user}"}
_TALK = {"messages": [{"role": "user", "content": "What is the margin?"}], "max_tokens": 1}
_ONE = "/memories/{memory_id}"
CASES: Mapping[tuple[str, str], Sequence[Case]] = {
    ("POST", "/memories"): [
        Case("POST", "/memories", {"messages": SECRET[:20], "infer": False} | _OWNER, there=200, writes=True),
        Case("POST", "/memories", {"messages": "Words of acme.", "infer": False} | _OWNER,
             headers={"Idempotency-Key": "{once}"}, there=200, writes=True),
    ],
    ("GET", "/memories"): [
        Case("GET", "/memories", params=_OWNER, there=200),
        Case("GET", "/memories", params=_OWNER | {"as_of": "2100-01-01"}, there=200),
        Case("GET", "/memories", params=_OWNER | {"cursor": "{cursor}"}, there=200),
        Case("GET", "/memories", params={"agent_id": "{user}"}, there=200),
        Case("GET", "/memories", params={"run_id": "{user}"}, there=200),
    ],
    ("DELETE", "/memories"): [Case("DELETE", "/memories", params=_OWNER, there=200)],
    ("POST", "/memories/retry"): [Case("POST", "/memories/retry", there=200, writes=True)],
    ("GET", "/memories/quarantined"): [Case("GET", "/memories/quarantined", params=_OWNER, there=200)],
    ("POST", "/search"): [
        Case("POST", "/search", {"query": "What is the margin?", "threshold": 0.0, "filters": filters}, there=200)
        for filters in (
            _OWNER,
            _OWNER | {"id": "{id}"},
            {"user_id": {"in": ["{user}", "nobody"]}},
            {"user_id": "nobody", "OR": [{"id": "{id}"}, {"metadata.tenant": "acme"}]},
            {"user_id": "nobody", "NOT": [{"user_id": "{user}"}]},
            {"NOT": [{"NOT": [_OWNER]}], "user_id": "nobody"},
        )
    ]
    + [Case("POST", "/search", {"query": "margin", "filters": {"OR": [_OWNER, {"user_id": "nobody"}]}}, there=400)],
    ("GET", _ONE): [Case("GET", "/memories/{id}")],
    ("GET", f"{_ONE}/history"): [Case("GET", "/memories/{id}/history")],
    ("GET", f"{_ONE}/explain"): [Case("GET", "/memories/{id}/explain")],
    ("PUT", _ONE): [Case("PUT", "/memories/{id}", {"text": "taken over"})],
    ("DELETE", _ONE): [
        Case("DELETE", "/memories/{id}"),
        Case("DELETE", "/memories/{id}", params={"forget": "true"}),
    ],
    ("POST", f"{_ONE}/restore"): [Case("POST", "/memories/{id}/restore")],
    ("POST", f"{_ONE}/accept"): [Case("POST", "/memories/{id}/accept", {})],
    ("POST", f"{_ONE}/feedback"): [
        Case("POST", "/memories/{id}/feedback", {"good": True}),
        Case("POST", "/memories/{id}/feedback", {"good": False, "correction": "taken over"}),
    ],
    ("POST", f"{_ONE}/{{verb}}"): [
        Case("POST", f"/memories/{{id}}/{verb}", {"reason": "x"}) for verb in ("archive", "freeze", "unfreeze")
    ],
    ("GET", "/log"): [Case("GET", "/log", params={"memory_id": "{id}"})],
    ("POST", "/chat"): [Case("POST", "/chat", _TALK | _OWNER, there=200, writes=True)],
    ("GET", "/tiers"): [Case("GET", "/tiers", params=_OWNER, there=200)],
    ("POST", "/tiers/move"): [
        Case("POST", "/tiers/move", {"ids": ["{id}"], "to": to}) for to in ("activation", "text")
    ],
    ("POST", "/jobs"): [
        Case("POST", "/jobs", {"kind": "learn", "ids": ["{id}"]}),
        Case("POST", "/jobs", {"kind": "add", "infer": False, "items": [
            {"messages": "Words of acme.", "idempotency_key": "{once}"} | _OWNER]}, there=202, writes=True),
    ],
    ("GET", "/jobs/{job_id}"): [Case("GET", "/jobs/{job}"), Case("GET", "/jobs/{id}")],
    ("DELETE", "/jobs/{job_id}"): [Case("DELETE", "/jobs/{job}")],
    ("GET", "/jobs/{job_id}/events"): [Case("GET", "/jobs/{job}/events")],
    ("GET", "/keys"): [Case("GET", "/keys", there=200)],
    ("POST", "/keys"): [
        Case("POST", "/keys", {"name": "n", "user": "{user}"}, there=201, writes=True),
        Case("POST", "/keys", {"name": "n", "tenant": "acme"}, there=422),
    ],
    ("DELETE", "/keys/{key_id}"): [Case("DELETE", "/keys/{key}")],
    ("GET", "/health"): [Case("GET", "/health", there=200)],
    ("GET", "/ready"): [Case("GET", "/ready", there=200)],
    ("GET", "/metrics"): [Case("GET", "/metrics", there=403)],
    ("POST", "/v1/chat/completions"): [
        Case("POST", "/v1/chat/completions", _TALK | {"model": "m", "user": "{user}"}, there=200, writes=True),
        Case("POST", "/v1/chat/completions", _TALK | {"model": "m"}, headers={"X-Lamina-User": "{user}",
             "Idempotency-Key": "{once}"}, there=200, writes=True),
    ],
    ("GET", "/v1/models"): [Case("GET", "/v1/models", there=200)],
    ("GET", "/v1/models/{model}"): [Case("GET", "/v1/models/{id}")],
    ("POST", "/reset"): [Case("POST", "/reset", {"confirm": "acme"}, there=400)],
}  # fmt: skip


def tool(name: str, **arguments: Any) -> Case:
    """A tool of MCP as one request; what it refuses is told inside a 200."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
    return _mcp(call, writes=name == "add_memories")


def _mcp(call: Mapping[str, Any], *, writes: bool = False) -> Case:
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}
    return Case("POST", "/mcp", call, headers=headers, there=200, writes=writes)


def resource(uri: str) -> Case:
    return _mcp({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": uri}})


TOOLS: Mapping[str, Sequence[Case]] = {
    "search_memories": [tool("search_memories", query="margin", user_id="{user}")],
    "list_memories": [
        tool("list_memories", user_id="{user}"),
        tool("list_memories", user_id="{user}", cursor="{cursor}"),
    ],
    "get_memory": [tool("get_memory", memory_id="{id}")],
    "memory_history": [tool("memory_history", memory_id="{id}")],
    "add_memories": [tool("add_memories", messages=[{"role": "user", "content": SECRET[:20]}], user_id="{user}")],
    "update_memory": [tool("update_memory", memory_id="{id}", text="taken over")],
    "delete_memory": [tool("delete_memory", memory_id="{id}")],
    "forget_memory": [tool("forget_memory", memory_id="{id}")],
}
RESOURCES = [resource("lamina://memories/{id}"), resource("lamina://memories/{id}/versions/1")]


class Work:
    """What each request, by its id, asked of the store: statements without their values, and files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of: dict[str, list[str]] = defaultdict(list)
        connect = sqlite_connection.connect

        def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
            made = connect(*arguments, **options)
            made.set_trace_callback(lambda sql: self._note(re.sub(r"'[^']*'|\d+", "?", sql)))
            return made

        monkeypatch.setattr(sqlite_connection, "connect", traced)
        for name in ("execute", "executemany"):
            monkeypatch.setattr(PgConnection, name, self._noting(getattr(PgConnection, name)))
        monkeypatch.setattr(BlobStore, "read", self._noting(BlobStore.read, "a file of tensors"))

    def _noting(self, plain: Callable[..., Any], what: str | None = None) -> Callable[..., Any]:
        def noting(of: Any, first: str, *rest: Any) -> Any:
            self._note(what or first)
            return plain(of, first, *rest)

        return noting

    def _note(self, sql: str) -> None:
        self.of[observing.request_id.get()].append(sql)


class Tenants:
    """What "acme" has, in every state that a memory can be in, and a client of "umbrella"."""

    def __init__(self, url: str, service: Service, memory: Memory, work: Work) -> None:
        self._url, self._service, self._work = url, service, work
        self._store = memory.store.as_tenant("acme")
        (self.key, self.acme), (_, self.umbrella) = self._administrator("acme"), self._administrator("umbrella")
        body = {"messages": "Words of acme.", "user_id": USER, "infer": False}
        self.once = "k-of-acme"
        self.acme.post("/memories", json=body, headers={"Idempotency-Key": self.once}).raise_for_status()
        self.ids = self._memories()
        job = {"kind": "add", "items": [{"messages": SECRET, "user_id": USER}], "infer": False}
        self.job = self.acme.post("/jobs", json=job).json()["id"]
        while self.acme.get(f"/jobs/{self.job}").json()["state"] != "done":
            pass
        self.cursor = self.acme.get("/memories", params={"user_id": USER, "top_k": 2}).json()["cursor"]
        self.before = self.state()

    def newcomer(self) -> httpx.Client:
        """An administrator of a tenant that has nothing yet."""
        return self._administrator(f"t-{uuid.uuid4().hex}")[1]

    def _administrator(self, tenant: str) -> tuple[Key, httpx.Client]:
        key, token = self._service.keys.create("test", tenant, ["admin"])
        return key, httpx.Client(base_url=self._url, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def state(self) -> list[tuple[str, int, object, str]]:
        """All that acme has, version by version."""
        cubes = self._store.query(Scope("acme"), closed=True, limit=1000).cubes
        return sorted((one.id, one.header.version, one.header.superseded, one.header.state) for one in cubes)

    def real(self, id: str) -> dict[str, str]:
        return {
            "id": id, "user": USER, "cursor": self.cursor, "job": self.job, "key": self.key.id, "once": self.once,
        }  # fmt: skip

    def made_up(self) -> dict[str, str]:
        """As above, of nobody; nothing was ever asked about any of it."""
        first, *rest = json.loads(base64.urlsafe_b64decode(self.cursor + "=="))
        cursor = base64.urlsafe_b64encode(json.dumps([first - 1, *rest]).encode()).decode()
        fresh = uuid.uuid4().hex[:12]
        ids = {"id": new_id(), "job": new_id(), "key": fresh}
        return ids | {"user": f"no-{fresh}", "cursor": cursor, "once": f"k-{fresh}"}

    def ask(self, client: httpx.Client, case: Case, names: Mapping[str, str]) -> tuple[object, list[str]]:
        """What ``client`` is told, with the names taken out of it again; and the work it took."""
        path, body, params, headers = json.loads(_filled(case.text, names))
        id = f"r-{uuid.uuid4().hex}"
        answer = client.request(
            case.method, path, json=body, params=params or None, headers={**headers, "X-Request-ID": id}
        )
        text = answer.text
        for what, name in sorted(names.items(), key=lambda one: -len(one[1])):
            text = text.replace(name, what)
        told = {name: value for name, value in answer.headers.items() if name not in _VARYING}
        return (answer.status_code, told, _fixed(text)), self._work.of.pop(id, [])

    def _memories(self) -> dict[str, str]:
        """The ids of memories by their states, and of what is no memory at all."""

        def add(text: str = SECRET) -> str:
            body = {"messages": text, "user_id": USER, "infer": False}
            return str(self.acme.post("/memories", json=body).raise_for_status().json()["results"][0]["id"])

        made = {name: add() for name in ("open", "changed", "deleted", "frozen", "archived", "forgotten")}
        self.acme.put(f"/memories/{made['changed']}", json={"text": f"{SECRET} Really."}).raise_for_status()
        self.acme.delete(f"/memories/{made['deleted']}").raise_for_status()
        self.acme.post(f"/memories/{made['frozen']}/freeze", json={}).raise_for_status()
        self.acme.post(f"/memories/{made['archived']}/archive", json={}).raise_for_status()
        self.acme.delete(f"/memories/{made['forgotten']}", params={"forget": "true"}).raise_for_status()
        made |= {"tensors": self._tensors(), "a key": f"key-{self.key.id}"}
        made["the clock"] = self._service.system(Caller.of(self.key)).upkeep.log.id
        return made

    def _tensors(self) -> str:
        data = np.ones((256, 64), np.float32)
        print_of = Fingerprint("tiny", "0" * 64, "0" * 64, "float32", "none")
        view = TensorView("F32", data.shape, memoryview(data.tobytes()))
        header = Header(kind="activation", scope=Scope("acme", USER), created=now())
        with self._store.transaction() as tx:
            tx.insert([Write(MemCube(header, TensorPayload({"k": view}, print_of)))])
        return header.id


_VARYING = {"x-request-id", "date", "content-length"}


def _filled(text: str, names: Mapping[str, str]) -> str:
    for what, name in names.items():
        text = text.replace(f"{{{what}}}", json.dumps(name)[1:-1])
    return text


def _fixed(text: str) -> str:
    """Without what differs at any two answers: new ids, times, secrets."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"chatcmpl-[0-9a-f]+|lk_\w+[\w-]*|\b[0-9a-f]{12}\b", "SECRET", text)
    return re.sub(
        r"\d{4}-\d\d-\d\dT[0-9:.]+(\+00:00|Z)?|\"created\": ?\d+|\"(seconds|ms|first_token)\": ?[\d.e-]+", "TIME", text
    )
