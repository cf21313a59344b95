"""How probable texts are to a model: replies after questions, and plain text; many in one forward pass.

Questions share their beginning (the system turn, which may hold memories). ``forward`` reads it once: it packs the
beginning and all continuations into one sequence, in which a continuation attends to the beginning and to itself, at
the positions it would have alone. Same numbers as one pass each; no padding, no repeated prefix. A key-value cache
of the beginning can stand for it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.parameter.probes import Probe

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache

_PACK = 512  # tokens of one pack: attention costs the square of it
_CHUNK = 64  # tokens of one piece of guard text


@dataclass(frozen=True, slots=True)
class Continuation:
    """Token ids after the common beginning; those from ``start`` on are scored. ``alone``: it has no beginning."""

    ids: tuple[int, ...]
    start: int
    alone: bool = False

    @property
    def scored(self) -> tuple[int, ...]:
        return self.ids[self.start :]


def forward(
    lm: CausalLM,
    beginning: Sequence[int],
    continuations: Sequence[Continuation],
    cache: Cache | None = None,
    states: Tensor | None = None,
) -> Tensor:
    """Logits (n, vocabulary) of all scored tokens of ``continuations``, in their order.

    ``cache`` holds ``beginning``; it is not changed. ``states`` (tokens read, width) enter the first layer instead of
    the tokens' embeddings. Gradients flow if they are on.
    """
    torch = require("torch", "scoring texts")
    read = [] if cache is not None else list(beginning)
    owner = [-1] * len(beginning)
    ids, places, wanted = list(read), list(range(len(read))), []
    for number, part in enumerate(continuations):
        first = 0 if part.alone else len(beginning)
        wanted += [len(ids) + part.start - 1 + i for i in range(len(part.scored))]
        if part.start < 1:
            raise InvalidInput(f"start={part.start} must be at least 1: nothing before it predicts the first token")
        places += range(first, first + len(part.ids))
        owner += [number] * len(part.ids)
        ids += part.ids
    owners = torch.tensor(owner)
    alone = torch.tensor([part.alone for part in continuations] + [False])[owners]  # the last is of the beginning
    seen = (owners[None] == owners[:, None]) | ((owners[None] == -1) & ~alone[:, None])
    seen = seen.tril()[len(owner) - len(ids) :]
    mask = torch.zeros(seen.shape, dtype=lm.model.dtype).masked_fill(~seen, torch.finfo(lm.model.dtype).min)
    read_as = {"input_ids": torch.tensor([ids])} if states is None else {"inputs_embeds": states[None]}
    out = lm.model(
        **read_as,
        attention_mask=mask[None, None],
        position_ids=torch.tensor([places]),
        past_key_values=copy.deepcopy(cache),
        use_cache=cache is not None,
        logits_to_keep=torch.tensor(wanted),
    )
    logits: Tensor = out.logits[0]
    return logits


def packs(continuations: Sequence[Continuation], size: int = _PACK) -> Iterator[list[Continuation]]:
    """``continuations`` in their order, in groups of up to ``size`` tokens (a longer one by itself)."""
    group: list[Continuation] = []
    for part in continuations:
        if group and sum(len(other.ids) for other in group) + len(part.ids) > size:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def questions(lm: CausalLM, probes: Sequence[Probe], context: str = "") -> tuple[list[int], list[Continuation]]:
    """The common beginning of all ``probes`` and what follows for each: the question, then the reply, which is scored.

    ``context`` is the system message, and its turn the beginning; without it the template's own stands there. The
    end of the reply's turn is scored too.
    """
    system: list[Message] = [{"role": "system", "content": context}] if context else []
    prompts = [lm.prompt([*system, {"role": "user", "content": probe.question}]) for probe in probes]
    ends = [[*lm.encode(probe.answer), lm.tokenizer.eos_token_id] for probe in probes]
    shared = len(lm.prompt(system, reply=False)) if system else min(map(len, prompts)) - 1
    common = takewhile(lambda column: len(set(column)) == 1, zip(*prompts, strict=False))
    shared = min(shared, sum(1 for _ in common))
    return prompts[0][:shared], [
        Continuation(tuple(prompt[shared:] + end), len(prompt) - shared)
        for prompt, end in zip(prompts, ends, strict=True)
    ]


def log_probs(lm: CausalLM, probes: Sequence[Probe], context: str = "") -> list[float]:
    """Mean natural log-probability of a token of each probe's answer (the end of the turn included), in nats."""
    torch = require("torch", "scoring answers")
    if not probes:
        return []
    beginning, parts = questions(lm, probes, context)
    means: list[float] = []
    for pack in packs(parts):
        with lm.lock, torch.inference_mode():
            logits = forward(lm, beginning, pack)
        tokens = torch.tensor([token for part in pack for token in part.scored])
        chosen = logits.double().log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        means += [float(piece.mean()) for piece in torch.split(chosen, [len(part.scored) for part in pack])]
    return means


def perplexity(lm: CausalLM, texts: Sequence[str]) -> float:
    """Of all tokens but the first of each of ``pieces`` of ``texts``. Raises ``InvalidInput`` if there are none."""
    torch = require("torch", "perplexity")
    total, count = 0.0, 0
    for pack in packs(pieces(lm, texts)):
        with lm.lock, torch.inference_mode():
            logits = forward(lm, [], pack)
        tokens = torch.tensor([token for part in pack for token in part.scored])
        total -= float(logits.double().log_softmax(-1).gather(1, tokens[:, None]).sum())
        count += len(tokens)
    if not count:
        raise InvalidInput("guard texts must have at least two tokens; give more text")
    return math.exp(total / count)


def pieces(lm: CausalLM, texts: Sequence[str]) -> list[Continuation]:
    """Each text in pieces of at most 64 tokens that know nothing of each other."""
    found = []
    for text in texts:
        ids = lm.encode(text)
        parts = [ids[i : i + _CHUNK] for i in range(0, len(ids), _CHUNK)]
        found += [Continuation(tuple(part), 1, alone=True) for part in parts if len(part) > 1]
    return found


def guard_texts(count: int, *, held_out: bool = False) -> list[str]:
    """``count`` (up to 16) passages of English prose that have nothing to do with anyone's memories.

    From Python's own help topics; ``held_out`` ones are of other topics than those to train on.
    """
    from pydoc_data.topics import topics

    chosen = sorted(topics)[held_out::2]
    return [" ".join(topics[name].split())[:1200] for name in chosen if len(topics[name]) > 2000][:count]
