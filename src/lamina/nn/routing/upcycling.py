"""A trained model becomes the beginning of a larger one: what both have is copied, what is new begins small.

Sparse upcycling (arXiv 2212.05055), for mixers with a state: one matrix becomes a mixture of memories that all begin as
it (``GatedDelta`` to ``MoM``), or one with wider keys or values. So arms of a comparison begin from one checkpoint and
say at first nearly what it says.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lamina.errors import InvalidInput
from lamina.nn.config import LaminaConfig
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.gated_delta import GatedDelta
from lamina.nn.mixed_memories import MoM

_NEW = 0.3  # of the size that new rows and columns would begin with by themselves


@torch.no_grad()
def upcycle(model: LaminaForCausalLM, config: LaminaConfig) -> LaminaForCausalLM:
    """A new model of ``config`` with the weights of ``model``, in its dtype; what it has besides is drawn anew.

    Mixers may change from ``gated_delta`` to ``mom`` of the same sizes or to ``gated_delta`` of wider keys or values;
    all else must be as it was. Raises ``InvalidInput`` for anything that does not fit.
    """
    grown = LaminaForCausalLM(config)
    grown.to(dtype=model.dtype)  # type: ignore[call-arg]
    if (layers := len(grown.model.layers)) != len(model.model.layers):
        raise InvalidInput(f"num_hidden_layers={layers}: the model to begin from has {len(model.model.layers)}")
    for old, new in zip(model.model.layers, grown.model.layers, strict=True):
        old_mixer, new_mixer = old.mixer, new.mixer
        if isinstance(old_mixer, GatedDelta) and isinstance(new_mixer, MoM):
            _spread(old_mixer, new_mixer)
        elif isinstance(old_mixer, GatedDelta) and isinstance(new_mixer, GatedDelta):
            _widen(old_mixer, new_mixer)
        else:
            told = f"{type(old_mixer).__name__} to {type(new_mixer).__name__}"
            raise InvalidInput(f"mixer: {told} is not known; give gated_delta to mom, or to a wider gated_delta")
    inner = {name: tensor for name, tensor in model.state_dict().items() if ".mixer." not in name}
    for name, tensor in grown.state_dict().items():
        if ".mixer." not in name:
            _copy(inner.get(name), tensor, name)
    grown.train(model.training)
    return grown


def _copy(old: Tensor | None, new: Tensor, name: str) -> None:
    if old is None or old.shape != new.shape:
        shape = None if old is None else tuple(old.shape)
        raise InvalidInput(f"config: {name} has shape {tuple(new.shape)}, in the model to begin from {shape}")
    new.copy_(old)


def _spread(old: GatedDelta, new: MoM) -> None:
    """Every memory begins as ``old``; the router is new."""
    if (old.conv is None) != (new.conv is None):
        raise InvalidInput("taps: give the memories a convolution if, and only if, the model to begin from has one")
    for name in ("query", "norm", "gate", "out"):
        _copy(getattr(old, name).weight, getattr(new, name).weight, name)
    if old.conv is not None and new.conv is not None:
        _copy(old.conv.conv.weight, new.conv.conv.weight, "conv")
    _copy(old.log_decay, new.log_decay, "log_decay")
    _copy(old.fade.bias, new.fade_bias, "fade_bias")
    rows = torch.cat([each.weight for each in (old.key, old.value, old.strength, old.fade)])
    for part in (new.routed, new.common):
        if part is not None:
            _copy(rows.expand(len(part.weight), -1, -1), part.weight, "projections")
            part.write_bias.copy_(old.strength.bias.repeat(len(part.weight)))


def _widen(old: GatedDelta, new: GatedDelta) -> None:
    """New channels of each head stand behind the old ones."""
    if old.heads != new.heads or new.key_dim < old.key_dim or new.value_dim < old.value_dim:
        sizes = f"heads={new.heads}, key_dim={new.key_dim}, value_dim={new.value_dim}"
        raise InvalidInput(f"{sizes}: give as many heads, and no fewer channels, than the model to begin from has")
    if (old.conv and old.conv.taps) != (new.conv and new.conv.taps):
        raise InvalidInput("taps: give as many as the model to begin from has")
    for name, size in (("query", "key_dim"), ("key", "key_dim"), ("value", "value_dim"), ("gate", "value_dim")):
        small, large = getattr(old, name).weight, getattr(new, name).weight
        _corner(small, large, old.heads, getattr(old, size), getattr(new, size))
    _corner(old.out.weight.T, new.out.weight.T, old.heads, old.value_dim, new.value_dim)
    for name in ("strength", "fade"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    new.log_decay.copy_(old.log_decay)
    # New channels are small, so the root mean square of all is smaller by this: what was learned keeps its size.
    new.norm.weight.fill_(1.0)[: old.value_dim] = old.norm.weight
    new.norm.weight.mul_((old.value_dim / new.value_dim) ** 0.5)
    if old.conv is not None and new.conv is not None:
        _taps(old, old.conv.conv, new, new.conv.conv)


def _taps(old: GatedDelta, small: nn.Conv1d, new: GatedDelta, large: nn.Conv1d) -> None:
    """The channels of queries, of keys and of values, one after the other."""
    sizes = [(mixer.heads * mixer.key_dim,) * 2 + (mixer.heads * mixer.value_dim,) for mixer in (old, new)]
    parts = zip(small.weight.split(sizes[0]), large.weight.split(sizes[1]), strict=True)  # type: ignore[no-untyped-call]
    for (before, after), size in zip(parts, ("key_dim", "key_dim", "value_dim"), strict=True):
        _corner(before, after, old.heads, getattr(old, size), getattr(new, size), scale=1.0)


def _corner(small: Tensor, large: Tensor, heads: int, narrow: int, wide: int, scale: float = _NEW) -> None:
    """``small`` ``(heads * narrow, ...)`` into the first ``narrow`` rows of each head of ``large``."""
    view = large.unflatten(0, (heads, wide))  # type: ignore[no-untyped-call]
    view[:, narrow:] *= scale
    view[:, :narrow] = small.unflatten(0, (heads, narrow))  # type: ignore[no-untyped-call]
