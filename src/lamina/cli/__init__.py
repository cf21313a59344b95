"""The command line: one file a verb. ``main`` is what ``lamina`` runs."""

from lamina.cli.app import app, main

__all__ = ["app", "main"]
