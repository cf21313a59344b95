"""What a model costs: bytes stored, bytes read for a token, multiply-adds of a token.

Counted down the tree of modules. A module that knows better than the sum of its parts says so by a method of the same
name (a table of which a token reads a few rows); for the others every parameter is stored, is read once for each token
and each matrix is multiplied once.
"""

from __future__ import annotations

from torch import nn


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers; those that stand in several places (tied) count once."""
    tensors = {id(each): each.nbytes for each in (*module.parameters(), *module.buffers())}
    return sum(tensors.values())


def bytes_read_per_token(module: nn.Module) -> int:
    """Bytes of parameters that one token reads at batch 1, states and caches not counted."""
    if (own := getattr(module, "bytes_read_per_token", None)) is not None:
        return int(own())
    if isinstance(module, nn.Embedding):
        return module.weight[0].nbytes
    here = sum(parameter.nbytes for parameter in module.parameters(recurse=False))
    return here + sum(bytes_read_per_token(child) for child in module.children())


def macs_per_token(module: nn.Module, time: int) -> int:
    """Multiply-adds of the mean token of a text of ``time`` tokens; what is done to single channels is not counted."""
    if (own := getattr(module, "macs_per_token", None)) is not None:
        return int(own(time))
    if isinstance(module, nn.Linear):
        return module.weight.numel()
    return sum(macs_per_token(child, time) for child in module.children())
