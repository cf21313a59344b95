"""MemLoRA: do three small adapters make a 135M model keep a memory that it cannot keep without them?

Base: SmolLM2-135M-Instruct, the wheel's Q4_1 GGUF de-quantised to float32. Experts: rank 8 on the last ten layers,
taught by ``StateTeacher``, which knows the generator's state: this is supervised learning of the operations and no
distillation of a model. Tested on other values, half of it in wordings that training never saw, and asked half of
the questions in such wordings.

Arms, on the same requests: the base with three good examples in its prompt, the three experts, every expert on the
others' operations, and one joint adapter of the experts' parameters together (rank 24) trained on traces of all three;
end to end also ``RuleTeacher``. All arms get the same second chance: a malformed reply is decoded once more within the
grammar of what the request allows. The joint adapter and the bare base are reported in the names of baselines: no
claim is made about them, and at laptop scale the joint one takes as many steps as one expert, a third of what the
experts take together. Requests are those of the served pipeline (``experts.loop``): a fact meets the memories of its
own subject, and memories are shown nearest first. Nothing here says anything about LoCoMo, or about large models.

Claims that failed when laptop scale was run (seed 0), and stay. ``EXTRACT`` and ``GENERATE``: 45 steps an expert do
not suffice for values and wordings that training never showed; the second abstains too often. ``LOOP_BASE`` and
``LOOP_TEACHER``: hence 2.5 times the base's answers, not three, and half of the teacher's, not three quarters.
``BASE_INVALID``: once it is shown three examples the base does write valid JSON, though hardly a right fact in it.

``smoke`` runs the same code with a model of noise. ``full`` adapts every layer at rank 16 and learns from four times
the traces, on a GPU if there is one.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import permutations
from pathlib import Path

import numpy as np

from lamina._optional import require
from lamina.bench.card import Card, Claim, Measurement, Scale
from lamina.bench.experiments.operations.operation_dialogues import Dialogue, dialogues
from lamina.bench.experiments.operations.operation_loop import Operate, exact, one_by_one, play, state_teacher
from lamina.bench.experiments.operations.operation_scores import Score, scored
from lamina.llm.base import Embedder
from lamina.llm.causal import CausalLM
from lamina.llm.embed import MiniLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.experts import lora as adapter
from lamina.parameter.experts.cleaning import clean
from lamina.parameter.experts.lora import Shape
from lamina.parameter.experts.operations import (
    NOT_MENTIONED,
    OPS,
    Inquiry,
    MemoryOp,
    Op,
    Output,
    Request,
    Revision,
)
from lamina.parameter.experts.prompts import read
from lamina.parameter.experts.serving import Attempt, OperationExperts
from lamina.parameter.experts.teachers import RuleTeacher
from lamina.parameter.experts.traces import Trace, TraceRecorder, TraceSet
from lamina.parameter.experts.training import LowerStates, Recipe, fit, lesson
from lamina.parameter.operation_experts import MemLoRA

VALID = Claim("The experts write the asked JSON", "share of free replies that are valid", "", 0.95, of="ours")
BASE_INVALID = Claim(
    "The base does not, even when shown how", "valid free replies, base with 3 examples", "", 0.5, "less", "ours"
)
EXTRACT = Claim("Facts are extracted", "fact F1", "", 0.70, of="ours")
EXTRACT_OVER = Claim("The base extracts far fewer", "fact F1 above the base with 3 examples", "", 0.35, of="ours")
STORE = Claim("The store changes as it should", "F1 of what executing the operations changes", "", 0.70, of="ours")
GENERATE = Claim("Questions are answered from memories", "exact match", "", 0.70, of="ours")
LOOP_BASE = Claim("The whole loop answers three times as often as the base's", "end-to-end exact match", "", 3.0)
LOOP_TEACHER = Claim("And three quarters as often as the teacher's", "end-to-end exact match", "", 0.75)
CROSSED = Claim(
    "Each expert is the better one at its operation", "smallest margin over another's expert", "", 0.25, of="ours"
)
BYTES = Claim("Experts weigh little", "bytes added to the base", "%", 2.0, "less", "ours")
SWITCH = Claim("Changing experts takes no time", "median of a switch there and back", "ms", 5.0, "less", "ours")
CLAIMS = (
    *(VALID, BASE_INVALID, EXTRACT, EXTRACT_OVER, STORE, GENERATE),
    *(LOOP_BASE, LOOP_TEACHER, CROSSED, BYTES, SWITCH),
)

Experts = Mapping[Op, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything, by operation where that matters."""

    traces: int
    tested: int
    few: int  # requests for the base and for crossed experts, each compared with its rival on the same ones
    loops: int
    turns: int
    questions: int
    shape: Shape
    recipe: Recipe
    joint: int | None  # steps of the joint adapter; None: all that the experts take together
    max_tokens: Mapping[Op, int]  # of a reply


_TOP = tuple(range(20, 30))
_ABOVE = Recipe(lr=2e-3, batch=8, epochs=1, limit=128, dropout=0.0, cache_below=20)  # nothing is seen twice
_TOKENS: dict[Op, int] = {"extract": 48, "update": 48, "generate": 16}  # a right reply takes some 30
PLANS: dict[Scale, Plan] = {
    "smoke": Plan(8, 2, 2, 1, 3, 2, Shape(8, 16, (2, 3)), replace(_ABOVE, cache_below=2), 1, dict.fromkeys(OPS, 8)),
    "laptop": Plan(360, 60, 16, 3, 20, 20, Shape(8, 16, _TOP), _ABOVE, 45, _TOKENS),
    "full": Plan(1600, 400, 100, 12, 20, 15, Shape(16, 32), Recipe(batch=16, epochs=3, limit=256), None, _TOKENS),
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """See ``Card.run``."""
    plan, embedder = PLANS[scale], MiniLM(cache_size=100_000)
    lm = _load(scale)
    taught = _record(dialogues(plan.traces // 12 + 2, "train", seed), embedder)
    asked = _record(dialogues(plan.tested // 12 + 1, "test", seed), embedder)
    lessons = {op: _some(taught, op, plan.traces, seed) for op in OPS}
    tests = {op: _some(asked, op, plan.tested, seed) for op in OPS}
    made, joint = _train(lm, lessons, plan)
    names = dict(made.experts.names)
    shots = {op: _shots(taught.of(op)) for op in OPS}
    arms = _Arms(lm, made.adapters, shots, tests, plan.max_tokens)
    ours = {op: arms.attempts(op, names[op]) for op in OPS}
    scores = _Scores(
        ours={op: scored(op, tests[op], ours[op]) for op in OPS},
        own={op: scored(op, tests[op].first(plan.few), ours[op][: plan.few]) for op in OPS},
        joint={op: arms.score(op, joint, plan.few) for op in OPS},
        base={op: arms.score(op, None, plan.few) for op in OPS},
        adding=_adding(tests["update"]),
        bare={op: arms.score(op, None, max(2, plan.few // 4), shots=False) for op in OPS},
        crossed={(op, names_of): arms.score(op, names[names_of], plan.few) for op, names_of in permutations(OPS, 2)},
    )
    loops = dialogues(plan.loops, "test", seed + 1, turns=plan.turns, questions=plan.questions)
    ends = _loops(loops, arms, names, embedder)
    return [
        *_operations(scores),
        # Three times nothing is no gate: the base is credited with at least one right answer.
        LOOP_BASE.measured(
            ends["experts"], max(ends["base"], 1 / (plan.loops * plan.questions)), "base with 3 examples, or one answer"
        ),
        LOOP_TEACHER.measured(ends["experts"], ends["state"], f"StateTeacher (RuleTeacher {ends['rules']:.2f})"),
        *_costs(lm, made),
    ]


def _load(scale: Scale) -> CausalLM:
    """SmolLM2; for ``smoke`` four narrow layers of noise under the same tokenizer, with which everything runs."""
    torch, lm = require("torch", "the memlora card"), CausalLM.load("smollm2")
    if scale == "smoke":
        torch.manual_seed(0)
        settings = lm.model.config.to_dict() | {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4}
        settings |= {"num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16}
        config = type(lm.model.config)(**settings)
        return CausalLM(torch.nn.Module.eval(type(lm.model)(config)), lm.tokenizer, "noise")
    if torch.cuda.is_available():
        torch.nn.Module.to(lm.model, "cuda")
    return lm


def _record(talks: Sequence[Dialogue], embedder: Embedder) -> TraceSet:
    """What the teacher did in the loop over ``talks``, cleaned."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traces.jsonl"
        play(talks, one_by_one(TraceRecorder(state_teacher(talks), file)), embedder)
        return clean(TraceSet.load(file)).traces


def _some(traces: TraceSet, op: Op, count: int, seed: int) -> TraceSet:
    rows = list(traces.of(op))
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return TraceSet(tuple(rows[int(place)] for place in order))


def _shots(traces: TraceSet) -> list[tuple[Request, Output]]:
    """Three examples that differ in what is answered: the kinds an operation has, the shortest of each."""
    kinds: dict[str, Trace] = {}
    for trace in sorted(traces, key=lambda trace: len(trace.to_json()) if _has_memories(trace) else 10_000):
        output = read(trace.request, trace.output)
        if isinstance(output, str):
            kind = "none" if output == NOT_MENTIONED else "some" if "some" not in kinds else "more"
        else:
            kind = output[0].event if output and isinstance(output[0], MemoryOp) else str(min(len(output), 2))
        kinds.setdefault(kind, trace)
    wanted = [
        kinds[kind] for kind in ("ADD", "UPDATE", "DELETE", "1", "0", "2", "some", "none", "more") if kind in kinds
    ]
    return [(trace.request, read(trace.request, trace.output)) for trace in wanted[:3]]


def _has_memories(trace: Trace) -> bool:
    return not isinstance(trace.request, Revision | Inquiry) or len(trace.request.memories) > 1


def _train(lm: CausalLM, lessons: Mapping[Op, TraceSet], plan: Plan) -> tuple[MemLoRA, str]:
    """The three experts, and the name of the joint adapter: three times the rank, all traces, all the steps."""
    made = MemLoRA(lm, adapters=Adapters(lm))
    cut = plan.recipe.cache_below
    states = LowerStates(lm, cut) if cut is not None else None
    for op in OPS:
        made.learn(op, lessons[op], plan.shape, plan.recipe, states=states)
    shape = Shape(3 * plan.shape.rank, 3 * plan.shape.alpha, plan.shape.layers)
    mixed = adapter.fresh(lm, shape, seed=plan.recipe.seed)
    recipe = replace(plan.recipe, steps=plan.joint)
    fit(lm, mixed, [lesson(lm, trace) for op in OPS for trace in lessons[op]], recipe, states=states)
    return made, made.adapters.add(mixed.to_payload(made.adapters.base))


@dataclass(frozen=True, slots=True)
class _Arms:
    """The tests, and whoever is to take them."""

    lm: CausalLM
    adapters: Adapters
    shots: Mapping[Op, Sequence[tuple[Request, Output]]]
    tests: Mapping[Op, TraceSet]
    max_tokens: Mapping[Op, int]

    def experts(self, names: Experts, *, shots: bool = False) -> OperationExperts:
        return OperationExperts(
            self.lm, self.adapters, names, shots=self.shots if shots else None, max_tokens=self.max_tokens
        )

    def attempts(self, op: Op, name: str | None, count: int | None = None, *, shots: bool = True) -> list[Attempt]:
        """Adapter ``name`` on the first ``count`` tests of ``op``; ``None`` is the base, with examples or bare."""
        worker = self.experts({}, shots=shots) if name is None else self.experts({op: name})
        return worker.attempt([trace.request for trace in self.tests[op].first(count)])

    def score(self, op: Op, name: str | None, count: int | None = None, *, shots: bool = True) -> Score:
        """Those attempts, judged."""
        return scored(op, self.tests[op].first(count), self.attempts(op, name, count, shots=shots))


@dataclass(frozen=True, slots=True)
class _Scores:
    """Every arm by operation. ``own`` is ours on the requests that the base and the crossed experts got."""

    ours: Mapping[Op, Score]
    own: Mapping[Op, Score]
    joint: Mapping[Op, Score]
    base: Mapping[Op, Score]
    bare: Mapping[Op, Score]
    crossed: Mapping[tuple[Op, Op], Score]  # (operation, whose expert)
    adding: Score  # every fact added, whatever is known: what an update expert must be worth more than


def _adding(tests: TraceSet) -> Score:
    revisions = [trace.request for trace in tests if isinstance(trace.request, Revision)]
    added = [Attempt(r, ("",), tuple(MemoryOp("ADD", None, fact) for fact in r.facts)) for r in revisions]
    return scored("update", tests, added)


def _loops(talks: Sequence[Dialogue], arms: _Arms, names: Experts, embedder: Embedder) -> dict[str, float]:
    """End-to-end exact match of the experts, the base with examples, and both teachers."""
    workers: dict[str, Operate] = {
        "experts": partial(_outputs, arms.experts(names)),
        "base": partial(_outputs, arms.experts({}, shots=True)),
        "state": one_by_one(state_teacher(talks)),
        "rules": one_by_one(RuleTeacher()),
    }
    return {name: exact(play(talks, worker, embedder)) for name, worker in workers.items()}


def _outputs(worker: OperationExperts, requests: Sequence[Request]) -> list[Output | None]:
    return [attempt.output for attempt in worker.attempt(requests)]


def _operations(scores: _Scores) -> list[Measurement]:
    """The claims about single operations."""
    valid = {name: [arm["extract"].valid, arm["update"].valid] for name, arm in _named(scores).items()}
    margins = {
        f"{other} expert at {op}": scores.own[op].value - score.value for (op, other), score in scores.crossed.items()
    }
    closest = min(margins, key=lambda name: margins[name])
    over = scores.own["extract"].value - scores.base["extract"].value
    told = f"joint adapter {min(valid['joint adapter']):.2f}, bare base {min(valid['bare base']):.2f}"
    measured = [
        VALID.measured(min(valid["ours"]), None, f"the worse of both forms; {told}"),
        BASE_INVALID.measured(max(valid["base"]), None, "the better of both forms"),
        EXTRACT_OVER.measured(over, None, f"base at {scores.base['extract'].value:.2f}"),
        CROSSED.measured(margins[closest], None, f"closest: {closest}; {_listed(margins)}"),
    ]
    for claim, op in zip((EXTRACT, STORE, GENERATE), OPS, strict=True):
        told = "; ".join(f"{name}: {arm[op]}" for name, arm in _named(scores).items())
        told += f"; always ADD: {scores.adding}" if op == "update" else ""
        measured.append(claim.measured(scores.ours[op].value, scores.base[op].value, f"base with 3 examples ({told})"))
    return measured


def _named(scores: _Scores) -> dict[str, Mapping[Op, Score]]:
    return {"ours": scores.ours, "joint adapter": scores.joint, "base": scores.base, "bare base": scores.bare}


def _listed(margins: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {margin:.2f}" for name, margin in sorted(margins.items()))


def _costs(lm: CausalLM, made: MemLoRA) -> list[Measurement]:
    """Live bytes of the experts beside those of the base, and the time to put one on and take it off."""
    storages = {w.untyped_storage().data_ptr(): w.untyped_storage().nbytes() for w in lm.model.parameters()}
    base, added = sum(storages.values()), sum(made.adapters.to_payload(n).nbytes for n in made.experts.names.values())
    times = []
    for number in range(60):
        started = time.perf_counter()
        with made.use(OPS[number % len(OPS)]):
            pass
        times.append(1000 * (time.perf_counter() - started))
    note = f"{added / 1e6:.1f} MB on {base / 1e6:.0f} MB"
    return [BYTES.measured(100 * added / base, None, note), SWITCH.measured(float(np.median(times)))]


CARD = Card(
    name="memlora",
    paper="MemLoRA: Distilling Expert Adapters for On-Device Memory Systems",
    arxiv="2512.04763",
    module="lamina.parameter.operation_experts",
    summary="One small frozen model, and one adapter for each memory operation: extract, update, answer",
    claims=CLAIMS,
    run=run,
)
