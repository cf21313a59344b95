"""Writing on behind a stream: the backbone's own ``generate`` within a segment, and segments closed as they fill.

A segment is written on what was recalled when it was entered: recalling anew would mean reading the segment again. A
full one is closed by reading it whole, so that its memory is the one that reading the text would leave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from lamina.activation.segments.state import MemoryState


class Reading(Protocol):
    """What writing needs of ``HMT``."""

    backbone: PreTrainedModel
    tokens: int

    def read(self, input_ids: Tensor, state: MemoryState) -> MemoryState: ...
    def entered(self, input_ids: Tensor, state: MemoryState) -> Tensor: ...


def stops(hmt: Reading, settings: dict[str, Any]) -> set[int]:
    """Ids that end what is written: those of ``settings``, else the backbone's."""
    ends = settings.get("eos_token_id", cast("Any", hmt.backbone.generation_config).eos_token_id)
    return {*ends} if isinstance(ends, list) else {ends} - {None}


def write(hmt: Reading, ids: Tensor, state: MemoryState, count: int, settings: dict[str, Any]) -> Tensor:
    """Up to ``count`` new ids (n,) behind the one row ``ids`` (1, T); ``settings`` as ``transformers`` takes them."""
    whole = (ids.shape[1] - 1) // hmt.tokens * hmt.tokens  # the last segment stays open, be it full
    if whole:
        state = hmt.read(ids[:, :whole], state)
    ends, written, made = stops(hmt, settings), ids[:, whole:], ids[0, :0]
    while True:
        entered = hmt.entered(written, state)
        room = min(count - len(made), hmt.tokens - written.shape[1] + 1)  # the last one begins the next segment
        new = cast("Any", hmt.backbone).generate(
            inputs_embeds=entered,
            attention_mask=torch.ones(entered.shape[:2], dtype=torch.int64, device=ids.device),
            max_new_tokens=room,
            **settings,
        )
        made, written = torch.cat([made, new[0]]), torch.cat([written, new], 1)
        if len(made) >= count or new.shape[1] < room or int(new[0, -1]) in ends:
            return made
        state = hmt.read(written[:, :-1], state)
        written = written[:, -1:]
