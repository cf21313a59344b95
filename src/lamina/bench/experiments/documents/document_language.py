"""A language of facts for proofs about document memories: documents nobody has seen, answers nobody can guess.

A document states three facts ``FILLER FIRST LAST ATTRIBUTE VALUE`` about one name; a question ``ask FIRST LAST
ATTRIBUTE`` has one VALUE for its answer. Values are drawn evenly, so without the document a reader is right once in
``VALUES``. Names are two tokens over a grid, so either half alone is shared by twenty names, and a fifth of the
documents of a stream change one fact of an earlier document: a key that only recognises a name is not enough.

``TextReader`` training (``train_reader``) teaches a small Llama to find the answer to such questions in documents that
it is shown, and nothing else: the model whose reading a memory is to replace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina._optional import require
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    import torch

FIRSTS, LASTS, ATTRIBUTES, VALUES, FILLERS = 20, 20, 8, 48, 24
FACTS = 3
UPDATES = 0.2  # share of a stream's documents that change an earlier one
_ASKED = 6  # questions after the documents while the reader learns
_ALONE, _WORDS = 0.5, 0.5  # share of the steps with one document; weight of words that are no answers
_WORDS_A_FACT = 5


@dataclass(frozen=True, slots=True)
class Document:
    """``facts`` of one name, attribute to value, as ``text`` states them; ``changes`` is the changed attribute."""

    text: str
    name: tuple[int, int]
    facts: dict[int, int]
    changes: int | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """``answer`` stands in document ``document`` of the stream and still holds; ``changed`` if an older one denies it.

    ``outdated`` is that older document's value.
    """

    text: str
    answer: str
    document: int
    outdated: str | None = None

    @property
    def changed(self) -> bool:
        return self.outdated is not None


def stream(rng: np.random.Generator, size: int, *, updates: float = UPDATES) -> list[Document]:
    """``size`` documents in the order in which they arrive; no name is new twice, no fact is changed twice.

    A share ``updates`` of them change an earlier one.
    """
    names = [divmod(int(code), LASTS) for code in rng.permutation(FIRSTS * LASTS)]
    documents: list[Document] = []
    changeable: list[int] = []
    for _ in range(size):
        if changeable and (rng.random() < updates or not names):
            old = documents[changeable.pop(int(rng.integers(len(changeable))))]
            documents.append(_change(rng, old))
        else:
            facts = {int(a): int(rng.integers(VALUES)) for a in rng.choice(ATTRIBUTES, FACTS, replace=False)}
            name = names.pop()
            documents.append(Document(_text(rng, name, facts), name, facts))
            changeable.append(len(documents) - 1)
    return documents


def questions(documents: Sequence[Document]) -> list[Question]:
    """One for every fact that holds at the end, by document and then by attribute."""
    holds = {(doc.name, attribute): place for place, doc in enumerate(documents) for attribute in doc.facts}
    older = {(doc.name, attribute): value for doc in reversed(documents) for attribute, value in doc.facts.items()}
    found = []
    for (name, attribute), place in sorted(holds.items(), key=lambda item: (item[1], item[0][1])):
        doc = documents[place]
        outdated = f"value{older[name, attribute]}" if doc.changes == attribute else None
        found.append(Question(ask(name, attribute), f"value{doc.facts[attribute]}", place, outdated))
    return found


def ask(name: tuple[int, int], attribute: int) -> str:
    return f"ask first{name[0]} last{name[1]} attribute{attribute}"


def reader(seed: int, *, width: int = 128, layers: int = 4) -> CausalLM:
    """An untrained Llama of ``layers`` blocks and ``width`` channels over the words of this language."""
    torch = require("torch", "the reader of the language of facts")
    transformers = require("transformers", "the reader of the language of facts")
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        initializer_range=width**-0.5,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        pad_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        attention_bias=True,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():  # what a token is must not drown in what the first layers add to it, or copying never starts
        model.get_input_embeddings().weight.mul_(width**0.5)
    _look_back(model)
    return CausalLM(model, tokenizer, "facts")


def _look_back(model: Any) -> None:
    """Let the first head of the first layer start out looking at the word before, the slow half of learning to copy.

    With constant keys ``(g, 0)`` and queries ``g (cos f, -sin f)`` in each rotary plane of frequency ``f``, the score
    of the word ``n`` back is the sum of ``g^2 cos((n - 1) f)``, largest at ``n = 1``.
    """
    torch = require("torch", "the reader of the language of facts")
    attention, frequencies = model.model.layers[0].self_attn, model.model.rotary_emb.inv_freq
    size, strength = 2 * len(frequencies), 7.0
    with torch.no_grad():
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight[:size] = 0
        attention.q_proj.bias[:size] = strength * torch.cat([frequencies.cos(), -frequencies.sin()])
        attention.k_proj.bias[:size] = strength * torch.cat([torch.ones_like(frequencies), 0 * frequencies])


def train_reader(lm: CausalLM, rng: np.random.Generator, *, steps: int, lr: float = 2e-3) -> float:
    """Teach ``lm`` to answer from documents that stand before the questions; the answers' loss in the last step.

    The first ``_ALONE`` of the steps show one document, the others two. Besides the answers every next word is learned
    a little, whose repetitions teach copying sooner than the answers alone.
    """
    torch = require("torch", "training the reader")
    optimizer = torch.optim.AdamW(lm.model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    loss = torch.tensor(float("nan"))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50, max(0.02, (steps - step) / (0.4 * steps)))
        alone = step < _ALONE * steps
        ids, answers = reading_batch(lm, rng, 16 if alone else 32, 1 if alone else 2)
        logits = lm.model(ids, use_cache=False).logits[:, :-1]
        words = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        loss = words[answers[:, 1:]].mean()
        optimizer.zero_grad(set_to_none=True)
        (loss + _WORDS * words[~answers[:, 1:]].mean()).backward()
        torch.nn.utils.clip_grad_norm_(lm.model.parameters(), 1.0)
        optimizer.step()
    return float(loss.detach())


def reading_batch(lm: CausalLM, rng: np.random.Generator, size: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids ``(size, tokens)`` of ``count`` documents and ``_ASKED`` questions with answers, and where those are."""
    torch = require("torch", "the reader's lessons")
    rows = []
    for _ in range(size):
        documents = list(_fresh(rng, count))
        facts = [(doc.name, attribute, value) for doc in documents for attribute, value in doc.facts.items()]
        order = [n for _ in range(_ASKED // len(facts)) for n in rng.permutation(len(facts))]
        told = [f"{ask(facts[n][0], facts[n][1])} value{facts[n][2]}" for n in order]
        rows.append(lm.encode(" ".join([*(doc.text for doc in documents), *told])))
    ids = torch.tensor(rows)
    answers = torch.zeros_like(ids, dtype=torch.bool)
    answers[:, _WORDS_A_FACT * FACTS * count + _WORDS_A_FACT - 1 :: _WORDS_A_FACT] = True
    return ids, answers


def _fresh(rng: np.random.Generator, size: int) -> Iterator[Document]:
    for code in rng.choice(FIRSTS * LASTS, size, replace=False):
        name = divmod(int(code), LASTS)
        facts = {int(a): int(rng.integers(VALUES)) for a in rng.choice(ATTRIBUTES, FACTS, replace=False)}
        yield Document(_text(rng, name, facts), name, facts)


def _change(rng: np.random.Generator, old: Document) -> Document:
    """A later document about the same name: one fact with another value, the others about other attributes."""
    changed = int(rng.choice(sorted(old.facts)))
    value = int((old.facts[changed] + rng.integers(1, VALUES)) % VALUES)
    others = rng.choice([a for a in range(ATTRIBUTES) if a not in old.facts], FACTS - 1, replace=False)
    facts = {changed: value} | {int(a): int(rng.integers(VALUES)) for a in others}
    return Document(_text(rng, old.name, facts), old.name, facts, changed)


def _text(rng: np.random.Generator, name: tuple[int, int], facts: dict[int, int]) -> str:
    order = rng.permutation(sorted(facts))
    return " ".join(
        f"filler{rng.integers(FILLERS)} first{name[0]} last{name[1]} attribute{a} value{facts[int(a)]}" for a in order
    )


def _tokenizer() -> Any:
    """One token a word."""
    tokenizers = require("tokenizers", "the words of the language of facts")
    transformers = require("transformers", "the words of the language of facts")
    sizes = {"first": FIRSTS, "last": LASTS, "attribute": ATTRIBUTES, "value": VALUES, "filler": FILLERS}
    words = ["<end>", "ask", *(f"{kind}{n}" for kind, size in sizes.items() for n in range(size))]
    model = tokenizers.models.WordLevel({word: id for id, word in enumerate(words)}, unk_token="<end>")
    raw = tokenizers.Tokenizer(model)
    raw.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", unk_token="<end>")
