"""``lamina bench``: run proofs by name, show them, keep them. Exit code 0 only if every claim held.

    run(["cake"], scale="smoke")            one system
    run(["locomo"], data=Path("locomo10.json"), systems=["lamina,bm25"])
    run(None, write=True)                   all of them

What a run returns is the JSON of docs/results: a system's claims, or a harness's table.
"""

from __future__ import annotations

import json as jsonlib
import os
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lamina.bench import catalog, report, results
from lamina.bench.card import SCALES, Card, Measurement, Scale
from lamina.bench.harnesses import CONVERSATIONS, DRAWN, HARNESSES, ON_FILES, Document, Options
from lamina.bench.machine import machine
from lamina.errors import InvalidInput, LaminaError, NotFound


def run(
    names: Sequence[str] | None,
    *,
    seed: int = 0,
    scale: Scale = "laptop",
    data: Path | None = None,
    systems: Sequence[str] = (),
    plot: Path | None = None,
    answers: int = 0,
    reader: str | None = None,
    judge: str | None = None,
    write: bool = False,
    json: bool = False,
    cards: Mapping[str, Card] | None = None,
) -> int:
    """Run proofs and print them; 0 if every claim of every one held, else 1.

    ``names`` are systems (as ``lamina systems`` lists them) or harnesses (``locomo``, ``throughput``); ``None``
    means all that can run here; a name that is both means the harness where ``data`` is given. ``data`` is a harness's
    file or folder, or for systems the folder of larger data sets; ``systems`` are the memories that ``locomo``,
    ``longmemeval`` and ``convomem`` compare, each string one name or several with commas between, or ``all``; ``plot``
    is a file for a card that draws. ``answers`` questions of ``locomo`` are put to the chat model ``reader`` (default:
    that of the settings), and what it says to ``judge``, if one is named; ``convomem`` puts every question to a
    ``reader`` that is named. ``write`` keeps each result as ``results/NAME.json`` and writes the report anew; ``json``
    prints one object, or a list if several ran. Raises ``NotFound`` for an unknown name and ``InvalidInput`` for a
    wrong option before anything runs; when several run, one that fails is reported and the others go on.
    """
    cards = catalog.systems if cards is None else cards
    options = Options(seed, scale, data, tuple(systems), plot, _note, answers, reader, judge)
    if names is None:
        chosen, harnesses = _everything(cards, data), set(HARNESSES) - set(cards)
    else:
        chosen = list(dict.fromkeys(_known(name, cards) for name in names))
        harnesses = {name for name in HARNESSES if name not in cards or data is not None}
    _check(chosen, harnesses & set(chosen), options)
    documents: list[Document] = []
    good = bool(chosen)
    for name in chosen:
        try:
            document = _one(name, None if name in harnesses else cards[name], options)
        except LaminaError as error:
            if len(chosen) == 1:
                raise
            _note(f"{name}: {error}")
            good = False
            continue
        documents.append(document)
        good = good and results.holds(document)
        if not json:
            _show(document)
        if write:  # beside the result of the card of that name, if there is one
            _keep(f"{name}-data" if "bench" in document and name in cards else name, document)
    if json:
        sys.stdout.write(jsonlib.dumps(documents[0] if len(chosen) == 1 else documents, indent=2) + "\n")
    return 0 if good else 1


def names(cards: Mapping[str, Card] | None = None) -> list[str]:
    """Everything ``run`` knows: systems, then harnesses."""
    return list(dict.fromkeys([*sorted(catalog.systems if cards is None else cards), *HARNESSES]))


# -- one proof -----------------------------------------------------------------------------------


def _check(chosen: Sequence[str], harnesses: set[str], options: Options) -> None:
    """Raises ``InvalidInput`` for options that do not go together, or that nobody would read."""
    data = options.data
    if options.scale not in SCALES:
        raise InvalidInput(f"scale={options.scale!r}: choose one of {', '.join(SCALES)}")
    if options.seed < 0:
        raise InvalidInput(f"seed={options.seed!r}: give a number from 0")
    if options.plot is not None and len(chosen) != 1:
        raise InvalidInput(f"plot={str(options.plot)!r}: name the one system to draw")
    if data is not None and not data.exists():
        raise InvalidInput(f"data={str(data)!r}: no such file or folder; check the path")
    conversations = [name for name in CONVERSATIONS if name in harnesses]
    if data is not None and data.is_file() and (len(chosen) > 1 or not conversations):
        raise InvalidInput(f"data={str(data)!r} is a file: name the one harness that reads it ({_LISTED})")
    if options.systems and not conversations:
        raise InvalidInput(f"system={','.join(options.systems)!r}: only {_LISTED} compare memories; name one of them")
    asked = options.answers or options.reader or options.judge
    exam = options.answers and "locomo" in chosen
    read = options.reader and "convomem" in harnesses and not options.answers
    if asked and not exam and not read:
        raise InvalidInput(
            f"answers={options.answers!r}, reader={options.reader!r}, judge={options.judge!r}: name locomo, and how "
            "many answers; or convomem with --data and a reader"
        )


_LISTED = ", ".join(CONVERSATIONS)


def _one(name: str, card: Card | None, options: Options) -> Document:
    """Run a card, or the harness of that name; say when, where and how long."""
    begin = time.perf_counter()
    if card is None:
        if options.plot is not None and name not in DRAWN:
            raise InvalidInput(f"plot={str(options.plot)!r}: {name} has nothing to draw")
        document = HARNESSES[name](options)
    else:
        document = _card(card, options)
    document["seconds"] = round(time.perf_counter() - begin, 1)
    document["date"] = datetime.now(UTC).date().isoformat()
    document["machine"] = machine()
    return _in_order(_jsonable(document))


def _card(card: Card, options: Options) -> Document:
    if options.plot is not None and card.plot is None:
        raise InvalidInput(f"plot={str(options.plot)!r}: {card.name} has nothing to draw")
    random.seed(options.seed)
    np.random.seed(options.seed)  # for libraries that draw from the global generator
    with _data_folder(options.data):
        measured: list[Measurement] = card.measure(options.seed, options.scale)
    if options.plot is not None and card.plot is not None:
        card.plot(measured, options.plot)
    return {
        "system": card.name,
        "paper": card.paper,
        "arxiv": card.arxiv,
        "module": card.module,
        "seed": options.seed,
        "scale": options.scale,
        "claims": [measurement.to_dict() for measurement in measured],
    }


@contextmanager
def _data_folder(folder: Path | None) -> Iterator[None]:
    """Cards find larger data sets through LAMINA_DATA; ``--data`` sets it for one run."""
    before = os.environ.get("LAMINA_DATA")
    if folder is not None:
        os.environ["LAMINA_DATA"] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop("LAMINA_DATA")
            os.environ |= {"LAMINA_DATA": before} if before is not None else {}


_ORDER = ("system", "bench", "paper", "arxiv", "module", "seed", "scale", "data", "seconds", "date", "machine")


def _in_order(document: Document) -> Document:
    """What identifies a result first, its numbers last."""
    return {key: document[key] for key in _ORDER if key in document} | document


def _jsonable(value: Any) -> Any:
    """Plain numbers, rounded to six significant digits; what is no finite number becomes ``None``."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


# -- names, output -------------------------------------------------------------------------------


def _known(name: str, cards: Mapping[str, Card]) -> str:
    if name in cards:
        return cards[name].name
    if (key := name.strip().casefold()) in HARNESSES:
        return key
    raise NotFound(catalog.unknown(name, dict.fromkeys(names(cards)), "proof"))


def _everything(cards: Mapping[str, Card], data: Path | None) -> list[str]:
    """All names, less the harnesses whose data is not here."""
    from lamina.bench.conversations import locomo

    missing = {name for name in ON_FILES if name not in cards}
    if not locomo.has_data(data):
        _note("locomo: skipped, its data is not here (give --data or set LAMINA_LOCOMO)")
        missing.add("locomo")
    return [name for name in names(cards) if name not in missing]


def _keep(name: str, document: Document) -> None:
    folder = results.results_folder()
    stored = results.write(name, document, folder)
    results.replace_text(results.report_file(), report.markdown(results.read_all(folder)))
    _note(f"kept as {stored.parent.name}/{stored.name}, report in {results.report_file().name}")


def _show(document: Document) -> None:
    from rich.console import Console

    report.show(Console(markup=False, highlight=False, emoji=False), document)


def _note(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, markup=False, highlight=False).print(Text(message, style="dim"), soft_wrap=True)
