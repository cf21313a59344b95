"""``lamina demo --tiers``: one memory as text, as a cache and as an adapter, side by side, then forgotten in all."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.budget import written
from lamina.cli import output
from lamina.cli.command import Session

if TYPE_CHECKING:
    from lamina.demo.tiers import Erased, Learnt, Served
    from lamina.kernel.memos import MemOS

Report = dict[str, Any]


def show_tiers(session: Session, path: Path) -> None:
    """Run the story in a new database at ``path`` and print each step; with ``--json`` one report at the end."""
    from lamina.demo import tiers
    from lamina.kernel.memos import MemOS
    from lamina.memory import Memory

    screen, begun = output.console(stderr=session.json), time.perf_counter()
    report: Report = {"question": tiers.QUESTION, "said": list(tiers.SAID)}
    _title(screen, 1, f"{tiers.SPEAKER} says {len(tiers.SAID)} things; the question is: {tiers.QUESTION}")
    with MemOS(Memory(path, settings=session.settings())) as system:
        facts, fact = tiers.tell(system)
        screen.print(output.styled(f"   The memory: {fact.text}"))
        _title(screen, 2, "The same question, from each form")
        learnt, rows = _forms(screen, system, facts, fact)
        _table(screen, rows)
        _told(screen, learnt)
        report |= {"forms": [asdict(row) for row in rows], "adapter": _adapter(learnt)}
        _title(screen, 3, "Forget it, in every form")
        erased = tiers.forget(system, fact, path)
        _gone(screen, erased)
        report["forgotten"] = _forgotten(erased)
    report["seconds"] = round(time.perf_counter() - begun, 1)
    screen.print(output.styled(f"\nDone in {report['seconds']:g} s.", "bold"))
    if session.json:
        output.print_json(report)


def _forms(screen: Any, system: MemOS, facts: Any, fact: Any) -> tuple[Learnt, list[Served]]:
    """Each form in turn, saying what is under way: loading and training take longest."""
    from lamina.demo import tiers

    rows = []
    steps: dict[str, Callable[[], Served]] = {
        "loading the model": lambda: tiers.without(system),
        "reading the memory as text": lambda: tiers.as_text(system, fact),
        "making a cache of it": lambda: tiers.as_cache(system, fact),
    }
    for what, step in steps.items():
        with _busy(screen, what):
            rows.append(step())
    with _training(screen, f"teaching {len(facts)} memories to an adapter") as progress:
        learnt = tiers.as_adapter(system, facts, progress)
    return learnt, [*rows, learnt.served] if learnt.served else rows


def _table(screen: Any, rows: list[Served]) -> None:
    from rich.table import Table

    table = Table("form", "first token", "read", "attached", "bytes", "fidelity", "right")
    for row in rows:
        fidelity = "" if row.fidelity is None else f"{row.fidelity:.3f}"
        size = written(row.nbytes) if row.nbytes else ""
        first = f"{1000 * row.first_token:.0f} ms"
        table.add_row(row.form, first, f"{row.read}", f"{row.reused}", size, fidelity, "yes" if row.knows else "no")
    screen.print(table)
    for row in rows:
        answer = output.styled(f"   {row.form + ':':<12} {row.answer}", "green" if row.knows else "yellow")
        screen.print(answer, soft_wrap=True)


def _told(screen: Any, learnt: Learnt) -> None:
    made = learnt.migration
    figures = f"fidelity {made.fidelity:.3f} (at least {made.threshold:g}), trained {made.seconds:.0f} s"
    if learnt.served is None:
        told = f"The adapter was refused: {made.reason} ({figures}). The memory is served from text and cache."
        screen.print(output.styled(told, "yellow"), soft_wrap=True)
        return
    screen.print(output.styled(f"The adapter holds {len(made.parents)} memories: {figures}."), soft_wrap=True)
    if not learnt.served.knows:
        screen.print(output.styled("It passed its gate, yet this question it answers wrongly.", "yellow"))
    if learnt.gap is not None:
        told = f"It knows the memory {learnt.gap.gap:.2f} nats a token better than decoys that were never taught."
        screen.print(output.styled(told), soft_wrap=True)


def _gone(screen: Any, erased: Erased) -> None:
    from lamina.demo.tiers import SECRET

    entries = ("rows", "caches")
    searched = written(sum(size for tier, size in erased.report.searched.items() if tier not in entries))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(erased.receipt.kinds.items()))
    lines = [
        f"Erased: {kinds}. Text search finds nothing.",
        f"Caches and adapters in the store: {written(erased.stored[0])} before, {written(erased.stored[1])} now.",
        f'"{SECRET}" stood at {erased.places[0]} places in the files; now at {erased.places[1]}.',
        f"Searched {searched} in: {', '.join(erased.report.searched)}. Found nothing.",
    ]
    for dropped in erased.receipt.retrain:
        lines.append(f"The adapter was dropped; it can be trained again of the {len(dropped.sources)} memories left.")
    for line in lines:
        screen.print(output.styled(f"   {line}", "green"), soft_wrap=True)
    screen.print(output.styled(f"   Asked again, the model says: {erased.answer}"), soft_wrap=True)


def _adapter(learnt: Learnt) -> Report:
    told = {"accepted": learnt.served is not None, "reason": learnt.migration.reason, **learnt.migration.figures}
    return told | {"memories": len(learnt.migration.parents), "recall_gap": learnt.gap and learnt.gap.gap}


def _forgotten(erased: Erased) -> Report:
    return {
        "kinds": dict(erased.receipt.kinds),
        "adapters_dropped": len(erased.receipt.retrain),
        "searched": dict(erased.report.searched),
        "found": len(erased.report.traces),
        "places_before": erased.places[0],
        "places_after": erased.places[1],
        "stored_before": erased.stored[0],
        "stored_after": erased.stored[1],
        "recall_gap": erased.gap and erased.gap.gap,
        "answer": erased.answer,
    }


def _title(screen: Any, number: int, text: str) -> None:
    screen.print()
    screen.print(output.styled(f"{number}. {text}", "bold cyan"))


@contextlib.contextmanager
def _busy(screen: Any, what: str) -> Iterator[None]:
    if not screen.is_terminal:
        screen.print(output.styled(f"   {what} ...", "dim"))
        yield
        return
    with screen.status(what):
        yield


@contextlib.contextmanager
def _training(screen: Any, what: str) -> Iterator[Callable[[int, int, float], None]]:
    """A bar where somebody watches; a line every eighth step elsewhere."""
    if not screen.is_terminal:
        screen.print(output.styled(f"   {what} ...", "dim"))

        def tell(step: int, steps: int, loss: float) -> None:
            if step % 8 == 0:
                screen.print(output.styled(f"   step {step} of {steps}, loss {loss:.2f}", "dim"))

        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda step, steps, loss: bar.update(
            task, completed=step, total=steps, description=f"{what}, loss {loss:.2f}"
        )
