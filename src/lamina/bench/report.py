"""Results for people: the same tables on the terminal and in ``docs/results.md``.

The report is a pure function of the result files, in order of name: the same files give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lamina.bench.report_architectures import architecture_tables
from lamina.bench.report_kv_frontier import frontier_tables
from lamina.bench.report_load import load_tables
from lamina.bench.report_recall import recall_tables
from lamina.bench.report_table import Table, cell, number

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Table", "markdown", "number", "show", "tables"]

_INTRO = """# Results

Written by `lamina bench --write` from the files in `results/`; do not edit. A ratio says how many times better
than the baseline, so above 1 is a win. Every baseline ran in the same process group, warmed equally.
"""


_OWN = {
    "load": load_tables,
    "kv-frontier": frontier_tables,
    "architectures": architecture_tables,
}  # of harnesses that compare no memories


def tables(document: Mapping[str, Any]) -> list[Table]:
    """All there is to show of a result, as tables: claims, sizes, and what was found and answered, or stood a load."""
    found = []
    if claims := document.get("claims"):
        found.append(_claims(claims))
    if sizes := document.get("sizes"):
        found.append(_sizes(sizes))
    return found + _OWN.get(str(document.get("bench")), recall_tables)(document)


def markdown(documents: Mapping[str, Mapping[str, Any]]) -> str:
    """The report on all results, by name."""
    parts = [_INTRO]
    for name in sorted(documents):
        parts += _section(name, documents[name])
    return "\n".join(parts).rstrip() + "\n"


def show(screen: Console, document: Mapping[str, Any]) -> None:
    """Print a result."""
    from rich.table import Table as RichTable
    from rich.text import Text

    screen.print(Text(_headline(document), style="bold"))
    for table in tables(document):
        grid = RichTable(title=Text(table.title), title_justify="left")
        for column in table.columns:
            grid.add_column(Text(column))
        for row in table.rows:
            grid.add_row(*(Text(cell) for cell in row))
        screen.print(grid)
        for note in table.notes:
            screen.print(Text(note, style="dim"))
    for note in _notes(document):
        screen.print(Text(note, style="dim"))


def _section(name: str, document: Mapping[str, Any]) -> list[str]:
    lines = [f"## {name}", "", _headline(document), ""]
    for table in tables(document):
        lines += [f"**{table.title}**", "", _row(table.columns), _row(("---",) * len(table.columns))]
        lines += [_row(row) for row in table.rows]
        lines += ["", *(line for note in table.notes for line in (note, ""))]
    for note in _notes(document):
        lines += [note, ""]
    return lines


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _headline(document: Mapping[str, Any]) -> str:
    what = f"{document['system']}: {document['paper']}" if "system" in document else str(document["bench"])
    if document.get("arxiv"):
        what += f" (arXiv {document['arxiv']})"
    if document.get("module"):
        what += f", {document['module']}"
    return what


def _notes(document: Mapping[str, Any]) -> list[str]:
    machine = document.get("machine") or {}
    place = ", ".join(f"{key} {value}" for key, value in machine.items() if value is not None)
    run = [f"{key} {document[key]}" for key in ("scale", "seed") if key in document]
    run.append(f"{number(document['seconds'])} s")
    measured = f"Measured {document['date']}: {', '.join(run)}" if "date" in document else ", ".join(run)
    notes = [str(document["definition"])] if "definition" in document else []
    if "sha256" in document:
        notes.append(_data(document))
    notes += [str(note) for note in document.get("notes", ())]
    return [*notes, f"{measured}; {place}." if place else f"{measured}."]


def _data(document: Mapping[str, Any]) -> str:
    counted = [f"{document[key]:,} {key}" for key in ("conversations", "turns", "questions") if key in document]
    if "repaired" in document:
        counted.append(f"{document['repaired']} evidence entries repaired")
    return f"Data: {document['data']}, sha256 {document['sha256']}; {', '.join(counted)}."


def _claims(claims: list[Mapping[str, Any]]) -> Table:
    rows = tuple(
        (
            "yes" if claim["holds"] else "NO",
            claim["claim"],
            _with_unit(claim["ours"], claim["unit"]),
            _with_unit(claim["baseline"], claim["unit"]),
            "-" if claim["ratio"] is None else f"{number(claim['ratio'])}x",
            number(claim["target"]),
        )
        for claim in claims
    )
    named = dict.fromkeys(claim["baseline_name"] for claim in claims if claim["baseline_name"])
    notes = (f"Baseline: {'; '.join(named)}.",) if named else ()
    return Table("Claims", ("holds", "claim", "ours", "baseline", "ratio", "target"), rows, notes)


def _sizes(sizes: list[Mapping[str, Any]]) -> Table:
    """One column per record, one row per key: there are many keys and few records."""
    keys = tuple(dict.fromkeys(key for record in sizes for key in record))
    head, *rest = ((key, *(cell(record.get(key)) for record in sizes)) for key in keys)
    return Table("By size", head, tuple(rest))


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}".rstrip()
