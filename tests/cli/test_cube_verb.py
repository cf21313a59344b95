"""``lamina cube``: what it shows, compares, merges and writes is what the store holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from lamina.cube import file as cube_file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload

Run = Callable[..., Result]
Value = Callable[..., Any]


def added(value: Value, text: str, *more: str) -> str:
    rows = value("add", text, *more)["results"]
    return next(row["id"] for row in rows if row["semantic_type"] != "turn")


def tensors(tmp_path: Path, name: str, **arrays: np.ndarray[Any, Any]) -> str:
    model = Fingerprint("LlamaForCausalLM", "w" * 8, "t" * 8, "float32")
    header = Header(kind="activation", access=("activation",))
    cube_file.write(MemCube(header, TensorPayload.from_numpy(arrays, model)), tmp_path / name)
    return str(tmp_path / name)


def test_inspect_shows_text_header_and_versions(lamina: Run, value: Value) -> None:
    id = added(value, "I live in Porto.")
    value("update", id, "I live in Lisbon.")
    new, old = value("cube", "inspect", id), value("cube", "inspect", f"{id}@1")
    assert (new["header"]["version"], old["header"]["version"]) == (2, 1)
    assert "Lisbon" in new["text"] and "Porto" in old["text"] and new["bytes"] == len(new["text"].encode())
    shown = lamina("cube", "inspect", id).stdout
    assert "Lisbon" in shown and new["sha256"] in shown
    for wrong in (f"{id}@9", f"{id}@x", "nobody"):
        assert lamina("cube", "inspect", wrong).exit_code == 1


def test_inspect_lists_tensors_and_the_model_of_a_file(lamina: Run, value: Value, tmp_path: Path) -> None:
    file = tensors(tmp_path, "a.cube", keys=np.zeros((2, 3), "f4"), scale=np.float32(1.0).reshape(()))
    told = value("cube", "inspect", file, db=None)
    assert told["tensors"] == [
        {"name": "keys", "dtype": "F32", "shape": [2, 3], "bytes": 24},
        {"name": "scale", "dtype": "F32", "shape": [], "bytes": 4},
    ]
    assert told["fingerprint"]["architecture"] == "LlamaForCausalLM" and told["bytes"] == 28
    shown = lamina("cube", "inspect", file, db=None).stdout
    assert "2 x 3" in shown and "scalar" in shown
    data = bytearray(Path(file).read_bytes())
    data[-1] ^= 1
    Path(file).write_bytes(data)
    assert "checksum" in lamina("cube", "inspect", file, db=None).stderr


def test_diff_tells_text_and_tensors(lamina: Run, value: Value, tmp_path: Path) -> None:
    id = added(value, "I live in Porto.")
    value("update", id, "I live in Lisbon.")
    found = value("cube", "diff", f"{id}@1", id)
    assert not found["equal"] and found["header"]["version"] == [1, 2]
    assert any(line.startswith("-") and "Porto" in line for line in found["text"])
    assert value("cube", "diff", id, id)["equal"]
    one = tensors(tmp_path, "one.cube", keys=np.zeros(3, "f4"), gone=np.zeros(1, "f4"))
    two = tensors(tmp_path, "two.cube", keys=np.full(3, 0.5, "f4"), come=np.zeros(1, "f4"))
    found = value("cube", "diff", one, two, db=None)
    assert (found["added"], found["removed"], found["changed"]) == (["come"], ["gone"], {"keys": 0.5})
    shown = lamina("cube", "diff", one, two, db=None).stdout
    assert "+ tensor come" in shown and "differs by up to 0.5" in shown


def test_merge_makes_one_memory_that_search_finds(lamina: Run, value: Value) -> None:
    ids = [added(value, "I live in Porto."), added(value, "I am allergic to walnuts.")]
    made = value("cube", "merge", *ids)
    assert {id for id, _ in made["header"]["lineage"]["derived_from"]} == set(ids)
    assert "Porto" in made["text"] and "walnuts" in made["text"]
    assert value("cube", "inspect", made["id"])["sha256"] == made["sha256"]
    assert all(value("cube", "inspect", id)["header"]["state"] == "merged" for id in ids)
    assert made["id"] in {row["id"] for row in value("search", "Which nuts must I avoid?")["results"]}
    other = added(value, "I play the oboe.", "--user", "bob")
    for wrong in ([made["id"], other], [made["id"], made["id"]]):
        assert lamina("cube", "merge", *wrong).exit_code == 1
    assert value("cube", "inspect", made["id"])["header"]["state"] == "active", "a refused merge changes nothing"


def test_an_exported_cube_goes_with_its_memory(lamina: Run, value: Value, tmp_path: Path) -> None:
    id = added(value, "I live in Porto.")
    file = tmp_path / "porto.cube"
    told = value("cube", "export", id, str(file))
    assert told["bytes"] == file.stat().st_size
    assert value("cube", "diff", id, str(file))["equal"]
    assert lamina("cube", "export", id, str(file)).exit_code == 1, "nothing is overwritten"
    again = tmp_path / "again.cube"
    value("cube", "export", id, str(again))
    again.rename(tmp_path / "moved.cube")
    told = lamina("forget", id, "--yes").stderr
    assert not file.exists() and f"Removed {file}" in told and f"{again} held a copy and is out of reach" in told


@pytest.mark.parametrize("verb", [["inspect"], ["diff", "x"], ["merge"], ["export", "x"]])
def test_wrong_usage(lamina: Run, verb: list[str]) -> None:
    assert lamina("cube", *verb).exit_code == 2
