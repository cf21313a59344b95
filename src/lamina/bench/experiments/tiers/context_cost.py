"""What a question costs with the whole conversation in the prompt, and with ten memories instead.

Mem0 (arXiv 2504.19413, table 2) reports latency and tokens beside a full context. Here the model is SmolLM2 in this
process, the time to the first token is that of prefilling the prompt, and both prompts put the same lines
("Ada: ...") above the same question. What Lamina's side takes includes the search, the encoding of the question with
it. Each question asks for one line of the conversation in other words; ten cheap lines without that one answer
nothing, so only questions whose line is among the ten count, and how many those are is reported.

Both prompts are timed warm and without a cache: each was prefilled once before, with another question, and every
prefill begins at the first token. The two are asked in turn, each first every other time, so that whatever else the
machine does meets both.

A second store of any size answers how long a search takes. It holds messages verbatim, without facts, and its
vectors are seeded sums of word vectors, because encoding ten thousand messages takes minutes and says nothing about
searching; a question is encoded by the real encoder, and that is part of its time.
"""

from __future__ import annotations

import random
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamina.bench.synthetic import Chatter, WordVectors
from lamina.llm.base import Embedder, Message

if TYPE_CHECKING:
    from lamina.llm.local import LocalChat
    from lamina.memory import Memory

_K = 10  # memories that take the place of the conversation
_USER = "ada"
# What one question each asks for: the line as it is said, and the question.
_EVIDENCE = (
    ("I lent my {thing} to {name}, who keeps it in {place}.", "Who borrowed the {thing}?"),
    ("{name} paid {n} euros for the {thing} in {place}.", "How much did the {thing} cost {name}?"),
    ("We left the {thing} at the station in {place}.", "Where did the {thing} get left behind?"),
    ("The {thing} was a birthday present from {name}.", "Who gave the {thing} as a gift?"),
    ("{name} is allergic to everything at the {thing} shop.", "What can't {name} stand near the {thing} shop?"),
)
_THINGS = re.findall(
    r"\w+", "samovar theremin gramophone kaleidoscope sextant zither barometer tandem loom astrolabe anvil abacus"
)
_NAMES = re.findall(r"\w+", "Ottoline Casimir Perpetua Leopold Wilhelmina Ignatius")
_PLACES = re.findall(r"\w+", "Trieste Utrecht Coimbra Tampere Bruges")
_PROMPT = "Answer from the conversation.\n\n{context}\n\nQuestion: {question}"


@dataclass(frozen=True, slots=True)
class ContextCost:
    """Tokens of the two prompts and milliseconds to the first token, one entry a question that counts.

    ``asked`` questions were put; those count whose line is among the ten memories.
    """

    asked: int
    full_tokens: tuple[int, ...]
    retrieved_tokens: tuple[int, ...]
    full_ms: tuple[float, ...]
    retrieved_ms: tuple[float, ...]

    @property
    def answerable(self) -> float:
        """Share of the questions whose line is among the ten memories."""
        return len(self.full_ms) / self.asked


@dataclass(frozen=True, slots=True)
class Planted:
    """A line of the conversation, and a question that it answers."""

    line: str
    question: str


_WARMING = Planted("", "What was all that about?")  # prefills both prompts once, unmeasured


@dataclass(frozen=True, slots=True)
class _Asked:
    """One prompt of one question: its context, its tokens, and milliseconds to the first token."""

    context: str
    tokens: int
    ms: float


def measure(embedder: Embedder, model: LocalChat, seed: int, tokens: int, questions: int) -> ContextCost:
    """Ask ``questions`` about a conversation of ``tokens`` tokens, with all of it and with ten memories of it."""
    lines, planted = conversation(seed, model.count_tokens, tokens, questions)
    whole = "\n".join(lines)
    rows: list[dict[str, _Asked]] = []
    with tempfile.TemporaryDirectory(prefix="lamina-cost-") as folder, _memory(Path(folder), embedder) as memory:
        _fill(memory, lines)
        arms = {"full": lambda _: whole, "retrieved": lambda question: _ten(memory, question)}
        for number, asked in enumerate([_WARMING, *planted]):
            order = list(arms) if number % 2 else list(reversed(arms))
            rows.append({arm: _ask(model, arms[arm], asked.question) for arm in order})
    answerable = [
        row for row, asked in zip(rows[1:], planted, strict=True) if asked.line in row["retrieved"].context.splitlines()
    ]
    return ContextCost(
        asked=len(planted),
        full_tokens=tuple(row["full"].tokens for row in answerable),
        retrieved_tokens=tuple(row["retrieved"].tokens for row in answerable),
        full_ms=tuple(row["full"].ms for row in answerable),
        retrieved_ms=tuple(row["retrieved"].ms for row in answerable),
    )


def conversation(
    seed: int, count_tokens: Callable[[str], int], tokens: int, questions: int
) -> tuple[list[str], list[Planted]]:
    """Lines of a chat, as many as ``tokens`` hold, among them one for each question at a seeded place."""
    rng = random.Random(f"context cost {seed}")
    planted = _planted(rng, questions)
    lines: list[str] = []
    used = sum(count_tokens(one.line) + 1 for one in planted)  # and the end of the line
    for message in Chatter(seed).messages(tokens // 10):  # no message is that short
        line = f"Ada: {message}"
        used += count_tokens(line) + 1
        if used > tokens:
            break
        lines.append(line)
    for one in planted:
        lines.insert(rng.randint(0, len(lines)), one.line)
    return lines, planted


def _planted(rng: random.Random, count: int) -> list[Planted]:
    """Each of another thing and kind, as far as they last: (thing, kind) is never the same twice."""
    kinds = [(thing, kind) for kind in range(len(_EVIDENCE)) for thing in _THINGS]
    found = []
    for thing, kind in rng.sample(kinds, count):
        words = {"thing": thing, "name": rng.choice(_NAMES), "place": rng.choice(_PLACES), "n": rng.randint(20, 900)}
        line, question = (text.format(**words) for text in _EVIDENCE[kind])
        found.append(Planted(f"Ada: {line}", question))
    return found


def _ten(memory: Memory, question: str) -> str:
    """The ten memories as a prompt holds them."""
    found = memory.search(question, filters={"user_id": _USER}, top_k=_K, threshold=0.0)["results"]
    return "\n".join(row["memory"] for row in found)


def search_times(embedder: Embedder, seed: int, memories: int, questions: int) -> tuple[float, ...]:
    """Milliseconds of each search for ten of ``memories`` verbatim messages, the encoding of the question included."""
    chatter = Chatter(seed)
    took = []
    with (
        tempfile.TemporaryDirectory(prefix="lamina-search-") as folder,
        _memory(Path(folder), _FastFill(embedder)) as memory,
    ):
        _fill(memory, chatter.messages(memories))
        for question in chatter.questions(questions + 5):
            begin = time.perf_counter()
            memory.search(question, filters={"user_id": _USER}, top_k=_K)
            took.append(1e3 * (time.perf_counter() - begin))
    return tuple(took[5:])  # the first build the index and warm the encoder


class _FastFill:
    """Encodes single texts, as questions are, with a real encoder, and many at once with word vectors."""

    def __init__(self, real: Embedder) -> None:
        self.name = f"filled:{real.name}"
        self._real = real
        self._fill = WordVectors()

    @property
    def dimension(self) -> int:
        return self._fill.dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._real.encode(texts) if len(texts) == 1 else self._fill.encode(texts)

    def forget(self, texts: Iterable[str]) -> None:
        self._real.forget(texts)


def _memory(folder: Path, embedder: Embedder) -> Memory:
    from lamina.memory import Memory
    from lamina.settings import Settings

    return Memory(folder / "memory.db", embedder=embedder, settings=Settings(tenant="default"))


def _fill(memory: Memory, texts: Sequence[str]) -> None:
    """Verbatim: what is measured is finding them."""
    for start in range(0, len(texts), 1000):
        items = [{"messages": text, "user_id": _USER} for text in texts[start : start + 1000]]
        memory.add_batch(items, infer=False)


def _ask(model: LocalChat, context_of: Callable[[str], str], question: str) -> _Asked:
    """Time from the question to the model's first token, the making of the context included."""
    begin = time.perf_counter()
    context = context_of(question)
    prompt = _PROMPT.format(context=context, question=question)
    messages: list[Message] = [{"role": "user", "content": prompt}]
    next(model.stream(messages, max_tokens=1), "")
    took = time.perf_counter() - begin
    return _Asked(context, model.count_tokens(prompt), 1e3 * took)
