"""How far a long verb is: a bar on stderr, where somebody looks at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lamina.cli import output


@contextmanager
def steps(quiet: bool, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A function that says so many more are done."""
    screen = output.console(stderr=True)
    if quiet or not screen.is_terminal:
        yield lambda _: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
