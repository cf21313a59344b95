"""``lamina bench convomem --data FILE``: does the memory find the messages that hold the answer?

ConvoMem (arXiv 2511.10523) publishes no retrieval metric, but quotes its evidence verbatim: a message of the history
is evidence if speaker and text are those of an evidence message. Every case is one history with many questions. The
numbers here are recall of such messages, not the paper's accuracies, which need its reader and its judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from lamina.bench.conversations import tables
from lamina.bench.conversations.convomem import TestCase, load_convomem
from lamina.bench.conversations.dataset import Conversation, DialogueTurn, Question
from lamina.bench.conversations.evaluation import Asked, Note, evaluate
from lamina.bench.conversations.systems import SYSTEMS, chosen
from lamina.errors import InvalidInput
from lamina.llm.embed import LocalEmbedder, MiniLM

_START = datetime(2024, 1, 1, 9, tzinfo=UTC)  # the data has no dates: one conversation a day


def run(
    file: Path,
    *,
    systems: Sequence[str] = (),
    seed: int = 0,
    note: Note | None = None,
    embedder: LocalEmbedder | None = None,
) -> dict[str, Any]:
    """The result document for ``systems`` on a published file; as ``locomo.run``. Raises ``InvalidInput``."""
    names, notes = chosen(systems)
    embedder = embedder or MiniLM(cache_size=0)
    cases = load_convomem(file)
    categories = _categories(cases)
    talks = [_conversation(case, f"case-{place}", categories) for place, case in enumerate(cases)]
    asked = [question for talk in talks for question in talk.questions]
    if not any(question.evidence for question in asked):
        raise InvalidInput(f"data={str(file)!r}: no question has evidence that its history holds word for word")
    runs = evaluate(talks, {name: SYSTEMS[name] for name in names}, embedder, note=note)
    names_of = {number: name for name, number in categories.items()}
    return {
        "bench": "convomem",
        "seed": seed,
        "data": file.name,
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "conversations": sum(case.size for case in cases),
        "turns": sum(len(talk.turns) for talk in talks),
        "questions": sum(bool(question.evidence) for question in asked),
        "definition": definition(embedder.name),
        "systems": tables.turn_table(runs, _usable, names_of, seed),
        "notes": [*notes, f"Left out: {sum(not q.evidence for q in asked)} questions without evidence in the history."],
    }


def definition(encoder: str) -> str:
    """What the numbers mean, in words that go with them."""
    return (
        "Unit: message. Questions: those with an evidence message that the history holds, by speaker and text, word "
        "for word; abstention questions whose evidence is elsewhere are left out. recall@k: share of a question's "
        "evidence among the first k distinct messages, mean over questions; any, all: share of questions with at "
        "least one, with every one. ndcg@10: binary gains, 1/log2(rank+1). tokens@10: mean tokens of "
        f"'Speaker: text' of the first 10 messages, counted with the tokenizer of {encoder}. Interval: 95 %, bootstrap "
        f"over histories. Encoder of every system: {encoder}, at most 256 word pieces at a time, a longer text as the "
        "mean of its windows. seconds: storing and asking all questions, embedding included, after a warm-up. Equal "
        "tokens: recall of the results that fit, best first, into the mean tokens@10 of the first system in the "
        "table. No retrieval number was published for this data."
    )


def _categories(cases: Sequence[TestCase]) -> dict[str, int]:
    found = sorted({item.category or "uncategorised" for case in cases for item in case.evidenceItems})
    return {name: number for number, name in enumerate(found, 1)}


def _conversation(case: TestCase, name: str, categories: Mapping[str, int]) -> Conversation:
    turns = tuple(_turns(case))
    said: dict[tuple[str, str], list[str]] = {}
    for turn in turns:
        said.setdefault((turn.speaker, turn.text), []).append(turn.dia_id)
    questions = []
    for item in case.evidenceItems:
        parts = [said.get((part.speaker, part.text), [])[:1] for part in item.message_evidences]
        evidence = tuple(dict.fromkeys(identifier for found in parts for identifier in found)) if all(parts) else ()
        questions.append(Question(item.question, item.answer, evidence, categories[item.category or "uncategorised"]))
    return Conversation(name, ("User", "Assistant"), turns, tuple(questions), 0)


def _turns(case: TestCase) -> Iterator[DialogueTurn]:
    for place, talk in enumerate(case.conversations):
        for ordinal, message in enumerate(talk.messages):
            if message.text.strip():
                yield DialogueTurn(
                    text=message.text,
                    speaker=message.speaker,
                    role="assistant" if message.speaker.casefold() == "assistant" else "user",
                    at=_START + timedelta(days=place),
                    session=f"conversation_{place}",
                    ordinal=ordinal,
                    dia_id=f"{place}:{ordinal}",
                )


def _usable(one: Asked) -> bool:
    return bool(one.question.evidence)
