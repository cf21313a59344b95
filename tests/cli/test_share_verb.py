"""``lamina share``: memories leave signed, arrive as guests, and are taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

Run = Callable[..., Result]
Value = Callable[..., Any]


@pytest.fixture
def key(value: Value, tmp_path: Path) -> str:
    file = tmp_path / "ana.key"
    value("share", "key", str(file), "--name", "ana", db=None)
    return str(file)


@pytest.fixture
def other(value: Value, tmp_path: Path) -> str:
    """Somebody else's database, with something in it."""
    db = str(tmp_path / "bob.db")
    value("add", "I play the oboe.", "--user", "bob", db=db)
    return db


def found(value: Value, query: str, db: str) -> str:
    return " | ".join(row["memory"] for row in value("search", query, "--user", "bob", db=db)["results"])


def test_a_key_is_secret_and_never_overwritten(lamina: Run, key: str) -> None:
    assert Path(key).stat().st_mode & 0o077 == 0
    name, secret = Path(key).read_text().strip().split(":")
    assert name == "ana" and len(bytes.fromhex(secret)) == 32
    again = lamina("share", "key", key, "--name", "ana", db=None)
    assert again.exit_code == 1 and secret not in again.output
    Path(key).write_text(f"ana:{secret[:20]}")
    short = lamina("share", "load", "nothing.bundle", "--key-file", key)
    assert short.exit_code == 1 and secret[:20] not in short.output


def test_dump_load_confirm(lamina: Run, value: Value, key: str, other: str, tmp_path: Path) -> None:
    value("add", "I live in Porto. Write to me: ana@example.org.")
    file = str(tmp_path / "out.bundle")
    done = value("share", "dump", file, "--key-file", key)
    assert done["ids"] and done["redacted"] and b"ana@example.org" not in Path(file).read_bytes()
    assert lamina("share", "dump", file, "--key-file", key).exit_code == 1, "nothing is overwritten"

    took = value("share", "load", file, "--key-file", key, "--user", "bob", db=other)
    assert took["signer"] == "ana" and len(took["new"]) == len(done["ids"])
    assert "Porto" not in found(value, "Where does Ana live?", other), "guests are not believed"
    rows = value("share", "waiting", "--user", "bob", db=other)["waiting"]
    assert {row["id"] for row in rows} == set(took["new"]) and {row["from"] for row in rows} == {"ana"}
    assert value("share", "waiting", "--user", "carol", db=other) == {"waiting": []}
    value("share", "confirm", rows[0]["id"], "--user", "bob", db=other)
    value("share", "confirm", "--all", "--user", "bob", db=other)
    assert "Porto" in found(value, "Where does Ana live?", other)
    assert value("share", "waiting", "--user", "bob", db=other) == {"waiting": []}
    assert lamina("share", "confirm", "--user", "bob", db=other).exit_code == 2


def test_a_stranger_and_an_altered_bundle_are_refused(lamina: Run, value: Value, key: str, tmp_path: Path) -> None:
    value("add", "I live in Porto.")
    file, stranger = tmp_path / "out.bundle", str(tmp_path / "eve.key")
    value("share", "dump", str(file), "--key-file", key)
    value("share", "key", stranger, "--name", "eve", db=None)
    refused = lamina("share", "load", str(file), "--key-file", stranger, "--json")
    assert refused.exit_code == 1 and json.loads(refused.stdout)["error"]["code"] == "UNTRUSTED_BUNDLE"
    file.write_bytes(file.read_bytes().replace(b"Porto", b"Paris"))
    assert lamina("share", "load", str(file), "--key-file", key).exit_code == 1
    missing = lamina("share", "load", str(file), "--key-file", str(tmp_path / "no.key"))
    assert missing.exit_code == 1 and "share key" in missing.stderr


def test_a_subscription_follows_the_publisher(lamina: Run, value: Value, key: str, other: str, tmp_path: Path) -> None:
    id = value("add", "I live in Porto.")["results"][0]["id"]
    file, shop = str(tmp_path / "out.bundle"), str(tmp_path / "shop")
    ids = value("share", "dump", file, "--key-file", key)["ids"]
    assert value("share", "publish", shop, file, "--key-file", key, "--for", "bob", db=None)["number"] == 1

    def pull(name: str, *more: str) -> Any:
        return value("share", "pull", shop, "--key-file", key, "--as", name, "--user", "bob", *more, db=other)

    assert pull("eve")["new"] == [], "it is for bob"
    assert len(pull("bob", "--trust")["new"]) == len(ids) and pull("bob")["new"] == []
    assert "Porto" in found(value, "Where does Ana live?", other)
    assert value("share", "withdraw", shop, *ids, "--key-file", key, db=None)["number"] == 2
    assert pull("bob")["forgotten"]
    assert "Porto" not in found(value, "Where does Ana live?", other)
    assert value("cube", "inspect", id)["text"], "the publisher keeps its own"
    assert lamina("share", "pull", shop, "--key-file", key, "--as", "../bob", db=other).exit_code == 1


def test_forgetting_removes_the_bundle(value: Value, key: str, tmp_path: Path) -> None:
    id = value("add", "I live in Porto.")["results"][0]["id"]
    file = tmp_path / "out.bundle"
    value("share", "dump", str(file), "--key-file", key)
    proof = value("forget", id, "--yes", "--verify")["verified"]
    assert proof["found"] == [] and not file.exists()
