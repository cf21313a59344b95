"""Who answers ConvoMem's questions: full context, retrieval, block extraction, the router between them, and mem0.

All get the same messages, encoder, reader and line format; a context is always in order of time. Histories are
stored once (turns verbatim, one session a conversation) and shared by Lamina's strategies, so that only what is
done *per question* differs.

``run`` is ``lamina bench convomem --data PATH``: it reads the published files. Without models it measures whether the
evidence is in the context, and the tokens; with a reader and a judge also accuracy.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lamina.bench.catalog import unknown
from lamina.bench.conversations.convomem import (
    Answerer,
    Ask,
    Reply,
    TestCase,
    by,
    evaluate,
    load_convomem,
    model_judge,
    summary,
)
from lamina.bench.mem0_peer import open_mem0
from lamina.cube.cube import Scope
from lamina.errors import NotFound
from lamina.llm.base import ChatModel, Embedder, Message
from lamina.llm.embed import MiniLM
from lamina.text.answering import day
from lamina.text.context_choice import HOSTED, Budget, QualityPrior, ReaderProfile, RecallRouter, Strategy
from lamina.text.context_prior import REFERENCE
from lamina.text.context_strategies import (
    BlockExtract,
    Context,
    ContextStrategy,
    CountTokens,
    FullContext,
    RetrieveThenRead,
    estimate_tokens,
    history_stats,
    shown,
)

if TYPE_CHECKING:
    from lamina.memory import Memory

Read = Callable[[tuple[Message, ...]], str]
UNBOUNDED = 10**9  # tokens: what is measured is what a strategy takes, not what it is cut to
TOP_K = 10  # turns for retrieval, Lamina's and mem0's
_START = datetime(2024, 1, 1, 9, tzinfo=UTC)
_ROLES = {"user": "user", "assistant": "assistant"}


class Histories:
    """A memory that holds each case once, under a user of its own."""

    def __init__(self, memory: Memory, count_tokens: CountTokens = estimate_tokens) -> None:
        self.memory = memory
        self.count = count_tokens
        self._stored: dict[int, tuple[TestCase, Scope]] = {}

    def scope(self, case: TestCase) -> Scope:
        """Where the case is; stored at the first call, one conversation a day."""
        if id(case) not in self._stored:
            user = f"case-{len(self._stored)}"
            items = [_batch(case, place, user) for place in range(case.size)]
            self.memory.add_batch([item for item in items if item["messages"]], infer=False)
            # The case is kept beside its scope, because an id is only unique while its object lives.
            self._stored[id(case)] = case, Scope(self.memory.settings.tenant, user=user)
        return self._stored[id(case)][1]

    def strategies(self, scope: Scope) -> Mapping[Strategy, ContextStrategy]:
        """The three ways to read one history."""
        memory, count = self.memory, self.count
        parts = memory.store, memory.pipeline.retriever, memory.embedder, scope
        return {
            "full": FullContext(memory.store, scope, count_tokens=count),
            "rag": RetrieveThenRead(*parts, k=TOP_K, count_tokens=count),
            "hybrid": BlockExtract(*parts, count_tokens=count),
        }


@contextmanager
def open_histories(embedder: Embedder, count_tokens: CountTokens = estimate_tokens) -> Iterator[Histories]:
    """A memory in a temporary folder."""
    from lamina.memory import Memory
    from lamina.settings import Settings

    settings = Settings(tenant="default", durable=False)
    with tempfile.TemporaryDirectory(prefix="lamina-convomem-") as folder:  # noqa: SIM117 - the folder outlives it
        with Memory(Path(folder) / "memory.db", embedder=embedder, settings=settings) as memory:
            yield Histories(memory, count_tokens)


def fixed(histories: Histories, strategy: Strategy, read: Read | None = None) -> Answerer:
    """Always the same strategy."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        build = histories.strategies(histories.scope(case))[strategy].build_context
        yield lambda question: _reply(build(question, UNBOUNDED), read, strategy)

    return opened


def routed(
    histories: Histories, reader: ReaderProfile, budget: Budget, read: Read | None = None, *, prior: QualityPrior
) -> Answerer:
    """What the router plans for each question; one router a history."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        scope = histories.scope(case)
        strategies = histories.strategies(scope)
        stats = history_stats(histories.memory.store, scope, count_tokens=histories.count)
        router = RecallRouter(reader, budget, prior)

        def ask(question: str) -> Reply:
            plan = router.plan(question, stats)
            return _reply(strategies[plan.strategy].build_context(question, UNBOUNDED), read, plan.strategy)

        yield ask

    return opened


def mem0(embedder: Embedder, count_tokens: CountTokens = estimate_tokens, read: Read | None = None) -> Answerer:
    """The mem0 package with ``infer=False``: every message stored as said, the ``TOP_K`` nearest read."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        with tempfile.TemporaryDirectory(prefix="lamina-mem0-") as folder, open_mem0(Path(folder), embedder) as peer:
            lines = _fill(peer, case)

            def ask(question: str) -> Reply:
                rows = peer.search(question, filters={"user_id": "u"}, top_k=TOP_K)["results"]
                body = "\n".join(lines[place] for place in sorted({row["metadata"]["place"] for row in rows}))
                text = f"<memories>\n{body}\n</memories>\n\nQuestion: {question}"
                messages = (Message(role="user", content=text),)
                return Reply(text, count_tokens(text), read(messages) if read else None, "mem0")

            yield ask

    return opened


SYSTEMS = ("full", "rag", "hybrid", "router", "mem0")


def run(
    path: Path,
    *,
    systems: Sequence[str] = (),
    embedder: Embedder | None = None,
    reader: ChatModel | None = None,
    judge: ChatModel | None = None,
    profile: ReaderProfile = HOSTED[REFERENCE],
    budget: Budget | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The result document of ``systems`` on published files (default: all but mem0, which stores message by message).

    ``reader`` answers from each context and ``judge`` grades it; ``profile`` and ``budget`` are the router's. Tokens
    are counted by ``reader``, else estimated from characters. Raises ``NotFound`` for an unknown system,
    ``InvalidInput`` for a file that is none of ConvoMem's.
    """
    for name in systems:
        if name not in SYSTEMS:
            raise NotFound(unknown(name, dict.fromkeys(SYSTEMS), "ranker"))
    cases = load_convomem(path)
    encoder = embedder or MiniLM()
    count = reader.count_tokens if reader else estimate_tokens
    read = _reads(reader) if reader else None
    begin = time.perf_counter()
    table = {}
    with open_histories(encoder, count) as histories:
        for name in systems or SYSTEMS[:-1]:
            if note:
                note(f"{name}: {len(cases)} histories")
            if name == "mem0":
                answerer = mem0(encoder, count, read)
            elif name == "router":
                answerer = routed(histories, profile, budget or Budget(), read, prior=QualityPrior())
            else:
                answerer = fixed(histories, cast(Strategy, name), read)
            rows = evaluate(answerer, cases, model_judge(judge) if judge else None)
            table[name] = summary(rows) | {
                "by_category": by(rows, lambda row: row.category),
                "by_evidence": by(rows, lambda row: row.evidence),
                "by_size": by(rows, lambda row: row.size),
            }
    return {
        "bench": "convomem",
        "data": Path(path).name,
        "cases": len(cases),
        "questions": sum(len(case.evidenceItems) for case in cases),
        "reader": reader.name if reader else None,
        "judge": judge.name if judge else None,
        "encoder": encoder.name,
        "seconds": time.perf_counter() - begin,
        "systems": table,
    }


def _reads(model: ChatModel) -> Read:
    return lambda messages: model.chat(messages, max_tokens=256)


def _fill(peer: Any, case: TestCase) -> list[str]:
    """Add every message; its line, in order, is what a context quotes."""
    lines: list[str] = []
    for place, talk in enumerate(case.conversations):
        date = day(_START + timedelta(days=place))
        for message in talk.messages:
            said = {"role": _role(message.speaker), "content": message.text}
            peer.add([said], user_id="u", metadata={"place": len(lines)}, infer=False)
            lines.append(f'{message.speaker}, {date}: "{shown(message.text)}"')
    return lines


def _batch(case: TestCase, place: int, user: str) -> dict[str, Any]:
    messages = [
        {"role": _role(message.speaker), "name": message.speaker, "content": message.text}
        for message in case.conversations[place].messages
        if message.text.strip()
    ]
    return {
        "messages": messages,
        "user_id": user,
        "timestamp": _START + timedelta(days=place),
    }


def _role(speaker: str) -> str:
    """Published speakers are User and Assistant; anybody else is a person."""
    return _ROLES.get(speaker.strip().lower(), "user")


def _reply(context: Context, read: Read | None, strategy: str) -> Reply:
    text = "\n\n".join(message["content"] for message in context.messages)
    answer = read(context.messages) if read else None
    return Reply(text, context.tokens + context.helper_tokens, answer, strategy)
