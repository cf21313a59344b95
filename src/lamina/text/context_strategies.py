"""The three ways to put a history before a reader: all of it, quotes extracted from it, or what a search finds.

ConvoMem (arXiv 2511.10523) compares them; ``context_choice`` decides between them. Each turns a question into a
``Context``: messages for a chat model, and where every line of them comes from.

* ``FullContext`` reads all open turns of a scope in the order they were recorded. That order only ever grows at
  its end, so a provider's prefix cache, or a KV cube, keeps serving the beginning: nothing is ranked or re-sorted.
* ``RetrieveThenRead`` reads the best k turns, in order of time.
* ``BlockExtract`` is the hybrid: it retrieves generously, so that its cost is bounded, gathers the conversations
  found into blocks, and has quotes extracted from each block; only those are read. ConvoMem extracts from
  every block of the history, which costs 3 to 4 times a cached full context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from lamina.cube.cube import MemCube, Scope
from lamina.errors import BudgetError, InvalidInput
from lamina.llm.base import ChatModel, Embedder
from lamina.store.base import Store
from lamina.text.base import Retriever
from lamina.text.context_costs import SURE, WIDER, HistoryStats
from lamina.text.context_extraction import Extractor, HelperExtractor, RelevantTurns
from lamina.text.context_quotes import (
    Body,
    Context,
    CountTokens,
    Quoted,
    body,
    context_of,
    estimate_tokens,
    fitted,
    shown,
    when,
    whole,
)

__all__ = [
    "SURE",
    "WIDER",
    "BlockExtract",
    "Context",
    "ContextStrategy",
    "CountTokens",
    "FullContext",
    "RetrieveThenRead",
    "estimate_tokens",
    "history_stats",
    "shown",
    "turns_of",
]

TURNS = {"semantic_type": "turn"}
_PAGE = 1_000


class ContextStrategy(Protocol):
    def build_context(self, query: str, budget_tokens: int) -> Context:
        """Messages of at most ``budget_tokens`` tokens for ``query``. Raises ``BudgetError``."""


class FullContext:
    """Everything, oldest first. Raises ``BudgetError`` if it does not fit: a cut history would look complete."""

    def __init__(self, store: Store, scope: Scope, *, count_tokens: CountTokens = estimate_tokens) -> None:
        self._store = store
        self._scope = scope
        self._count = count_tokens
        self._kept: tuple[int, Body] | None = None

    def build_context(self, query: str, budget_tokens: int) -> Context:
        context = context_of(query, self._history(), self._count)
        if context.tokens > budget_tokens:
            raise BudgetError(
                f"the history has {context.tokens} tokens, budget_tokens={budget_tokens}: use RetrieveThenRead or "
                "BlockExtract, or let RecallRouter choose"
            )
        return context

    def _history(self) -> Body:
        """The rendered history, kept until anything is written: questions come more often than messages."""
        change = self._store.last_change()
        if self._kept is None or self._kept[0] != change:
            turns = turns_of(self._store, self._scope)
            self._kept = change, body([whole(turn) for turn in turns], self._count)
        return self._kept[1]


class RetrieveThenRead:
    """The best ``k`` turns that fit the budget, in order of time."""

    def __init__(
        self,
        store: Store,
        retriever: Retriever,
        embedder: Embedder,
        scope: Scope,
        *,
        k: int = 10,
        count_tokens: CountTokens = estimate_tokens,
    ) -> None:
        self._search = _Search(store, retriever, embedder, scope)
        self._k = _positive("k", k)
        self._count = count_tokens

    def build_context(self, query: str, budget_tokens: int) -> Context:
        turns, _ = self._search(query, self._k)
        return fitted(query, [whole(turn) for turn in turns], budget_tokens, self._count)


class BlockExtract:
    """Retrieve ``generous`` turns, extract from blocks of ``block_size`` conversations, read the extracts.

    ``helper`` is the model that extracts. Without one a deterministic extractor keeps the turns that have the most
    of the question's words or are nearest to it in meaning, and the first ``SURE`` of the search come with them, so
    that no less is read than by plain retrieval. Where nothing that is found has a word of the question, only meaning
    ranks it and less surely: then ``WIDER`` times as many are retrieved, and without a helper all of them are read.
    """

    def __init__(
        self,
        store: Store,
        retriever: Retriever,
        embedder: Embedder,
        scope: Scope,
        *,
        generous: int = 50,
        block_size: int = 10,
        helper: ChatModel | None = None,
        count_tokens: CountTokens = estimate_tokens,
    ) -> None:
        self._search = _Search(store, retriever, embedder, scope)
        self._generous = _positive("generous", generous)
        self._block_size = _positive("block_size", block_size)
        self._helper = HelperExtractor(helper) if helper else None
        self._relevant = RelevantTurns(embedder)
        self._count = count_tokens

    def build_context(self, query: str, budget_tokens: int) -> Context:
        """Every block is extracted from; a context without quotes says that nothing was found."""
        turns, worded = self._search(query, self._generous)
        if not worded:
            turns, _ = self._search(query, WIDER * self._generous)
        found: list[tuple[Quoted, ...]] = []
        read = 0
        if self._helper is None:
            found.append(tuple(whole(turn) for turn in (turns[:SURE] if worded else turns)))
        extractor: Extractor = self._helper or self._relevant
        for block in self._blocks(turns):
            extract, tokens = extractor(query, block)
            read += tokens
            if extract is not None:
                found.append(extract.quotes)
        # Where the budget is short, the best of each block come before the second best of any.
        ranked = {quote.source: quote for tier in zip_longest(*found) for quote in tier if quote is not None}
        context = fitted(query, list(ranked.values()), budget_tokens, self._count)
        return Context(context.messages, context.provenance, context.tokens, read)

    def _blocks(self, turns: Sequence[MemCube]) -> Iterator[list[MemCube]]:
        """Conversations by their first turn, gathered into blocks: those that overlapped in time stay whole."""
        by_session: dict[str, list[MemCube]] = {}
        for turn in sorted(turns, key=when):
            by_session.setdefault(_session(turn), []).append(turn)
        talks = list(by_session.values())
        for start in range(0, len(talks), self._block_size):
            yield [turn for talk in talks[start : start + self._block_size] for turn in talk]


@dataclass(frozen=True, slots=True)
class _Search:
    """The best ``k`` turns that a retriever finds, each once; and whether any has words in common with the query."""

    store: Store
    retriever: Retriever
    embedder: Embedder
    scope: Scope

    def __call__(self, query: str, k: int) -> tuple[list[MemCube], bool]:
        vector = self.embedder.encode([query])[0]
        hits = self.retriever.search(query, vector, self.store, self.scope, k=k)
        turns = {turn.id: turn for hit in hits for turn in (hit.source or hit.cube,)}
        return list(turns.values()), any(hit.lexical > 0 for hit in hits)


def turns_of(store: Store, scope: Scope) -> Iterator[MemCube]:
    """The open turns of a scope, oldest first."""
    cursor: str | None = None
    while True:
        page = store.query(scope, TURNS, limit=_PAGE, cursor=cursor, newest_first=False)
        yield from page.cubes
        cursor = page.cursor
        if cursor is None:
            return


def history_stats(store: Store, scope: Scope, *, count_tokens: CountTokens = estimate_tokens) -> HistoryStats:
    """Conversations, turns and tokens of a scope, counted as ``FullContext`` would show them."""
    sessions: set[str] = set()
    turns = tokens = 0
    for turn in turns_of(store, scope):
        sessions.add(_session(turn))
        turns += 1
        tokens += count_tokens(whole(turn).line)
    return HistoryStats(len(sessions), turns, tokens)


def _session(turn: MemCube) -> str:
    said = turn.header.utterance
    return said.session if said else turn.id


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise InvalidInput(f"{name}={value!r}: give a number above 0")
    return value
