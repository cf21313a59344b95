"""Do the turns that were found lead to an answer? A reader model answers from them; LoCoMo's token F1 scores it.

Every system's first ten turns go into the same prompt, each with its date, and the same reader answers at
temperature 0. The questions are a seeded draw from all categories, the same for all systems; adversarial ones
(category 5) are scored apart: there, saying that nothing is known is right.

A small local reader checks that the way is whole. It does not make a number that compares with published ones:
those come from large models, and differ more by reader than by memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np

from lamina.bench.conversations import judge, token_f1
from lamina.bench.conversations.baselines import Found
from lamina.bench.conversations.dataset import CATEGORIES, Conversation, Question
from lamina.bench.conversations.evaluation import Listen
from lamina.bench.conversations.metrics import interval
from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel, Message
from lamina.text.answering import day

CONTEXT = 10  # turns in the prompt
_LONGEST = 60  # tokens of an answer
_ADVERSARIAL = 5

INSTRUCTION = (
    "Answer the question from the quoted lines of earlier conversations, in as few words as possible: a name, a date, "
    "a short list. If the lines do not tell, answer: No information available."
)


@dataclass(frozen=True, slots=True)
class Answered:
    """One question as one system's turns had it answered; ``judged`` is ``None`` where nobody judged."""

    conversation: str
    question: Question
    text: str
    score: float
    tokens: int
    judged: bool | None


@dataclass(frozen=True, slots=True)
class _Sheet:
    system: str
    conversation: str
    question: Question
    messages: list[Message]


class Exam:
    """Some questions for a reader, and perhaps a judge. Listens to what systems return, then has it answered."""

    def __init__(self, questions: int, reader: ChatModel, judge: ChatModel | None = None) -> None:
        """``questions`` are drawn from each run. Raises ``InvalidInput`` if they are fewer than one."""
        if questions < 1:
            raise InvalidInput(f"answers={questions!r}: pass how many questions to answer, at least 1")
        self._questions = questions
        self._reader = reader
        self._judge = judge
        self._sheets: list[_Sheet] = []

    def listener(self, talks: Iterable[Conversation], seed: int) -> Listen:
        """What ``evaluate`` calls with each result: keeps the prompts of the questions drawn."""
        usable = [(talk.name, q) for talk in talks for q in talk.questions if q.answer or q.category == _ADVERSARIAL]
        order = np.random.default_rng(seed).permutation(len(usable))[: self._questions]
        drawn = {usable[place] for place in order}

        def listen(system: str, talk: Conversation, question: Question, found: Sequence[Found]) -> None:
            if (talk.name, question) in drawn:
                self._sheets.append(_Sheet(system, talk.name, question, prompt(talk, question.text, found)))

        return listen

    def document(self, seed: int, note: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Answer, score and judge all that was kept. Raises ``LLMError``."""
        answered: dict[str, list[Answered]] = {}
        for place, sheet in enumerate(self._sheets):
            if note and place % 10 == 0:
                note(f"answers: {place} of {len(self._sheets)}")
            answered.setdefault(sheet.system, []).append(self._answer(sheet))
        document: dict[str, Any] = {
            "reader": self._reader.name,
            "prompt_sha256": sha256(INSTRUCTION.encode()).hexdigest(),
            "definition": self._definition(),
            "systems": {system: _row(found, seed) for system, found in answered.items()},
        }
        if self._judge:
            document |= {"judge": self._judge.name, "judge_prompt_sha256": judge.PROMPT_SHA256}
        return document

    def _answer(self, sheet: _Sheet) -> Answered:
        question = sheet.question
        text = self._reader.chat(sheet.messages, max_tokens=_LONGEST).strip()
        judged = None
        if self._judge and question.category != _ADVERSARIAL:
            judged = judge.is_right(self._judge, question.text, str(question.answer), text)
        return Answered(
            conversation=sheet.conversation,
            question=question,
            text=text,
            score=token_f1.score(text, question.answer, question.category),
            tokens=sum(self._reader.count_tokens(message["content"]) for message in sheet.messages),
            judged=judged,
        )

    def _definition(self) -> str:
        judged = judge.definition(self._judge.name) if self._judge else "Nobody judged."
        return (
            f"Answers by {self._reader.name} at temperature 0 from the first {CONTEXT} turns with their dates, prompt "
            f"sha256 {sha256(INSTRUCTION.encode()).hexdigest()[:12]}. f1: LoCoMo's token F1, mean over the drawn "
            "questions of categories 1-4; adversarial: share of category 5 where the answer says that nothing is "
            f"known. Intervals: 95 %, bootstrap over conversations. tokens: mean tokens of the prompt. {judged}"
        )


def prompt(talk: Conversation, question: str, found: Sequence[Found]) -> list[Message]:
    """The reader's messages: the first turns that were found, the best first, each with its date."""
    said_at = {turn.dia_id: turn.at for turn in talk.turns}
    lines = [f"- {day(said_at[hit.dia_id])}, {hit.text}" for hit in found[:CONTEXT]]
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": "\n".join([*lines, "", f"Question: {question}"])},
    ]


def _row(answered: Sequence[Answered], seed: int) -> dict[str, Any]:
    telling = [one for one in answered if one.question.category != _ADVERSARIAL]
    trick = [one.score for one in answered if one.question.category == _ADVERSARIAL]
    row: dict[str, Any] = {"questions": len(answered), "f1": _mean([one.score for one in telling])}
    if telling:
        row["f1_interval"] = list(interval(_by_conversation(telling, lambda one: one.score), seed=seed))
        row["by_category"] = {
            name: _mean([one.score for one in telling if one.question.category == category])
            for category, name in CATEGORIES.items()
            if any(one.question.category == category for one in telling)
        }
    row |= {"adversarial": _mean(trick), "tokens": _mean([one.tokens for one in answered])}
    if judged := [one for one in telling if one.judged is not None]:
        row["judged"] = _mean([float(one.judged is True) for one in judged])
        verdicts = _by_conversation(judged, lambda one: float(one.judged is True))
        row["judged_interval"] = list(interval(verdicts, seed=seed))
    return row


def _by_conversation(answered: Sequence[Answered], value: Callable[[Answered], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for one in answered:
        found.setdefault(one.conversation, []).append(value(one))
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
