"""Who answers ConvoMem's questions: full context, retrieval, block extraction, the router between them, and mem0.

All get the same messages, encoder, reader and line format; a context is always in order of time. Histories are
stored once (turns verbatim, one session a conversation) and shared by Lamina's strategies, so that only what is
done *per question* differs.

``contexts`` is their part of ``lamina bench convomem --data PATH``. Without models it measures whether the evidence is
in the context, and the tokens; with a reader and a judge also accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lamina.bench.conversations.convomem import (
    START,
    Answerer,
    Ask,
    Read,
    Reply,
    TestCase,
    by,
    evaluate,
    model_judge,
    role,
    summary,
)
from lamina.bench.conversations.convomem_peer import MOST, TOP_K, mem0, open_peers
from lamina.cube.cube import Scope
from lamina.llm.base import ChatModel, Embedder
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
)

if TYPE_CHECKING:
    from lamina.memory import Memory

UNBOUNDED = 10**9  # tokens: what is measured is what a strategy takes, not what it is cut to


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

    def retrieval(self, scope: Scope, k: int) -> RetrieveThenRead:
        """The best ``k`` turns of one history."""
        memory = self.memory
        return RetrieveThenRead(
            memory.store, memory.pipeline.retriever, memory.embedder, scope, k=k, count_tokens=self.count
        )

    def strategies(self, scope: Scope) -> Mapping[Strategy, ContextStrategy]:
        """The three ways to read one history."""
        memory, count = self.memory, self.count
        parts = memory.store, memory.pipeline.retriever, memory.embedder, scope
        return {
            "full": FullContext(memory.store, scope, count_tokens=count),
            "rag": self.retrieval(scope, TOP_K),
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


def retrieved(histories: Histories, k: int, read: Read | None = None) -> Answerer:
    """Always the best ``k`` turns."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        build = histories.retrieval(histories.scope(case), k).build_context
        yield lambda question: _reply(build(question, UNBOUNDED), read, "rag")

    return opened


def matched(histories: Histories, other: Answerer, read: Read | None = None) -> Answerer:
    """Retrieval that reads as many tokens as ``other`` does for the same question."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        build = histories.retrieval(histories.scope(case), MOST).build_context
        with other(case) as ask:
            yield lambda question: _reply(build(question, ask(question).tokens), read, "rag")

    return opened


def routed(
    histories: Histories,
    reader: ReaderProfile,
    budget: Budget,
    read: Read | None = None,
    *,
    prior: QualityPrior,
    factor: float = 1.0,
) -> Answerer:
    """What the router plans for each question; one router a history, told of ``factor`` times its tokens."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        scope = histories.scope(case)
        strategies = histories.strategies(scope)
        stats = history_stats(histories.memory.store, scope, count_tokens=histories.count)
        stats = replace(stats, tokens=round(factor * stats.tokens))
        router = RecallRouter(reader, budget, prior)

        def ask(question: str) -> Reply:
            plan = router.plan(question, stats)
            return _reply(strategies[plan.strategy].build_context(question, UNBOUNDED), read, plan.strategy)

        yield ask

    return opened


DEFAULT = ("full", "rag", "hybrid", "router")
ANSWERERS = (*DEFAULT, "mem0")  # stores message by message, so only if named


def contexts(
    cases: Sequence[TestCase],
    names: Sequence[str],
    embedder: Embedder,
    *,
    reader: ChatModel | None = None,
    judge: ChatModel | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """What each of ``names`` put before a reader: evidence in it, tokens, and accuracy where there is a judge.

    Tokens are counted by ``reader``, else estimated from characters. The router plans for the reference reader
    without a budget.
    """
    count = reader.count_tokens if reader else estimate_tokens
    read = _reads(reader) if reader else None
    table = {}
    with open_histories(embedder, count) as histories, open_peers(embedder, count) as peers:
        for name in names:
            if note:
                note(f"{name}: {len(cases)} histories")
            if name == "mem0":
                answerer = mem0(peers, read)
            elif name == "router":
                answerer = routed(histories, HOSTED[REFERENCE], Budget(), read, prior=QualityPrior())
            else:
                answerer = fixed(histories, cast(Strategy, name), read)
            rows = evaluate(answerer, cases, model_judge(judge) if judge else None)
            table[name] = summary(rows) | {
                "by_category": by(rows, lambda row: row.category),
                "by_evidence": by(rows, lambda row: row.evidence),
                "by_size": by(rows, lambda row: row.size),
            }
    models = f"Reader: {reader.name if reader else 'none'}; judge: {judge.name if judge else 'none'}."
    return {"definition": f"{_DEFINITION} {models}", "systems": table}


_DEFINITION = (
    "recall: share of a question's evidence messages that its context holds word for word; recall_all: share of "
    "questions with every one. tokens: read by models, over all calls. Abstention questions are counted with the "
    "evidence their item names. Accuracies of another reader or judge than the paper's are not comparable with it."
)


def _reads(model: ChatModel) -> Read:
    return lambda messages: model.chat(messages, max_tokens=256)


def _batch(case: TestCase, place: int, user: str) -> dict[str, Any]:
    messages = [
        {"role": role(message.speaker), "name": message.speaker, "content": message.text}
        for message in case.conversations[place].messages
        if message.text.strip()
    ]
    return {
        "messages": messages,
        "user_id": user,
        "timestamp": START + timedelta(days=place),
    }


def _reply(context: Context, read: Read | None, strategy: str) -> Reply:
    text = "\n\n".join(message["content"] for message in context.messages)
    answer = read(context.messages) if read else None
    return Reply(text, context.tokens + context.helper_tokens, answer, strategy)
