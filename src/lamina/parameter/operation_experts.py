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

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from lamina.cube.cube import Header, MemCube, Provenance, Scope
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters, LoRA
from lamina.parameter.experts.loop import OperationLoop, inquiry
from lamina.parameter.experts.lora import Shape, fresh
from lamina.parameter.experts.operations import NOT_MENTIONED, OPS, Op
from lamina.parameter.experts.prompts import PROMPTS, messages
from lamina.parameter.experts.serving import OperationExperts
from lamina.parameter.experts.traces import TraceSet
from lamina.parameter.experts.training import LowerStates, Progress, Recipe, Tell, fit, lesson
from lamina.text.answering import Answer, cited
from lamina.text.base import Hit

NAME = "memlora"
Metric = Callable[["MemLoRA"], float]


class MemLoRA(OperationLoop):
    """The experts of one model. Thread-safe; several may share a model, and outside of a call it is the bare base."""

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
        self.about: dict[Op, dict[str, Any]] = {}
        super().__init__(NAME, self.experts)

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
        tell: Tell | None = None,
    ) -> Self:
        """An expert for each operation in ``traces``, each trained on its own.

        ``budget_s`` is shared out evenly; ``metrics`` (higher is better, on data of the caller's) choose the epoch
        that is kept; ``tell`` is told of every step. What lies below a ``recipe.cache_below`` is computed for
        each by itself. Raises ``InvalidInput`` if there are no traces.
        """
        ops = [op for op in OPS if len(traces.of(op))]
        if not ops:
            raise InvalidInput("traces holds none, so there is nothing to learn from; record some first")
        made = cls(lm, adapters=adapters, journal=journal)
        for op in ops:
            metric = (metrics or {}).get(op)
            share = None if budget_s is None else budget_s / len(ops)
            made.learn(
                op, traces.of(op), shape or Shape(), recipe or Recipe(), budget_s=share, metric=metric, tell=tell
            )
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
        tell: Tell | None = None,
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
        chosen_by = judged if metric else None
        progress = fit(self.lm, lora, lessons, recipe, states=states, budget_s=budget_s, metric=chosen_by, tell=tell)
        told = {"steps": len(progress.losses), "metrics": progress.metrics, "kept_epoch": progress.kept}
        self.install(op, lora, {"teacher": traces.teacher, "traces": traces.sha256, **told})
        return progress

    def install(self, op: Op, lora: LoRA, about: Mapping[str, Any]) -> None:
        """Make ``lora`` the expert of ``op``, in place of the one there is; ``about`` goes into its cube."""
        name = self.adapters.add(lora.to_payload(self.adapters.base))
        before = self.experts.names.get(op)
        self.experts.names[op] = name
        self.unlearn()
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
                    provenance=Provenance(extractor=NAME, model=self.lm.name, prompt_hash=PROMPTS),
                    tags=(NAME, op),
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

    # -- as the answerer ---------------------------------------------------------------------------

    def answer(self, question: str, hits: Sequence[Hit], *, now: datetime) -> Answer:
        """A short answer from the best ``hits``, with the memories it rests on; ``not mentioned`` cites none.

        Raises ``OperationFailed``.
        """
        asked, lines = inquiry(question, hits, now=now)
        text = self.experts.generate(asked)
        rests_on = () if text.casefold() == NOT_MENTIONED else cited(text, question, lines)
        return Answer(text, rests_on, len(self.lm.prompt(messages(asked))))


def _checked(cube: MemCube, base: Fingerprint) -> Op:
    """The operation of an expert that fits. Another base is looked at first: it is the more useful thing to say."""
    op = cube.header.metadata.get("op")
    if cube.header.kind != "parameter" or op not in OPS or NAME not in cube.header.tags:
        raise InvalidInput(f"cube {cube.id} is no operation expert; give those that MemLoRA.cubes returned")
    _tensors(cube).fingerprint.check(base)
    if cube.header.provenance.prompt_hash != PROMPTS:
        raise InvalidInput(f"expert {cube.id} was trained for other prompts than these; distil it again")
    return op  # type: ignore[no-any-return]  # it is in OPS


def _tensors(cube: MemCube) -> TensorPayload:
    if not isinstance(cube.payload, TensorPayload):
        raise InvalidInput(f"cube {cube.id} holds text, not the tensors of an expert")
    return cube.payload
