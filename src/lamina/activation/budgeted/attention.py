"""Attention over layers that hold different numbers of tokens, as a transformers attention function.

transformers builds one mask for all layers, from the first. Under a name that has no mask registered it builds none,
and the mask is made here, of the keys that a layer really holds: aligned at the lower right, without padding. The
stock SDPA then runs. Afterwards the layer may look at the queries and let go of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lamina.errors import InvalidInput

NAME = "lamina"


class Watching(Protocol):
    """A cache that wants to see each layer's attention."""

    def seen_by(self, layer: int, /) -> Tensor | None:
        """``(b, H_kv, n)``: which stored keys are no padding; ``None``: all."""

    def attention(self, layer: int, query: Tensor, scaling: float, /) -> Tensor | None:
        """``(b, H, q, d)``: what ``layer`` answers by itself to rotated ``query (b, H, q, d)``; ``None``: nothing."""

    def attended(self, layer: int, query: Tensor, scaling: float, /) -> None:
        """Called after ``layer`` attended with rotated ``query (b, H, q, d)``."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One run of the model: over ``cache``, or none. ``places (b, q)`` int32: where each token that is read stands, -1
    for padding; ``None``: right after those seen."""

    cache: Watching | None
    places: Tensor | None


_ALONE = Pass(None, None)
current: ContextVar[Pass] = ContextVar("current", default=_ALONE)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _: Tensor | None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """SDPA. Shapes as transformers gives them; its mask is ``None`` by construction."""
    options["dropout"] = dropout
    layer, now = int(module.layer_idx), current.get()  # type: ignore[arg-type]
    if now is _ALONE:
        raise InvalidInput(
            "the inner model was called while a policy is attached: call the model that it was attached to"
        )
    if now.cache is None:
        return _stock(module, query, key, value, _valid(now.places), options)
    given = options.get("scaling")
    scaling = query.shape[-1] ** -0.5 if given is None else given
    own = now.cache.attention(layer, query, scaling)
    if own is None:
        answer = _stock(module, query, key, value, now.cache.seen_by(layer), options)
    else:
        answer = own.transpose(1, 2), None
    now.cache.attended(layer, query, scaling)
    return answer


def _stock(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, valid: Tensor | None, options: dict[str, Any]
) -> tuple[Tensor, None]:
    mask = lower_right(query, key, valid)
    answer: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, mask, **options | {"is_causal": mask is None}
    )
    return answer


def lower_right(query: Tensor, key: Tensor, valid: Tensor | None) -> Tensor | None:
    """``(1 or b, 1 or H, q, n)`` bool, True where a query may look; ``None`` where SDPA's own causal mask is right.

    A query that may look nowhere (padding) looks at itself, so that no row of the softmax is empty.
    """
    count, total = query.shape[2], key.shape[2]
    if valid is None and (count == 1 or count == total):
        return None
    rows = torch.arange(total - count, total, device=key.device)[:, None]
    columns = torch.arange(total, device=key.device)
    seen = (columns <= rows)[None, None]
    if valid is None:
        return seen
    heads = valid.repeat_interleave(query.shape[1] // valid.shape[1], 1) if valid.shape[1] > 1 else valid
    return seen & heads[:, :, None, :] | (columns == rows)


@contextmanager
def running(now: Pass) -> Iterator[None]:
    """Attention within the block belongs to ``now``."""
    token = current.set(now)
    try:
        yield
    finally:
        current.reset(token)


def _valid(places: Tensor | None) -> Tensor | None:
    """``(b, 1, q)``, or ``None`` if none is padding."""
    return None if places is None or bool((places >= 0).all()) else places[:, None] >= 0


AttentionInterface.register(NAME, attend)
