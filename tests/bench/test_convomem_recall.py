"""``lamina bench convomem``: recall of quoted evidence on a file made here, and which of card and harness runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_cards import CARDS, good

from lamina.bench import report, runner
from lamina.bench.conversations import convomem_recall
from lamina.errors import InvalidInput, NotFound
from lamina.llm.embed import MiniLM


def said(speaker: str, text: str) -> dict[str, str]:
    return {"speaker": speaker, "text": text}


def write(folder: Path, **changes: Any) -> Path:
    """One history of three conversations: a question of two evidence messages, and one whose evidence is not there."""
    talks = [
        [said("User", "My dentist is called Wilkes."), said("Assistant", "Noted.")],
        [said("User", "It rains."), said("Assistant", ""), said("Assistant", "Take an umbrella.")],
        [said("User", "The dentist moved to Elm Street."), said("Assistant", "Thanks.")],
    ]
    case = {
        "evidenceItems": [
            {
                "question": "What do you know about my dentist?",
                "answer": "Wilkes, Elm Street",
                "message_evidences": [talks[0][0], talks[2][0]],
                "category": "user_evidence",
            },
            {
                "question": "Which car do I drive?",
                "answer": "unknown",
                "message_evidences": [said("User", "I drive a bus."), talks[0][0]],
                "category": "abstention",
            },
        ],
        "conversations": [{"messages": messages} for messages in talks],
        "contextSize": 3,
    }
    file = folder / "cases.json"
    file.write_text(json.dumps([case | changes]))
    return file


def test_evidence_is_what_is_quoted_word_for_word(tmp_path: Path, minilm: MiniLM) -> None:
    document = convomem_recall.run(write(tmp_path), systems=["lamina,bm25-stemmed"], embedder=minilm)
    assert (document["conversations"], document["turns"], document["questions"]) == (3, 6, 1)
    for row in document["systems"].values():
        assert row["recall@5"] == 1.0 and set(row["by_category"]) == {"user_evidence"}
    assert document["systems"]["bm25-stemmed"]["ndcg@10"] == 1.0
    assert "1 questions without evidence" in document["notes"][-1]
    text = report.markdown({"convomem": document | {"seconds": 1.0}})
    assert document["definition"] in text and document["sha256"] in text


def test_a_file_without_evidence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no question has evidence"):
        convomem_recall.run(write(tmp_path, conversations=[]), systems=["bm25"])


def test_a_file_means_the_harness_and_no_file_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "lamina"\n')
    cards = {"convomem": replace(good, name="convomem"), **CARDS}
    (tmp_path / "in").mkdir()
    file = write(tmp_path / "in")

    def kind(data: Path | None) -> str:
        systems = ["bm25"] if data else []
        runner.run(["convomem"], data=data, systems=systems, scale="smoke", write=True, json=True, cards=cards)
        return "card" if "claims" in json.loads(capsys.readouterr().out) else "harness"

    assert [kind(None), kind(tmp_path / "in"), kind(file)] == ["card", "harness", "harness"]
    kept = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert kept == ["convomem-data.json", "convomem.json"]  # neither overwrote the other
    assert "claims" in json.loads((tmp_path / "results" / "convomem.json").read_text())
    with pytest.raises(InvalidInput, match="convomem needs a published file"):
        runner.run(["convomem"], cards=CARDS)


def test_the_strategies_stand_beside_the_memories(tmp_path: Path, minilm: MiniLM) -> None:
    class Model:
        name = "stub:model"

        def count_tokens(self, text: str) -> int:
            return len(text.split())

        def chat(self, messages: Any, *, schema: Any = None, max_tokens: int = 256) -> Any:
            return "RIGHT" if "grade" in messages[0]["content"] else "Wilkes, Elm Street"

        def stream(self, messages: Any, *, max_tokens: int = 256) -> Any:
            raise AssertionError("not used")

    model = Model()
    document = convomem_recall.run(
        write(tmp_path), systems=["bm25,full", "router"], embedder=minilm, reader=model, judge=model
    )
    assert list(document["systems"]) == ["bm25"] and list(document["contexts"]["systems"]) == ["full", "router"]
    full = document["contexts"]["systems"]["full"]
    assert full["accuracy"] == 1.0 and full["by_category"]["user_evidence"]["recall_all"] == 1.0
    text = report.markdown({"convomem": document | {"seconds": 1.0}})
    assert "Contexts for a reader" in text and "Reader: stub:model; judge: stub:model." in text
    with pytest.raises(NotFound, match="guess"):
        convomem_recall.run(write(tmp_path), systems=["full", "guess"], embedder=minilm)


def test_what_nobody_would_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    cards = {"convomem": replace(good, name="convomem"), **CARDS}
    file = write(tmp_path)
    for names, options, message in (
        (["convomem"], {"data": tmp_path / "typo.json"}, "no such file or folder"),
        (["toy-counting"], {"data": file}, "name the one harness"),
        (["locomo", "convomem"], {"data": file}, "name the one harness"),
        (None, {"data": file}, "name the one harness"),
        (["toy-counting"], {"systems": ["bm25"]}, "compare memories"),
        (["convomem"], {"systems": ["bm25"]}, "compare memories"),
        (["convomem"], {"reader": "local:smollm2"}, "convomem with --data"),
        (["convomem"], {"data": file, "judge": "local:smollm2"}, "and a reader"),
        (["toy-counting"], {"seed": -1}, "seed=-1"),
    ):
        given: dict[str, Any] = {"scale": "smoke", "cards": cards, **options}
        with pytest.raises(InvalidInput, match=message):
            runner.run(names, **given)


def test_a_name_twice_runs_once(capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(["toy-counting", "toy-counting"], scale="smoke", json=True, cards=CARDS)
    assert json.loads(capsys.readouterr().out)["system"] == "toy-counting"


def test_all_leaves_out_what_has_no_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMINA_LOCOMO", raising=False)
    slow = ("throughput", "load", "kv-frontier", "architectures")  # need no file, and have tests of their own
    harnesses = {name: run for name, run in runner.HARNESSES.items() if name not in slow}
    monkeypatch.setattr(runner, "HARNESSES", harnesses)
    cards = {"convomem": replace(good, name="convomem"), "toy-counting": good}
    assert runner.run(None, scale="smoke", json=True, cards=cards) == 0
    assert [one["system"] for one in json.loads(capsys.readouterr().out)] == ["convomem", "toy-counting"]
