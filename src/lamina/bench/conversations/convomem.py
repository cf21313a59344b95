"""ConvoMem's data and measures: evidence items, histories mixed from them, and what an answerer makes of those.

ConvoMem Benchmark, arXiv 2511.10523. An item is a question, its answer, the messages that hold it, and the
conversations that those messages are in. ``mix`` packs items into one history of a given size, so that it is
indexed once and asked many times, and fills it with conversations of the same personas that hold no evidence.

``load_convomem`` reads the published layouts: evidence files (``{"evidence_items": [...]}``), test cases (one
``{"evidenceItems", "conversations", "contextSize"}`` or a list of them), or a folder of either. The data set is
not shipped; its licence is that of its publishers.

``evaluate`` counts evidence by exact match (every evidence message, as the context would quote it, is in the
context or is not), the tokens that models read over all calls, and seconds; with a judge also accuracy.
Accuracies on a generated history are never comparable with the paper's: other questions, reader and judge.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel, Message
from lamina.text.context_strategies import shown

SIZES = (2, 6, 10, 30, 70, 150, 300)
START = datetime(2024, 1, 1, 9, tzinfo=UTC)  # the data has no dates: one conversation a day
_MOST_ITEMS = 100  # in one case
_JUDGE = (
    "You grade an answer about earlier conversations. Reply RIGHT if it says everything that the reference says, "
    "else WRONG; an answer that is only partly right is WRONG. If the reference says that there is no information, "
    "RIGHT means that the answer says so too. Reply with one word."
)


class Said(BaseModel):
    """One message as published."""

    model_config = ConfigDict(frozen=True)
    speaker: str
    text: str


class Talk(BaseModel):
    """One conversation as published."""

    model_config = ConfigDict(frozen=True)
    messages: tuple[Said, ...]
    id: str | None = None


class EvidenceItem(BaseModel):
    """A question with its answer, the messages that hold it, and the conversations these are in."""

    model_config = ConfigDict(frozen=True)
    question: str
    answer: str
    message_evidences: tuple[Said, ...]
    conversations: tuple[Talk, ...] = ()
    category: str = ""
    personId: str | None = None


class TestCase(BaseModel):
    """One history and what is asked about it."""

    __test__ = False  # no test, whatever pytest thinks of its published name
    model_config = ConfigDict(frozen=True)
    evidenceItems: tuple[EvidenceItem, ...]
    conversations: tuple[Talk, ...]
    contextSize: int | None = None

    @property
    def size(self) -> int:
        return len(self.conversations)


class _EvidenceFile(BaseModel):
    evidence_items: list[EvidenceItem] = Field(min_length=1)


_FILE: TypeAdapter[_EvidenceFile | TestCase | list[TestCase]] = TypeAdapter(_EvidenceFile | TestCase | list[TestCase])


def role(speaker: str) -> str:
    """Published speakers are User and Assistant; anybody else is a person."""
    return "assistant" if speaker.strip().casefold() == "assistant" else "user"


def files_of(path: Path) -> list[Path]:
    """A file, or the JSON files of a folder in order of their names."""
    return sorted(path.rglob("*.json")) if path.is_dir() else [path]


def load_convomem(path: Path | str) -> list[TestCase]:
    """The cases of a published file, or of every JSON file in a folder, in order of their names.

    A file of evidence items is one case of their own conversations, unmixed: see ``mix``. Raises
    ``InvalidInput`` for a file that is missing or of another shape.
    """
    place = Path(path)
    files = files_of(place)
    if not files:
        raise InvalidInput(f"path={str(path)!r} holds no .json file: give a published file or folder of ConvoMem")
    return [case for file in files for case in _cases(file)]


def _cases(file: Path) -> list[TestCase]:
    try:
        read = _FILE.validate_json(file.read_bytes())
    except OSError as error:
        raise InvalidInput(f"ConvoMem file {str(file)!r} cannot be read ({error}): check the path") from error
    except ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise InvalidInput(
            f"{str(file)!r} is no ConvoMem file ({what:.300}): give evidence items or test cases"
        ) from error
    if isinstance(read, TestCase):
        return [read]
    if isinstance(read, list):
        return read
    talks = tuple(talk for item in read.evidence_items for talk in item.conversations)
    return [TestCase(evidenceItems=tuple(read.evidence_items), conversations=talks, contextSize=len(talks))]


# -- mixing --------------------------------------------------------------------------------------


def mix(
    items: Sequence[EvidenceItem], fillers: Mapping[str | None, Sequence[Talk]], size: int, seed: int = 0
) -> list[TestCase]:
    """Histories of ``size`` conversations that together ask all ``items`` that fit it.

    Items are shuffled and packed while their conversations fit; the rest are ``fillers`` by persona, in proportion
    to the items of each, then of anybody. Positions are drawn; the conversations of one item keep their order. A
    case is smaller than ``size`` only where fillers run out. Raises ``InvalidInput`` for a size below 1.
    """
    if size < 1:
        raise InvalidInput(f"size={size!r}: a history has at least one conversation")
    draw = random.Random(f"{seed}-{size}")
    waiting = [item for item in items if 0 < len(item.conversations) <= size]
    draw.shuffle(waiting)
    cases = []
    while waiting:
        packed: list[EvidenceItem] = []
        used = 0
        for item in waiting:
            if len(packed) < _MOST_ITEMS and used + len(item.conversations) <= size:
                packed.append(item)
                used += len(item.conversations)
        taken = {id(item) for item in packed}
        waiting = [item for item in waiting if id(item) not in taken]
        cases.append(_placed(packed, _fill(packed, fillers, size - used, draw), draw))
    return cases


def _fill(
    items: Sequence[EvidenceItem], fillers: Mapping[str | None, Sequence[Talk]], count: int, draw: random.Random
) -> list[Talk]:
    """``count`` fillers, of the personas of ``items`` first."""
    shares = Counter(item.personId for item in items)
    chosen: list[Talk] = []
    for person, share in sorted(shares.items(), key=lambda entry: str(entry[0])):
        own = fillers.get(person, ())
        chosen += draw.sample(own, min(len(own), count * share // len(items)))
    taken = {id(talk) for talk in chosen}
    near = [talk for person in shares for talk in fillers.get(person, ()) if id(talk) not in taken]
    far = [talk for person, talks in fillers.items() if person not in shares for talk in talks]
    for pool in (near, far):
        chosen += draw.sample(pool, min(len(pool), count - len(chosen)))
    return chosen


def _placed(items: Sequence[EvidenceItem], fillers: Sequence[Talk], draw: random.Random) -> TestCase:
    """Random positions for all; each item's conversations in their order."""
    owners = [place for place, item in enumerate(items) for _ in item.conversations] + [-1] * len(fillers)
    draw.shuffle(owners)
    next_of: dict[int, Iterator[Talk]] = {place: iter(item.conversations) for place, item in enumerate(items)}
    next_of[-1] = iter(fillers)
    talks = tuple(next(next_of[owner]) for owner in owners)
    return TestCase(evidenceItems=tuple(items), conversations=talks, contextSize=len(talks))


# -- measuring -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What an answerer put before its reader, the tokens that models read, and the answer if a reader gave one."""

    context: str
    tokens: int
    answer: str | None = None
    strategy: str = ""


Read = Callable[[tuple[Message, ...]], str]  # messages to an answer
Ask = Callable[[str], Reply]
Answerer = Callable[[TestCase], AbstractContextManager[Ask]]  # opened once a case: index once, ask often
Judge = Callable[[EvidenceItem, str], bool]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question's outcome. ``found``: share of its evidence messages in the context."""

    category: str
    evidence: int
    size: int
    found: float
    tokens: int
    seconds: float
    correct: bool | None
    strategy: str

    @property
    def all_found(self) -> bool:
        return self.found == 1.0


def evaluate(answerer: Answerer, cases: Iterable[TestCase], judge: Judge | None = None) -> list[Asked]:
    """Every question of every case. ``correct`` is ``None`` without a judge, or where no answer was given.

    Evidence is looked for as ``lamina.text.context_strategies`` quotes it, so contexts of peers quote the same way.
    """
    rows = []
    for case in cases:
        with answerer(case) as ask:
            for item in case.evidenceItems:
                begin = time.perf_counter()
                reply = ask(item.question)
                seconds = time.perf_counter() - begin
                there = [shown(evidence.text) in reply.context for evidence in item.message_evidences]
                correct = judge(item, reply.answer) if judge and reply.answer is not None else None
                rows.append(
                    Asked(
                        category=item.category,
                        evidence=len(there),
                        size=case.contextSize or case.size,
                        found=sum(there) / len(there) if there else 1.0,
                        tokens=reply.tokens,
                        seconds=seconds,
                        correct=correct,
                        strategy=reply.strategy,
                    )
                )
    return rows


def summary(rows: Sequence[Asked]) -> dict[str, Any]:
    """Means over ``rows``: recall, share with all evidence, accuracy (of those judged), tokens; times in ms."""
    if not rows:
        return {"questions": 0}
    judged = [row.correct for row in rows if row.correct is not None]
    times = sorted(row.seconds for row in rows)
    return {
        "questions": len(rows),
        "recall": sum(row.found for row in rows) / len(rows),
        "recall_all": sum(row.all_found for row in rows) / len(rows),
        "accuracy": sum(judged) / len(judged) if judged else None,
        "tokens": sum(row.tokens for row in rows) / len(rows),
        "ms_p50": 1e3 * times[math.ceil(0.5 * len(times)) - 1],
        "ms_p90": 1e3 * times[math.ceil(0.9 * len(times)) - 1],
        "strategies": dict(Counter(row.strategy for row in rows if row.strategy)),
    }


def by(rows: Sequence[Asked], key: Callable[[Asked], Any]) -> dict[str, dict[str, Any]]:
    """``summary`` of each group."""
    groups: dict[Any, list[Asked]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return {str(name): summary(groups[name]) for name in sorted(groups)}


def model_judge(model: ChatModel) -> Judge:
    """A model that says RIGHT or WRONG, as the paper's does. The rubric is this project's own wording."""

    def judge(item: EvidenceItem, answer: str) -> bool:
        asked = json.dumps({"question": item.question, "reference": item.answer, "answer": answer}, ensure_ascii=False)
        messages = [Message(role="system", content=_JUDGE), Message(role="user", content=asked)]
        return model.chat(messages, max_tokens=8).strip().upper().startswith("RIGHT")

    return judge
