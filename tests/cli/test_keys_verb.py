"""``lamina keys``: made, listed with what became of them, revoked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import Result

from lamina.cube.cube import now
from lamina.server.keys import KeyRing
from lamina.store.sqlite import SqliteStore

Run = Callable[..., Result]
Value = Callable[..., Any]


def test_the_list_says_which_keys_still_open(
    db: str, lamina: Run, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    SqliteStore(db).close()
    assert "lamina keys create" in lamina("keys", "list").stdout and value("keys", "list") == {"keys": []}
    valid = value("keys", "create", "valid", "--tenant", "acme")
    later = value("keys", "create", "later", "--days", "30", "--right", "read", "--only", "ann")
    gone = value("keys", "create", "gone")
    with SqliteStore(db) as store:
        past, token = KeyRing(store).create("past", "acme", expires=now() + timedelta(milliseconds=200))
        while now() <= past.expires:  # type: ignore[operator]
            time.sleep(0.02)
        assert KeyRing(store).verify(token) is None
    assert value("keys", "revoke", gone["id"])["revoked"]
    listed = value("keys", "list")["keys"]
    assert [(one["name"], one["tenant"]) for one in listed] == [
        ("valid", "acme"), ("later", "default"), ("gone", "default"), ("past", "acme"),
    ]  # fmt: skip
    assert not any("token" in one for one in listed) and valid["token"] not in json.dumps(listed)
    shown = lamina("keys", "list")
    assert shown.exit_code == 0
    states = {name: line for line in shown.stdout.splitlines() for name in line.split()[1:2]}
    assert "valid" in states["valid"].split()[2:] and "revoked" in states["gone"]
    assert f"until {later['expires'][:10]}" in states["later"]
    assert past.expires and f"expired {past.expires:%Y-%m-%d}" in states["past"] and "until" not in states["past"]


def test_a_key_that_is_not_there(lamina: Run, value: Value) -> None:
    value("keys", "create", "one")
    refused = lamina("keys", "revoke", "abc")
    assert refused.exit_code == 1 and "lamina keys list" in refused.stderr
    refused = lamina("keys", "create", "one", "--right", "fly", "--json")
    assert refused.exit_code == 1 and "read, write, forget, admin" in json.loads(refused.stdout)["error"]["message"]


def test_a_name_moves_no_cursor_and_what_is_shown_is_whole(
    db: str, lamina: Run, value: Value, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Administrators of tenants name keys; the operator reads the list, on 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    with SqliteStore(db) as store:
        key, _ = KeyRing(store).create("the_support_bot", "acme_and_sons", expires=now() + timedelta(days=2))
        KeyRing(store).create("\x1b[2J", "[red]")
    made = lamina("keys", "create", "backend")
    assert re.fullmatch(r"lk_\w{12}_[\w-]{43}", made.stdout.splitlines()[0]) and "not shown again" in made.stdout
    shown = lamina("keys", "list").stdout
    assert key.expires and f"{key.expires:%Y-%m-%d}" in shown and "\u2026" not in shown and "\x1b" not in shown
    assert "[2J" in shown and "[red]" in shown and max(map(len, shown.splitlines())) <= 80
