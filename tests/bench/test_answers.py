"""Answers: token F1 against LoCoMo's rules written out plainly, and an exam held through a real HTTP server."""

from __future__ import annotations

import json
import re
import string
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import locomo_file
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench import report, runner
from lamina.bench.conversations import judge, locomo, token_f1
from lamina.bench.conversations.answers import INSTRUCTION, Exam, prompt
from lamina.bench.conversations.baselines import Found, line
from lamina.bench.conversations.dataset import load_locomo
from lamina.errors import InvalidInput, LLMError
from lamina.llm.embed import MiniLM
from lamina.llm.openai import OpenAIChat

sys.path.append(str(Path(__file__).parent.parent / "llm"))
from llm_server import Step, failed, said, scripted


@pytest.mark.parametrize(
    ("prediction", "reference", "category", "expected"),
    [
        ("The red boat, and a car", "red boats", 4, 0.8),  # {red, boat, car} and {red, boat}
        ("Paris", "London", 4, 0.0),
        ("", "London", 2, 0.0),
        ("7 May 2023", "7 May, 2023", 2, 1.0),
        ("yes", "Yes; she likes it", 3, 1.0),  # what follows the semicolon does not count
        ("painting, swimming", "swimming, painting, hiking", 1, 2 / 3),
        ("She paints and swims", "swimming, painting", 1, (0.5 + 0.5) / 2),
        ("No information available.", None, 5, 1.0),
        ("It is not mentioned anywhere", None, 5, 1.0),
        ("A dog", None, 5, 0.0),
    ],
)
def test_score_by_hand(prediction: str, reference: str | None, category: int, expected: float) -> None:
    assert token_f1.score(prediction, reference, category) == pytest.approx(expected)


def naive_f1(prediction: str, reference: str) -> float:
    stem = Stemmer.Stemmer("porter").stemWord

    def words(text: str) -> list[str]:
        text = text.replace(",", "").lower()
        text = "".join(character for character in text if character not in set(string.punctuation))
        return [stem(word) for word in re.sub(r"\b(a|an|the|and)\b", " ", text).split()]

    said_, wanted = words(prediction), words(reference)
    same = sum((Counter(said_) & Counter(wanted)).values())
    if not same:
        return 0.0
    precision, recall = same / len(said_), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


phrases = st.lists(st.sampled_from(["the", "And", "run", "running", "dogs,", "dog", "a", "x-ray", "2023", "it's"])).map(
    " ".join
)


@given(phrases, phrases)
def test_f1_agrees_with_the_rules_written_out(prediction: str, reference: str) -> None:
    found = token_f1.f1(prediction, reference)
    assert found == pytest.approx(naive_f1(prediction, reference))
    assert found == pytest.approx(token_f1.f1(reference, prediction))
    assert 0 <= found <= 1


# -- an exam -------------------------------------------------------------------------------------


def reader(url: str, name: str = "reader") -> OpenAIChat:
    return OpenAIChat(name, base_url=url, api_key="k", retries=0)


def test_the_prompt_holds_ten_dated_lines_and_no_more(tmp_path: Path) -> None:
    talk = load_locomo(locomo_file.write(tmp_path))[0]
    system, user = prompt(talk, "Who?", [Found(turn.dia_id, line(turn)) for turn in talk.turns])
    assert system == {"role": "system", "content": INSTRUCTION}
    lines = user["content"].splitlines()
    assert lines[0] == "- 8 May 2023, Ann: I have seen the zebra."
    assert (len([one for one in lines if one.startswith("- ")]), lines[-1]) == (10, "Question: Who?")


def test_answers_are_scored_and_judged(tmp_path: Path, minilm: MiniLM) -> None:
    """Conversation 1 of the file has six questions; the one without evidence is asked all the same."""
    file = locomo_file.write(tmp_path)
    verdicts = [
        said(json.dumps({"verdict": verdict})) for verdict in ["right", "wrong", "right", "wrong", "wrong", "wrong"]
    ]
    with scripted(*[said("Ann and not mentioned")] * 7) as answering, scripted(*verdicts) as judging:
        exam = Exam(100, reader(answering.url), reader(judging.url, "judge"))
        document = locomo.run(file, systems=["bm25"], embedder=minilm, qa=exam)["answers"]
    row = document["systems"]["bm25"]
    # references: Ann twice (walrus, in both conversations), x otherwise; one is adversarial
    assert row["questions"] == 7 and row["adversarial"] == 1.0
    assert row["f1"] == pytest.approx(2 * 0.5 / 6)  # {ann, not, mention} and {ann}: precision 1/3, recall 1
    assert row["judged"] == pytest.approx(2 / 6)
    low, high = row["judged_interval"]
    assert 0 <= low <= row["judged"] <= high <= 1
    assert (document["reader"], document["judge"]) == ("openai:reader", "openai:judge")
    for words in ("openai:reader", "openai:judge", document["prompt_sha256"][:12], judge.PROMPT_SHA256[:12]):
        assert words in document["definition"]
    walrus = answering.bodies()[0]["messages"][1]["content"]
    assert "Bob: I have seen the walrus." in walrus.splitlines()[0]
    assert "Reference: Ann" in judging.bodies()[0]["messages"][1]["content"]
    shown = report.markdown(
        {"locomo": locomo.run(file, systems=["bm25"], embedder=minilm) | {"seconds": 1.0, "answers": document}}
    )
    assert "**Answers**" in shown and document["definition"] in shown


def test_a_draw_is_the_same_for_all_systems_and_seeds_differ(tmp_path: Path, minilm: MiniLM) -> None:
    file = locomo_file.write(tmp_path)
    asked: list[list[str]] = []
    for seed in (0, 0, 1, 2, 3):
        with scripted(*[said("x")] * 4) as server:
            locomo.run(file, systems=["bm25,dense"], seed=seed, embedder=minilm, qa=Exam(2, reader(server.url)))
            questions = [body["messages"][1]["content"].splitlines()[-1] for body in server.bodies()]
        assert sum(Counter(questions).values()) == 4 and min(Counter(questions).values()) >= 2  # both systems
        asked.append(questions)
    assert asked[0] == asked[1]
    assert len({tuple(one) for one in asked}) > 1


def test_a_model_that_fails_stops_the_run(tmp_path: Path, minilm: MiniLM) -> None:
    file = locomo_file.write(tmp_path)
    with scripted(failed(400, "no such model")) as server, pytest.raises(LLMError, match="no such model"):
        locomo.run(file, systems=["bm25"], embedder=minilm, qa=Exam(1, reader(server.url)))


def test_answers_by_name_come_from_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = locomo_file.write(tmp_path)
    with scripted(said("x"), Step({"choices": [{"message": {"content": '{"verdict": "wrong"}'}}]})) as server:
        monkeypatch.setenv("LAMINA_LLM_BASE_URL", server.url)
        monkeypatch.setenv("LAMINA_LLM_API_KEY", "k")
        options: dict[str, Any] = {
            "systems": ["bm25"],
            "answers": 1,
            "reader": "openai:a",
            "judge": "openai:b",
            "seed": 1,
        }
        assert runner.run(["locomo"], data=file, **options) == 0
        assert [body["model"] for body in server.bodies()] in (["a", "b"], ["a"])  # an adversarial one is not judged


@pytest.mark.parametrize("options", [{"answers": 1}, {"reader": "openai:a"}, {"judge": "openai:b", "answers": 2}])
def test_answers_need_locomo(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="name locomo, and how many"):
        runner.run(["throughput"], **options)
    with pytest.raises(InvalidInput, match="at least 1"):
        Exam(0, OpenAIChat("m", base_url="http://localhost:1/v1", api_key="k"))
