"""What an adapter needs of a memory: verbs that ``Memory`` and ``lamina.client.Client`` both have."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol


class Reads(Protocol):
    """Finds memories."""

    def search(
        self, query: str, *, top_k: int = ..., filters: Mapping[str, Any] | None = ..., threshold: float = ...
    ) -> dict[str, Any]: ...


class Verbs(Reads, Protocol):
    """Finds, lists and changes memories."""

    def add(
        self,
        messages: Any,
        *,
        user_id: str | None = ...,
        agent_id: str | None = ...,
        run_id: str | None = ...,
        metadata: Mapping[str, Any] | None = ...,
        timestamp: datetime | None = ...,
        infer: bool = ...,
    ) -> dict[str, Any]: ...

    def update(
        self, memory_id: str, text: str | None = ..., *, metadata: Mapping[str, Any] | None = ...
    ) -> dict[str, Any]: ...

    def delete(self, memory_id: str) -> dict[str, Any]: ...

    def forget(self, memory_id: str) -> dict[str, Any]: ...

    def get(self, memory_id: str) -> dict[str, Any] | None: ...

    def get_all(
        self, *, filters: Mapping[str, Any] | None = ..., top_k: int = ..., cursor: str | None = ...
    ) -> dict[str, Any]: ...
