"""What an adapter knows: the gate it must pass, reading it out as text, and whether a memory is still in it.

An adapter may stand for its memories only if it answers, in wordings it was never taught, nearly as well as the model
does with the memories in its context, and leaves other text as it was. Two things count as answering: how probable
the right reply is, and whether it is the reply that is given. They come apart: a model that has learnt the form of
eight replies finds each of them probable, and yet gives one person's value for another's. Everything here asks;
nothing trains.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import NamedTuple

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.probes import Probe
from lamina.parameter.scoring import Continuation, forward, guard_texts, log_probs, perplexity

_ALOUD = 2  # questions a memory of which the reply is read


def as_context(memories: Sequence[str]) -> str:
    """The system message that tells ``memories``: what the teacher reads and the gate compares with."""
    return "What you know:\n" + "\n".join(f"- {' '.join(memory.split())}" for memory in memories)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Gains are in nats a token of the answers to held-out questions, over the bare model that was told nothing.

    ``guard`` is the rise of perplexity on guard text (0.01: one per cent). ``spoken`` is the share of held-out
    questions to which the greedy reply holds the memory's value, ``in_context_spoken`` that of the bare model with
    the memories in its context. ``reason`` is empty if accepted.
    """

    gain: float
    in_context: float
    guard: float
    spoken: float
    in_context_spoken: float
    reason: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason

    @property
    def fidelity(self) -> float:
        """The part of the in-context gain that the adapter gives; 0 if the context itself gives none."""
        return self.gain / self.in_context if self.in_context > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Gate:
    """What an adapter must reach: least fidelity, highest rise of guard perplexity, least share of spoken values.

    A model that uses its context badly excuses nothing: what it speaks then is reported, and the bar stays.
    """

    fidelity: float = 0.9
    guard: float = 0.01
    spoken: float = 0.75

    def judge(
        self,
        adapters: Adapters,
        names: Sequence[str],
        context: str,
        held_out: Sequence[Probe],
        guard: Sequence[str] | None = None,
    ) -> Verdict:
        """``held_out`` probes and ``guard`` texts (default ``guard_texts(8, held_out=True)``) were not trained on.

        Spoken are the replies to the first two probes of each memory.
        """
        if not held_out:
            raise InvalidInput("held_out must have at least one probe: without one nothing can be judged")
        texts = guard_texts(8, held_out=True) if guard is None else guard
        lm, aloud = adapters.lm, _first(held_out, _ALOUD)
        with adapters.using([]):
            closed, told = fmean(log_probs(lm, held_out)), fmean(log_probs(lm, held_out, context))
            before, could = perplexity(lm, texts), spoken(lm, aloud, context)
        with adapters.using(names):
            taught, after = fmean(log_probs(lm, held_out)), perplexity(lm, texts)
            does = spoken(lm, aloud)
        verdict = Verdict(taught - closed, told - closed, after / before - 1, does, could)
        return replace(verdict, reason=self._reason(verdict))

    def _reason(self, verdict: Verdict) -> str:
        faults = []
        if verdict.in_context <= 0:
            faults.append(f"the context itself gives no gain ({verdict.in_context:.3f} nats a token)")
        elif not verdict.fidelity >= self.fidelity:
            faults.append(
                f"fidelity {verdict.fidelity:.3f} < {self.fidelity}: "
                f"{verdict.gain:.3f} of {verdict.in_context:.3f} nats a token"
            )
        if not verdict.guard <= self.guard:
            faults.append(f"guard perplexity rises by {verdict.guard:.2%}, more than {self.guard:.2%}")
        if not verdict.spoken >= self.spoken:
            faults.append(
                f"the replies hold {verdict.spoken:.0%} of the values, of at least {self.spoken:.0%} "
                f"({verdict.in_context_spoken:.0%} with the memories in context)"
            )
        return "; ".join(faults)


def spoken(lm: CausalLM, probes: Sequence[Probe], context: str = "", *, max_tokens: int = 24) -> float:
    """The share of ``probes`` to whose question the greedy reply of ``lm``, as it is now, holds the value.

    ``context`` is the system message; the value counts as whole words in either case. Raises ``InvalidInput``
    without probes.
    """
    if not probes:
        raise InvalidInput("spoken() needs at least one probe")
    system: list[Message] = [{"role": "system", "content": context}] if context else []
    said = 0
    with lm.lock:
        for probe in probes:
            prompt = lm.prompt([*system, {"role": "user", "content": probe.question}])
            said += holds(lm.decode(list(lm.steps(prompt, max_tokens))), probe.value)
    return said / len(probes)


def holds(reply: str, value: str) -> bool:
    """Whether the words of ``value`` stand in ``reply``, in either case and not within longer words."""
    return re.search(rf"(?<!\w){re.escape(value.casefold())}(?!\w)", reply.casefold()) is not None


def _first(probes: Sequence[Probe], count: int) -> list[Probe]:
    """The first ``count`` probes of each memory."""
    seen = Counter[int]()
    chosen = []
    for probe in probes:
        seen[probe.memory] += 1
        if seen[probe.memory] <= count:
            chosen.append(probe)
    return chosen


class Reading(NamedTuple):
    """``confidence``: mean probability of a token of the answer, the end of the turn included."""

    question: str
    answer: str
    confidence: float


def read_out(lm: CausalLM, questions: Sequence[str], *, threshold: float = 0.9, max_tokens: int = 48) -> list[Reading]:
    """What ``lm``, as it is now (inside ``Adapters.using``), says by itself with confidence ``threshold`` or more.

    Replies that do not end within ``max_tokens`` are left out, and all but the surest question for one answer.
    """
    best: dict[str, Reading] = {}
    with lm.lock:
        for question in questions:
            reading = _said(lm, question, max_tokens)
            if reading is None or reading.confidence < threshold:
                continue
            if reading.answer not in best or reading.confidence > best[reading.answer].confidence:
                best[reading.answer] = reading
    return list(best.values())


def _said(lm: CausalLM, question: str, max_tokens: int) -> Reading | None:
    torch = require("torch", "reading an adapter")
    prompt = lm.prompt([{"role": "user", "content": question}])
    ids = list(lm.steps(prompt, max_tokens))
    answer = lm.decode(ids).strip()
    if not answer or len(ids) == max_tokens:
        return None
    whole = Continuation((*prompt, *ids, lm.tokenizer.eos_token_id), len(prompt))
    with torch.inference_mode():
        chances = forward(lm, [], [whole]).double().softmax(-1)
    return Reading(question, answer, float(chances.gather(1, torch.tensor(whole.scored)[:, None]).mean()))


@dataclass(frozen=True, slots=True)
class RecallGap:
    """Mean gains in nats a token over the bare model: of the memories asked for, of controls that were never taught.

    ``error`` is the standard error of their difference if neither was taught (the spread of the controls).
    """

    taught: float
    control: float
    error: float

    @property
    def gap(self) -> float:
        return self.taught - self.control

    @property
    def leaks(self) -> bool:
        """Whether the adapters still hold the memories: the gap is beyond two standard errors."""
        return self.gap > 2 * self.error


def recall_gap(
    adapters: Adapters, names: Sequence[str], probes: Sequence[Probe], control: Sequence[Probe]
) -> RecallGap:
    """Whether ``names`` together know the memories of ``probes`` better than ``control`` (see ``decoys``).

    A control is a probe of the same form whose answer was never taught; ``memory`` tells controls apart. Raises
    ``InvalidInput`` without probes or with fewer than two controls.
    """
    if not probes or len({probe.memory for probe in control}) < 2:
        raise InvalidInput(f"recall_gap needs probes ({len(probes)}) and at least two different controls")
    asked = [*probes, *control]
    with adapters.using([]):
        bare = log_probs(adapters.lm, asked)
    with adapters.using(names):
        gains = [worn - without for worn, without in zip(log_probs(adapters.lm, asked), bare, strict=True)]
    taught = _by_memory(probes, gains[: len(probes)])
    other = _by_memory(control, gains[len(probes) :])
    spread = pstdev(other) * math.sqrt(len(other) / (len(other) - 1))
    return RecallGap(fmean(taught), fmean(other), spread * math.sqrt(1 / len(taught) + 1 / len(other)))


def _by_memory(probes: Sequence[Probe], gains: Sequence[float]) -> list[float]:
    """One mean for each memory: wordings of one question are no independent observations."""
    found = defaultdict(list)
    for probe, gain in zip(probes, gains, strict=True):
        found[probe.memory].append(gain)
    return [fmean(each) for each in found.values()]
