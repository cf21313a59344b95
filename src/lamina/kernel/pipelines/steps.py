"""The table of steps: what a pipeline may be made of, by name.

A step is a frozen value with a ``name`` and ``run(context)``: it reads, and stages what it wants written on the context
(``pipeline_context``); it writes nothing itself. Anything of that shape may stand in a pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.pipelines.reading_steps import Augment, LogQuery, Read, Retrieve
from lamina.kernel.pipelines.writing_steps import Add, Archive, Provenance, Retract, Update

__all__ = [
    "STEPS", "Add", "Archive", "Augment", "LogQuery", "Provenance", "Read", "Retract", "Retrieve", "Step", "Update",
]  # fmt: skip


class Step(Protocol):
    """One operation of a pipeline."""

    @property
    def name(self) -> str: ...

    def run(self, context: PipelineContext) -> str:
        """Do it; returns what was done, for the result. A ``LaminaError`` ends the run with nothing written."""


STEPS: Mapping[str, type[Step]] = {
    "read": Read,
    "retrieve": Retrieve,
    "augment": Augment,
    "add": Add,
    "update": Update,
    "archive": Archive,
    "retract": Retract,
    "provenance": Provenance,
    "log_query": LogQuery,
}
