"""Pipelines: memory operations declared once, run in order over one context, and written all together or not at all.

MemOS, arXiv 2507.03724, section 4.2 (Pipeline API). A pipeline is built from step objects, or from a list of names and
arguments in TOML or JSON::

    [[steps]]
    step = "retrieve"
    query = "Where does Anna live?"

    [[steps]]
    step = "update"
    mode = "append"
    text = "She moved to Porto."

Whatever the steps write lands in one store transaction after the last of them has run; if any step, the embedding or
the transaction itself fails, nothing is written, and the result says what became of each step.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError

from lamina.errors import InvalidInput, LaminaError
from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.pipelines.steps import STEPS, Step

Status = Literal["done", "failed", "rolled back", "skipped"]
COMMIT = "commit"  # the name of what comes after the last step


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of a step. ``detail`` says what it did, or why it failed; ``writes`` is what it staged."""

    name: str
    status: Status
    detail: str = ""
    writes: int = 0


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """What became of a run. ``run_id`` is in the details of every row that it wrote into the log.

    ``written`` are the ids of memories that got a new version. ``failed`` names the step that ended the run
    ("commit": writing it all), ``error`` is why.
    """

    run_id: str
    steps: tuple[StepResult, ...]
    written: tuple[str, ...] = ()
    failed: str | None = None
    error: LaminaError | None = None

    @property
    def ok(self) -> bool:
        return self.error is None

    def check(self) -> Self:
        """This result, or the error that ended the run."""
        if self.error is not None:
            raise self.error
        return self


class Pipeline:
    """Steps in order. Immutable; one pipeline may run in many threads, each with a context of its own."""

    def __init__(self, steps: Sequence[Step]) -> None:
        if not steps:
            raise InvalidInput("steps is empty: a pipeline needs at least one step")
        for number, step in enumerate(steps):
            if not isinstance(getattr(step, "name", None), str) or not callable(getattr(step, "run", None)):
                raise InvalidInput(f"steps[{number}]={step!r:.60}: a step has a name and run(context)")
        self.steps = tuple(steps)

    @classmethod
    def from_json(cls, text: str, *, steps: Mapping[str, type[Step]] = STEPS) -> Self:
        """From a JSON list of ``{"step": name, argument: value, ...}``, or ``{"steps": [...]}``.

        ``steps`` is the table of names (add your own: ``{**STEPS, "mine": Mine}``). Raises ``InvalidInput``.
        """
        try:
            return cls.from_items(json.loads(text), steps=steps)
        except (json.JSONDecodeError, RecursionError) as error:
            raise InvalidInput(f"the pipeline is no JSON: {error}") from error

    @classmethod
    def from_toml(cls, text: str, *, steps: Mapping[str, type[Step]] = STEPS) -> Self:
        """From TOML with an array of tables ``[[steps]]``; otherwise as ``from_json``."""
        try:
            return cls.from_items(tomllib.loads(text), steps=steps)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InvalidInput(f"the pipeline is no TOML: {error}") from error

    @classmethod
    def from_items(cls, items: object, *, steps: Mapping[str, type[Step]] = STEPS) -> Self:
        """From what JSON or TOML hold. Raises ``InvalidInput`` that names the place, the step and the argument."""
        if isinstance(items, Mapping) and set(items) == {"steps"}:
            items = items["steps"]
        if not isinstance(items, list):
            raise InvalidInput(f"pipeline={items!r:.60}: pass a list of steps, or an object with 'steps' alone")
        return cls([_step(number, item, steps) for number, item in enumerate(items)])

    def run(self, context: PipelineContext) -> PipelineResult:
        """Run every step, then write it all. A ``LaminaError`` of a step ends the run and is in the result.

        Any other exception is a fault in a step: it passes through, with a note that names the step; nothing is
        written in that case either.
        """
        done: list[StepResult] = []
        try:
            for context.step, step in enumerate(self.steps):
                before = len(context.staged)
                try:
                    detail = step.run(context)
                except LaminaError as error:
                    return self._failed(context, context.step, error, done)
                done.append(StepResult(step.name, "done", detail or "", len(context.staged) - before))
            return self._commit(context, done)
        except BaseException as error:
            name = self.steps[context.step].name
            error.add_note(f"raised in steps[{context.step}] ({name}) of a pipeline; nothing was written")
            raise
        finally:
            context.clear()

    def _commit(self, context: PipelineContext, done: list[StepResult]) -> PipelineResult:
        written = tuple(dict.fromkeys(one.cube.id for one in context.staged if one.cube is not None))
        number = len(self.steps)  # whose write is under way; none yet
        try:
            vectors = context.vectors()
            if context.staged:
                with context.store.transaction() as tx:
                    for staged, vector in zip(context.staged, vectors, strict=True):
                        number = context.step = staged.step
                        context.apply(staged, vector, tx, self.steps[number].name)
                    number = len(self.steps)
        except LaminaError as error:
            return self._failed(context, number, error, done)
        return PipelineResult(context.run_id, tuple(done), written)

    def _failed(
        self, context: PipelineContext, number: int, error: LaminaError, done: Sequence[StepResult]
    ) -> PipelineResult:
        """Steps that had written are rolled back; those that only read are done; those not reached are skipped."""
        rows = []
        for place, step in enumerate(self.steps):
            result = done[place] if place < len(done) else StepResult(step.name, "skipped")
            if place == number:
                result = StepResult(step.name, "failed", str(error), result.writes)
            elif result.writes:
                result = StepResult(step.name, "rolled back", result.detail, result.writes)
            rows.append(result)
        name = self.steps[number].name if number < len(self.steps) else COMMIT
        return PipelineResult(context.run_id, tuple(rows), failed=name, error=error)


def _step(number: int, item: object, table: Mapping[str, type[Step]]) -> Step:
    where = f"steps[{number}]"
    if not isinstance(item, Mapping) or not isinstance(item.get("step"), str):
        raise InvalidInput(f"{where}={item!r:.60}: pass a name as 'step', and its arguments beside it")
    name = item["step"]
    if name not in table:
        raise InvalidInput(f"{where}: unknown step {name!r:.60}; there are {', '.join(sorted(table))}")
    kind = table[name]
    arguments = {key: value for key, value in item.items() if key != "step"}
    if not is_dataclass(kind):
        raise InvalidInput(f"{where} ({name}): {kind!r:.60} is no dataclass; pass it as an object, Pipeline([...])")
    takes = [field.name for field in fields(kind) if field.init]
    strange = [key for key in arguments if key not in takes]
    if strange:
        known = ", ".join(takes) or "no arguments"
        raise InvalidInput(f"{where} ({name}): unknown argument {strange[0]!r:.60}; it takes {known}")
    try:
        # As strict JSON: no text passes for a number, yet lists become tuples and ISO 8601 becomes a datetime.
        return TypeAdapter(kind).validate_json(json.dumps(arguments, default=_plain), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its arguments"
        given = f"={first['input']!r:.60}" if first["loc"] else ""
        raise InvalidInput(f"{where} ({name}): {place}{given}: {first['msg']}") from error


def _plain(value: Any) -> str:
    """TOML's own dates."""
    if isinstance(value, date):
        return value.isoformat()
    raise InvalidInput(f"{value!r:.60} is no value of JSON or TOML")
