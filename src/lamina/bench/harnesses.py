"""The benchmarks that are no paper's card, by name: each makes a document of tables from ``Options``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.bench.card import Scale
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.bench.conversations.answers import Exam
    from lamina.llm.base import ChatModel

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run: see ``lamina.bench.runner.run``."""

    seed: int
    scale: Scale
    data: Path | None
    systems: tuple[str, ...]
    plot: Path | None
    note: Callable[[str], None]
    answers: int = 0
    reader: str | None = None
    judge: str | None = None


def _throughput(options: Options) -> Document:
    from lamina.bench import throughput

    measured, sizes, notes = throughput.run(options.seed, options.scale, options.note)
    return {
        "bench": "throughput",
        "seed": options.seed,
        "scale": options.scale,
        "claims": [measurement.to_dict() for measurement in measured],
        "sizes": sizes,
        "notes": notes,
    }


def _load(options: Options) -> Document:
    from lamina.bench.load import harness

    measured, systems, notes = harness.run(options.seed, options.scale, options.note)
    return {
        "bench": "load",
        "seed": options.seed,
        "scale": options.scale,
        "claims": [measurement.to_dict() for measurement in measured],
        "systems": systems,
        "notes": notes,
    }


def _kv_frontier(options: Options) -> Document:
    from lamina.bench import kv_frontier

    rows = kv_frontier.run(options.seed, options.scale, options.note)
    if options.plot is not None:
        kv_frontier.draw(rows, options.plot)
    return {"bench": "kv-frontier", "seed": options.seed, "scale": options.scale, "rows": rows}


def _architectures(options: Options) -> Document:
    from lamina.bench import architectures

    rows = architectures.run(options.seed, options.scale, options.note)
    if options.plot is not None:
        architectures.draw(rows, options.plot)
    return {"bench": "architectures", "seed": options.seed, "scale": options.scale, "rows": rows}


def _locomo(options: Options) -> Document:
    from lamina.bench.conversations import locomo

    return locomo.run(
        locomo.data_file(options.data),
        systems=options.systems,
        seed=options.seed,
        note=options.note,
        qa=_exam(options) if options.answers else None,
    )


def _exam(options: Options) -> Exam:
    from lamina.bench.conversations.answers import Exam
    from lamina.settings import Settings

    reader = _model(options.reader or Settings().llm)
    return Exam(options.answers, reader, _model(options.judge) if options.judge else None)


def _model(spec: str) -> ChatModel:
    from lamina.llm import chat_model
    from lamina.settings import Settings

    settings = Settings()
    if spec.startswith("local:"):
        return chat_model(spec, base_url=None, api_key=None)
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    return chat_model(spec, base_url=settings.llm_base_url, api_key=key)


def _longmemeval(options: Options) -> Document:
    from lamina.bench.conversations import longmemeval

    what = "a published file (longmemeval_s.json or alike)"
    if options.data is None or not options.data.is_file():
        raise _without(options.data, "longmemeval", what)
    return longmemeval.run(options.data, systems=options.systems, seed=options.seed, note=options.note)


def _convomem(options: Options) -> Document:
    from lamina.bench.conversations import convomem_recall

    if options.data is None:
        raise _without(None, "convomem", "a published file of evidence items or test cases, or a folder of them")
    return convomem_recall.run(
        options.data,
        systems=options.systems,
        seed=options.seed,
        note=options.note,
        reader=_model(options.reader) if options.reader else None,
        judge=_model(options.judge) if options.judge else None,
    )


def _without(given: Path | None, name: str, what: str) -> InvalidInput:
    return InvalidInput(f"data={given and str(given)!r}: {name} needs {what}; give its path as --data PATH")


HARNESSES: dict[str, Callable[[Options], Document]] = {
    "throughput": _throughput,
    "load": _load,
    "kv-frontier": _kv_frontier,
    "architectures": _architectures,
    "locomo": _locomo,
    "longmemeval": _longmemeval,
    "convomem": _convomem,
}
ON_FILES = ("longmemeval", "convomem")  # run only on data that was named
DRAWN = ("kv-frontier", "architectures")  # have a picture
CONVERSATIONS = ("locomo", *ON_FILES)  # compare memories
