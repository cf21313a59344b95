"""What the tests of the memories' pages share."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from playwright.sync_api import Page, expect

from lamina import Memory
from lamina.cube.cube import Header, Lineage, MemCube, Scope
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.server.service import Service
from lamina.store.base import Write

expect.set_options(timeout=10_000)  # as the pages of ``conftest``: tests share their cores


def remember(service: Service, text: str, user: str, **options: Any) -> str:
    """A memory without facts; its id."""
    found = service._memory.add(text, user_id=user, infer=False, **options)
    return str(found["results"][0]["id"])


def entries(page: Page) -> list[str]:
    """What the list shows."""
    return page.locator("#found .entry .text").all_inner_texts()


def bytes_of(folder: Path) -> bytes:
    """Everything in the files of a store."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def put_form(memory: Memory, id: str, kind: Literal["activation", "parameter"]) -> str:
    """A cache or adapter that says it was made of a memory of ada's; its id."""
    payload = TensorPayload.from_numpy({"k": np.zeros(4, np.float32)}, Fingerprint("a", "b", "c", "d"))
    scope = Scope(memory.settings.tenant, "ada")
    semantic_type = "bundle" if kind == "activation" else "fact"
    header = Header(kind=kind, semantic_type=semantic_type, scope=scope, lineage=Lineage(((id, 1),), "prefill"))
    with memory.store.transaction() as tx:
        tx.insert([Write(MemCube(header, payload))])
    return header.id
