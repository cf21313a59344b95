"""The published ways to build and read text memory, by name: ``Memory(pipeline="a-mem")``.

One function a pipeline puts its parts together; nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lamina.errors import InvalidInput
from lamina.text.base import Pipeline
from lamina.text.tools import Tools


def hybrid(tools: Tools) -> Pipeline:
    """The default: rules that know what is current, and hybrid search over turns in their context."""
    from lamina.text.extraction import RulesExtractor
    from lamina.text.retrieval import HybridRetriever
    from lamina.text.update import RulesUpdater

    return Pipeline(RulesExtractor(), RulesUpdater(), HybridRetriever(tools.indexes, tools.embedder))


def mem0_graph(tools: Tools) -> Pipeline:
    """Mem0's graph memory: entities and relations of what facts say, and a search that follows them."""
    from lamina.text.extraction import RulesExtractor
    from lamina.text.graph import GraphRetriever, Mem0Graph
    from lamina.text.graphs.directory import Directories
    from lamina.text.update import RulesUpdater

    known = Directories()
    graph = Mem0Graph(tools.store, tools.embedder, tools.llm, known)
    retriever = GraphRetriever(tools.indexes, tools.embedder, known)
    return Pipeline(RulesExtractor(), RulesUpdater(), retriever, (graph,))


def mem0(tools: Tools) -> Pipeline:
    """Mem0 as published: extraction with a rolling summary, then ADD, UPDATE, DELETE or NOOP for each fact."""
    from lamina.text.prompted.mem0 import two_phase

    return two_phase(tools.llm, tools.store, tools.embedder, tools.indexes, instructions=tools.instructions)


def mem0_additive(tools: Tools) -> Pipeline:
    """Mem0 as its package is since 2026: one question to the model, facts only added; rules tell what is current."""
    from lamina.text.prompted.mem0 import additive

    return additive(tools.llm, tools.store, tools.embedder, tools.indexes, instructions=tools.instructions)


def mem_alpha(tools: Tools) -> Pipeline:
    """Mem-α: a learned policy decides what each fact does to the memory."""
    from lamina.text.construction_policy import MemAlphaUpdater
    from lamina.text.extraction import RulesExtractor
    from lamina.text.retrieval import HybridRetriever

    return Pipeline(RulesExtractor(), MemAlphaUpdater(), HybridRetriever(tools.indexes, tools.embedder))


def a_mem(tools: Tools) -> Pipeline:
    """A-MEM: a note about every turn, links between them, notes that learn; search follows links where it must."""
    from lamina.text.extraction import RulesExtractor
    from lamina.text.linked_notes import AMem, LinkedNotes
    from lamina.text.notes.register import Registers
    from lamina.text.update import RulesUpdater

    known = Registers()
    return Pipeline(RulesExtractor(), RulesUpdater(), LinkedNotes(tools, known), (AMem(tools, known),))


def memgas(tools: Tools) -> Pipeline:
    """MemGAS: sessions at several granularities first, then the turns in them."""
    from lamina.text.extraction import RulesExtractor
    from lamina.text.granularities.retriever import GranularityRetriever
    from lamina.text.update import RulesUpdater

    return Pipeline(RulesExtractor(), RulesUpdater(), GranularityRetriever(tools.indexes, tools.embedder))


Build = Callable[[Tools], Pipeline]
PIPELINES: dict[str, Build] = {
    "hybrid": hybrid,
    "mem0": mem0,
    "mem0-additive": mem0_additive,
    "mem0-graph": mem0_graph,
    "a-mem": a_mem,
    "memgas": memgas,
    "mem-alpha": mem_alpha,
}
DEFAULT, DEFAULT_WITH_MODEL = "hybrid", "mem0-additive"


def build(name: str | None, tools: Tools, others: Mapping[str, Build] | None = None) -> Pipeline:
    """The pipeline called ``name``; without a name the default, which asks the model if there is one.

    ``others`` are pipelines of rooms that this one does not know. Raises ``InvalidInput``.
    """
    known = {**PIPELINES, **(others or {})}
    if name is None:
        name = DEFAULT if tools.llm is None else DEFAULT_WITH_MODEL
    if name not in known:
        raise InvalidInput(f"pipeline={name!r:.60}: choose one of {', '.join(known)}")
    return known[name](tools)
