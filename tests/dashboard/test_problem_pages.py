"""Errors that no page made: a page with a way back for people, JSON for programs."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from live_server import serving
from playwright.sync_api import Page, expect

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.server.app import Limits, create_app
from lamina.server.service import Service

PERSON = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PART = {"HX-Request": "true"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An application with a page that fails and one that hangs; its address."""
    with Memory(tmp_path_factory.mktemp("faulty") / "m.db", embedder=WordVectors()) as memory:
        app = create_app(Service(memory), limits=Limits(seconds=1.0))

        async def fails() -> None:
            raise ZeroDivisionError("<b>secret</b>")

        async def hangs() -> None:
            await asyncio.sleep(30)

        app.get("/dashboard/fails")(fails)
        app.get("/dashboard/hangs")(hangs)
        with serving(app) as url:
            yield url


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "nope", 404, "There is nothing here"),
        ("GET", "static/nope.css", 404, "There is nothing here"),
        ("GET", "memories/x/delete", 405, "That was not done"),
        ("GET", "fails", 500, "Something failed"),
        ("GET", "hangs", 504, "No answer in time"),
    ],
)
def test_a_person_gets_a_page_and_a_program_json(faulty: str, method: str, path: str, status: int, title: str) -> None:
    url = f"{faulty}/dashboard/{path}"
    page = httpx.request(method, url, headers=PERSON)
    assert page.status_code == status and f"<h1>{title}</h1>" in page.text and "/dashboard/memories" in page.text
    assert page.headers["content-type"].startswith("text/html") and page.headers["x-request-id"]
    assert "default-src 'self'" in page.headers["content-security-policy"] and "secret" not in page.text
    assert int(page.headers["content-length"]) == len(page.content)
    told = httpx.request(method, url)
    assert told.status_code == status and "message" in told.json()["error"]
    part = httpx.request(method, url, headers=PART)
    assert part.status_code == status and part.headers["hx-retarget"] == "#said" and "<h1>" not in part.text


def test_what_is_no_page_stays_json(faulty: str) -> None:
    for path in ("/nope", "/dashboards"):
        assert httpx.get(f"{faulty}{path}", headers=PERSON).json()["error"]["code"] == "HTTP_404"
    page = httpx.get(f"{faulty}/dashboard/fails", headers=PERSON)
    assert page.headers["x-request-id"] in page.text  # where to look for it


def test_another_sites_form_is_told_of_on_a_page(faulty: str) -> None:
    foreign = httpx.post(f"{faulty}/dashboard/sign-out", headers=PERSON | {"Origin": "https://evil.example"})
    assert foreign.status_code == 403 and "<p>This was asked by a page of another site" in foreign.text


def test_there_is_a_way_back(page: Page, faulty: str) -> None:
    page.goto(f"{faulty}/dashboard/nope")
    expect(page).to_have_title("Not found · Lamina")
    page.get_by_role("link", name="To the memories").click()
    page.get_by_role("heading", name="Memories", exact=True).wait_for()
