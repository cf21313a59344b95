"""What a model still knows of a text whose cache was compressed: prose it goes on with, and a number hidden in it.

Every text is read once; every way to compress starts from the same exact keys, values and last queries
(``Prefilled``), by the code that a live prefill runs, layer by layer (``replay``). Prose is Python's own documentation,
development and test texts from different topics.
"""

from __future__ import annotations

import pydoc_data.topics
import random
import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from lamina.activation.attach import CachePolicy, attach
from lamina.activation.budgeted import attention
from lamina.bench.card import Claim, Measurement
from lamina.llm.causal import CausalLM

_QUERIES = 64  # last ones that are kept for policies to look at


@dataclass(frozen=True, slots=True)
class Passage:
    """``ids`` are compressed, then ``then`` is read exactly; ``asked`` are the places in ``then`` whose prediction
    counts, each by the token before it."""

    ids: list[int]
    then: list[int]
    asked: list[int]


@dataclass(frozen=True, slots=True)
class Prefilled:
    """Of each layer: rotated ``keys``, ``values`` ``(1, H_kv, n, d)``, the last queries ``(1, H, q, d)``, and what
    goes into its attention, ``hidden (1, n, width)``, if that was asked for."""

    passage: Passage
    keys: list[Tensor]
    values: list[Tensor]
    queries: list[Tensor]
    hidden: list[Tensor]


class _Recorder(DynamicCache):
    """A whole cache that also keeps each layer's last queries."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.queries: dict[int, Tensor] = {}

    def cache(self, _: Any) -> _Recorder:
        return self

    def seen_by(self, _: int) -> None:
        """Nothing is padding."""

    def attention(self, *_: object) -> None:
        """Stock attention does."""

    def attended(self, layer: int, query: Tensor, _: float) -> None:
        self.queries[layer] = query[:, :, -_QUERIES:].clone()


def prose(lm: CausalLM, texts: int, before: int, after: int, *, seed: int, dev: bool) -> list[Passage]:
    """``texts`` passages of ``before`` tokens of documentation and the ``after + 1`` that follow."""
    ids, rng = _corpus(lm, dev), random.Random(seed)
    starts = rng.sample(range(0, len(ids) - before - after - 1, before // 4), texts)
    return [
        Passage(ids[at : at + before], ids[at + before : at + before + after + 1], list(range(1, after + 1)))
        for at in starts
    ]


def passkeys(lm: CausalLM, texts: int, length: int, *, seed: int, dev: bool, asked_before: bool) -> list[Passage]:
    """``texts`` prompts of ``length`` tokens with five digits hidden at depths from 0.05 to 0.95. ``asked_before``: the
    question stands in the text that is compressed; otherwise it comes after. Only the digits count."""
    ids, rng = _corpus(lm, dev), random.Random(seed)
    found = []
    for number in range(texts):
        key = "".join(rng.choice("123456789") for _ in range(5))
        needle = lm.encode(f"\n\nThe pass key is {key}. Remember it: {key} is the pass key.\n\n")
        question = lm.encode("\n\nWhat is the pass key? The pass key is")
        answer = lm.encode(f" {key}.")
        room = length - len(needle) - (len(question) if asked_before else 0)
        at, depth = rng.randrange(len(ids) - room), 0.05 + 0.9 * number / max(texts - 1, 1)
        cut = at + int(room * depth)
        text = [*ids[at:cut], *needle, *ids[cut : at + room]]
        then = answer if asked_before else [*question, *answer]
        digits = [place for place, token in enumerate(then) if lm.decode([token]).strip().isdigit()]
        found.append(Passage([*text, *question] if asked_before else text, then, [d for d in digits if d > 0]))
    return found


def prefill(lm: CausalLM, passage: Passage, *, hidden: bool = False) -> Prefilled:
    """Read ``passage.ids`` exactly, once."""
    recorder = _Recorder(config=lm.model.config)
    heard: list[Tensor] = []

    def hear(*call: Any) -> None:
        heard.append(call[2]["hidden_states"])

    with torch.no_grad(), attach(lm.model, recorder), ExitStack() as hooks:
        for layer in lm.model.model.layers if hidden else ():
            hooks.callback(layer.self_attn.register_forward_pre_hook(hear, with_kwargs=True).remove)
        lm.model(torch.tensor([passage.ids]), use_cache=True, logits_to_keep=1)
    layers: list[Any] = recorder.layers
    queries = [recorder.queries[number] for number in range(len(layers))]
    return Prefilled(passage, [layer.keys for layer in layers], [layer.values for layer in layers], queries, heard)


def replay(policy: CachePolicy, lm: CausalLM, read: Prefilled) -> Any:
    """The cache that ``policy`` would have left behind this text."""
    left: Any = policy.cache(lm.model)
    scaling = read.queries[0].shape[-1] ** -0.5
    with torch.no_grad(), attention.running(attention.Pass(left, None)):
        for number, (keys, values, query) in enumerate(zip(read.keys, read.values, read.queries, strict=True)):
            left.update(keys, values, number)
            left.attended(number, query, scaling)
    return left


@dataclass(frozen=True, slots=True)
class Score:
    """Of one passage: mean negative log likelihood of what was asked (nats), and how much of it was said first."""

    nll: float
    right: float


def whole(lm: CausalLM, read: Prefilled) -> Score:
    """With the exact cache."""
    return behind(lm, read.passage, read.keys, read.values)


def behind(lm: CausalLM, passage: Passage, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Score:
    """With an ordinary cache of these layers."""
    plain = DynamicCache(config=lm.model.config)
    for number, pair in enumerate(zip(keys, values, strict=True)):
        plain.update(*pair, number)
    with torch.no_grad():
        logits = lm.model(torch.tensor([passage.then]), past_key_values=plain).logits[0]
    return score(passage, logits)


def compressed(policy: CachePolicy, lm: CausalLM, read: Prefilled) -> tuple[Score, int]:
    """With what ``policy`` leaves; and the bytes of that, before anything was asked of it."""
    left = replay(policy, lm, read)
    size: int = left.nbytes
    return asked(lm, read.passage, policy, left), size


def asked(lm: CausalLM, passage: Passage, policy: CachePolicy, left: Any) -> Score:
    """What the model still knows of ``passage`` behind the cache ``left``, which grows by it."""
    with torch.no_grad(), attach(lm.model, policy):
        logits = lm.model(torch.tensor([passage.then]), past_key_values=left).logits[0]
    return score(passage, logits)


def asked_by_steps(lm: CausalLM, passage: Passage, policy: CachePolicy, left: Any) -> Score:
    """``asked``, reading token by token, as decoding does."""
    with torch.no_grad(), attach(lm.model, policy):
        steps = [lm.model(torch.tensor([[token]]), past_key_values=left).logits[0] for token in passage.then]
    return score(passage, torch.cat(steps))


def score(passage: Passage, logits: Tensor) -> Score:
    """``logits (len(then), V)`` behind each token of ``then``."""
    wanted = torch.tensor([passage.then[place] for place in passage.asked])
    said = logits[[place - 1 for place in passage.asked]].float().log_softmax(-1)
    right = (said.argmax(-1) == wanted).float().mean()
    return Score(float(-said.gather(1, wanted[:, None]).mean()), float(right))


def compared(claim: Claim, ours: Sequence[float], theirs: Sequence[float], name: str, seed: int) -> Measurement:
    """Means over texts, and between which bounds their ratio lies."""
    low, high = interval(ours, theirs, seed)
    told = f"{name}; ours is {low:.2f} to {high:.2f} of it (95 %, {len(ours)} texts)"
    return claim.measured(statistics.fmean(ours), statistics.fmean(theirs), told)


def interval(values: Sequence[float], others: Sequence[float], seed: int) -> tuple[float, float]:
    """95 % of the ratio of means ``values / others``, by drawing texts anew 2,000 times."""
    rng, ratios = random.Random(seed), []
    for _ in range(2000):
        drawn = rng.choices(range(len(values)), k=len(values))
        below = sum(others[i] for i in drawn)
        ratios.append(sum(values[i] for i in drawn) / below if below else float("inf"))
    ratios.sort()
    return ratios[50], ratios[1949]


@cache
def _corpus(lm: CausalLM, dev: bool) -> list[int]:
    """Token ids of every third topic (development) or the others (test)."""
    topics = sorted(pydoc_data.topics.topics.items())
    chosen = [text for number, (_, text) in enumerate(topics) if (number % 3 == 0) == dev]
    return [token for text in chosen for part in text.split("\n\n") for token in lm.encode(f"{part}\n\n")]
