"""``lamina adapters``: from a teacher at work to experts in the database, on a tiny model of noise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from lamina.llm.causal import CausalLM
from lamina.parameter.experts.serving import MAX_TOKENS
from lamina.zoo.models import folder

Run = Callable[..., Result]
Value = Callable[..., Any]

CHAT = [
    {"role": "user", "name": "Ada", "content": "I live in Oslo.", "timestamp": "2024-05-01T10:00:00Z"},
    {"role": "assistant", "content": "Good to know!", "timestamp": "2024-05-01T10:00:10Z"},
    {"role": "user", "name": "Ada", "content": "I moved to Rome.", "timestamp": "2024-05-09T10:00:00Z"},
    {"role": "user", "name": "Ada", "content": "Where do I live?", "timestamp": "2024-05-09T10:01:00Z"},
]


@pytest.fixture(scope="module")
def noise() -> CausalLM:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder("smollm2"), local_files_only=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, eos_token_id=2, pad_token_id=2, max_position_embeddings=2048, tie_word_embeddings=True,
    )  # fmt: skip
    return CausalLM(LlamaForCausalLM(config).eval(), tokenizer, "local:noise")


@pytest.fixture
def asked_for(noise: CausalLM, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tiny model in place of whatever is loaded; the names it was loaded by."""
    names: list[str] = []
    monkeypatch.setattr(CausalLM, "load", lambda name="smollm2": names.append(name) or noise)
    for op in MAX_TOKENS:
        monkeypatch.setitem(MAX_TOKENS, op, 6)  # it never ends a turn by itself
    return names


@pytest.fixture
def traces(value: Value, tmp_path: Path) -> str:
    file = str(tmp_path / "traces.jsonl")
    value("adapters", "record", "--dialogues", "3", "--teacher", "state", "--out", file, db=None)
    return file


def _rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_teacher_is_recorded_in_the_pipeline_over_a_chat_log(value: Value, tmp_path: Path) -> None:
    chat, questions, out = tmp_path / "chat.json", tmp_path / "questions.txt", tmp_path / "t.jsonl"
    chat.write_text(json.dumps(CHAT))
    questions.write_text("Which city does Ada live in?\n\n")
    told = value("adapters", "record", str(chat), "--questions", str(questions), "--out", str(out), db=None)
    assert told["teacher"] == "rules" and told["unread"] == 0
    assert told["traces"] == {"extract": 3, "update": 2, "generate": 2}
    rows = _rows(out)
    said = [row["request"]["said"] for row in rows if row["op"] == "extract"]
    assert said[0] == [["Ada", "I live in Oslo."], ["Assistant", "Good to know!"]] and len(said[1]) == 1
    (first, second) = [row for row in rows if row["op"] == "update"]
    assert first["request"]["memories"] == [] and "ADD" in first["output"]
    assert second["request"]["memories"] == ["Ada lives in Oslo."] and "UPDATE" in second["output"]
    (aloud, listed) = [row["request"] for row in rows if row["op"] == "generate"]
    assert (aloud["question"], aloud["today"]) == ("Where do I live?", "2024-05-09")
    assert (listed["question"], listed["today"]) == ("Which city does Ada live in?", "2024-05-10")
    assert all("Oslo" not in memory["text"] for memory in listed["memories"])  # what holds no more is not recalled
    value("adapters", "record", str(chat), "--out", str(out), db=None)
    assert len(_rows(out)) == len(rows) + 6  # added, without the list's question


def test_the_state_of_shipped_dialogues_teaches_all_operations(value: Value, traces: str, tmp_path: Path) -> None:
    rows = _rows(Path(traces))
    assert {row["teacher"] for row in rows} == {"state"}
    assert sum(row["op"] == "extract" for row in rows) == 60
    events = {change["event"] for row in rows if row["op"] == "update" for change in json.loads(row["output"])}
    assert events >= {"ADD", "UPDATE", "DELETE"}
    again = tmp_path / "again.jsonl"
    value("adapters", "record", "--dialogues", "3", "--teacher", "state", "--out", str(again), db=None)
    assert again.read_text() == Path(traces).read_text()


def test_an_endpoint_that_is_away_leaves_turns_unread(value: Value, tmp_path: Path) -> None:
    chat, out = tmp_path / "chat.json", tmp_path / "t.jsonl"
    chat.write_text(json.dumps(CHAT[:2]))
    where = ("--teacher", "http://127.0.0.1:9/v1", "--model", "any", "--out", str(out))
    told = value("adapters", "record", str(chat), *where, db=None)
    assert (told["unread"], told["traces"], told["teacher"]) == (2, {}, "openai:any")


def test_a_teacher_that_is_none_is_refused(lamina: Run, tmp_path: Path) -> None:
    chat, out = tmp_path / "chat.json", str(tmp_path / "t.jsonl")
    chat.write_text(json.dumps(CHAT))
    for arguments, problem in (
        ([str(chat), "--teacher", "state"], "without FILE"),
        (["--teacher", "oracle"], "OpenAI-compatible"),
        (["--teacher", "http://127.0.0.1:9/v1"], "--model"),
    ):
        result = lamina("adapters", "record", *arguments, "--out", out, db=None)
        assert result.exit_code == 1 and problem in result.stderr
    nowhere = lamina("adapters", "record", "--out", str(tmp_path / "no" / "t.jsonl"), db=None)
    assert nowhere.exit_code == 1 and "folder does not exist" in nowhere.stderr
    chat.write_bytes(b"\xff\xfe")
    assert "UTF-8" in lamina("adapters", "record", str(chat), "--out", out, db=None).stderr
    assert not Path(out).exists()


def test_clean_counts_what_is_rejected_and_why(value: Value, traces: str, tmp_path: Path) -> None:
    rows = Path(traces).read_text().splitlines()
    spoilt = tmp_path / "spoilt.jsonl"
    invented = json.loads(rows[0]) | {"output": '{"facts": ["Nobody ever said this sentence."]}'}
    spoilt.write_text("\n".join([*rows, rows[0], json.dumps(invented)]) + "\n")
    before = value("adapters", "clean", traces, db=None)
    out = tmp_path / "clean.jsonl"
    after = value("adapters", "clean", str(spoilt), "--out", str(out), db=None)
    assert after["kept"] == before["kept"] and after["sha256"] == before["sha256"]
    assert after["rejected"]["ungrounded"] == before["rejected"].get("ungrounded", 0) + 1
    assert after["rejected"]["duplicate"] == before["rejected"].get("duplicate", 0) + 1
    assert len(_rows(out)) == sum(after["kept"].values())
    assert value("adapters", "clean", str(out), db=None)["rejected"] == {}


def test_distil_list_eval_ask(lamina: Run, value: Value, traces: str, asked_for: list[str]) -> None:
    value("add", "I live in Oslo.", "--speaker", "Ada")
    told = value("adapters", "distill", traces, "--steps", "3", "--layers", "2", "--rank", "2")
    rows = told["experts"]
    assert [row["op"] for row in rows] == ["extract", "update", "generate"]
    assert all((row["steps"], row["rank"], row["layers"], row["teacher"]) == (3, 2, 2, "state") for row in rows)
    assert all(row["requests"] > 0 and 0 <= row["value"] <= 1 and row["bytes"] > 0 for row in rows)
    assert all(row["base"] == "local:noise" and len(row["traces"]) == 64 for row in rows)
    assert value("adapters", "list") == rows
    value("adapters", "distill", traces, "--steps", "2", "--layers", "4", "--op", "update")
    newer = value("adapters", "list")
    assert [row["steps"] for row in newer] == [3, 2, 3] and newer[1]["layers"] == 4
    asked_for.clear()
    compared = value("adapters", "eval", traces, "--op", "update")
    assert [(row["op"], row["teacher"]) for row in compared] == [("update", "state")] and asked_for == ["noise"]
    assert compared[0]["requests"] == value("adapters", "clean", traces, db=None)["kept"]["update"]
    value("adapters", "distill", traces, "--steps", "60", "--layers", "4", "--lr", "0.02", "--op", "generate")
    answer = value("adapters", "ask", "Where does Ada live?")
    assert answer["answer"].startswith("not") and answer["cited"] == []
    assert "local:noise" in lamina("adapters", "list").stdout


def test_without_experts_or_traces_it_says_what_to_do(
    lamina: Run, tmp_path: Path, traces: str, asked_for: list[str]
) -> None:
    lamina("add", "I live in Oslo.")
    assert "lamina adapters distill" in " ".join(lamina("adapters", "list").stdout.split())
    for verb in (["ask", "Where?"], ["eval", traces], ["eval", traces, "--op", "extract"]):
        result = lamina("adapters", *verb)
        assert result.exit_code == 1 and "lamina adapters distill" in " ".join(result.stderr.split())
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    assert "no traces" in lamina("adapters", "distill", str(empty)).stderr and asked_for == []
    assert lamina("adapters", "distill", str(tmp_path / "missing.jsonl")).exit_code == 2
