"""mem0's configuration dictionaries arrive as Lamina's settings, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lamina.errors import InvalidInput
from lamina.text.mem0_config import settings_from_mem0


def test_paths_and_providers() -> None:
    settings = settings_from_mem0(
        {
            "vector_store": {"provider": "qdrant", "config": {"path": "/data/qdrant", "collection_name": "x"}},
            "embedder": {"provider": "huggingface", "config": {"model": "sentence-transformers/all-MiniLM-L6-v2"}},
            "llm": {"provider": "ollama", "config": {"model": "llama3.1", "ollama_base_url": "http://box:11434/v1"}},
        }
    )
    assert settings.database_path == Path("/data/qdrant/lamina.db")
    assert settings.embedder == "minilm"
    assert (settings.llm, settings.llm_base_url) == ("openai:llama3.1", "http://box:11434/v1")


def test_keys_stay_out_of_sight() -> None:
    settings = settings_from_mem0({"llm": {"provider": "openai", "config": {"api_key": "sk-very-secret"}}})
    assert "sk-very-secret" not in repr(settings)
    assert settings.llm_api_key is not None and settings.llm_api_key.get_secret_value() == "sk-very-secret"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ([], "config"),
        ({"vectorstore": {}}, "vectorstore"),
        ({"embedder": "minilm"}, "embedder"),
        ({"embedder": {"provider": "bedrock"}}, "bedrock"),
        ({"llm": {"provider": "litellm"}}, "litellm"),
        ({"graph_store": {"provider": "neo4j"}}, "graph_store"),
    ],
)
def test_what_cannot_be_honoured_is_refused(config: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        settings_from_mem0(config)


@pytest.mark.parametrize(
    ("reranker", "expected"),
    [
        ({"provider": "llm_reranker"}, "llm"),
        ({"provider": "sentence_transformer", "config": {"model": "a/b"}}, "cross-encoder:a/b"),
        ({}, "none"),
    ],
)
def test_the_reranker_maps(reranker: dict[str, Any], expected: str) -> None:
    assert settings_from_mem0({"reranker": reranker}).reranker == expected
    assert settings_from_mem0({"pipeline": "hybrid"}).pipeline == "hybrid"
    with pytest.raises(InvalidInput, match="reranker provider"):
        settings_from_mem0({"reranker": {"provider": "cohere"}})
