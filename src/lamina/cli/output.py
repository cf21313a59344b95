"""How the command line speaks: results on stdout (rich, or one JSON value), everything else on stderr.

Memories are text that anybody may have written: before it reaches a terminal, its control characters
(which could move the cursor or rewrite the title) are replaced, and rich markup in it is never read.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lamina.errors import LaminaError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """A console that reads no markup; 80 columns where there is no terminal."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, emoji=False)


def emit(as_json: bool, value: Any, show: Callable[[Console], None]) -> None:
    """Print ``value`` as JSON, or let ``show`` print it for people."""
    if as_json:
        print_json(value)
    else:
        show(console())


def print_json(value: Any) -> None:
    """One JSON value on stdout, indented."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, default=str) + "\n")


def failure(error: LaminaError, *, as_json: bool) -> None:
    """The one line that says what went wrong."""
    if as_json:
        print_json({"error": {"code": error.code, "message": str(error)}})
    else:
        console(stderr=True).print(styled(" ".join(f"Error: {error}".split()), "bold red"), soft_wrap=True)


def note(message: str) -> None:
    """Something worth knowing that is not a result."""
    console(stderr=True).print(styled(message, "dim"), soft_wrap=True)


def styled(text: str, style: str = "") -> Text:
    """Text for the terminal: visible characters and line breaks only."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else "�" for c in text.replace("\t", " ")), style=style)


def date(iso: str | None) -> str:
    """``6 Apr 2025`` of an ISO date and time, for columns; empty for none."""
    if not iso:
        return ""
    moment = datetime.fromisoformat(iso)
    return f"{moment.day} {moment:%b %Y}"


def memory_line(screen: Console, row: dict[str, Any]) -> None:
    """One memory of a listing: its date, type and text, then its id."""
    ended = " (superseded)" if row.get("superseded") else ""
    head = f"{date(row['updated_at'] or row['created_at']):<12} {row['semantic_type']:<10} "
    line = styled(head, "dim")
    line.append_text(styled(row["memory"]))
    line.append_text(styled(ended, "yellow"))
    screen.print(line)
    screen.print(styled(f"{'':<12} {row['id']}", "dim cyan"))
