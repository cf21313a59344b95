"""What a browser on this machine may be made to do by pages of other sites: nothing."""

from __future__ import annotations

import re

import httpx
import pytest
from starlette.datastructures import Headers

from lamina.server.origins import foreign
from lamina.server.service import Service

FOREIGN = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
FOREIGN += [{"Sec-Fetch-Site": "same-site"}, {"Origin": "http://127.0.0.1:1"}]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", ["/memories", "/memories/retry", "/search", "/v1/chat/completions", "/keys"])
def test_a_foreign_page_cannot_write(client: httpx.Client, headers: dict[str, str], path: str) -> None:
    answer = client.post(path, headers=headers)
    assert answer.status_code == 403 and answer.json()["error"]["code"] == "NOT_PERMITTED"


def test_it_cannot_delete_either(client: httpx.Client, service: Service) -> None:
    id = client.post("/memories", json={"messages": "I keep bees.", "user_id": "ann"}).json()["results"][0]["id"]
    assert client.delete(f"/memories/{id}", headers=FOREIGN[0]).status_code == 403
    assert "superseded" not in client.get(f"/memories/{id}").json()


def test_programs_and_its_own_pages_may(client: httpx.Client) -> None:
    own = f"http://{client.base_url.netloc.decode()}"
    for headers in ({}, {"Origin": own}, {"Origin": own, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}):
        assert client.post("/search", json={"query": "bees"}, headers=headers).status_code in (200, 400)
    assert not foreign(Headers({"origin": "https://memory.example.com", "host": "memory.example.com"}))


def test_the_page_of_the_api_loads_nothing_from_elsewhere(client: httpx.Client) -> None:
    page = client.get("/docs").text
    places = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert places and all(place.startswith("/") and not place.startswith("//") for place in places)
    assert all(client.get(place).status_code == 200 for place in places)
    assert client.get("/redoc").status_code == 404
