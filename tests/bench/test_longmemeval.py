"""LongMemEval: the streaming reader against ``json.loads``, the protocol against the official rules written out."""

from __future__ import annotations

import json
import math
import tempfile
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import longmemeval_file
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench import report, runner
from lamina.bench.conversations import longmemeval, longmemeval_data
from lamina.bench.conversations.longmemeval import as_conversation, session_label, turn_id
from lamina.bench.conversations.longmemeval_data import Instance, read_longmemeval
from lamina.errors import InvalidInput
from lamina.llm.embed import MiniLM

# -- the file ------------------------------------------------------------------------------------


def test_instances_are_read_whole(tmp_path: Path) -> None:
    written = [longmemeval_file.instance(f"q{n}") for n in range(3)]
    found = list(read_longmemeval(longmemeval_file.write(tmp_path, written)))
    assert [one.question_id for one in found] == ["q0", "q1", "q2"]
    assert [[m.content for m in said] for said in found[0].haystack_sessions] == [
        [m["content"] for m in said] for said in written[0]["haystack_sessions"]
    ]
    assert found[0].answer == 2 and found[0].haystack_sessions[1][0].has_answer is False


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    file.write_text(json.dumps([longmemeval_file.instance()]), encoding="utf-8-sig")
    assert [one.question_id for one in read_longmemeval(file)] == ["q1"]


def test_a_session_id_that_comes_again_is_another_session(tmp_path: Path, minilm: MiniLM) -> None:
    file = tmp_path / "twice.json"
    twice = longmemeval_file.instance(haystack_session_ids=["answer_late", "filler_1", "answer_late"])
    file.write_text(json.dumps([twice]), encoding="utf-8")
    (one,) = read_longmemeval(file)
    assert one.haystack_session_ids == ["answer_late", "filler_1", "answer_late~2"]
    identifiers = [turn.dia_id for turn in as_conversation(one).turns]
    assert len(set(identifiers)) == len(identifiers)
    document = longmemeval.run(file, systems=["bm25"], embedder=minilm)
    assert document["questions"] == 1


def test_sessions_come_in_order_of_time() -> None:
    one = Instance.model_validate(longmemeval_file.instance())
    assert [name for name, _, _ in one.sessions()] == ["answer_early", "filler_1", "answer_late"]
    assert one.sessions()[0][1] == datetime(2023, 5, 20, 2, 21, tzinfo=UTC)


@given(
    st.lists(st.text(max_size=30) | st.integers(), max_size=4),
    st.integers(1, 40),
    st.sampled_from(["", " ", "\n \t"]),
)
def test_any_layout_and_piece_reads_as_json_does(answers: list[Any], piece: int, space: str) -> None:
    """Whatever the text holds (brackets, quotes, escapes) and wherever the pieces end."""
    written = [longmemeval_file.instance(f"q{n}", answer=answer) for n, answer in enumerate(answers)]
    text = space + "[" + (space + "," + space).join(json.dumps(one) for one in written) + space + "]" + space
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(longmemeval_data, "_PIECE", piece)
        file = Path(folder) / "x.json"
        file.write_text(text)
        assert [one.answer for one in read_longmemeval(file)] == answers


def test_a_long_file_is_never_held_whole(tmp_path: Path) -> None:
    filler = [[longmemeval_file.message("user", "word " * 40_000)], [], []]
    file = tmp_path / "long.json"
    one = json.dumps(longmemeval_file.instance(haystack_sessions=filler))
    with file.open("w") as stream:
        stream.write("[" + one)
        for _ in range(119):
            stream.write("," + one)
        stream.write("]")
    assert file.stat().st_size > 24_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_longmemeval(file)) == 120
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "must hold a list"),
        ("", "must hold a list"),
        ("[1]", "no instance"),
        ("[{}", r"x\.json\[0\]\.question_id"),
        ('[{"a": ', "cut off"),
        (json.dumps([longmemeval_file.instance()])[:-1], "between two instances"),
        (json.dumps([longmemeval_file.instance()]).replace("]}]", "]}; {}]"), "between two instances"),
        (json.dumps([longmemeval_file.instance(haystack_dates=[])]), r"\[0\] has \[0, 3\]"),
        (json.dumps([longmemeval_file.instance(haystack_sessions="no")]), "haystack_sessions"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        list(read_longmemeval(file))


def test_missing_file_wrong_date_and_unknown_type(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_longmemeval(tmp_path / "nowhere.json"))
    with pytest.raises(InvalidInput, match="2023/05/20"):
        longmemeval_data.parse_time("20 May 2023")
    with pytest.raises(InvalidInput, match="'riddle': expected one of"):
        as_conversation(Instance.model_validate(longmemeval_file.instance(kind="riddle")))


# -- the protocol --------------------------------------------------------------------------------


def test_only_user_messages_with_official_ids() -> None:
    talk = as_conversation(Instance.model_validate(longmemeval_file.instance()))
    assert [(turn.dia_id, turn.text) for turn in talk.turns] == [
        ("answer_early_2", "I saw a zebra at noon."),
        ("filler_1_1", "Tell me about trains."),
        ("answer_late_1", "I saw a walrus today."),
        ("noans_late_3", "Please plan my dinner."),
    ]
    assert talk.questions[0].evidence == ("answer_early_2", "answer_late_1")
    assert talk.questions[0].answer == "2"


def official_turn_to_session(ranking: list[str], correct: set[str], k: int) -> tuple[float, float]:
    """recall_any and recall_all after enlarging k until k distinct sessions are seen, as the rules say."""
    sessions = ["_".join(one.split("_")[:-1]) for one in ranking]
    wanted = {"_".join(one.split("_")[:-1]) for one in correct}
    effective = k
    while effective <= len(sessions) and len(set(sessions[:effective])) < k:
        effective += 1
    seen = set(sessions[:effective])
    return float(bool(wanted & seen)), float(wanted <= seen)


@given(st.permutations(range(12)), st.sets(st.integers(0, 11), min_size=1), st.integers(1, 10))
def test_sessions_are_rolled_up_as_the_official_code_does(order: list[int], gold: set[int], k: int) -> None:
    from lamina.bench.conversations.session_protocol import score_sessions
    from lamina.bench.conversations.tables import whole

    ids = [turn_id(f"answer_{place % 5}", place, has_answer=place in gold) for place in range(12)]
    ranking = [ids[place] for place in order]
    correct = {one for one in ids if "answer" in one}
    labels = list(dict.fromkeys(map(session_label, ranking)))
    found = score_sessions(whole(labels, labels, 10), frozenset(map(session_label, correct)), k)
    assert (found.recall_any, found.recall_all) == official_turn_to_session(ranking, correct, k)


# -- the harness ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory, minilm: MiniLM) -> dict[str, Any]:
    file = longmemeval_file.write(tmp_path_factory.mktemp("longmemeval"))
    return longmemeval.run(file, systems=["lamina,bm25-stemmed"], embedder=minilm)


def test_what_is_left_out_is_counted(document: dict[str, Any]) -> None:
    assert document["skipped"] == {"abstention": 1, "without_user_evidence": 1}
    assert (document["questions"], document["turns"]) == (2, 8)
    assert "1 abstention questions, 1 without user evidence" in document["notes"][-1]


def test_recall_is_what_the_file_was_made_to_give(document: dict[str, Any]) -> None:
    """Only the evidence has words of the question, so words find both first; the rest follows in order of time."""
    row = document["systems"]["bm25-stemmed"]
    assert row["recall@5"] == row["recall_all@10"] == 1.0
    assert set(row["by_category"]) == {"multi-session", "temporal-reasoning"}
    turns, sessions = (level["systems"]["bm25-stemmed"] for level in document["session_level"])
    assert (turns["recall_all@1"], turns["recall_fraction@1"], turns["recall_all@3"]) == (0.0, 0.5, 1.0)
    assert turns["ndcg_memgas@3"] == pytest.approx(1.0)
    assert (sessions["recall_all@3"], sessions["several"]["questions"]) == (1.0, 2)
    assert document["systems"]["lamina"]["recall@5"] == 1.0
    assert math.isfinite(document["systems"]["lamina"]["tokens@10"])


def test_the_report_states_definitions_and_what_others_published(document: dict[str, Any]) -> None:
    text = report.markdown({"longmemeval": document | {"seconds": 1.0}})
    for words in ("has_answer", "LongMemEval-s, cleaned", "MemPalace, raw", document["sha256"], "256 word pieces"):
        assert words in text
    assert "| bm25-stemmed | 0 / 1 / 1 / 1 / 1 / 1 |" in text


def test_it_runs_by_name_and_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = longmemeval_file.write(tmp_path)
    assert runner.run(["longmemeval"], data=file, systems=["bm25"]) == 0
    assert "Recall, overall and by category" in capsys.readouterr().out
    for data in (None, tmp_path):
        with pytest.raises(InvalidInput, match="longmemeval needs a published file"):
            runner.run(["longmemeval"], data=data)
    none = longmemeval_file.write(tmp_path, [longmemeval_file.instance("a_abs")])
    with pytest.raises(InvalidInput, match="no question has evidence"):
        runner.run(["longmemeval"], data=none, systems=["bm25"])
