"""The two Mem0s, put together: the paper's two phases, and the ADD-only pipeline that followed it.

Mem0, arXiv 2504.19413. Without a model both are what rules can do of them, which is the default pipeline: the
extraction and update of ``lamina.text.extraction`` and ``lamina.text.update``.
"""

from __future__ import annotations

from lamina.llm.base import ChatModel, Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache
from lamina.text.base import Pipeline
from lamina.text.extraction import RulesExtractor
from lamina.text.prompted.additive import AdditiveExtractor
from lamina.text.prompted.extraction import PromptedExtractor
from lamina.text.prompted.summary import RollingSummary
from lamina.text.prompted.update import PromptedUpdater
from lamina.text.retrieval import HybridRetriever
from lamina.text.update import RulesUpdater


def two_phase(
    llm: ChatModel | None, store: Store, embedder: Embedder, indexes: IndexCache, *, instructions: str | None = None
) -> Pipeline:
    """Extract with a rolling summary, then ADD, UPDATE, DELETE or NOOP. ``instructions``: the user's own wishes."""
    retriever = HybridRetriever(indexes, embedder)
    if llm is None:
        return Pipeline(RulesExtractor(), RulesUpdater(), retriever)
    summary = RollingSummary(llm, store)
    extractor = PromptedExtractor(llm, summary=summary.current, instructions=instructions)
    return Pipeline(extractor, PromptedUpdater(llm), retriever, (summary,))


def additive(
    llm: ChatModel | None, store: Store, embedder: Embedder, indexes: IndexCache, *, instructions: str | None = None
) -> Pipeline:
    """One question a call, links to existing memories, and the rules to tell what is current."""
    retriever = HybridRetriever(indexes, embedder)
    if llm is None:
        return Pipeline(RulesExtractor(), RulesUpdater(), retriever)
    extractor = AdditiveExtractor(llm, store, embedder, indexes, instructions=instructions)
    return Pipeline(extractor, RulesUpdater(), retriever)
