"""What a question costs with the whole conversation in the prompt, and with ten memories instead.

Mem0 (arXiv 2504.19413, table 2) reports latency and tokens beside a full context. Here the model is SmolLM2 in this
process, the time to the first token is that of prefilling the prompt, and both prompts put the same lines
("Ada: ...") above the same question. What Lamina's side takes includes the search, the encoding of the question with
it. The two are asked in turn, so that whatever else the machine does meets both.

A second store of any size answers how long a search takes. Its vectors are seeded sums of word vectors, because
encoding ten thousand messages takes minutes and says nothing about searching; a question is encoded by the real
encoder, and that is part of its time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Sequence
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
_ASK = "Answer from the conversation.\n\n{context}\n\nQuestion: {question}"


@dataclass(frozen=True, slots=True)
class ContextCost:
    """Tokens of the two prompts (means) and milliseconds to the first token, one entry a question."""

    full_tokens: float
    retrieved_tokens: float
    full_ms: tuple[float, ...]
    retrieved_ms: tuple[float, ...]


def measure(embedder: Embedder, model: LocalChat, seed: int, tokens: int, questions: int) -> ContextCost:
    """Ask ``questions`` about a conversation of ``tokens`` tokens, with all of it and with ten memories of it."""
    chatter = Chatter(seed)
    lines = _conversation(chatter, model, tokens)
    asked = chatter.questions(questions + 1)
    whole = "\n".join(lines)
    sizes: list[tuple[int, int]] = []
    took: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="lamina-cost-") as folder, _memory(Path(folder), embedder) as memory:
        _fill(memory, lines)
        for question in asked:
            full = _first_token(model, whole, question)
            begin = time.perf_counter()
            found = memory.search(question, filters={"user_id": _USER}, top_k=_K, threshold=0.0)["results"]
            context = "\n".join(row["memory"] for row in found)
            searched = time.perf_counter() - begin
            took.append((full, searched + _first_token(model, context, question)))
            sizes.append((model.count_tokens(_prompt(whole, question)), model.count_tokens(_prompt(context, question))))
    full_tokens, retrieved_tokens = np.mean(sizes[1:], axis=0).tolist()
    rows = took[1:]  # the first question warms both
    return ContextCost(
        full_tokens=full_tokens,
        retrieved_tokens=retrieved_tokens,
        full_ms=tuple(1e3 * full for full, _ in rows),
        retrieved_ms=tuple(1e3 * ours for _, ours in rows),
    )


def search_times(embedder: Embedder, seed: int, memories: int, questions: int) -> tuple[float, ...]:
    """Milliseconds of each search for ten of ``memories`` memories, the encoding of the question included."""
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


def _conversation(chatter: Chatter, model: LocalChat, tokens: int) -> list[str]:
    """As many messages of a chat as ``tokens`` hold."""
    lines: list[str] = []
    used = 0
    for message in chatter.messages(tokens // 10):  # no message is that short
        line = f"Ada: {message}"
        used += model.count_tokens(line) + 1  # and the end of the line
        if used > tokens:
            return lines
        lines.append(line)
    return lines


def _fill(memory: Memory, texts: Sequence[str]) -> None:
    """Verbatim: what is measured is finding them."""
    for start in range(0, len(texts), 1000):
        items = [{"messages": text, "user_id": _USER} for text in texts[start : start + 1000]]
        memory.add_batch(items, infer=False)


def _prompt(context: str, question: str) -> str:
    return _ASK.format(context=context, question=question)


def _first_token(model: LocalChat, context: str, question: str) -> float:
    """Seconds until the model has its first token."""
    messages: list[Message] = [{"role": "user", "content": _prompt(context, question)}]
    begin = time.perf_counter()
    next(model.stream(messages, max_tokens=1), "")
    return time.perf_counter() - begin
