"""mem0's configuration dictionary, read into Lamina's settings, so that switching is changing the import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamina.errors import InvalidInput
from lamina.settings import Settings
from lamina.text.arguments import short

_KNOWN = {"llm", "embedder", "vector_store", "history_db_path", "version", "graph_store", "reranker"}
_TEXTS = {"pipeline", "custom_instructions"}
_MINILM = {"all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "minilm"}
# Services that speak OpenAI's protocol, with the address mem0 uses for them when none is given.
_OPENAI_LIKE = {
    "openai": None,
    "ollama": "http://localhost:11434/v1",
    "lmstudio": "http://localhost:1234/v1",
    "vllm": None,
}


def settings_from_mem0(config: Mapping[str, Any]) -> Settings:
    """Database path, embedder and llm of ``Memory.from_config``.

    The vector store's ``path`` (or ``history_db_path``) names a folder or file; Lamina's one database goes
    there. What Lamina cannot honour raises ``InvalidInput`` instead of being ignored.
    """
    if not isinstance(config, Mapping):
        raise InvalidInput(f"config={short(config)}: pass mem0's configuration dict.")
    unknown = set(config) - _KNOWN - _TEXTS
    if unknown:
        raise InvalidInput(f"config has unknown keys {sorted(unknown)}; known are {sorted(_KNOWN | _TEXTS)}.")
    if config.get("graph_store"):
        raise InvalidInput("config['graph_store']: the graph is in the same database; use pipeline='mem0-graph'.")
    values: dict[str, Any] = {}
    if path := _path(config):
        values["database"] = str(path)
    values |= _embedder(_part(config, "embedder")) | _llm(_part(config, "llm")) | _reranker(_part(config, "reranker"))
    values |= {name: str(config[name]) for name in _TEXTS if config.get(name)}
    return Settings(**values)


def _part(config: Mapping[str, Any], name: str) -> tuple[str | None, dict[str, Any]]:
    part = config.get(name) or {}
    if not isinstance(part, Mapping) or not isinstance(part.get("config", {}), Mapping):
        raise InvalidInput(f"config[{name!r}]={short(part)}: pass {{'provider': ..., 'config': {{...}}}}.")
    return part.get("provider"), dict(part.get("config") or {})


def _path(config: Mapping[str, Any]) -> Path | None:
    _, store = _part(config, "vector_store")
    given = store.get("path") or config.get("history_db_path")
    if not given:
        return None
    path = Path(given).expanduser()
    return path if path.suffix in {".db", ".sqlite", ".sqlite3"} else path / "lamina.db"


def _embedder(part: tuple[str | None, dict[str, Any]]) -> dict[str, Any]:
    provider, options = part
    model = options.get("model")
    if provider is None or model in _MINILM:
        return {}
    if provider == "huggingface" and model:
        return {"embedder": str(model)}
    if provider in _OPENAI_LIKE:
        return {"embedder": f"openai:{model or 'text-embedding-3-small'}"}
    raise InvalidInput(f"embedder provider {provider!r}: use huggingface, or one of {sorted(_OPENAI_LIKE)}.")


def _llm(part: tuple[str | None, dict[str, Any]]) -> dict[str, Any]:
    provider, options = part
    if provider is None:
        return {}
    if provider not in _OPENAI_LIKE:
        raise InvalidInput(f"llm provider {provider!r}: use one of {sorted(_OPENAI_LIKE)}.")
    base_url = next((v for k, v in options.items() if k.endswith("base_url") and v), _OPENAI_LIKE[provider])
    values = {"llm": f"openai:{options.get('model') or 'gpt-4o-mini'}", "llm_base_url": base_url}
    if options.get("api_key"):
        values["llm_api_key"] = options["api_key"]
    return values


def _reranker(part: tuple[str | None, dict[str, Any]]) -> dict[str, Any]:
    provider, options = part
    if provider is None:
        return {}
    if provider in ("llm_reranker", "llm"):
        return {"reranker": "llm"}
    if provider in ("sentence_transformer", "huggingface") and options.get("model"):
        return {"reranker": f"cross-encoder:{options['model']}"}
    raise InvalidInput(f"reranker provider {provider!r}: use llm_reranker, or sentence_transformer with a model.")
