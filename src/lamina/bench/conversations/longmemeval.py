"""``lamina bench longmemeval``: does the memory find the messages that answer a question, in long chat histories?

The retrieval protocol of LongMemEval's own code (arXiv 2410.10813): user messages alone are indexed; the evidence is
those marked ``has_answer``; an id holds ``answer`` if it is evidence and ``noans`` if it is another message of an
evidence session, and what those two name count as different sessions when turns are rolled up. 30 abstention
questions are left out, and those whose evidence only the assistant said, which no user message can answer.

Every question has a history of its own, so every system is built anew for each.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lamina.bench.conversations import published, tables
from lamina.bench.conversations.dataset import Conversation, DialogueTurn, Question
from lamina.bench.conversations.evaluation import Asked, Note, Run, evaluate
from lamina.bench.conversations.longmemeval_data import Instance, read_longmemeval
from lamina.bench.conversations.systems import SYSTEMS, chosen
from lamina.errors import InvalidInput
from lamina.llm.embed import LocalEmbedder, MiniLM

TYPES = {
    1: "single-session-user",
    2: "single-session-assistant",
    3: "single-session-preference",
    4: "multi-session",
    5: "temporal-reasoning",
    6: "knowledge-update",
}
TURN_KS = (1, 3, 5, 10, 30, 50)


def run(
    file: Path,
    *,
    systems: Sequence[str] = (),
    seed: int = 0,
    note: Note | None = None,
    embedder: LocalEmbedder | None = None,
) -> dict[str, Any]:
    """The result document for ``systems`` (see ``systems.chosen``) on a LongMemEval file.

    ``embedder`` as in ``locomo.run``. Raises ``NotFound`` for an unknown system, ``InvalidInput`` for the file.
    """
    names, notes = chosen(systems)
    embedder = embedder or MiniLM(cache_size=0)
    seen = _Seen()
    runs = evaluate(
        seen.usable(read_longmemeval(file)), {name: SYSTEMS[name] for name in names}, embedder,
        session=lambda turn: session_label(turn.dia_id), note=note,
    )  # fmt: skip
    if not seen.turns:
        raise InvalidInput(f"data={str(file)!r}: no question has evidence in a user message; give the published file")
    return {
        "bench": "longmemeval",
        "seed": seed,
        "data": file.name,
        "sha256": _digest(file),
        "conversations": len(seen.turns),
        "turns": sum(len(ids) for ids in seen.turns.values()),
        "questions": len(seen.turns),
        "skipped": dict(seen.skipped),
        "definition": definition(embedder.name),
        "systems": tables.turn_table(runs, lambda _: True, TYPES, seed),
        "session_level": _levels(runs, seen, embedder.name),
        "published": [row.to_dict() for row in published.LONGMEMEVAL],
        "notes": [*notes, f"Left out: {_skipped(seen.skipped)}."],
    }


def as_conversation(instance: Instance) -> Conversation:
    """The history of an instance as its user messages, with its one question and official turn ids."""
    turns = [
        DialogueTurn(
            text=message.content,
            speaker="user",
            role="user",
            at=at,
            session=name,
            ordinal=place,
            dia_id=turn_id(name, place, has_answer=message.has_answer),
        )
        for name, at, said in instance.sessions()
        for place, message in enumerate(said)
        if message.role == "user" and message.content.strip()
    ]
    kind = next((number for number, name in TYPES.items() if name == instance.question_type), None)
    if kind is None:
        raise InvalidInput(
            f"question {instance.question_id!r} is of type {instance.question_type!r}: expected one of "
            f"{', '.join(TYPES.values())}"
        )
    evidence = tuple(turn.dia_id for turn in turns if "answer" in turn.dia_id)
    question = Question(instance.question, str(instance.answer), evidence, kind)
    return Conversation(instance.question_id, ("user", "assistant"), tuple(turns), (question,), 0)


def turn_id(session: str, place: int, *, has_answer: bool) -> str:
    """The official id of the message at ``place`` (from 0) of a session: it holds ``answer`` only if it is evidence."""
    name = f"{session}_{place + 1}"
    return name if has_answer else name.replace("answer", "noans")


def session_label(identifier: str) -> str:
    """What a turn counts for when turns are rolled up to sessions: its id without the place."""
    return identifier.rpartition("_")[0]


def definition(encoder: str) -> str:
    """What the numbers on turns mean, in words that go with them."""
    return (
        "Unit: user message. Questions: all but abstention ones and those without a user message marked has_answer. "
        "Gold: the user messages marked has_answer, nothing repaired. recall@k: share of a question's gold among the "
        "first k, mean over questions; any, all: share of questions with at least one, with every one. ndcg@10: "
        "binary gains, 1/log2(rank+1). tokens@10: mean tokens of the first 10 messages, counted with the tokenizer "
        f"of {encoder}. Interval: 95 %, bootstrap over questions. Encoder of every system: {encoder}, at most 256 "
        "word pieces at a time, a longer text as the mean of its windows. seconds: storing and asking all questions, "
        "embedding included, after a warm-up. Equal tokens: recall of the results that fit, best first, into the mean "
        "tokens@10 of the first system in the table. The date of the question is not used. Use the cleaned release "
        "of 2025-09, and say so."
    )


class _Seen:
    """What passed by: ids of the turns of every question that counted, and why others did not."""

    def __init__(self) -> None:
        self.turns: dict[str, list[str]] = {}
        self.skipped: Counter[str] = Counter(abstention=0, without_user_evidence=0)

    def usable(self, instances: Iterator[Instance]) -> Iterator[Conversation]:
        for instance in instances:
            talk = as_conversation(instance)
            if instance.abstention:
                self.skipped["abstention"] += 1
            elif not talk.questions[0].evidence:
                self.skipped["without_user_evidence"] += 1
            else:
                self.turns[talk.name] = [turn.dia_id for turn in talk.turns]
                yield talk


def _levels(runs: Mapping[str, Run], seen: _Seen, encoder: str) -> list[dict[str, Any]]:
    sessions = {name: list(dict.fromkeys(map(session_label, ids))) for name, ids in seen.turns.items()}
    common = (
        "Questions and gold as above. recall_all@k: share of questions with all gold among the first k; any: with at "
        "least one; fraction: mean share. ndcg_memgas is LongMemEval's own form (gains 1, 1, 1/log2(3), ...); ndcg: "
        f"1/log2(rank+1). Means over questions. Encoder: {encoder}, 256 word pieces at a time."
    )
    return [
        {
            "title": "User messages, LongMemEval's metrics",
            "definition": f"Unit: user message. {common}",
            "systems": {name: _turn_level(run.asked, seen.turns) for name, run in runs.items()},
        },
        {
            "title": "Sessions, from the ranking of user messages",
            "definition": (
                "Unit: session, where its first message stands in the ranking; k is enlarged until k distinct ones "
                "are seen. As in LongMemEval's code an evidence session counts as found by a message that holds "
                "evidence only, its other messages standing for a session of their own. Unlike there, a session "
                f"counts once in the ndcg. {common}"
            ),
            "systems": {name: tables.session_row(run.asked, _gold_sessions, sessions) for name, run in runs.items()},
        },
    ]


def _turn_level(asked: Sequence[Asked], corpus: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    rankings = [tables.whole(one.deep, corpus[one.conversation], max(TURN_KS)) for one in asked]
    golds = [frozenset(one.question.evidence) for one in asked]
    return {"questions": len(asked), **tables.means_at(TURN_KS, rankings, golds)}


def _gold_sessions(one: Asked) -> frozenset[str]:
    return frozenset(map(session_label, one.question.evidence))


def _skipped(counts: Mapping[str, int]) -> str:
    return f"{counts['abstention']} abstention questions, {counts['without_user_evidence']} without user evidence"


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
