"""Tables of what memories found in conversations: one row a system, everything that compares in one line.

The first table holds recall overall and by category, tokens and seconds; then recall in equally many tokens, the
other metrics, sessions under each definition, answers, and what others published, with their settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lamina.bench.report_table import Table, cell, number

Rows = Mapping[str, Mapping[str, Any]]

_MAIN = ("recall@10", "recall@10_interval")
_COST = ("tokens@10", "seconds", "ms_per_question")


def recall_tables(document: Mapping[str, Any]) -> list[Table]:
    """All tables of a harness's document; none for a document without systems."""
    found = []
    if systems := document.get("systems"):
        found += [_by_category(systems), *_equal_tokens(systems), *_others(systems)]
    found += [_level(level) for level in document.get("session_level", ())]
    if contexts := document.get("contexts"):
        found += _contexts(contexts)
    if answers := document.get("answers"):
        found.append(_answers(answers))
    if published := document.get("published"):
        found.append(_published(published))
    return found


def _by_category(systems: Rows, metric: str = "recall@10") -> Table:
    categories = dict.fromkeys(category for row in systems.values() for category in row.get("by_category", {}))
    shown = [key for key in (*_MAIN, *_COST) if any(key in row for row in systems.values())]
    main, cost = [key for key in shown if key in _MAIN], [key for key in shown if key in _COST]
    rows = tuple(
        (
            name,
            *(cell(row.get(key)) for key in main),
            *(cell(row.get("by_category", {}).get(category, {}).get(metric)) for category in categories),
            *(cell(row.get(key)) for key in cost),
        )
        for name, row in systems.items()
    )
    return Table("Recall, overall and by category", ("", *main, *categories, *cost), rows)


def _equal_tokens(systems: Rows) -> list[Table]:
    """Recall where every system may hand over equally much text."""
    given = {name: row["equal_tokens"] for name, row in systems.items() if "equal_tokens" in row}
    if not given:
        return []
    budget = number(next(iter(given.values()))["budget"])
    categories = dict.fromkeys(category for row in given.values() for category in row["by_category"])
    rows = tuple(
        (
            name,
            cell(row["recall"]),
            *(cell(row["by_category"].get(category)) for category in categories),
            cell(row["turns"]),
        )
        for name, row in given.items()
    )
    return [Table(f"Recall at equal tokens ({budget})", ("", "recall", *categories, "turns that fit"), rows)]


def _others(systems: Rows) -> list[Table]:
    keys = dict.fromkeys(
        key
        for row in systems.values()
        for key, value in row.items()
        if key not in (*_MAIN, *_COST) and not isinstance(value, Mapping)
    )
    if not keys:
        return []
    rows = tuple((name, *(cell(row.get(key)) for key in keys)) for name, row in systems.items())
    return [Table("Other metrics", ("", *keys), rows)]


def _level(level: Mapping[str, Any]) -> Table:
    """Metrics of one definition; those that differ in k only share a column."""
    systems: Rows = level["systems"]
    first = next(iter(systems.values()))
    columns = _grouped(first)
    several = {name: ks for name, ks in _grouped(first.get("several", {})).items() if name == "recall_all"}
    rows = tuple(
        (
            name,
            *(_at(row, metric, ks) for metric, ks in columns.items()),
            *(_at(row.get("several", {}), metric, ks) for metric, ks in several.items()),
        )
        for name, row in systems.items()
    )
    heads = [f"{metric} @{'/'.join(ks)}" for metric, ks in columns.items()]
    heads += [f"several: {metric} @{'/'.join(ks)}" for metric, ks in several.items()]
    counted = f"{first['questions']:,} questions"
    if several:
        counted += f", {first['several']['questions']:,} of them several"
    return Table(level["title"], ("", *heads), rows, (f"{level['definition']} {counted}.",))


def _grouped(row: Mapping[str, Any]) -> dict[str, list[str]]:
    """Metric names with the cut-offs there are."""
    found: dict[str, list[str]] = {}
    for key in row:
        metric, mark, k = key.partition("@")
        if mark:
            found.setdefault(metric, []).append(k)
    return found


def _at(row: Mapping[str, Any], metric: str, ks: list[str]) -> str:
    return " / ".join(cell(row.get(f"{metric}@{k}")) for k in ks)


def _contexts(contexts: Mapping[str, Any]) -> list[Table]:
    """What strategies put before a reader, overall and by category."""
    systems: Rows = contexts["systems"]
    values = [entry for row in systems.values() for entry in row.items()]
    plain = dict.fromkeys(key for key, value in values if not isinstance(value, Mapping))
    categories = dict.fromkeys(category for row in systems.values() for category in row["by_category"])
    rows = tuple(
        (
            name,
            *(cell(row.get(key)) for key in plain),
            *(cell(row["by_category"].get(category, {}).get("recall_all")) for category in categories),
        )
        for name, row in systems.items()
    )
    heads = [f"recall_all {category}" for category in categories]
    return [Table("Contexts for a reader", ("", *plain, *heads), rows, (str(contexts["definition"]),))]


def _answers(answers: Mapping[str, Any]) -> Table:
    systems: Rows = answers["systems"]
    categories = dict.fromkeys(category for row in systems.values() for category in row.get("by_category", {}))
    keys = dict.fromkeys(
        key for row in systems.values() for key, value in row.items() if not isinstance(value, Mapping)
    )
    rows = tuple(
        (
            name,
            *(cell(row.get(key)) for key in keys),
            *(cell(row.get("by_category", {}).get(category)) for category in categories),
        )
        for name, row in systems.items()
    )
    heads = [f"f1 {category}" for category in categories]
    return Table("Answers", ("", *keys, *heads), rows, (str(answers["definition"]),))


def _published(rows: list[Mapping[str, Any]]) -> Table:
    columns = ("system", "encoder", "data", "unit", "definition", "percent", "standing")
    return Table(
        "Published by others, under their own settings",
        columns,
        tuple(
            (
                *(str(row[key]) for key in columns[:5]),
                ", ".join(f"{metric} {value:g}" for metric, value in row["values"].items()),
                str(row["standing"]),
            )
            for row in rows
        ),
        ("Not measured here. paper: read there; reported: from others' notes on the paper; claim: a vendor's own.",),
    )
