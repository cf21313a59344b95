"""``lamina adapters``: teach a small local model the three operations of a memory, and use what it learnt (MemLoRA).

``record`` lets a teacher work, ``clean`` says what of it is fit to learn from, ``distill`` trains one expert an
operation into the database, ``eval`` compares experts with the teacher, ``list`` shows them, ``ask`` answers with them.
The pipeline ``memlora`` writes memories with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.adapters_record import record
from lamina.cli.command import OWNER, PLAIN, STORE, Session, command
from lamina.cli.progress import steps as bar
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.llm.causal import CausalLM
    from lamina.parameter.experts.agreement import Agreement
    from lamina.parameter.experts.lora import Shape
    from lamina.parameter.experts.operations import Op
    from lamina.parameter.experts.traces import TraceSet
    from lamina.parameter.experts.training import Recipe
    from lamina.parameter.operation_experts import MemLoRA

_HELD_OUT = 0.1  # of the traces of an operation, to compare the new expert with its teacher
_MOST = 40


class Operation(StrEnum):
    EXTRACT = "extract"
    UPDATE = "update"
    GENERATE = "generate"


Traces = Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="TRACES", help="As record wrote them.")]
Only = Annotated[list[Operation] | None, typer.Option("--op", help="Only this operation; repeatable.")]


@command(PLAIN)
def clean(
    session: Session,
    traces: Traces,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="Write those that are kept.")] = None,
) -> None:
    """Count the traces that are fit to learn from, and why the others are not."""
    from lamina.parameter.experts.cleaning import clean as cleaned
    from lamina.parameter.experts.operations import OPS
    from lamina.parameter.experts.traces import TraceSet

    found = cleaned(TraceSet.load(traces))
    if out is not None:
        found.traces.save(out)
    told = {
        "kept": {op: len(found.traces.of(op)) for op in OPS},
        "rejected": dict(found.rejected),
        "teacher": found.traces.teacher,
        "sha256": found.traces.sha256,
    }
    output.emit(session.json, told, lambda screen: _show_counts(screen, told))


@command(STORE)
def distill(
    session: Session,
    traces: Traces,
    op: Only = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training, for each expert.")] = 100,
    batch: Annotated[int, typer.Option(min=1, help="Traces a step.")] = 8,
    rank: Annotated[int, typer.Option(min=1, help="Of the adapters.")] = 8,
    layers: Annotated[int, typer.Option(min=1, help="How many of the last layers learn.")] = 10,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of weights and order.")] = 0,
) -> None:
    """Train an expert for each operation on a teacher's traces, and keep it in the database."""
    from lamina.parameter.experts import stored
    from lamina.parameter.experts.cleaning import clean as cleaned
    from lamina.parameter.experts.traces import TraceSet
    from lamina.parameter.operation_experts import MemLoRA

    found = cleaned(TraceSet.load(traces))
    taught, held = _split(found.traces, _chosen(op), seed)
    with session.memory(new=True) as memory:
        lm = _local_model(session)
        shape, recipe = _plan(lm, rank, layers, batch, lr, steps, seed)
        count = steps * sum(1 for each in _chosen(op) if len(taught.of(each)))
        with bar(session.json, "steps", count) as advance:
            experts = MemLoRA.distill(lm, taught, shape=shape, recipe=recipe, tell=lambda *_: advance(1))
        for name, result in _compare(experts, held).items():
            experts.about[name]["agreement"] = asdict(result)
        cubes = stored.keep(memory.store, experts, memory.settings.tenant)
    rows = [_row(cube) for cube in cubes]
    told = {"experts": rows, "rejected": dict(found.rejected)}
    output.emit(session.json, told, lambda screen: _table(screen, rows))


@command(STORE)
def evaluate(session: Session, traces: Traces, op: Only = None) -> None:
    """Compare the experts with their teacher on other traces than they learnt from."""
    from lamina.parameter.experts import stored
    from lamina.parameter.experts.cleaning import clean as cleaned
    from lamina.parameter.experts.traces import TraceSet

    found = cleaned(TraceSet.load(traces)).traces
    with session.memory() as memory:
        experts = stored.load(memory.store, memory.settings.tenant, ops=_chosen(op) if op else ())
    chosen = [each for each in _chosen(op) if each in experts.about]
    told = _compare(experts, {each: found.of(each) for each in chosen})
    rows = [{"op": name, "teacher": found.of(name).teacher, **asdict(result)} for name, result in told.items()]
    output.emit(session.json, rows, lambda screen: _table(screen, rows))


@command(STORE)
def list_(session: Session) -> None:
    """Show the experts of a database."""
    from lamina.parameter.experts import stored

    with session.memory() as memory:
        rows = [_row(cube) for cube in stored.find(memory.store, memory.settings.tenant).values()]
    output.emit(session.json, rows, lambda screen: _table(screen, rows))


@command(OWNER)
def ask(session: Session, question: Annotated[str, typer.Argument(help="What to answer from the memories.")]) -> None:
    """Answer a question with the expert that reads memories."""
    from lamina.parameter.experts import stored
    from lamina.parameter.experts.loop import FACTS

    with session.memory() as memory:
        hits = memory.hits(question, session.scope(), where=FACTS)
        experts = stored.load(memory.store, memory.settings.tenant, ops=("generate",))
    answer = experts.answer(question, hits, now=datetime.now(UTC))
    told = {
        "question": question,
        "answer": answer.text,
        "cited": [{"id": quote.hit.cube.id, "text": quote.meaning or quote.text} for quote in answer.cited],
    }
    output.emit(session.json, told, lambda screen: _show_answer(screen, told))


def _chosen(op: Sequence[Operation] | None) -> list[Op]:
    """The operations meant, in their order."""
    from lamina.parameter.experts.operations import OPS

    return [each for each in OPS if not op or each in {one.value for one in op}]


def _split(traces: TraceSet, ops: Sequence[Op], seed: int) -> tuple[TraceSet, dict[Op, TraceSet]]:
    """What is learnt, and what is held out of each operation."""
    import numpy as np

    from lamina.parameter.experts.traces import TraceSet

    learnt, held = [], {}
    for op in ops:
        rows = list(traces.of(op))
        order = np.random.default_rng(seed).permutation(len(rows)).tolist()
        count = min(_MOST, int(_HELD_OUT * len(rows)))
        held[op] = TraceSet(tuple(rows[place] for place in order[:count]))
        learnt += [rows[place] for place in order[count:]]
    if not learnt:
        raise InvalidInput(f"no traces for {', '.join(ops)} are left after cleaning; lamina adapters clean says why")
    return TraceSet(tuple(learnt)), held


def _local_model(session: Session) -> CausalLM:
    """The local model of the settings; the packaged one where they name an endpoint."""
    from lamina.llm.causal import CausalLM

    kind, _, name = session.settings().llm.partition(":")
    return CausalLM.load(name if kind == "local" else "smollm2")


def _plan(lm: CausalLM, rank: int, layers: int, batch: int, lr: float, steps: int, seed: int) -> tuple[Shape, Recipe]:
    """Adapters on the last layers; what enters the first of them is computed once a trace."""
    from lamina.parameter.experts.lora import Shape
    from lamina.parameter.experts.training import Recipe

    depth = int(lm.model.config.num_hidden_layers)
    cut = depth - layers
    chosen = tuple(range(cut, depth)) if cut > 0 else None
    recipe = Recipe(lr=lr, batch=batch, steps=steps, cache_below=cut if cut > 0 else None, seed=seed)
    return Shape(rank, 2.0 * rank, chosen), recipe


def _compare(experts: MemLoRA, held: dict[Op, TraceSet]) -> dict[Op, Agreement]:
    """Each expert with its teacher; operations without an expert or without traces are left out."""
    from lamina.parameter.experts.agreement import agreement

    return {
        op: agreement(traces, experts.experts.attempt([trace.request for trace in traces]))
        for op, traces in held.items()
        if op in experts.about and len(traces)
    }


def _row(cube: Any) -> dict[str, Any]:
    header = cube.header
    about = header.metadata
    return {
        "op": about["op"],
        "base": header.provenance.model,
        "teacher": about.get("teacher"),
        "steps": about.get("steps"),
        "rank": about.get("rank"),
        "layers": len(about.get("layers", ())),
        **{name: about.get("agreement", {}).get(name) for name in ("value", "valid", "failed", "requests")},
        "bytes": cube.nbytes,
        "traces": about.get("traces"),
        "id": cube.id,
    }


_COLUMNS = {"value": "agrees", "valid": "valid", "failed": "failed", "requests": "of"}
_HIDDEN = ("traces", "id", "rank", "layers", "bytes")  # what does not fit a narrow screen is in --json


def _table(screen: Any, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    if not rows:
        screen.print("No experts yet. Make them with: lamina adapters record, then lamina adapters distill")
        return
    names = [name for name in rows[0] if name not in _HIDDEN]
    table = Table(*(_COLUMNS.get(name, name) for name in names))
    for row in rows:
        table.add_row(*(output.styled(_cell(row[name])) for name in names))
    screen.print(table)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)


def _show_counts(screen: Any, told: dict[str, Any]) -> None:
    screen.print(output.styled("Kept: " + ", ".join(f"{count} {op}" for op, count in told["kept"].items())))
    reasons = ", ".join(f"{count} {reason}" for reason, count in told["rejected"].items()) or "none"
    screen.print(output.styled(f"Rejected: {reasons}"))


def _show_answer(screen: Any, told: dict[str, Any]) -> None:
    screen.print(output.styled(told["answer"]))
    for quote in told["cited"]:
        screen.print(output.styled(f'  "{quote["text"]}"  {quote["id"]}', "dim"))


adapters = typer.Typer(help="Teach a local model to keep a memory, and let it (MemLoRA).", no_args_is_help=True)
for _name, _verb in {
    "record": record,
    "clean": clean,
    "distill": distill,
    "eval": evaluate,
    "list": list_,
    "ask": ask,
}.items():
    adapters.command(_name)(_verb)
