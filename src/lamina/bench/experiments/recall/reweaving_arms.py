"""Small models with a short window, and what each remembers of what left it: reweaving and its rivals.

All arms go on from one model that has learned to look a name up within its window; they see the same documents in the
same order with the same loss, and all their weights learn. The rivals hold as many bytes as the reweaver does: a wider
window, or four first tokens and a window (StreamingLLM, arXiv 2309.17453), both charged by the key-value bytes of a
token. Ablations: no reconstruction loss, one captured layer with three times the slots, slots taken at random.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lamina._optional import require
from lamina.activation.reweaving.reweaver import MemoryReweaver
from lamina.activation.reweaving.training import language_loss
from lamina.activation.state_reweaving import read, reweave
from lamina.bench.experiments.recall.planted_bindings import (
    VOCABULARY,
    WORDS,
    Documents,
    distant_drills,
    documents,
    drills,
)
from lamina.train.loop import train

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

WINDOW, LENGTH, SLOTS, CODE, SINKS = 64, 256, 32, 64, 4
NARROW = 16  # window while a reweaver learns by itself
NEAR, MIDDLE, FAR = (8, WINDOW), (WINDOW + 1, 2 * WINDOW), (2 * WINDOW + 1, LENGTH - 16)
BATCH = 16
_DRILL = 24  # documents in a batch of drills
_BASE_RATE, _NEW_RATE = 5e-4, 1e-2
_ASIDE = 8  # rows in a batch that is asked


class RandomSalience(MemoryReweaver):
    """Slots go to tokens by lot."""

    def __init__(self, width: int, *, seed: int = 0, **settings: Any) -> None:
        super().__init__(width, seed=seed, **settings)
        self.lots = require("torch", "drawing lots").Generator().manual_seed(seed)

    def raw_salience(self, surprise: Tensor, hidden: Tensor) -> Tensor:  # noqa: ARG002  (neither matters)
        """Noise."""
        return surprise.new_empty(surprise.shape).normal_(generator=self.lots)


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """A model, with a reweaver or without, that reads documents; ``sinks`` of its first tokens are always seen."""

    model: PreTrainedModel
    window: int
    reweaver: MemoryReweaver | None = None
    sinks: int = 0
    reconstruction: float = 0.1
    gate: float = 0.01

    def logits(self, ids: Tensor, *, forget: bool = False) -> tuple[Tensor, Tensor | None]:
        """Of every token, and the auxiliary loss of a reweaver. With ``forget`` nothing is ever read from slots."""
        if self.reweaver is None:
            mask = None if not self.sinks else _mask(ids.shape[1], self.window, self.sinks)
            return self.model(ids, attention_mask=mask, use_cache=False).logits, None
        torch = require("torch", "reading documents")
        found, cache = [], None
        with reweave(self.model, self.reweaver, self.reweaver.empty(len(ids))) as session:
            for piece in torch.split(ids, self.reweaver.window, 1):
                logits, cache = read(self.model, piece, self.reweaver.window, cache)
                found.append(logits)
                if forget:
                    session.state = replace(self.reweaver.empty(len(ids)), seen=session.state.seen)
            learning = session.auxiliary(reconstruction=self.reconstruction, gate=self.gate) if session.use else None
        return torch.cat(found, 1), learning

    @property
    def parameters(self) -> list[Any]:
        """All that is learned."""
        return [*self.model.parameters(), *(self.reweaver.parameters() if self.reweaver else ())]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """``right`` of each question, ``said`` tokens, ``distances``; mean negative log-likelihood of answers beyond the
    window and of ordinary text, in nats."""

    right: NDArray[np.bool_]
    said: NDArray[np.int64]
    distances: NDArray[np.int64]
    beyond: float
    ordinary: float

    def share(self, low: int, high: int) -> float:
        """Right answers among the questions from ``low`` to ``high`` tokens away."""
        return float(self.right[(self.distances >= low) & (self.distances <= high)].mean())

    @property
    def recall(self) -> float:
        """Right answers among the questions about what left the window."""
        return self.share(WINDOW + 1, LENGTH)


def backbone(seed: int, *, width: int = 128, layers: int = 4) -> PreTrainedModel:
    """Untrained, float32, four heads, every layer with a window of ``WINDOW``."""
    torch, transformers = (require(name, "a small language model") for name in ("torch", "transformers"))
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=8192,
        use_sliding_window=True,
        max_window_layers=0,
        sliding_window=WINDOW,
        tie_word_embeddings=False,
        initializer_range=0.08,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = transformers.Qwen2ForCausalLM(config)
        # Names must stay apart: at the usual small scale what is learned of all names soon drowns which one it is.
        torch.nn.init.normal_(model.get_input_embeddings().weight)
    return model


def learn_to_look_up(model: PreTrainedModel, seed: int, *, drilled: int, mixed: int, lr: float) -> list[float]:
    """Teach ``model`` to answer from its window, and to read: ``drilled`` steps of drills, then ``mixed`` of documents,
    a quarter of them no longer than the window, the others ``LENGTH``; the loss of each step.

    During the drills a probe, thrown away later, asks the first layer for the token before each: looking a name up
    takes a head that knows it, and without the probe several times as many steps pass until one is found.
    """
    torch = require("torch", "learning")
    rng = np.random.default_rng((seed, 0))
    arm = Arm(model, WINDOW)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = torch.nn.Linear(model.config.hidden_size, VOCABULARY)

    def drill(_: int) -> Tensor:
        given = drills(rng, _DRILL, facts=5, questions=10)
        ids, first = torch.from_numpy(given.ids), []
        handle = model.model.layers[0].register_forward_hook(lambda *seen: first.append(seen[2]))
        loss = document_loss(arm, given)
        handle.remove()
        said = probe(torch.nn.functional.rms_norm(first[0][:, 1:], first[0].shape[-1:]))
        before: Tensor = torch.nn.functional.cross_entropy(said.flatten(0, 1), ids[:, :-1].flatten())
        return loss + before

    def document(step: int) -> Tensor:
        if step < mixed // 4:
            return document_loss(arm, documents(rng, 2 * BATCH, WINDOW, facts=5, distances=((4, WINDOW - 8),)))
        return document_loss(arm, documents(rng, BATCH // 2, LENGTH, facts=8, distances=(NEAR,)))

    learned = train([*arm.parameters, *probe.parameters()], drill, steps=drilled, lr=lr)
    return learned + train(arm.parameters, document, steps=mixed, lr=lr)


@dataclass(frozen=True, slots=True)
class Course:
    """Steps of an arm: of drills about what is far, of short documents, of long ones."""

    drilled: int
    short: int
    long: int


def further(arm: Arm, seed: int, course: Course) -> list[float]:
    """Teach ``arm``; the loss of each step. Every arm is given the same documents.

    A reweaver first learns by itself to find what left a window of ``NARROW`` tokens, in drills and then in documents
    that keep it quiet elsewhere too: short texts and a window to match show it more questions in less time. Then
    everything learns together, with the window that is meant. An arm without one has all its weights taught throughout.
    """
    given, taught, own = lessons(seed, course), arm, arm.reweaver
    new = [] if own is None else list(own.parameters())
    base = list(arm.model.parameters())

    def loss(_: int) -> Tensor:
        return document_loss(taught, next(given))

    losses = []
    for steps, rate, gate in ((course.drilled, _NEW_RATE, 0.0), (course.short, _NEW_RATE / 2, arm.gate)):
        taught = replace(arm, gate=gate)  # drills are all questions: to be quiet is not learned there
        with _narrowed(arm):
            losses += train(new or base, loss, steps=steps, lr=rate if new else _BASE_RATE)
    taught = arm
    groups = [{"params": base, "lr": _BASE_RATE}, {"params": new, "lr": 2 * _BASE_RATE}]
    losses += train(groups[: 2 if new else 1], loss, steps=course.long, lr=_BASE_RATE)
    if own is not None:
        own.eval()
    return losses


def lessons(seed: int, course: Course) -> Iterator[Documents]:
    """The batches of a course, in order."""
    rng = np.random.default_rng((seed, 1))
    for _ in range(course.drilled):
        yield distant_drills(rng, 3 * BATCH, facts=3, apart=NARROW + 1)
    for _ in range(course.short):
        ranges = ((4, NARROW - 1), (NARROW + 2, 2 * NARROW), (2 * NARROW + 1, 5 * NARROW))
        yield documents(rng, 3 * BATCH // 2, 6 * NARROW, facts=4, distances=ranges)
    for _ in range(course.long):
        yield documents(rng, BATCH // 2, LENGTH, facts=6, distances=(NEAR, MIDDLE, FAR))


@contextmanager
def _narrowed(arm: Arm) -> Iterator[None]:
    """A reweaver and its model see ``NARROW`` tokens, and the model's weights stay as they are."""
    if arm.reweaver is None:
        yield
        return
    arm.reweaver.train()
    arm.reweaver.window = arm.model.config.sliding_window = NARROW
    arm.model.requires_grad_(False)
    try:
        yield
    finally:
        arm.reweaver.window = arm.model.config.sliding_window = arm.window
        arm.model.requires_grad_(True)


def document_loss(arm: Arm, given: Documents) -> Tensor:
    """Of the text, names and numbers twice, and of the answers once more by themselves; of a reweaver its own too."""
    torch = require("torch", "learning")
    ids = torch.from_numpy(given.ids)
    logits, auxiliary = arm.logits(ids)
    rare = torch.arange(VOCABULARY) >= WORDS
    answers = torch.nn.functional.cross_entropy(logits[given.rows, given.places], torch.from_numpy(given.numbers))
    loss: Tensor = language_loss(logits, ids, rare) + answers
    return loss if auxiliary is None else loss + auxiliary


def ask(arm: Arm, given: Documents, *, forget: bool = False) -> Answered:
    """Ask all questions of ``given``."""
    torch = require("torch", "asking")
    ids = torch.from_numpy(given.ids)
    with torch.inference_mode():
        pieces = [arm.logits(part, forget=forget)[0].log_softmax(-1) for part in torch.split(ids, _ASIDE)]
    found = torch.cat(pieces)
    said = found[given.rows, given.places].argmax(-1).numpy()
    truth = found[given.rows, given.places, torch.from_numpy(given.numbers)].numpy()
    each = found[:, :-1].gather(2, ids[:, 1:, None])[..., 0].numpy()
    text = (given.ids[:, 1:] < WORDS) & (given.ids[:, :-1] < WORDS)
    beyond = given.distances > WINDOW
    return Answered(
        said == given.numbers, said, given.distances, float(-truth[beyond].mean()), float(-each[text].mean())
    )


def kept(arm: Arm, given: Documents) -> tuple[float, float]:
    """Of the questions about what left the window, for how many the stated number, and for how many the stated name,
    is in a slot when its name is asked for: more than the first share cannot be answered by looking."""
    torch = require("torch", "looking into slots")
    assert arm.reweaver is not None
    ids = torch.from_numpy(given.ids)
    held = torch.zeros(*ids.shape, ids.shape[1], dtype=torch.uint8)

    def look(_place: Any, seen: tuple[Any, ...], _woven: Any) -> None:
        places, view = seen[1:]
        piece = held[:, session.state.seen : session.state.seen + view.readable.shape[1]]
        where = places.positions.clamp_min(0).long()[:, None].expand_as(view.readable)
        piece.scatter_reduce_(2, where, view.readable.byte(), "amax")

    handle = arm.reweaver.places[0].register_forward_hook(look)
    with torch.inference_mode(), reweave(arm.model, arm.reweaver, arm.reweaver.empty(len(ids))) as session:
        read(arm.model, ids, arm.window)
    handle.remove()
    far = given.distances > arm.window
    rows, places, stated = given.rows[far], given.places[far], (given.places - given.distances)[far]
    return float(held[rows, places, stated].double().mean()), float(held[rows, places, stated - 1].double().mean())


def copied(model: PreTrainedModel, window: int | None = WINDOW) -> PreTrainedModel:
    """A copy that attends to ``window`` tokens; to all of them if there is none."""
    made = copy.deepcopy(model)
    made.config.sliding_window = window
    return made


def token_bytes(model: PreTrainedModel) -> int:
    """Of keys and values of one token, counted from a cache."""
    torch = require("torch", "counting bytes")
    with torch.inference_mode():
        cache: Any = model(torch.zeros(1, 8, dtype=torch.long), use_cache=True).past_key_values
    return sum((layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[2] for layer in cache.layers)


def overhead(arm: Arm, given: Documents, rounds: int) -> float:
    """How much longer reading takes with the reweaver than without, both read in pieces by turns: of ``rounds``
    ratios the median, less 1."""
    torch = require("torch", "measuring time")
    parts = torch.split(torch.from_numpy(given.ids), _ASIDE)
    plain: Callable[[], Any] = lambda: [read(arm.model, ids, WINDOW) for ids in parts]  # noqa: E731
    woven: Callable[[], Any] = lambda: [arm.logits(ids) for ids in parts]  # noqa: E731
    ratios = []
    with torch.inference_mode():
        for turn in range(rounds + 1):
            seconds = {}
            for name, call in (("plain", plain), ("woven", woven))[:: 1 if turn % 2 else -1]:
                start = time.process_time()
                call()
                seconds[name] = time.process_time() - start
            ratios.append(seconds["woven"] / seconds["plain"])
    return float(np.median(ratios[1:])) - 1  # the first warms both


def agreement(arm: Arm, given: Documents) -> tuple[float, float]:
    """Of documents that ask twice: how often both answers are the same, and how often the first is right."""
    answered = ask(arm, given)
    said, right = answered.said.reshape(-1, 2), answered.right.reshape(-1, 2)
    return float((said[:, 0] == said[:, 1]).mean()), float(right[:, 0].mean())


def table(answers: Mapping[str, Answered], ranges: Sequence[tuple[int, int]] = (NEAR, MIDDLE, FAR)) -> str:
    """Right answers by distance, an arm after the other."""
    rows = [f"{name} " + "/".join(f"{found.share(*r):.2f}" for r in ranges) for name, found in answers.items()]
    return f"right at {', '.join(f'{low}-{high}' for low, high in ranges)}: " + "; ".join(rows)


def _mask(length: int, window: int, sinks: int) -> dict[str, Tensor]:
    torch = require("torch", "attention to first tokens")
    place = torch.arange(length)
    behind = place[:, None] - place
    seen = (behind >= 0) & ((behind < window) | (place < sinks))
    mask: Tensor = torch.zeros(1, 1, length, length).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"sliding_attention": mask, "full_attention": mask}
