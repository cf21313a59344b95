"""Where the database itself keeps tenants apart, keys are found, jobs are recorded, and each tenant has its own."""

from __future__ import annotations

import time

import httpx
import pytest
from live_server import serving

from lamina import Memory
from lamina.llm.base import Embedder
from lamina.server.app import create_app
from lamina.server.keys import KeyRing
from lamina.server.service import Service

pytestmark = pytest.mark.model


def test_keys_tenants_and_jobs(postgres_url: str, minilm: Embedder) -> None:
    with Memory(postgres_url, embedder=minilm) as memory:
        ring = KeyRing(memory.store)  # as lamina keys makes it
        assert not ring.any()
        tokens = [ring.create("test", tenant, ["admin"])[1] for tenant in ("acme", "umbrella")]
        with serving(create_app(Service(memory))) as url:
            acme, other = (
                httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) for token in tokens
            )
            assert httpx.get(f"{url}/memories", params={"user_id": "ada"}).status_code == 401
            said = {"messages": "I keep bees.", "user_id": "ada", "infer": False}
            told = acme.post("/memories", json=said)
            assert told.status_code == 200, told.text
            id = told.json()["results"][0]["id"]
            assert acme.get(f"/memories/{id}").json()["memory"] == "I keep bees."
            assert acme.get(f"/memories/{id}/history").status_code == 200
            assert other.get(f"/memories/{id}").status_code == 404
            assert other.get("/memories", params={"user_id": "ada"}).json()["results"] == []
            assert memory.get_all(filters={"user_id": "ada"})["results"] == []  # of the operator's own tenant
            job = acme.post(
                "/jobs", json={"kind": "add", "items": [{"messages": "Two hives.", "user_id": "ada"}], "infer": False}
            ).json()["id"]
            assert other.get(f"/jobs/{job}").status_code == 404
            while (state := acme.get(f"/jobs/{job}").json()["state"]) in ("waiting", "running"):
                time.sleep(0.05)
            assert state == "done"
            assert acme.delete(f"/memories/{id}", params={"forget": True}).json()["forgotten"] == [id]
            assert acme.get(f"/memories/{id}").status_code == 404
            assert len(ring.list("acme")) == 1
