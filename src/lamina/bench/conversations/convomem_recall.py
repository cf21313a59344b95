"""``lamina bench convomem --data PATH``: does the memory find the messages that hold the answer?

ConvoMem (arXiv 2511.10523) publishes no retrieval metric, but quotes its evidence verbatim: a message of the history
is evidence if speaker and text are those of an evidence message. Every case is one history with many questions. The
numbers here are recall of such messages, not the paper's accuracies, which need its reader and its judge.

Beside the memories stand the ways to put a history before a reader (``convomem_answerers``): everything, retrieval,
block extraction, and the router between them. With ``--reader`` a model answers from each of those contexts, with
``--judge`` one grades the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from lamina.bench.conversations import convomem_answerers as answerers
from lamina.bench.conversations import tables
from lamina.bench.conversations.convomem import START, TestCase, files_of, load_convomem, role
from lamina.bench.conversations.dataset import Conversation, DialogueTurn, Question
from lamina.bench.conversations.evaluation import Asked, Note, evaluate
from lamina.bench.conversations.systems import SYSTEMS, chosen
from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel
from lamina.llm.embed import LocalEmbedder, MiniLM


def run(
    path: Path,
    *,
    systems: Sequence[str] = (),
    seed: int = 0,
    note: Note | None = None,
    embedder: LocalEmbedder | None = None,
    reader: ChatModel | None = None,
    judge: ChatModel | None = None,
) -> dict[str, Any]:
    """The result document for a published file or folder; as ``locomo.run``.

    ``systems`` are memories (``systems.chosen``) and strategies (``convomem_answerers.ANSWERERS``) by name, by default
    both. ``reader`` answers for the strategies, ``judge`` grades. Raises ``InvalidInput``, ``NotFound``.
    """
    wanted = [part.strip() for name in systems for part in name.split(",") if part.strip()]
    strategies = [name for name in wanted if name in answerers.ANSWERERS]
    memories = [name for name in wanted if name not in answerers.ANSWERERS]
    names, notes = chosen(memories) if memories or not wanted else ([], [])
    embedder = embedder or MiniLM(cache_size=0)
    cases = load_convomem(path)
    categories = _categories(cases)
    talks = [_conversation(case, f"case-{place}", categories) for place, case in enumerate(cases)]
    asked = [question for talk in talks for question in talk.questions]
    if not any(question.evidence for question in asked):
        raise InvalidInput(f"data={str(path)!r}: no question has evidence that its history holds word for word")
    document = {
        "bench": "convomem",
        "seed": seed,
        "data": path.name,
        "sha256": _digest(path),
        "conversations": sum(case.size for case in cases),
        "turns": sum(len(talk.turns) for talk in talks),
        "questions": sum(bool(question.evidence) for question in asked),
        "definition": definition(embedder.name),
        "notes": [*notes, f"Left out: {sum(not q.evidence for q in asked)} questions without evidence in the history."],
    }
    if names:
        runs = evaluate(talks, {name: SYSTEMS[name] for name in names}, embedder, note=note)
        names_of = {number: name for name, number in categories.items()}
        document["systems"] = tables.turn_table(runs, _usable, names_of, seed)
    if strategies or not wanted:
        document["contexts"] = answerers.contexts(
            cases, strategies or answerers.DEFAULT, embedder, reader=reader, judge=judge, note=note
        )
    return document


def _digest(path: Path) -> str:
    """Of a file, or of a folder's files one after another."""
    digest = sha256()
    for file in files_of(path):
        digest.update(file.read_bytes())
    return digest.hexdigest()


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
                    role="assistant" if role(message.speaker) == "assistant" else "user",
                    at=START + timedelta(days=place),
                    session=f"conversation_{place}",
                    ordinal=ordinal,
                    dia_id=f"{place}:{ordinal}",
                )


def _usable(one: Asked) -> bool:
    return bool(one.question.evidence)
