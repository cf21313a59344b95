"""A scope's notes and links as files for other tools: JSON, GraphML, or a vault of linked Markdown pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any

from lamina.cube.cube import Scope
from lamina.errors import InvalidInput
from lamina.store.base import Edge
from lamina.text.graphml import Attributes, to_graphml
from lamina.text.notes.book import Note, NoteBook

_TITLE = 60  # characters of a page's name
_NO_TAG = re.compile(r"[^\w:-]+")
_UNSAFE = re.compile(r"[^\w .,'-]+")


def export_graph(book: NoteBook, scope: Scope, format: str = "json") -> dict[str, str]:
    """File name -> text. ``format`` is ``json``, ``graphml`` or ``obsidian`` (one page a note).

    Raises ``InvalidInput``.
    """
    if format not in FORMATS:
        raise InvalidInput(f"format={format!r:.60}: choose one of {', '.join(FORMATS)}")
    return FORMATS[format](book.notes(scope), book.all_links(scope))


def _json(notes: list[Note], links: list[Edge]) -> dict[str, str]:
    document = {"notes": [asdict(note) for note in notes], "links": [asdict(link) for link in links]}
    return {"notes.json": json.dumps(document, default=_plain, ensure_ascii=False, indent=1)}


def _graphml(notes: list[Note], links: list[Edge]) -> dict[str, str]:
    nodes: dict[str, Attributes] = {
        note.id: {
            "content": note.content,
            "context": note.context,
            "keywords": ", ".join(note.keywords),
            "tags": ", ".join(note.tags),
            "time": note.time,
        }
        for note in notes
    }
    edges: list[tuple[str, str, Attributes]] = [
        (link.source, link.target, {"relation": link.relation, "weight": link.weight, "reason": link.reason})
        for link in links
        if {link.source, link.target} <= set(nodes)
    ]
    return {"notes.graphml": to_graphml(nodes, edges, directed=False)}


def _obsidian(notes: list[Note], links: list[Edge]) -> dict[str, str]:
    names = {note.id: _page_name(note) for note in notes}
    pages = {}
    for note in notes:
        near = [(link, link.target if link.source == note.id else link.source) for link in _of(note, links)]
        tags = "\n".join(f"  - {_NO_TAG.sub('-', tag).replace(':', '/')}" for tag in note.tags)
        lines = [f"- [[{names[other]}]] {link.relation}: {link.reason}" for link, other in near if other in names]
        head = f"---\ncreated: {note.time.isoformat()}\ntags:\n{tags}\n---\n"
        body = f"{note.content}\n\n> {note.context}\n\nKeywords: {', '.join(note.keywords)}\n\n" + "\n".join(lines)
        pages[f"{names[note.id]}.md"] = head + body + "\n"
    return pages


def _of(note: Note, links: list[Edge]) -> list[Edge]:
    return [link for link in links if note.id in (link.source, link.target)]


def _page_name(note: Note) -> str:
    """The beginning of the content, and enough of the id to be alone."""
    return f"{_UNSAFE.sub(' ', note.content)[:_TITLE].strip(' .')} {note.id[-6:]}"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON value")


FORMATS: dict[str, Callable[[list[Note], list[Edge]], dict[str, str]]] = {
    "json": _json,
    "graphml": _graphml,
    "obsidian": _obsidian,
}
