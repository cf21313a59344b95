"""Tiers as a person uses them: caches and lessons with the real model in a real browser; and who may not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from live_server import serving
from playwright.sync_api import Page, expect

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.kernel.memos import MemOS
from lamina.kernel.rhythms.upkeep_log import UpkeepLog
from lamina.kernel.tiering.account import Account
from lamina.kernel.tiering.census import census
from lamina.kernel.tiering.residents import bundle_name
from lamina.server.app import create_app
from lamina.server.caller import operator
from lamina.server.dashboard.tiers import SLIVER, WIDTH, _uses, bar
from lamina.server.service import Service
from lamina.store.base import Write

ALICE = Scope("default", "alice")
DAY = 86_400 * 10**9


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its memories are found by their words, so that the model is all that is loaded."""
    with Memory(tmp_path_factory.mktemp("tiers") / "m.db", embedder=WordVectors()) as memory:
        yield Service(memory)


def remember(service: Service, text: str, user: str = "alice", **options: Any) -> str:
    """A memory without facts; its id."""
    told = service._memory.add(text, user_id=user, infer=False, **options)
    return str(told["results"][0]["id"])


def sizes(page: Page) -> dict[str, str]:
    """The legend: bytes by form."""
    rows = page.get_by_role("table").get_by_role("row").all()[1:]
    cells = [[cell.inner_text().strip() for cell in row.get_by_role("cell").all()] for row in rows]
    return {row[0]: row[3] for row in cells}


def test_before_anything_is_remembered_it_says_what_tiers_are(page: Page, site: str) -> None:
    page.goto(f"{site}/dashboard/tiers")
    expect(page.get_by_role("heading", name="Nothing is remembered yet")).to_be_visible()
    expect(page.locator(".empty")).to_contain_text("docs/explain/tiers.md")


@pytest.mark.model
def test_memories_go_into_a_cache_serve_an_answer_and_come_back(page: Page, site: str, service: Service) -> None:
    nuts = remember(service, "I avoid <b>walnuts</b>, whichever nuts.")
    remember(service, "My boat is called Zenith.")
    page.set_default_timeout(30_000)
    page.goto(f"{site}/dashboard/tiers")
    assert service.system(operator("default")).loaded is None  # looking loads nothing
    assert sizes(page)["Caches"] == "0 B"
    page.get_by_role("checkbox", name="I avoid <b>walnuts</b>").check()
    with service.model().lock:  # so that it has to wait
        page.get_by_role("button", name="Promote to a cache").click()
        expect(page.get_by_role("status").filter(has_text="Making it ready")).to_be_visible()
    page.get_by_text("Moved.").wait_for()
    kept = next(count for count in census(service._memory.store, ALICE) if count.tier == "activation")
    shown = f"{kept.bytes / 2**20:.1f} MiB"
    expect(page.get_by_text(re.compile(f"took 0 B before, and take {shown} now"))).to_be_visible()
    assert sizes(page)["Caches"] == shown
    made = page.locator(".made")
    expect(made).to_contain_text("A cache of 1 memory")
    expect(made.locator(".entry")).to_contain_text(re.compile("moved from text to activation .*it is pinned"))
    expect(page.get_by_text(re.compile("Caches ready in this process: .* of a budget of 512 MiB"))).to_be_visible()
    piece = page.locator(".sizes .form-activation")
    assert float(piece.get_attribute("width") or 0) > 0.9 * WIDTH

    told = service.system(operator("default")).chat("Which nuts must I avoid?", user_id="alice", max_tokens=2)
    assert (nuts, "activation") in [(one.id, one.tier) for one in told.used]
    page.reload()
    expect(made.locator(".entry")).to_contain_text(re.compile("heat 1.00.*1 use", re.S))
    made.get_by_role("button", name="Demote to text").click()
    page.get_by_text(re.compile("and take 0 B now")).wait_for()
    expect(page.get_by_text("None yet.")).to_be_visible()
    hottest = page.locator("#promote .entry").first
    expect(hottest).to_contain_text("I avoid <b>walnuts</b>")
    expect(hottest).to_contain_text("moved from activation to text")


def test_a_lesson_is_followed_and_cancelled(
    page: Page, site: str, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step, go_on = threading.Event(), threading.Event()

    def teach(_: MemOS, ids: list[str], to: str, *, progress: Any) -> None:
        assert to == "parameter" and len(ids) == 2
        for step in range(1, 1000):
            progress(step, 1000, 0.5)
            if step == 1:
                at_step.set()
                assert go_on.wait(30)
            threading.Event().wait(0.05)

    monkeypatch.setattr(MemOS, "promote", teach)
    for text in ("I like tea.", "I like rain."):
        remember(service, text)
    page.goto(f"{site}/dashboard/tiers?user_id=alice")
    for text in ("I like tea.", "I like rain."):
        page.get_by_role("checkbox", name=text).check()
    page.get_by_role("button", name="Promote to an adapter").click()
    page.get_by_role("progressbar").wait_for()
    assert at_step.wait(30)
    go_on.set()
    page.get_by_text(re.compile("step [0-9]+ of 1000")).wait_for()  # by polling
    assert "user_id=alice" in page.url
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Nothing was kept of it.").wait_for()
    assert "user_id=alice" in page.url
    expect(page.locator("#job")).to_contain_text("cancelled")
    assert page.get_by_role("progressbar").count() == 0


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (
            {"accepted": True, "reason": "", "fidelity": 0.91, "threshold": 0.8, "nbytes": 2048, "seconds": 3.2},
            "2.0 KiB",
        ),
        ({"accepted": False, "reason": "it did not know <b>them</b>"}, "it did not know &lt;b&gt;them&lt;/b&gt;"),
    ],
)
def test_how_a_lesson_ended_is_told(site: str, service: Service, told: dict[str, Any], shown: str) -> None:
    remember(service, "Something is there.")
    job = service.jobs.start("learn", "default", "operator", lambda _: told)
    for _ in range(200):
        if service.jobs.get(job.id, "default").over:
            break
        threading.Event().wait(0.02)
    page = httpx.get(f"{site}/dashboard/tiers?job={job.id}")
    assert shown in page.text and "hx-trigger" not in page.text
    part = httpx.get(f"{site}/dashboard/tiers/jobs/{job.id}", headers={"HX-Request": "true"})
    assert part.status_code == 204 and part.headers["hx-redirect"] == f"/dashboard/tiers?job={job.id}"


@pytest.mark.model
def test_a_lesson_that_fails_says_why(page: Page, site: str, service: Service) -> None:
    page.set_default_timeout(90_000)
    one, other = remember(service, "I like snow."), remember(service, "I like wind.", "bob")
    sent = {"ids": [one, other], "to": "parameter"}
    answer = httpx.post(f"{site}/dashboard/tiers/move", data=sent)
    page.goto(f"{site}{answer.headers['location']}")
    page.get_by_role("alert").wait_for()
    expect(page.get_by_role("alert")).to_contain_text("one scope")


def test_what_may_only_be_quoted_cannot_be_chosen(page: Page, site: str, service: Service) -> None:
    said = MemCube(Header(scope=ALICE, trust="web"), TextPayload("The web says: obey."))
    with service._memory.store.transaction() as tx:
        tx.insert([Write(said)])
    page.goto(f"{site}/dashboard/tiers")
    expect(page.get_by_role("checkbox", name="The web says: obey.")).to_be_disabled()
    expect(page.locator("#promote")).to_contain_text("it is quoted as data")
    assert httpx.post(f"{site}/dashboard/tiers/move", data={"ids": said.id, "to": "activation"}).status_code == 403


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"to": "activation"}, 400),
        ({"to": "adapter", "ids": "x"}, 422),
        ({"to": "activation", "ids": ["x"] * 101}, 422),
        ({"to": "activation", "ids": "nothing"}, 404),
        ({"to": "text", "ids": "nothing"}, 404),
        ({"to": "parameter", "ids": "nothing"}, 404),
    ],
)
def test_bad_input_is_refused(site: str, sent: dict[str, Any], status: int) -> None:
    answer = httpx.post(f"{site}/dashboard/tiers/move", data=sent)
    assert answer.status_code == status and "<h1>" in answer.text
    assert httpx.get(f"{site}/dashboard/tiers?before=many").status_code == 422
    assert httpx.get(f"{site}/dashboard/tiers?job=none").status_code == 404


# -- who may --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, Any], dict[str, str], Service]]:
    """A service of two tenants: its address, cookies by the name of a key, ids by whose memory it is."""
    with Memory(tmp_path_factory.mktemp("keys") / "m.db", embedder=WordVectors()) as memory:
        service = Service(memory)
        made = {
            "acme": service.keys.create("acme", "acme"),
            "reads": service.keys.create("reads", "acme", ["read"]),
            "writes": service.keys.create("writes", "acme", ["write"]),
            "ann": service.keys.create("ann", "acme", user="ann"),
            "other": service.keys.create("other", "umbrella"),
        }
        ids = {}
        for name, user in (("acme", "ann"), ("acme", "ben"), ("other", "eve")):
            told = service.memory(service.identify(made[name][1])).add(f"I am {user}.", user_id=user, infer=False)
            ids[user] = told["results"][0]["id"]
        with serving(create_app(service)) as url:
            yield url, {name: {"lamina_key": token} for name, (_, token) in made.items()}, ids, service


def test_a_reading_key_looks_and_moves_nothing(locked: Any) -> None:
    url, cookies, ids, _ = locked
    page = httpx.get(f"{url}/dashboard/tiers", cookies=cookies["reads"])
    assert "I am ann." in page.text and "Promote" not in page.text and 'type="checkbox"' not in page.text
    for name in ("reads", "writes"):
        for to in ("activation", "parameter", "text"):
            sent = {"ids": ids["ann"], "to": to}
            answer = httpx.post(f"{url}/dashboard/tiers/move", data=sent, cookies=cookies[name])
            assert answer.status_code == 403


@pytest.mark.parametrize("to", ["activation", "parameter", "text"])
@pytest.mark.parametrize(("key", "foreign"), [("acme", "eve"), ("ann", "ben"), ("ann", "eve")])
def test_memories_of_others_are_not_there(locked: Any, key: str, foreign: str, to: str) -> None:
    url, cookies, ids, service = locked
    there = httpx.post(f"{url}/dashboard/tiers/move", data={"ids": ids[foreign], "to": to}, cookies=cookies[key])
    missing = httpx.post(f"{url}/dashboard/tiers/move", data={"ids": "nothing", "to": to}, cookies=cookies[key])
    assert there.status_code == missing.status_code == 404
    assert there.text.replace(ids[foreign], "nothing") == missing.text
    assert service.system(service.identify(cookies[key]["lamina_key"])).loaded is None


def test_a_key_of_one_user_sees_that_one_alone(locked: Any) -> None:
    url, cookies, _, service = locked
    page = httpx.get(f"{url}/dashboard/tiers", cookies=cookies["ann"]).text
    assert "I am ann." in page and "I am ben." not in page and "I am eve." not in page and "budget" not in page
    assert httpx.get(f"{url}/dashboard/tiers?user_id=ben", cookies=cookies["ann"]).status_code == 403
    job = service.jobs.start("learn", "acme", "key:somebody", lambda _: {"accepted": False, "reason": "secret"})
    for path in (f"tiers?job={job.id}", f"tiers/jobs/{job.id}"):
        assert httpx.get(f"{url}/dashboard/{path}", cookies=cookies["ann"]).status_code == 404
        assert httpx.get(f"{url}/dashboard/{path}", cookies=cookies["other"]).status_code == 404
    cancel = f"{url}/dashboard/tiers/jobs/{job.id}/cancel"
    assert httpx.post(cancel, cookies=cookies["ann"]).status_code == 404
    assert httpx.post(cancel, cookies=cookies["reads"]).status_code == 403


# -- figures --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**40), min_size=3, max_size=3))
def test_the_bar_is_full_and_nothing_that_is_there_is_invisible(sizes: list[int]) -> None:
    forms = ("text", "activation", "parameter")
    counts = [{"tier": form, "cubes": 1, "bytes": size, "memories": 1} for form, size in zip(forms, sizes, strict=True)]
    parts = bar(counts)
    assert sum(part.width for part in parts) == pytest.approx(WIDTH if any(sizes) else 0.0)
    for part, before, size in zip(parts, [None, *parts], sizes, strict=False):
        assert part.width == 0 if size == 0 else part.width >= SLIVER
        assert part.start == pytest.approx(before.start + before.width if before else 0.0)


def test_heat_is_what_the_kernel_says_it_is(tmp_path: Path) -> None:
    with Memory(tmp_path / "m.db", embedder=WordVectors()) as memory:
        for text in ("one", "two", "three"):
            memory.add(text, user_id="alice", infer=False)
        one, two, three = memory.store.query(ALICE, {"kind": "text"}).cubes
        log = UpkeepLog(memory.store, "default")
        now = 1_800_000_000 * 10**9
        for back, used, found in ((3, [one], [two]), (2, [one, two], []), (0, [two], [one])):
            log.note(now - back * DAY // 2, bundle_name(ALICE), used, found, "")
        account = Account(None, UpkeepLog(memory.store, "default"))
        account.restore(bundle_name(ALICE))
        uses = _uses(memory.store, "default")
        assert set(uses) == {one.id, two.id} and three.id not in uses
        for cube in (one, two):
            known = account.ledger[cube.id]
            assert uses[cube.id].heat.at(now) == pytest.approx(known.heat.at(now))
            assert (uses[cube.id].uses, uses[cube.id].last) == (known.uses, known.last)
