"""Nested state as JSON, its tensors by name beside it: what a pickle would hold, without code in it.

Containers are tagged (``{"map": [[key, value], ...]}``, ``{"list": [...]}``, ``{"tuple": [...]}``), tensors become
``{"tensor": [NAME, DEVICE]}``; numbers, strings, booleans and None stand for themselves, floats to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor


def packed(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` for JSON; its tensors are added to ``tensors`` under ``path`` and their place below it.

    Raises ``InvalidInput``, naming the place, for anything that is neither a container, a tensor nor plain.
    """
    if isinstance(value, dict) and all(isinstance(key, str | int) for key in value):
        return {"map": [[key, packed(each, f"{path}.{key}", tensors)] for key, each in value.items()]}
    if type(value) in (list, tuple):
        parts = [packed(each, f"{path}.{place}", tensors) for place, each in enumerate(value)]
        return {type(value).__name__: parts}
    if isinstance(value, require("torch", "training").Tensor):
        name = path
        while name in tensors:  # {1: a} and {"1": b} have one path
            name += "'"
        tensors[name] = value.detach().contiguous()
        return {"tensor": [name, value.device.type]}
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InvalidInput(f"{path} is a {type(value).__name__}: only tensors, plain values and containers can be written")


def unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What ``packed`` was given, each tensor in memory of its own on the device it was on.

    Raises ``KeyError`` for a tensor that is not there or an unknown tag.
    """
    if not isinstance(value, dict):
        return value
    ((tag, content),) = value.items()
    if tag == "tensor":
        name, device = content
        return tensors[name].to(device, copy=True)
    if tag == "map":
        return {key: unpacked(each, tensors) for key, each in content}
    return {"list": list, "tuple": tuple}[tag](unpacked(each, tensors) for each in content)
