"""What a client says of an address, a key or a service that is wrong; and never the key itself."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from lamina import Memory
from lamina.client import AsyncClient, Client
from lamina.errors import InvalidInput, StoreUnavailable
from lamina.settings import Settings

pytestmark = pytest.mark.model
SECRET = "lk_of_nobody_4711"
NOWHERE = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8321", "ftp://x", "http://", "http://[::1", "http://x:99999", "http://x:a", "http://a b/"),
        *("http://\ud800", "http://x/\ud800", "http://a\x01b", "http://[v1.a]", f"http://{'a' * 70_000}"),
    ],
)
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidInput, match="url="):
            kind(url)


@pytest.mark.parametrize("token", [f"{SECRET}é", f"{SECRET}\nX-Other: 1", f"{SECRET}\0"])
def test_a_key_that_is_none_is_refused_and_not_repeated(token: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidInput, match="token") as refused:
            kind(NOWHERE, token)
        assert SECRET not in str(refused.value) and refused.value.__cause__ is None


def test_nobody_there_is_said_without_the_key() -> None:
    told = r"http://127\.0\.0\.1:1.* does not answer.*lamina serve"
    with (
        Client(f"http://ada:{SECRET}@127.0.0.1:1", f" {SECRET}\n", tries=1) as client,
        pytest.raises(StoreUnavailable, match=told) as alone,
    ):
        client.search("x", filters={"user_id": "ada"})
    assert SECRET not in str(alone.value)


@pytest.mark.parametrize("key", ["", " ", "schlüssel", "a\nb", 7])
def test_an_idempotency_key_that_no_header_can_carry(key: Any) -> None:
    with Client(NOWHERE, tries=1) as client, pytest.raises(InvalidInput, match="idempotency_key"):
        client.add("x", user_id="ada", idempotency_key=key)


def test_after_its_block_a_client_is_closed_as_a_memory_is(client: httpx.Client) -> None:
    url = str(client.base_url)
    with Client(url) as memory:
        assert memory.get_all(filters={"user_id": "nobody"})["results"] == []
    with Memory(":memory:", settings=Settings()) as closed:
        pass
    for one in (memory, closed):
        with pytest.raises(StoreUnavailable, match="closed"):
            one.get("x")
    memory.close()  # once more does no harm

    async def work() -> None:
        async with AsyncClient(url) as later:
            pass
        with pytest.raises(StoreUnavailable, match="closed"):
            await later.get("x")

    asyncio.run(work())
    with pytest.raises(ZeroDivisionError), Client(url) as broken:
        raise ZeroDivisionError
    with pytest.raises(StoreUnavailable, match="closed"):
        broken.get("x")
