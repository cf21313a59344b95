"""Lamina: one memory for language models.

    from lamina import Memory

Names are loaded when first used, so ``import lamina`` stays fast and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamina.async_memory import AsyncMemory as AsyncMemory
    from lamina.bench.catalog import systems as systems
    from lamina.cube import Header as Header
    from lamina.cube import MemCube as MemCube
    from lamina.cube import Scope as Scope
    from lamina.errors import LaminaError as LaminaError
    from lamina.kernel.memos import MemOS as MemOS
    from lamina.memory import Memory as Memory

__version__ = "0.1.0"

_HOME = {
    "AsyncMemory": "lamina.async_memory",
    "Header": "lamina.cube",
    "LaminaError": "lamina.errors",
    "MemCube": "lamina.cube",
    "MemOS": "lamina.kernel.memos",
    "Memory": "lamina.memory",
    "Scope": "lamina.cube",
    "systems": "lamina.bench.catalog",
}
__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lamina' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
