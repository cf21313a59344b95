"""The keyboard alone: what Tab comes to, in which order, and that one sees where one is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect
from remembering import remember

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.server.service import Service

_WHERE = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const name = one.ariaLabel || one.labels?.[0]?.innerText || one.innerText || one.placeholder || one.id;
  const box = one.getBoundingClientRect(), marked = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1;
  return [one === document.body ? "" : name.trim().split("\\n")[0], marked && box.width > 1 && box.height > 1];
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its memories are found by their words."""
    with Memory(tmp_path_factory.mktemp("keyboard") / "m.db", embedder=WordVectors()) as memory:
        yield Service(memory)


def walk(page: Page) -> list[str]:
    """What Tab comes to, from the top of the page to its end; each shows that it is there."""
    names = []
    for _ in range(80):
        page.keyboard.press("Tab")
        name, seen = page.evaluate(_WHERE)
        if not name:
            return names
        assert seen, f"nobody sees that {name!r} has the focus"
        names.append(name)
    pytest.fail("Tab never left the page")


def in_order(names: list[str], *wanted: str) -> None:
    at = [next((n for n, name in enumerate(names) if name.startswith(one)), None) for one in wanted]
    assert None not in at and at == sorted(at), f"{list(zip(wanted, at, strict=True))} of {names}"  # type: ignore[type-var]


def test_tab_goes_through_every_page_from_top_to_bottom(page: Page, site: str, service: Service) -> None:
    service._memory.add("I am allergic to walnuts.", user_id="alice")
    id = remember(service, "Alice has a red bicycle.", "alice")
    bar = ("Skip to the content", "Lamina", "Memories", "Proofs", "Dark or light")
    page.goto(f"{site}/dashboard/memories")
    in_order(walk(page), *bar, "Search", "Which", "As of", "Alice has a red bicycle.", "What", "Whose memory")
    page.goto(f"{site}/dashboard/memories/{id}")
    in_order(walk(page), *bar, "← Memories", "Edit", "All versions", "Delete", "Archive", "Freeze", "Forget…")
    page.goto(f"{site}/dashboard/memories/{id}/forget")
    in_order(walk(page), *bar, "← Back", "Type the word", "Erase for good", "Keep it")
    page.goto(f"{site}/dashboard/chat?user_id=alice")
    names = walk(page)
    in_order(names, *bar, "Whose memory", "Begin anew", "What am I allergic to?", "Say or ask", "With memory", "Send")
    assert names.count("Send") == 1  # the one that Enter presses is not gone to


def test_a_memory_is_found_corrected_and_forgotten_by_keyboard(page: Page, site: str, service: Service) -> None:
    remember(service, "Max has a red kite.", "max")
    page.goto(f"{site}/dashboard/memories?user_id=max")
    search = page.get_by_label("Search")
    page.keyboard.press("/")
    expect(search).to_be_focused()
    page.keyboard.type("kite")
    expect(page.locator("#found .score")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(search).not_to_be_focused()
    to(page, "Max has a red kite.")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Turn of max").wait_for()
    to(page, "Edit")
    page.keyboard.press("Enter")
    to(page, "Metadata")
    page.keyboard.type("{kite")
    to(page, "Save")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    expect(page.get_by_role("textbox", name="Text", exact=True)).to_be_focused()  # one goes on where it is wrong
    to(page, "Metadata")
    page.keyboard.press("Control+a")
    page.keyboard.type('{"kite": true}')
    to(page, "Save")
    page.keyboard.press("Enter")
    page.get_by_text("A new version was written").wait_for()
    to(page, "Forget…")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Forget for good?").wait_for()
    to(page, "Type the word")
    page.keyboard.type("forget")
    page.keyboard.press("Enter")
    page.get_by_text("Erased everywhere").wait_for()
    assert not service._memory.get_all(filters={"user_id": "max"})["results"]


def to(page: Page, name: str) -> None:
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(_WHERE)[0].startswith(name):
            return
    pytest.fail(f"Tab never came to {name!r}")
