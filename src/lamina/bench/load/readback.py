"""After a load: is everything there that was acknowledged, as it was last written, once, and nothing else?"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_AT_ONCE = 8
_PAGE = 1_000


@dataclass(slots=True)
class Expected:
    """What was acknowledged: user and newest text of each open memory, and the ids of deleted ones."""

    _open: dict[str, tuple[str, str]] = field(default_factory=dict)
    _gone: set[str] = field(default_factory=set)

    @property
    def open(self) -> int:
        return len(self._open)

    @property
    def texts(self) -> dict[str, str]:
        """By id."""
        return {id: text for id, (_, text) in self._open.items()}

    @property
    def users(self) -> list[str]:
        return sorted({user for user, _ in self._open.values()})

    def added(self, id: str, user: str, text: str) -> None:
        assert id not in self._open, f"{id} was given out twice"
        self._open[id] = user, text

    def updated(self, id: str, text: str) -> None:
        self._open[id] = self._open[id][0], text

    def deleted(self, id: str) -> None:
        self._open.pop(id)
        self._gone.add(id)


@dataclass(frozen=True, slots=True)
class Found:
    """``lost``: acknowledged, and not there by its id or not listed; ``changed``: there with other words;
    ``duplicates``: listed though never acknowledged, deleted, or listed already."""

    checked: int
    lost: int
    changed: int
    duplicates: int


async def read_back(http: httpx.AsyncClient, expected: Expected) -> Found:
    """Each open memory by its id, and all of every user's."""
    texts = expected.texts
    wanted, found = iter(texts), {}

    async def get() -> None:
        for id in wanted:
            answer = await http.get(f"/memories/{id}")
            found[id] = (answer.json() or {}).get("memory") if answer.status_code == 200 else None

    await asyncio.gather(*(get() for _ in range(_AT_ONCE)))
    listed = [row for user in expected.users for row in await _listed(http, user)]
    ids = Counter(row["id"] for row in listed)
    lost = {id for id in texts if found[id] is None or id not in ids}
    changed = {id for id in texts if id not in lost and found[id] != texts[id]}
    changed |= {row["id"] for row in listed if row["id"] in texts and row["memory"] != texts[row["id"]]}
    duplicates = sum(ids.values()) - sum(1 for id in ids if id in texts)
    return Found(len(texts), len(lost), len(changed), duplicates)


async def _listed(http: httpx.AsyncClient, user: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked: dict[str, str | int] = {"user_id": user, "top_k": _PAGE}
        if cursor:
            asked["cursor"] = cursor
        answer = await http.get("/memories", params=asked)
        answer.raise_for_status()
        page = answer.json()
        rows += page["results"]
        cursor = page.get("cursor")
        if not cursor:
            return rows
