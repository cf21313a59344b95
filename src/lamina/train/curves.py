"""The losses of training as a picture: every step thin, their running mean thick, a colour a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.train.loop import smoothed


def plot(losses: Mapping[str, Sequence[float]], path: str | os.PathLike[str]) -> None:
    """Write the curves (name -> loss of each step, in nats) to ``path``; its ending says the format (png, svg, pdf).

    The axis is logarithmic where all losses are above 0. Raises ``InvalidInput`` if there is nothing to draw or no such
    format, ``MissingDependency`` without matplotlib.
    """
    if not losses or not all(losses.values()):
        empty = [name for name, course in losses.items() if not course]
        raise InvalidInput(f"losses={empty!r}: give at least one run, and a loss for each")
    figure = require("matplotlib.figure", "drawing losses").Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss (nats)")
    if min(min(course) for course in losses.values()) > 0:
        axes.set_yscale("log")
    for number, (name, course) in enumerate(losses.items()):
        axes.plot(course, color=f"C{number}", linewidth=0.5, alpha=0.3)
        axes.plot(smoothed(course), color=f"C{number}", linewidth=1.5, label=name)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    try:
        figure.savefig(path, dpi=140)
    except ValueError as error:
        raise InvalidInput(f"path={os.fspath(path)!r}: {error}") from error
