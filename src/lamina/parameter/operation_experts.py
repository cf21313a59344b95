"""MemLoRA: one small frozen model and one adapter for each memory operation, taught once, offline afterwards.

Bini et al., arXiv 2512.04763: Mem0's loop (extract facts, update what is stored, answer) on one small base with a
LoRA expert an operation, each trained by itself on a teacher's traces of that operation. The abstract and public
summaries are all there is of the recipe; ranks, rates and prompts are ours.

``MemLoRA`` is the extractor, the updater and the answerer of a text pipeline. It reads conversations (a
``ConversationExtractor``), so turns are stored verbatim *before* any expert sees them: if one fails on a turn,
``OperationFailed`` says so and the turn waits in the store, with all that follows it. An expert is a parameter cube
that carries the fingerprint of its base and is refused by any other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from lamina.cube.cube import Claim, Header, MemCube, Provenance, Scope
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters, LoRA
from lamina.parameter.experts.lora import Shape, fresh
from lamina.parameter.experts.operations import (
    NEAREST,
    NOT_MENTIONED,
    OPS,
    RECALLED,
    Exchange,
    Inquiry,
    MemoryOp,
    Op,
    Remembered,
    Revision,
)
from lamina.parameter.experts.prompts import PROMPTS, messages
from lamina.parameter.experts.serving import OperationExperts, OperationFailed
from lamina.parameter.experts.traces import TraceSet
from lamina.parameter.experts.training import LowerStates, Progress, Recipe, fit, lesson
from lamina.store.analysis import terms
from lamina.text.answering import Answer, cited, quotes
from lamina.text.base import Fact, Hit, Operation, Turn
from lamina.text.prompted.draft import Counts, Reading
from lamina.text.prompted.statements import Shown, Statement, drafts

_AHEAD = 256  # decisions kept until their transaction asks for them
CONTEXT = 2  # earlier lines shown with an exchange
_KINDS = {"ADD": "add", "UPDATE": "supersede", "DELETE": "close", "NONE": "noop"}

Metric = Callable[["MemLoRA"], float]


class MemLoRA:
    """The experts of one model. Thread-safe; several may share a model, and outside of a call it is the bare base."""

    name = "memlora"

    def __init__(
        self,
        lm: CausalLM,
        *,
        adapters: Adapters | None = None,
        max_tokens: Mapping[Op, int] | None = None,
        journal: Path | None = None,
    ) -> None:
        """No experts yet: every operation is the bare base's, until ``learn`` or ``install``.

        ``adapters`` is the model's own where it has one already; ``max_tokens`` of a reply, by operation (default
        160, 160, 32). ``journal``: where exchanges that failed are kept, as JSON lines.
        """
        self.lm = lm
        self.adapters = adapters or Adapters(lm)
        self.experts = OperationExperts(lm, self.adapters, {}, max_tokens=max_tokens, journal=journal)
        self.counts = Counts()
        self.about: dict[Op, dict[str, Any]] = {}
        self._ahead: dict[Revision, MemoryOp] = {}
        self._lock = threading.Lock()

    @classmethod
    def distill(
        cls,
        lm: CausalLM,
        traces: TraceSet,
        *,
        shape: Shape | None = None,
        recipe: Recipe | None = None,
        budget_s: float | None = None,
        metrics: Mapping[Op, Metric] | None = None,
        adapters: Adapters | None = None,
        journal: Path | None = None,
    ) -> Self:
        """An expert for each operation in ``traces``, each trained on its own.

        ``budget_s`` is shared out evenly; ``metrics`` (higher is better, on data of the caller's) choose the epoch
        that is kept. Raises ``InvalidInput`` if there are no traces.
        """
        ops = [op for op in OPS if len(traces.of(op))]
        if not ops:
            raise InvalidInput("traces holds none, so there is nothing to learn from; record some first")
        made = cls(lm, adapters=adapters, journal=journal)
        for op in ops:
            metric = (metrics or {}).get(op)
            share = None if budget_s is None else budget_s / len(ops)
            made.learn(op, traces.of(op), shape or Shape(), recipe or Recipe(), budget_s=share, metric=metric)
        return made

    def learn(
        self,
        op: Op,
        traces: TraceSet,
        shape: Shape,
        recipe: Recipe,
        *,
        states: LowerStates | None = None,
        budget_s: float | None = None,
        metric: Metric | None = None,
    ) -> Progress:
        """Train a new expert for ``op`` on ``traces`` of that operation alone, and install it.

        ``states`` shares what lies below the adapters with other trainings. See ``training.fit`` for the rest.
        """
        if any(trace.op != op for trace in traces):
            raise InvalidInput(f"traces of other operations than {op!r}: an expert learns its own; give traces.of(op)")
        lora = fresh(self.lm, shape, seed=recipe.seed)

        def judged() -> float:
            self.install(op, lora, {})
            return metric(self) if metric is not None else 0.0

        lessons = [lesson(self.lm, trace) for trace in traces]
        progress = fit(
            self.lm, lora, lessons, recipe, states=states, budget_s=budget_s, metric=judged if metric else None
        )
        told = {"steps": len(progress.losses), "metrics": progress.metrics, "kept_epoch": progress.kept}
        self.install(op, lora, {"teacher": traces.teacher, "traces": traces.sha256, **told})
        return progress

    def install(self, op: Op, lora: LoRA, about: Mapping[str, Any]) -> None:
        """Make ``lora`` the expert of ``op``, in place of the one there is; ``about`` goes into its cube."""
        name = self.adapters.add(lora.to_payload(self.adapters.base))
        before = self.experts.names.get(op)
        self.experts.names[op] = name
        with self._lock:
            self._ahead.clear()  # another expert may decide otherwise
        if before is not None and before not in self.experts.names.values():
            self.adapters.remove(before)
        layers = sorted({int(module.split(".")[1]) for module in lora.pairs})
        self.about[op] = {"rank": lora.rank, "alpha": lora.alpha, "layers": layers, **about}

    def use(self, op: Op) -> AbstractContextManager[None]:
        """The model with the expert of ``op`` on, for the time of the block; nests, and other threads wait."""
        return self.experts.use(op)

    # -- experts as cubes ------------------------------------------------------------------------

    def cubes(self, scope: Scope | None = None) -> list[MemCube]:
        """One parameter cube an expert: its weights, its base's fingerprint, and what it was taught by."""
        return [
            MemCube(
                Header(
                    kind="parameter",
                    semantic_type="adapter",
                    scope=scope or Scope(),
                    provenance=Provenance(extractor=self.name, model=self.lm.name, prompt_hash=PROMPTS),
                    tags=(self.name, op),
                    metadata={"op": op, **self.about[op]},
                ),
                self.adapters.to_payload(name),
            )
            for op, name in self.experts.names.items()
        ]

    @classmethod
    def from_cubes(
        cls,
        lm: CausalLM,
        cubes: Sequence[MemCube],
        *,
        adapters: Adapters | None = None,
        max_tokens: Mapping[Op, int] | None = None,
        journal: Path | None = None,
    ) -> Self:
        """The experts that ``cubes`` hold, on the base they were trained for.

        Raises ``FingerprintMismatch`` for another base, ``InvalidInput`` for cubes that are no experts, two of one
        operation, or experts for other prompts than this version writes. Nothing is installed in either case.
        """
        made = cls(lm, adapters=adapters, max_tokens=max_tokens, journal=journal)
        found: dict[Op, MemCube] = {}
        for cube in cubes:
            op = _checked(cube, made.adapters.base)
            if op in found:
                raise InvalidInput(f"two experts for {op!r} were given: {found[op].id} and {cube.id}; choose one")
            found[op] = cube
        if not found:
            raise InvalidInput("cubes=[] holds no expert; give those that MemLoRA.cubes returned")
        loras = {op: LoRA.from_payload(_tensors(cube)) for op, cube in found.items()}
        for op, lora in loras.items():
            told = {key: value for key, value in found[op].header.metadata.items() if key != "op"}
            made.install(op, lora, told)
        return made

    # -- as the extractor of a pipeline ------------------------------------------------------------

    def read(self, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn] = ()) -> Reading:  # noqa: ARG002
        """Facts of the first turn, with the assistant's reply to it if that comes next. Raises ``OperationFailed``."""
        count = 2 if len(turns) > 1 and turns[0].role == "user" and turns[1].role == "assistant" else 1
        new = turns[:count]
        if all(turn.role in ("system", "tool") for turn in new):
            return Reading(count, ())
        before = context[-CONTEXT:]
        facts = self.experts.extract(Exchange(_lines(new), _lines(before)))
        shown = Shown(before, new, self.name, self.lm.name, PROMPTS)
        statements = (Statement(text, _about(text, shown.turns), (_cite(text, new, len(before)),)) for text in facts)
        # Cites count within what was shown; the queue counts from the start of all context.
        skipped = len(context) - len(before)
        found = drafts(statements, shown, self.counts)
        return Reading(count, tuple(replace(d, cites=tuple(place + skipped for place in d.cites)) for d in found))

    def extract(self, turn: Turn, context: Sequence[Turn] = ()) -> list[Fact]:
        """Facts of one turn that are grounded in it. Raises ``OperationFailed``."""
        return [draft.fact for draft in self.read(Scope(), [turn], context).drafts if draft.doubt is None]

    # -- as its updater ----------------------------------------------------------------------------

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]:  # noqa: ARG002
        """None: an expert is shown what is near, whatever its slot."""
        return ()

    def decide(
        self,
        fact: Fact,
        observed: datetime,  # noqa: ARG002
        same_subject: Sequence[MemCube],  # noqa: ARG002
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation:
        """The expert's decision about one fact. Raises ``OperationFailed``.

        What ``decide_ahead`` has just decided on the same memories is not asked again: this is called inside a
        transaction, where a model is waited for only if something changed in between.
        """
        near = [cube for cube, _ in nearest]
        with self._lock:
            known = self._ahead.pop(_revision(fact, near), None)
        return _operation(known or self._ask([_revision(fact, near)])[0], fact, near)

    def decide_ahead(
        self, facts: Sequence[tuple[Fact, datetime]], nearest: Sequence[Sequence[MemCube]]
    ) -> list[Operation | None]:
        """One decision a fact, all decoded together. Raises ``OperationFailed``; then nothing is written."""
        asked = [_revision(fact, near) for (fact, _), near in zip(facts, nearest, strict=True)]
        said = self._ask(asked)
        with self._lock:
            self._ahead |= zip(asked, said, strict=True)
            for old in list(self._ahead)[:-_AHEAD]:
                del self._ahead[old]
        return [_operation(each, fact, near) for each, (fact, _), near in zip(said, facts, nearest, strict=True)]

    def _ask(self, revisions: Sequence[Revision]) -> list[MemoryOp]:
        """What the expert says of the one fact of each."""
        said = []
        for attempt in self.experts.attempt(revisions):
            output = attempt.output
            if not output or not isinstance(output[0], MemoryOp):
                raise OperationFailed(replace(attempt, problem=attempt.problem or "no operation for the fact"))
            said.append(output[0])
        return said

    # -- as the answerer ---------------------------------------------------------------------------

    def answer(self, question: str, hits: Sequence[Hit], *, now: datetime) -> Answer:
        """A short answer from the best ``hits``, with the memories it rests on; ``not mentioned`` cites none.

        Raises ``OperationFailed``.
        """
        lines = quotes(hits, question=question, limit=RECALLED)
        recalled = tuple(Remembered(line.meaning or line.text, line.at.date()) for line in lines)
        inquiry = Inquiry(question, recalled, now.date())
        text = self.experts.generate(inquiry)
        rests_on = () if text.casefold() == NOT_MENTIONED else cited(text, question, lines)
        return Answer(text, rests_on, len(self.lm.prompt(messages(inquiry))))


def _revision(fact: Fact, near: Sequence[MemCube]) -> Revision:
    return Revision((fact.text,), tuple(cube.text for cube in near[:NEAREST]))


def _operation(said: MemoryOp, fact: Fact, near: Sequence[MemCube]) -> Operation:
    """As the store executes it. An update keeps what it replaces in history: nothing is lost by a wrong one."""
    target = near[said.id] if said.id is not None else None
    reason = f"The update expert says {said.event}."
    if said.event == "ADD" or (said.event == "NONE" and target is None):
        return Operation("add" if said.event == "ADD" else "skip", fact, reason)
    assert target is not None  # ``read`` checked it
    kind = _KINDS[said.event]
    known = set(terms(f"{fact.text} {target.text}"))
    if said.event == "UPDATE" and said.text and set(terms(said.text)) <= known:
        fact = replace(fact, text=said.text)
    return Operation(kind, fact, reason, target)  # type: ignore[arg-type]  # one of its literals


def _lines(turns: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    return tuple((turn.speaker, " ".join(turn.text.split())) for turn in turns)


def _about(text: str, turns: Sequence[Turn]) -> str:
    """The speaker a sentence begins with, else its first word: facts begin with whom they are about."""
    named = [turn.speaker for turn in turns if text.casefold().startswith(turn.speaker.casefold())]
    return max(named, key=len, default=text.split()[0].removesuffix("'s") if text.split() else "")


def _cite(text: str, new: Sequence[Turn], before: int) -> int:
    """The number of the new turn that shares most words with ``text``, counted as ``Statement`` counts, from 1."""
    wanted = set(terms(text))
    shared = [len(wanted & set(terms(f"{turn.speaker} {turn.text}"))) for turn in new]
    return before + shared.index(max(shared)) + 1


def _checked(cube: MemCube, base: Fingerprint) -> Op:
    """The operation of an expert that fits. Another base is looked at first: it is the more useful thing to say."""
    op = cube.header.metadata.get("op")
    if cube.header.kind != "parameter" or op not in OPS or MemLoRA.name not in cube.header.tags:
        raise InvalidInput(f"cube {cube.id} is no operation expert; give those that MemLoRA.cubes returned")
    _tensors(cube).fingerprint.check(base)
    if cube.header.provenance.prompt_hash != PROMPTS:
        raise InvalidInput(f"expert {cube.id} was trained for other prompts than these; distil it again")
    return op  # type: ignore[no-any-return]  # it is in OPS


def _tensors(cube: MemCube) -> TensorPayload:
    if not isinstance(cube.payload, TensorPayload):
        raise InvalidInput(f"cube {cube.id} holds text, not the tensors of an expert")
    return cube.payload
