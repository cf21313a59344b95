"""The table of verbs, in the order ``lamina --help`` shows them. Verbs import what they use when they run."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from lamina import __version__
from lamina.cli import output
from lamina.cli.adapters import adapters
from lamina.cli.add import add
from lamina.cli.audit import audit
from lamina.cli.backup import backup
from lamina.cli.bench import bench
from lamina.cli.channels import channels
from lamina.cli.chat import chat
from lamina.cli.cube import cube
from lamina.cli.delete import delete
from lamina.cli.demo import demo
from lamina.cli.doctor import doctor
from lamina.cli.explain import explain
from lamina.cli.forget import forget
from lamina.cli.generate import generate
from lamina.cli.graph import graph
from lamina.cli.history import history
from lamina.cli.keys import keys
from lamina.cli.list import list_
from lamina.cli.mcp import mcp
from lamina.cli.migrate_store import migrate_store
from lamina.cli.policy import policy
from lamina.cli.promote import demote, promote
from lamina.cli.quarantine import quarantine
from lamina.cli.recall import recall
from lamina.cli.restore import restore
from lamina.cli.retry import retry
from lamina.cli.rhythm import rhythm
from lamina.cli.search import search
from lamina.cli.serve import serve
from lamina.cli.share import share
from lamina.cli.show import show
from lamina.cli.systems import systems
from lamina.cli.tiers import tiers
from lamina.cli.train import train
from lamina.cli.transfer import export, import_
from lamina.cli.update import update

app = typer.Typer(
    name="lamina",
    help="One memory for language models. Start with: lamina demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_PANELS = {
    "Remember and recall": {
        "add": add,
        "search": search,
        "list": list_,
        "show": show,
        "history": history,
        "chat": chat,
        "retry": retry,
    },
    "Correct and erase": {
        "update": update,
        "delete": delete,
        "restore": restore,
        "forget": forget,
        "quarantine": quarantine,
    },
    "Tiers: text, caches, adapters": {"tiers": tiers, "promote": promote, "demote": demote, "explain": explain},
    "Models within a budget": {"generate": generate, "channels": channels, "train": train},
    "Move and serve": {
        "import": import_,
        "export": export,
        "migrate-store": migrate_store,
        "serve": serve,
        "mcp": mcp,
    },
    "Look inside": {"demo": demo, "graph": graph, "doctor": doctor, "systems": systems, "bench": bench},
}
for _panel, _verbs in _PANELS.items():
    for _name, _verb in _verbs.items():
        app.command(_name, rich_help_panel=_panel)(_verb)

app.add_typer(recall, name="recall", rich_help_panel="Remember and recall")
app.add_typer(adapters, name="adapters", rich_help_panel="Tiers: text, caches, adapters")
app.add_typer(rhythm, name="rhythm", rich_help_panel="Tiers: text, caches, adapters")
app.add_typer(backup, name="backup", rich_help_panel="Move and serve")
app.add_typer(share, name="share", rich_help_panel="Move and serve")
app.add_typer(keys, name="keys", rich_help_panel="Move and serve")
app.add_typer(policy, name="policy", rich_help_panel="Look inside")
app.add_typer(cube, name="cube", rich_help_panel="Look inside")
app.add_typer(audit, name="audit", rich_help_panel="Look inside")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"lamina {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One memory for language models. Start with: lamina demo"""


def main() -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = lambda message, *_: output.note(f"Note: {message}")
    try:
        app()
    except BrokenPipeError:
        pass  # the reader has what it wanted
    except OSError as error:  # what a verb did not turn into an error of its own: output that cannot be written
        output.note(f"Error: {error.strerror or error}: {error.filename or 'the output'} cannot be written.")
        sys.exit(1)
    finally:
        _flush()


def _flush() -> None:
    """A reader that has closed the pipe (``| head``) is no error, and Python need not mention it at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
