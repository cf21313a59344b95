"""Mem0's loop over dialogues, with whoever performs the operations, and how well each operation was done.

One function plays dialogues for teachers (their traces are recorded on the way) and for students (their answers are
judged). What is similar to a fact or a question is found by the same embedder for all. A student's failed operation
does nothing: no rule repairs it.

A statement counts as made only if name and value are in it, it affirms or denies as it should, and 70% of its words
(token F1) agree: "lives in Oslo" is not nearly "lives in Turin".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from lamina.bench.experiments.operations.operation_dialogues import Dialogue, Statement
from lamina.bench.experiments.operations.operation_truth import decide, reply, statement_of
from lamina.llm.base import Embedder
from lamina.parameter.experts.operations import (
    NEAREST,
    NOT_MENTIONED,
    RECALLED,
    Inquiry,
    MemoryOp,
    MemoryTeacher,
    Output,
    Remembered,
    Request,
    Revision,
    answer,
    execute,
)
from lamina.parameter.experts.teachers import StateTeacher

_ALIKE = 0.7
_DENIAL = re.compile(r"\b(?:not|no longer|never|no more|stopped|used to|quit)\b|n't\b", re.I)

Operate = Callable[[Sequence[Request]], Sequence[Output | None]]


@dataclass(frozen=True, slots=True)
class Played:
    """A dialogue after the loop: what is stored, and what was answered to its questions (``""``: nothing)."""

    dialogue: Dialogue
    stored: tuple[str, ...]
    answers: tuple[str, ...]


def one_by_one(teacher: MemoryTeacher) -> Operate:
    """A teacher as something that takes many requests."""
    return lambda requests: [answer(teacher, request) for request in requests]


def state_teacher(dialogues: Sequence[Dialogue]) -> StateTeacher:
    """Knows what each exchange of ``dialogues`` states and what each question asks; the rest follows."""
    stated = {exchange.said: statements for each in dialogues for _, exchange, statements, _ in each.turns}
    asked = {question.question: question for each in dialogues for question in each.questions}
    return StateTeacher(
        extract=lambda exchange: [statement.text for statement in stated[exchange.said]],
        update=decide,
        generate=lambda inquiry: (
            reply(inquiry, asked[inquiry.question]) if inquiry.question in asked else NOT_MENTIONED  # chatter that asks
        ),
    )


def play(dialogues: Sequence[Dialogue], operate: Operate, embedder: Embedder) -> list[Played]:
    """All dialogues side by side, so that ``operate`` gets many requests at once."""
    exchanges: list[Request] = [exchange for each in dialogues for _, exchange, _, _ in each.turns]
    extracted = iter(operate(exchanges))
    # Facts of each dialogue in the order they were said; exchanges do not depend on what is stored.
    queues = [[(day, fact) for day, *_ in each.turns for fact in _facts(next(extracted))] for each in dialogues]
    stores = [_Store(embedder) for _ in dialogues]
    for place in range(max(map(len, queues), default=0)):
        turn = [(store, *queue[place]) for store, queue in zip(stores, queues, strict=True) if place < len(queue)]
        shown = [store.related(fact) for store, _, fact in turn]
        revisions = [
            Revision((fact,), tuple(store.texts[i] for i in ids))
            for (store, _, fact), ids in zip(turn, shown, strict=True)
        ]
        for (store, day, _), ids, output in zip(turn, shown, operate(revisions), strict=True):
            store.apply([item for item in output or () if isinstance(item, MemoryOp)], ids, day)
    inquiries = [
        Inquiry(asked.question, store.recall(asked.question), each.today)
        for store, each in zip(stores, dialogues, strict=True)
        for asked in each.questions
    ]
    said = iter(operate(inquiries))
    return [
        Played(each, tuple(store.texts), tuple(str(next(said) or "") for _ in each.questions))
        for each, store in zip(dialogues, stores, strict=True)
    ]


def _facts(output: Output | None) -> list[str]:
    return [item for item in output if isinstance(item, str)] if isinstance(output, tuple) else []


class _Store:
    """The memories of one dialogue: texts, days and vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self.texts: list[str] = []
        self._days: list[date] = []
        self._embedder = embedder

    def related(self, fact: str) -> list[int]:
        """Places of the most similar memories of the same subject: as in the pipeline (``experts.loop``), nearest
        first."""
        subject = fact.split()[:1]
        return [place for place in self._nearest(fact) if self.texts[place].split()[:1] == subject][:NEAREST]

    def recall(self, question: str) -> tuple[Remembered, ...]:
        """The most similar memories, nearest first."""
        best = self._nearest(question)[:RECALLED]
        return tuple(Remembered(self.texts[place], self._days[place]) for place in best)

    def _nearest(self, text: str) -> list[int]:
        if not self.texts:
            return []
        rows = self._embedder.encode([*self.texts, text])
        return [int(place) for place in np.argsort(-(rows[:-1] @ rows[-1]), kind="stable")]

    def apply(self, operations: Sequence[MemoryOp], shown: Sequence[int], day: date) -> None:
        """Execute operations on the memories ``shown``; what is written gets ``day``."""
        before = dict(enumerate(self.texts))
        days = dict(zip(self.texts, self._days, strict=True))
        after = execute([self.texts[place] for place in shown], operations)
        others = [text for place, text in before.items() if place not in set(shown)]
        self.texts = list(dict.fromkeys([*others, *after]))
        self._days = [days.get(text, day) for text in self.texts]


# -- how well it was done ----------------------------------------------------------------------------------


def says(text: str, statement: Statement) -> bool:
    """Whether ``text`` makes ``statement``."""
    said, wanted = _tokens(text), _tokens(statement.text)
    has = set(_tokens(f"{statement.name} {statement.value}")) <= set(said)
    denies = _DENIAL.search(text) is not None
    return has and denies == (statement.standing != "holds") and token_f1(said, wanted) >= _ALIKE


def fact_f1(outputs: Sequence[Sequence[str] | None], truth: Sequence[Sequence[Statement]]) -> float:
    """Micro F1 of extracted facts, matched one to one; ``None`` extracts nothing."""
    hits = said = wanted = 0
    for output, statements in zip(outputs, truth, strict=True):
        hits += _matches(output or (), statements)
        said += len(output or ())
        wanted += len(statements)
    return 2 * hits / (said + wanted) if said + wanted else 1.0


def _matches(texts: Sequence[str], statements: Sequence[Statement]) -> int:
    left = list(statements)
    for text in texts:
        found = next((statement for statement in left if says(text, statement)), None)
        if found is not None:
            left.remove(found)
    return len(statements) - len(left)


def change_f1(
    revisions: Sequence[Revision], outputs: Sequence[Sequence[MemoryOp] | None], truth: Sequence[Sequence[MemoryOp]]
) -> float:
    """Micro F1 of what executing the operations adds to the shown memories and takes from them.

    Memories that both leave alone count nothing, so that doing nothing scores zero, not the share of what stayed.
    """
    hits = said = wanted = 0
    for revision, output, right in zip(revisions, outputs, truth, strict=True):
        done, due = _changes(revision, output or ()), _changes(revision, right)
        said += sum(map(len, done))
        wanted += sum(map(len, due))
        hits += len(set(done[0]) & set(due[0]))
        hits += _matches(done[1], [statement for text in due[1] if (statement := statement_of(text)) is not None])
    return 2 * hits / (said + wanted) if said + wanted else 1.0


def _changes(revision: Revision, operations: Sequence[MemoryOp]) -> tuple[list[str], list[str]]:
    """Memories that went, and texts that came."""
    before, after = Counter(revision.memories), Counter(execute(revision.memories, operations))
    return list((before - after).elements()), list((after - before).elements())


def is_right(said: str, wanted: str) -> bool:
    """Exact match but for case, articles and punctuation."""
    return _tokens(said) == _tokens(wanted)


def exact(played: Sequence[Played]) -> float:
    """Share of all questions answered rightly at the end of the loop, against what holds."""
    pairs = [
        is_right(said, asked.answer)
        for each in played
        for said, asked in zip(each.answers, each.dialogue.questions, strict=True)
    ]
    return float(np.mean(pairs))


def abstention(outputs: Sequence[str], truth: Sequence[str]) -> float:
    """Share of answers that abstain just where they should."""
    return float(
        np.mean([is_right(o, NOT_MENTIONED) == is_right(t, NOT_MENTIONED) for o, t in zip(outputs, truth, strict=True)])
    )


def token_f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    """Of two lists of words."""
    both = sum((Counter(said) & Counter(wanted)).values())
    return 2 * both / (len(said) + len(wanted)) if said or wanted else 1.0


def _tokens(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ("a", "an", "the")]
