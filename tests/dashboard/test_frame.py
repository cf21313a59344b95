"""The frame around all pages: signing in, other origins, narrow screens, the keyboard, dark and light."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from live_server import serving
from playwright.sync_api import Browser, Page

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.dashboard.pages import PAGES
from lamina.server.dashboard.proofs import bar
from lamina.server.dashboard.shell import NAVIGATION
from lamina.server.service import Service


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A service with a key that may read, and the key."""
    with Memory(tmp_path_factory.mktemp("locked") / "m.db") as memory:
        service = Service(memory)
        _, token = service.keys.create("ada", tenant=memory.settings.tenant, rights=frozenset({"read"}))
        with serving(create_app(service)) as url:
            yield url, token


def test_every_page_of_the_navigation_is_there(site: str) -> None:
    paths = {route.path.strip("/").split("/")[0] for page in PAGES for route in page.router.routes}
    assert {path for path, _ in NAVIGATION} <= paths
    for path, title in NAVIGATION:
        answer = httpx.get(f"{site}/dashboard/{path}", timeout=60)
        assert answer.status_code == 200 and f"<title>{title}" in answer.text


def test_the_root_leads_to_the_dashboard(page: Page, site: str) -> None:
    page.goto(site)
    assert page.url == f"{site}/dashboard/memories"


def test_a_key_opens_it_and_signing_out_closes_it(page: Page, locked: tuple[str, str]) -> None:
    url, token = locked
    page.goto(f"{url}/dashboard/proofs?failed=true")
    assert "/sign-in?to=proofs" in page.url
    page.fill("input[name=key]", "lk_wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").get_by_text("not valid").wait_for()
    page.fill("input[name=key]", token)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Proofs").wait_for()
    assert page.url == f"{url}/dashboard/proofs?failed=true"  # where it was going
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/dashboard"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(f"{url}/dashboard/proofs")
    assert "/sign-in" in page.url


def test_the_way_back_never_leaves_the_site(locked: tuple[str, str]) -> None:
    url, token = locked
    for to in ("//evil.example", "https://evil.example", "/\\evil.example", "..//evil.example"):
        answer = httpx.post(f"{url}/dashboard/sign-in", data={"key": token, "to": to})
        assert answer.status_code == 303 and answer.headers["location"].startswith("/dashboard/")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_pages_of_other_origins_cannot_write(site: str, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{site}/dashboard/sign-out", headers=headers)
    assert (
        answer.status_code == 403
        and "another site" in answer.text
        and answer.json()["error"]["code"] == "NOT_PERMITTED"
    )


def test_pages_may_not_be_framed_cached_or_run_foreign_scripts(site: str) -> None:
    headers = httpx.get(f"{site}/dashboard/proofs").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store" and headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [path for path, _ in NAVIGATION])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_hangs_over_the_edge(browser: Browser, site: str, path: str, width: int) -> None:
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        page.goto(f"{site}/dashboard/{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_and_light_by_the_system_and_by_the_switch(browser: Browser, site: str) -> None:
    with browser.new_context(color_scheme="dark") as context:
        page = context.new_page()
        page.goto(f"{site}/dashboard/proofs")
        colour = "getComputedStyle(document.documentElement).backgroundColor"
        dark = page.evaluate(colour)
        page.get_by_role("button", name="Dark or light").click()
        light = page.evaluate(colour)
        assert dark != light
        page.reload()
        assert page.evaluate(colour) == light  # remembered


def test_the_keyboard_reaches_the_content_first(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/proofs")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_what_is_not_there_is_a_page_and_not_json(site: str) -> None:
    answer = httpx.get(f"{site}/dashboard/proofs?failed=perhaps")
    assert answer.status_code == 422 and "<h1>" in answer.text


def test_bars_are_lengths_on_one_scale() -> None:
    assert bar(1.0, 4.0) == bar(25.0, 100.0) and bar(1.0, 4.0).ours == 25.0
    assert bar(0.1, 0.0) is None and bar(None, 1.0) is None and bar(-1.0, 1.0) is None
    far = bar(1.0, 1000.0)
    assert far.ours == pytest.approx(10.0) and far.baseline == 100.0
