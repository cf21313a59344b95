"""The papers in the library, by name: ``lamina.systems["cake"]`` is the card of CAKE.

The table below is the only registration there is. A card's module is imported when it is asked for, and
joined with what ``lamina bench NAME --write`` measured: ``overview`` is what ``lamina systems`` prints.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lamina.bench import results
from lamina.bench.card import Card
from lamina.errors import NotFound

# paper name -> module that holds its CARD
CARDS: dict[str, str] = {
    "a-mem": "lamina.bench.systems.a_mem",
    "b-mojo": "lamina.bench.systems.b_mojo",
    "cake": "lamina.bench.systems.cake",
    "cmt": "lamina.bench.systems.cmt",
    "convomem": "lamina.bench.systems.convomem",
    "dynamical-intelligence": "lamina.bench.systems.dynamical_intelligence",
    "fast-slow-nmn": "lamina.bench.systems.fast_slow_nmn",
    "hmt": "lamina.bench.systems.hmt",
    "longmem": "lamina.bench.systems.longmem",
    "mem-alpha": "lamina.bench.systems.mem_alpha",
    "memgas": "lamina.bench.systems.memgas",
    "mem0": "lamina.bench.systems.mem0",
    "memlora": "lamina.bench.systems.memlora",
    "memory-reweaving": "lamina.bench.systems.memory_reweaving",
    "memoryformer": "lamina.bench.systems.memoryformer",
    "memos": "lamina.bench.systems.memos",
    "mom": "lamina.bench.systems.mom",
    "synaptic-resonance": "lamina.bench.systems.synaptic_resonance",
    "talking-heads": "lamina.bench.systems.talking_heads",
    "ultramem-v2": "lamina.bench.systems.ultramem_v2",
    "xkv": "lamina.bench.systems.xkv",
}


class Systems(Mapping[str, Card]):
    """Cards by paper name. ``-``, ``_``, spaces and case do not matter; an unknown name suggests near ones."""

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table

    def __getitem__(self, name: str) -> Card:
        key = _key(name)
        if key not in self._table:
            raise UnknownSystem(unknown(name, self._table, "system"))
        card = importlib.import_module(self._table[key]).CARD
        assert isinstance(card, Card) and card.name == key, f"{self._table[key]}.CARD is not the card of {key!r}"
        return card

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _key(name) in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


class UnknownSystem(NotFound, KeyError):
    """No such system: a ``KeyError`` too, so that ``systems.get`` and ``in`` work as for any mapping."""


def unknown(name: str, known: Mapping[str, Any], what: str) -> str:
    """The message for a name that is not in ``known``: what is near it, else all there is."""
    near = difflib.get_close_matches(_key(name), list(known), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose one of {', '.join(known) or '(none)'}"
    return f"no {what} named {name[:60]!r}: {hint}"


def overview(cards: Mapping[str, Card] | None = None, folder: Path | None = None) -> list[dict[str, Any]]:
    """One row per claim of every card, joined with its stored result.

    Keys: ``system, paper, arxiv, module, summary, claim, metric, unit, target, bound, ours, baseline, baseline_name,
    ratio, holds, date, scale, stale``. Without a result the measured ones are ``None``; ``stale`` says that
    the result was taken for other claims than the card makes today, and then it is not shown either.
    """
    cards = systems if cards is None else cards
    folder = results.results_folder() if folder is None else folder
    return [row for name in sorted(cards) for row in _rows(cards[name], results.read(name, folder))]


def is_stale(card: Card, result: Mapping[str, Any]) -> bool:
    """Whether ``result`` answers other claims than the card makes."""
    stored = [(c.get("claim"), c.get("metric"), c.get("unit"), c.get("target")) for c in result.get("claims", ())]
    return stored != [claim.identity for claim in card.claims]


def _rows(card: Card, result: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    stale = result is not None and is_stale(card, result)
    usable = result if result is not None and not stale else {}
    measured = {claim["claim"]: claim for claim in usable.get("claims", ())}
    return [
        {
            "system": card.name,
            "paper": card.paper,
            "arxiv": card.arxiv,
            "module": card.module,
            "summary": card.summary,
            "claim": claim.claim,
            "metric": claim.metric,
            "unit": claim.unit,
            "target": claim.target,
            "bound": claim.bound,
            **{
                key: measured.get(claim.claim, {}).get(key)
                for key in ("ours", "baseline", "baseline_name", "ratio", "holds")
            },
            "date": usable.get("date"),
            "scale": usable.get("scale"),
            "stale": stale,
        }
        for claim in card.claims
    ]


def _key(name: str) -> str:
    return "-".join(name.casefold().replace("_", " ").replace("-", " ").split())


systems = Systems(CARDS)
