"""A service on a real socket, and a real browser in front of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.service import Service

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
from live_server import serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, which ``make test`` installs where it is not there. Not for the whole session: playwright
    keeps an event loop in this thread, and other modules want their own."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "no Chromium here: apt-get install chromium (or any Chrome on the PATH)"
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Memory(tmp_path_factory.mktemp("dashboard") / "m.db") as memory:
        yield Service(memory)


@pytest.fixture(scope="module")
def site(service: Service) -> Iterator[str]:
    """Its address; the operator's, as long as a test makes no keys."""
    with serving(create_app(service)) as url:
        yield url


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that fails its test when a script fails, or something is blocked or missing."""
    opened, problems = context.new_page(), []
    opened.set_default_timeout(10_000)
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    yield opened
    assert not [one for one in problems if "the server responded with a status of 4" not in one]
