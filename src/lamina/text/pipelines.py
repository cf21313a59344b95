"""The published ways to build and read text memory, by name: ``Memory(pipeline="a-mem")``.

One function a pipeline puts its parts together; nothing is imported before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel, Embedder
from lamina.store.base import Store
from lamina.store.index import IndexCache
from lamina.text.base import Pipeline


@dataclass(frozen=True, slots=True)
class Tools:
    """What pipelines are built from. ``llm`` is ``None`` unless a capable model was configured: then rules work."""

    store: Store
    embedder: Embedder
    indexes: IndexCache
    llm: ChatModel | None = None


def hybrid(tools: Tools) -> Pipeline:
    """The default: rules that know what is current, and hybrid search over turns in their context."""
    from lamina.text.extraction import RulesExtractor
    from lamina.text.retrieval import HybridRetriever
    from lamina.text.update import RulesUpdater

    return Pipeline(RulesExtractor(), RulesUpdater(), HybridRetriever(tools.indexes, tools.embedder))


PIPELINES: dict[str, Callable[[Tools], Pipeline]] = {"hybrid": hybrid}
DEFAULT = "hybrid"


def build(name: str, tools: Tools) -> Pipeline:
    """The pipeline called ``name``. Raises ``InvalidInput``."""
    if name not in PIPELINES:
        raise InvalidInput(f"pipeline={name!r:.60}: choose one of {', '.join(PIPELINES)}")
    return PIPELINES[name](tools)
