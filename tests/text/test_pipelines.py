"""What every pipeline keeps, whatever it builds: nothing lost, nothing twice, nothing left of what was forgotten."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from import_chat import SCOPE

from lamina import Memory
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput
from lamina.llm import OpenAIChat
from lamina.settings import Settings
from lamina.text.pipelines import DEFAULT, PIPELINES

SCRIPT = Path(__file__).with_name("import_chat.py")
MESSAGES = 2_000


def open_memory(path: Path, pipeline: str) -> Memory:
    return Memory(path, embedder=WordVectors(), settings=Settings(tenant="default", pipeline=pipeline))


def start(path: Path, pipeline: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, str(SCRIPT), str(path), pipeline, str(MESSAGES)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def turns(memory: Memory) -> list[MemCube]:
    return memory.store.query(SCOPE, {"semantic_type": "turn"}, limit=10 * MESSAGES).cubes


def test_an_unknown_pipeline_names_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=DEFAULT):
        Memory(":memory:", pipeline="telepathy")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_two_thousand_messages_killed_and_resumed(tmp_path: Path, pipeline: str) -> None:
    path = tmp_path / "m.db"
    process = start(path, pipeline)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line.split()[0]) >= MESSAGES // 3:
            process.kill()  # SIGKILL, somewhere in the next chunk
            break
    process.wait()
    with start(path, pipeline) as again:
        assert again.stdout is not None
        rows = [tuple(map(int, line.split())) for line in again.stdout]
    assert again.returncode == 0
    assert 0 < rows[0][0] < rows[-1][0] == MESSAGES
    assert rows[-1][1] - rows[len(rows) // 3][1] < 120 * 1024, f"peak memory grew: {rows[:: len(rows) // 5]}"
    with open_memory(path, pipeline) as memory:
        stored = turns(memory)
        assert Counter((turn.header.recorded, turn.text) for turn in stored).most_common(1)[0][1] == 1
        assert len(stored) == MESSAGES
        assert memory.store.verify() == []
        wanted = stored[MESSAGES // 2]
        found = memory.hits(wanted.text, SCOPE, top_k=10)
        assert wanted.id in {(hit.source or hit.cube).id for hit in found}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_life_of_a_memory(tmp_path: Path, pipeline: str) -> None:
    with open_memory(tmp_path / "m.db", pipeline) as memory:
        memory.add("I live in Boston with my dog Rex.", user_id="mira", timestamp="2024-05-01")
        memory.add("My mentor Alice Johnson works at Initech.", user_id="mira", timestamp="2024-05-02")
        alice = {"user_id": "mira"}
        first = memory.search("Where do I live? Boston?", filters=alice)["results"][0]
        assert "Boston" in first["memory"] or "Boston" in first["source"]["text"]
        assert memory.search("Boston", filters={"user_id": "bob"})["results"] == []
        assert memory.search("mentor", filters=alice, as_of="2024-05-01")["results"] != []
        assert all(
            "Initech" not in row["memory"] for row in memory.get_all(filters=alice, as_of="2024-05-01")["results"]
        )
        turn = next(cube for cube in turns(memory) if "Boston" in cube.text)
        memory.delete(turn.id)
        assert turn.id not in {(hit.source or hit.cube).id for hit in memory.hits("Boston", SCOPE)}
        memory.restore(turn.id)
        assert turn.id in {(hit.source or hit.cube).id for hit in memory.hits("Boston", SCOPE)}


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_forgetting_leaves_no_byte(tmp_path: Path, pipeline: str) -> None:
    canary = "Qxzjcanary"
    with open_memory(tmp_path / "m.db", pipeline) as memory:
        for day, text in enumerate(
            ("I like tea.", f"My mentor {canary} lives in Oslo.", "Oslo is cold, my mentor says.")
        ):
            memory.add(text, user_id="mira", timestamp=f"2024-05-0{day + 1}")
        memory.hits(f"Where does {canary} live?", SCOPE)
        turn = next(cube for cube in turns(memory) if canary in cube.text)
        memory.forget(turn.id)
        assert all(canary not in str(hit) for hit in memory.hits(f"Where does {canary} live?", SCOPE))
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert files and not any(canary.lower().encode() in file.read_bytes().lower() for file in files)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_memory(tmp_path / "m.db", pipeline) as memory:
        memory.add("I live in Boston.", user_id="mira", timestamp="2024-05-01")
        before = memory.store.stats()
        monkeypatch.setattr(memory.store, "_commit", lambda tx: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            memory.add("I moved to Denver with Anna.", user_id="mira", timestamp="2024-06-01")
        monkeypatch.undo()
        assert {k: v for k, v in memory.store.stats().items() if "bytes" not in k} == {
            k: v for k, v in before.items() if "bytes" not in k
        }
        memory.add("I moved to Denver with Anna.", user_id="mira", timestamp="2024-06-01")
        assert len(turns(memory)) == 2


def test_the_default_asks_a_model_only_where_there_is_one(tmp_path: Path) -> None:
    with Memory(tmp_path / "a.db", embedder=WordVectors(), settings=Settings(tenant="default")) as memory:
        assert memory.pipeline.extractor.name == "rules"
    model = OpenAIChat("any", base_url="http://127.0.0.1:9/v1", api_key="none")
    with Memory(tmp_path / "b.db", embedder=WordVectors(), llm=model, settings=Settings(tenant="default")) as memory:
        assert "mem0" in memory.pipeline.extractor.name
    rules = Settings(tenant="default", pipeline="hybrid")
    with Memory(tmp_path / "c.db", embedder=WordVectors(), llm=model, settings=rules) as memory:
        assert memory.pipeline.extractor.name == "rules"
