"""``LaminaRetriever``: LangChain's retriever over a Lamina memory, of this process or behind HTTP.

    from lamina import Memory
    from lamina.integrations.langchain import LaminaRetriever, quotes

    found = LaminaRetriever(memory=Memory(), filters={"user_id": "alice"}) | quotes

``quotes`` makes quoted data of the documents, for the message of the user. There is no chat history here, since
langchain-core 1.7 deprecates those; for LangGraph's stores see ``lamina.integrations.langgraph``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from lamina._optional import require
from lamina.integrations.quoting import quoted

require("langchain_core.retrievers", "lamina.integrations.langchain")
from langchain_core.callbacks import CallbackManagerForRetrieverRun  # noqa: E402 - after what says what to install
from langchain_core.documents import Document  # noqa: E402
from langchain_core.retrievers import BaseRetriever  # noqa: E402


class LaminaRetriever(BaseRetriever):
    """The ``k`` memories that answer a query, best first, as documents: ``id``, the text, and in ``metadata`` the rest
    of the row (``score``, ``created_at``, ``source`` ...). ``memory``: a ``lamina.Memory`` or ``lamina.client.Client``;
    ``filters`` (with the owner's ids) and ``threshold`` as in ``Memory.search``."""

    memory: Any = Field(exclude=True)
    filters: dict[str, Any]
    k: int = 5
    threshold: float = 0.1

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain's signature
    ) -> list[Document]:
        found = self.memory.search(query, filters=self.filters, top_k=self.k, threshold=self.threshold)
        return [
            Document(
                row["memory"], id=row["id"], metadata={key: row[key] for key in row if key not in ("id", "memory")}
            )
            for row in found["results"]
        ]


def quotes(documents: Sequence[Document]) -> str:
    """Documents of a ``LaminaRetriever`` as a block of quoted lines (``integrations.quoting``)."""
    return quoted([{**document.metadata, "id": document.id, "memory": document.page_content} for document in documents])
