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


class People:
    """Several people on one machine: each has a data folder, and so a key, of their own."""

    def __init__(self, value: Value, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._value, self._folder, self._patch = value, folder, patch

    def be(self, name: str) -> None:
        self._patch.setenv("LAMINA_HOME", str(self._folder / f"{name}-home"))

    def key(self, name: str) -> str:
        """The public key of ``name``, who is spoken for from here on."""
        self.be(name)
        return str(self._value("share", "key", "--name", name, db=None)["public"])


@pytest.fixture
def people(value: Value, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> People:
    return People(value, tmp_path, monkeypatch)


@pytest.fixture
def other(value: Value, tmp_path: Path) -> str:
    """Somebody else's database, with something in it."""
    db = str(tmp_path / "bob.db")
    value("add", "I play the oboe.", "--user", "bob", db=db)
    return db


def found(value: Value, query: str, db: str) -> str:
    return " | ".join(row["memory"] for row in value("search", query, "--user", "bob", db=db)["results"])


def test_a_key_is_made_once_and_only_its_public_half_is_printed(lamina: Run, value: Value, people: People) -> None:
    public = people.key("ana")
    told = value("share", "key", db=None)
    file = Path(told["file"])
    assert (told["public"], told["name"]) == (public, "ana") and file.stat().st_mode & 0o777 == 0o600
    secret = file.read_text().strip().rpartition(":")[2]
    assert secret not in json.dumps(told) and told["fingerprint"] in lamina("share", "key", db=None).output
    renamed = lamina("share", "key", "--name", "eve", db=None)
    assert renamed.exit_code == 1 and "ana" in renamed.output
    people.be("new")
    assert value("share", "key", db=None)["name"] == "me", "without a name: the user's"


def test_dump_load_confirm(lamina: Run, value: Value, people: People, other: str, tmp_path: Path) -> None:
    public = people.key("ana")
    value("add", "I live in Porto. Write to me: ana@example.org.")
    file = str(tmp_path / "out.bundle")
    done = value("share", "dump", file)
    assert done["ids"] and done["redacted"] and b"ana@example.org" not in Path(file).read_bytes()
    assert lamina("share", "dump", file).exit_code == 1, "nothing is overwritten"

    people.be("bob")
    took = value("share", "load", file, "--trust", public, "--user", "bob", db=other)
    assert took["signer"] == "ana" and len(took["new"]) == len(done["ids"])
    again = value("share", "load", file, "--user", "bob", db=other)
    assert len(again["same"]) == len(done["ids"]), "trusted once is trusted from then on"
    assert "Porto" not in found(value, "Where does Ana live?", other), "guests are not believed"
    rows = value("share", "waiting", "--user", "bob", db=other)["waiting"]
    assert {row["id"] for row in rows} == set(took["new"]) and {row["from"] for row in rows} == {"ana"}
    assert value("share", "waiting", "--user", "carol", db=other) == {"waiting": []}
    value("share", "confirm", rows[0]["id"], "--user", "bob", db=other)
    value("share", "confirm", "--all", "--user", "bob", db=other)
    assert "Porto" in found(value, "Where does Ana live?", other)
    assert value("share", "waiting", "--user", "bob", db=other) == {"waiting": []}
    assert lamina("share", "confirm", "--user", "bob", db=other).exit_code == 2


def test_a_stranger_and_an_altered_bundle_are_refused(
    lamina: Run, value: Value, people: People, tmp_path: Path
) -> None:
    public = people.key("ana")
    value("add", "I live in Porto.")
    file = tmp_path / "out.bundle"
    value("share", "dump", str(file))
    ana = value("share", "key", db=None)["fingerprint"]
    eve = people.key("eve")
    refused = lamina("share", "load", str(file), "--json")
    error = json.loads(refused.stdout)["error"]
    assert refused.exit_code == 1 and error["code"] == "UNTRUSTED_BUNDLE"
    assert ana in error["message"] and value("share", "key", db=None)["fingerprint"] in error["message"]
    value("share", "load", str(file), "--trust", public)
    rows = value("share", "trusted", db=None)["trusted"]
    assert [row["public"] for row in rows] == [eve, public]
    data = file.read_bytes()
    file.write_bytes(data.replace(b"Porto", b"Paris"))
    assert lamina("share", "load", str(file)).exit_code == 1
    file.write_bytes(data)
    assert [row["name"] for row in value("share", "trusted", "--remove", ana, db=None)["trusted"]] == ["eve"]
    assert lamina("share", "load", str(file)).exit_code == 1
    secret = Path(value("share", "key", db=None)["file"]).read_text()
    wrong = lamina("share", "load", str(file), "--trust", secret)
    assert wrong.exit_code == 1 and secret.rpartition(":")[2].strip() not in wrong.output


def test_a_subscription_follows_the_publisher(
    lamina: Run, value: Value, people: People, other: str, tmp_path: Path
) -> None:
    public = people.key("ana")
    id = value("add", "I live in Porto.")["results"][0]["id"]
    file, shop = str(tmp_path / "out.bundle"), str(tmp_path / "shop")
    ids = value("share", "dump", file)["ids"]
    assert value("share", "publish", shop, file, "--for", "bob", db=None)["number"] == 1

    def pull(name: str, *more: str) -> Any:
        return value("share", "pull", shop, "--as", name, "--user", "bob", *more, db=other)

    people.be("bob")
    refused = lamina("share", "pull", shop, "--as", "bob", db=other)
    assert refused.exit_code == 1 and public in " ".join(refused.stderr.split()), "it says what to trust"
    assert pull("eve", "--trust", public)["new"] == [], "it is for bob"
    assert len(pull("bob", "--confirm")["new"]) == len(ids) and pull("bob")["new"] == []
    assert "Porto" in found(value, "Where does Ana live?", other)
    people.be("ana")
    assert value("share", "withdraw", shop, *ids, db=None)["number"] == 2
    people.be("bob")
    assert pull("bob")["forgotten"]
    assert "Porto" not in found(value, "Where does Ana live?", other)
    assert value("cube", "inspect", id)["text"], "the publisher keeps its own"
    assert lamina("share", "pull", shop, "--as", "../bob", db=other).exit_code == 1


def test_an_impostor_in_the_folder_is_passed_over_and_told(
    lamina: Run, value: Value, people: People, other: str, tmp_path: Path
) -> None:
    value("add", "I live in Porto.")
    shop, files = str(tmp_path / "shop"), [str(tmp_path / name) for name in ("one", "two")]
    public = people.key("ana")
    ids = value("share", "dump", files[0])["ids"]
    value("share", "publish", shop, files[0], db=None)
    people.be("impostor")
    value("share", "key", "--name", "ana", db=None)
    value("share", "dump", files[1])
    value("share", "publish", shop, files[1], db=None)
    theirs = value("share", "key", db=None)["fingerprint"]
    people.be("bob")
    pulled = lamina("share", "pull", shop, "--as", "bob", "--trust", public, "--user", "bob", "--json", db=other)
    assert pulled.exit_code == 0 and theirs in " ".join(pulled.stderr.split())
    assert len(json.loads(pulled.stdout)["new"]) == len(ids), "hers, not the impostor's"


def test_forgetting_removes_the_bundle(value: Value, people: People, tmp_path: Path) -> None:
    people.key("ana")
    id = value("add", "I live in Porto.")["results"][0]["id"]
    file = tmp_path / "out.bundle"
    value("share", "dump", str(file))
    proof = value("forget", id, "--yes", "--verify")["verified"]
    assert proof["found"] == [] and not file.exists()
