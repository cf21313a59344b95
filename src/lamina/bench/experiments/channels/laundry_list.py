"""The Laundry List: which of the listed items is still to be bought? (Talking Heads, arXiv 2406.09519, section 5.)

"Today, I need to buy a cup, a ring and a hat. I have already bought the cup and the hat. The only thing left to buy is
the" asks a model to remember a list and to leave out what is done. Small models name the wrong item, and at five items
almost always the last one. Every place of the missing item is equally frequent, so whoever only prefers a place gains
nothing, and an answer is the item with the highest logit among those listed, so whoever only prefers items does not
either.

``Choice`` is what one backward pass on training prompts chooses: the components that raise the margin of the right
item most, to be doubled, and those that lower it most, to be silenced. Items of tests are others than those of
training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import (
    AttributionTable,
    Batch,
    Component,
    CompositionTable,
    Head,
    HeadSVD,
    attribute,
    composition_scores,
    logit_margin,
)

OBJECTS = (
    "cup", "ring", "hat", "lamp", "book", "shirt", "fork", "knife", "spoon", "plate", "bowl", "pen", "ball", "kite",
    "rope", "drum", "bell", "clock", "chair", "table", "brush", "towel", "soap", "candle", "basket", "mirror",
    "pillow", "blanket", "carpet", "bag",
)  # fmt: skip
TRAIN_OBJECTS, TEST_OBJECTS = OBJECTS[::2], OBJECTS[1::2]
_AT_ONCE = 32  # prompts in one forward
_PIECE = 256  # tokens of documentation that know nothing of the others


class Tokenizer(Protocol):
    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Laundry:
    """One prompt: its text and ids, the ids of the ``items`` in the order listed, and the place of the missing one."""

    text: str
    ids: tuple[int, ...]
    items: tuple[int, ...]
    missing: int

    @property
    def right(self) -> int:
        return self.items[self.missing]

    @property
    def wrong(self) -> tuple[int, ...]:
        return tuple(item for place, item in enumerate(self.items) if place != self.missing)


def laundry_list(
    tokenizer: Tokenizer, n_items: int, n_prompts: int, seed: int, objects: Sequence[str] | None = None
) -> list[Laundry]:
    """Prompts with every missing place equally often (to one), all different as far as the objects allow.

    ``objects``: English nouns that take "a", each one token after a space; default ``OBJECTS``. Raises
    ``InvalidInput`` for fewer than two items, too few objects, or one that is several tokens.
    """
    chosen = OBJECTS if objects is None else tuple(objects)
    if not 2 <= n_items <= len(chosen) or len(set(chosen)) != len(chosen) or n_prompts < 1:
        raise InvalidInput(
            f"n_items={n_items}, n_prompts={n_prompts}: give 2 to {len(chosen)} items (there are so many different "
            "objects) and at least one prompt"
        )
    tokens = {name: tokenizer.encode(f" {name}", add_special_tokens=False) for name in chosen}
    if long := [name for name, ids in tokens.items() if len(ids) != 1]:
        raise InvalidInput(f"objects={long!r} are several tokens each to this tokenizer; name objects that are one")
    rng = np.random.default_rng((seed, n_items))
    found = []
    for place in rng.permutation(np.arange(n_prompts) % n_items).tolist():
        names = [chosen[i] for i in rng.permutation(len(chosen))[:n_items].tolist()]
        text = _told(names, place)
        ids = tokenizer.encode(text, add_special_tokens=False)
        found.append(Laundry(text, tuple(ids), tuple(tokens[name][0] for name in names), place))
    return found


def _told(names: Sequence[str], missing: int) -> str:
    done = [f"the {name}" for place, name in enumerate(names) if place != missing]
    wanted = _joined([f"a {name}" for name in names])
    return f"Today, I need to buy {wanted}. I have already bought {_joined(done)}. The only thing left to buy is the"


def _joined(phrases: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(phrases[:-1]), phrases[-1]) if part)


@dataclass(frozen=True, slots=True)
class Score:
    """``right`` and ``missing``: one entry a prompt. ``top``: whether the item leads the whole vocabulary."""

    right: tuple[bool, ...]
    top: tuple[bool, ...]
    missing: tuple[int, ...]

    @property
    def accuracy(self) -> float:
        """Share of prompts whose right item has the highest logit of the listed."""
        return float(np.mean(self.right))

    @property
    def first(self) -> float:
        """Share of prompts whose right item has the highest logit of all tokens."""
        return float(np.mean(self.top))

    def by_place(self) -> tuple[float, ...]:
        """Accuracy by place of the missing item."""
        places, right = np.array(self.missing), np.array(self.right)
        return tuple(float(right[places == place].mean()) for place in range(max(self.missing) + 1))


def ask(lm: CausalLM, prompts: Sequence[Laundry]) -> Score:
    """What the model, as it is now, answers to ``prompts``."""
    right, top = [], []
    for part in _parts(prompts):
        with lm.lock, torch.inference_mode():
            logits = Batch.of([prompt.ids for prompt in part]).forward(lm).logits[:, -1].float().cpu()
        for prompt, row in zip(part, logits, strict=True):
            right.append(int(row[list(prompt.items)].argmax()) == prompt.missing)
            top.append(int(row.argmax()) == prompt.right)
    return Score(tuple(right), tuple(top), tuple(prompt.missing for prompt in prompts))


def _parts(prompts: Sequence[Laundry]) -> Iterator[Sequence[Laundry]]:
    yield from (prompts[start : start + _AT_ONCE] for start in range(0, len(prompts), _AT_ONCE))


def attribute_laundry(svd: HeadSVD, lists: Sequence[Sequence[Laundry]]) -> AttributionTable:
    """What each component contributes to the margin of the right item over the others of its list.

    ``lists``: prompts by number of items, equally many of each.
    """
    tables = []
    for prompts in lists:
        margin = logit_margin([prompt.right for prompt in prompts], [prompt.wrong for prompt in prompts])
        tables.append(attribute(svd, Batch.of([prompt.ids for prompt in prompts]), margin))
    return AttributionTable.mean(tables)


Edits = list[tuple[int, int, int, float]]  # layer, head, k, alpha


def chosen_edits(found: AttributionTable, each: int, louder: float = 2.0, quieter: float = 0.0) -> Edits:
    """The ``each`` most helpful components times ``louder``, the ``each`` most harmful times ``quieter``."""
    helpful = [(*member, louder) for member, _ in found.top(each)]
    return helpful + [(*member, quieter) for member, _ in found.top(each, helpful=False)]


def random_edits(svd: HeadSVD, edits: Edits, seed: int) -> Edits:
    """As many other components of the same layers, scaled alike."""
    rng, found = np.random.default_rng((seed, 99)), Edits()
    for layer in sorted({each[0] for each in edits}):
        alphas = [each[3] for each in edits if each[0] == layer]
        others = _others(svd, edits, layer)
        chosen = rng.permutation(len(others))[: len(alphas)].tolist()
        found += [(*others[place], alpha) for place, alpha in zip(chosen, alphas, strict=True)]
    return found


def _others(svd: HeadSVD, edits: Edits, layer: int) -> list[Component]:
    """Components of ``layer`` that are not edited."""
    taken = {Component(*each[:3]) for each in edits}
    heads, sizes = range(svd.heads.heads), range(svd.heads.head_dim)
    return [each for head in heads for k in sizes if (each := Component(layer, head, k)) not in taken]


@dataclass(frozen=True, slots=True)
class Heard:
    """Median percentiles, among all components before ``mover``, of how loudly it hears those chosen and the others
    of their layers; the chosen ones also with massive channels of the residual left out, and through values.

    ``agreement``: Spearman's rank correlation of its scores with the sizes of contributions over all components;
    ``overlap``: the share that the top 1% of both have in common.
    """

    mover: Head
    chosen: float
    others: float
    muted: float
    values: float
    agreement: float
    overlap: float

    def __str__(self) -> str:
        return (
            f"{self.mover}: {self.chosen:.0f} (others {self.others:.0f}, without massive channels {self.muted:.0f}, "
            f"values {self.values:.0f}; Spearman {self.agreement:.2f}, top 1% shared {100 * self.overlap:.0f}%)"
        )


def heard_by(found: AttributionTable, edits: Edits, movers: int, loud: Sequence[int]) -> list[Heard]:
    """How loudly the components of ``edits`` and the others of their layers are heard.

    Movers are the heads behind the first edited layer that raise the margin most; ``loud``: massive channels. NaN for
    a mover that comes before all that it could hear.
    """
    svd, readers = found.svd, found.movers(movers, after=min(each[0] for each in edits))
    tables = {
        "chosen": composition_scores(svd, "q", readers),
        "muted": composition_scores(svd, "q", readers, without=loud),
        "values": composition_scores(svd, "v", readers),
    }
    members = [Component(*each[:3]) for each in edits]
    others = [each for layer in sorted({each[0] for each in edits}) for each in _others(svd, edits, layer)]
    made = []
    for reader in readers:
        medians = {name: _median(table, members, reader) for name, table in tables.items()}
        agreement, overlap = _agreement(tables["chosen"], found, reader)
        made.append(
            Heard(
                reader,
                others=_median(tables["chosen"], others, reader),
                agreement=agreement,
                overlap=overlap,
                **medians,
            )
        )
    return made


def _median(table: CompositionTable, members: Sequence[Component], reader: Head) -> float:
    before = [table.percentile(member, reader) for member in members if member.layer < reader.layer]
    return float(np.median(before)) if before else float("nan")


def _agreement(table: CompositionTable, found: AttributionTable, reader: Head) -> tuple[float, float]:
    column = table.scores[:, table.readers.index(reader)]
    before = ~column.isnan()
    if int(before.sum()) < 2:
        return float("nan"), float("nan")
    weights, sizes = column[before].numpy(), found.scores[before].abs().numpy()
    ranks = np.stack([np.argsort(np.argsort(values)) for values in (weights, sizes)])
    top = max(1, len(weights) // 100)
    shared = np.intersect1d(np.argsort(-weights)[:top], np.argsort(-sizes)[:top])
    return float(np.asarray(np.corrcoef(ranks))[0, 1]), len(shared) / top


def documentation(lm: CausalLM, tokens: int) -> list[list[int]]:
    """Python's own help topics as pieces of 256 tokens (or what is asked for), ``tokens`` in all."""
    from pydoc_data.topics import topics

    ids: list[int] = []
    for name in sorted(topics):
        if len(ids) < tokens:
            ids += lm.encode(" ".join(topics[name].split()))[:_PIECE]
    return [ids[start : min(start + _PIECE, tokens)] for start in range(0, tokens, _PIECE)]


def nll(lm: CausalLM, texts: Sequence[Sequence[int]]) -> float:
    """Mean loss of a token after the first of each text, in nats."""
    losses = []
    for ids in texts:
        with lm.lock, torch.inference_mode():
            logits = lm.model(torch.tensor([ids], device=lm.model.device)).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits.float().cpu(), torch.tensor(ids[1:]), reduction="none"))
    return float(torch.cat(losses).mean())
