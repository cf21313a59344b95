"""Reading with the frozen model: soft tokens stand before a question as embeddings, at positions 0, 1, ...

Answers are scored by teacher forcing in one forward; only the positions that predict them get logits. The gradient
reaches the soft tokens and nothing of the model (its parameters are not among those trained; see ``frozen``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from lamina.activation.documents.compressor import padded
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from transformers import Cache


def answer_logprobs(
    lm: CausalLM, prefix: Tensor | None, questions: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """``log p`` of every answer token given ``[prefix; question; answer so far]``, and which are real: both ``(n, t)``.

    ``prefix`` ``(n, p, width)`` or none. Padding has log-probability 0. The caller holds ``lm.lock``.
    """
    device = lm.model.device
    targets, lengths = (each.to(device) for each in padded(answers))
    rows = [[*question, *answer] for question, answer in zip(questions, answers, strict=True)]
    ends = torch.tensor([len(question) for question in questions], device=device)
    steps = torch.arange(targets.shape[1], device=device)
    places = ends[:, None] + steps - 1 + (0 if prefix is None else prefix.shape[1])
    real = steps < lengths[:, None]
    logits = _logits(lm, prefix, rows, torch.where(real, places, places[:, :1]))
    found = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    return found * real, real


def next_logits(lm: CausalLM, prefix: Tensor | None, texts: Sequence[Sequence[int]]) -> Tensor:
    """Logits ``(n, vocabulary)``, float32, of the token after each text. The caller holds ``lm.lock``."""
    ends = torch.tensor([len(text) for text in texts], device=lm.model.device)
    places = ends[:, None] - 1 + (0 if prefix is None else prefix.shape[1])
    return _logits(lm, prefix, texts, places)[:, 0]


def prefix_cache(lm: CausalLM, prefix: Tensor) -> Cache:
    """Keys and values of soft tokens ``(p, width)``, at positions 0 to p - 1, for ``lm.steps`` to go on from."""
    embedded = prefix[None].to(lm.model.device, lm.model.dtype)
    with lm.lock, torch.inference_mode():
        decoder: Any = lm.model.base_model
        return cast("Cache", decoder(inputs_embeds=embedded, use_cache=True).past_key_values)


def _logits(lm: CausalLM, prefix: Tensor | None, rows: Sequence[Sequence[int]], places: Tensor) -> Tensor:
    """Logits ``(n, t, vocabulary)`` at ``places`` ``(n, t)``, positions in the sequence with the prefix."""
    device = lm.model.device
    embedded = lm.model.get_input_embeddings()(padded(rows)[0].to(device))
    if prefix is not None:
        embedded = torch.cat([prefix.to(device, embedded.dtype), embedded], 1)
    first = int(places.min())
    keep = torch.arange(
        first, int(places.max()) + 1, device=device
    )  # one range for the whole batch is what the model accepts
    logits = lm.model(inputs_embeds=embedded, use_cache=False, logits_to_keep=keep).logits
    return cast("Tensor", logits[torch.arange(len(rows), device=device)[:, None], places - first].float())
