"""What a teacher did, written down as it happens: the lessons of the experts.

MemLoRA (arXiv 2512.04763) distils at the level of sequences: of the teacher only its *text* is kept, never a logit,
so any endpoint can teach. A trace is one request as it came up in the running pipeline and the text that answered
it. Files are JSON lines, appended and flushed one by one: a recording that is killed loses at most the last line.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lamina.errors import InvalidInput
from lamina.parameter.experts.operations import (
    Exchange,
    Inquiry,
    MemoryOp,
    MemoryTeacher,
    Op,
    Output,
    Remembered,
    Request,
    Revision,
    op_of,
)
from lamina.parameter.experts.prompts import PROMPTS, written


@dataclass(frozen=True, slots=True)
class Trace:
    """A request, the text that answered it, and the name of who did."""

    request: Request
    output: str
    teacher: str

    @property
    def op(self) -> Op:
        return op_of(self.request)

    def to_json(self) -> str:
        """One line, without its end."""
        row = {"op": self.op, "request": asdict(self.request), "output": self.output, "teacher": self.teacher}
        return json.dumps(row, ensure_ascii=False, default=date.isoformat)

    @classmethod
    def from_json(cls, line: str) -> Trace:
        """Raises ``InvalidInput`` if the line is no trace."""
        try:
            row = json.loads(line)
            return cls(_request(row["op"], row["request"]), str(row["output"]), str(row["teacher"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"trace {line[:80]!r} cannot be read ({error}); record it again") from error


def _request(op: str, row: Mapping[str, Any]) -> Request:
    if op == "extract":
        return Exchange(_lines(row["said"]), _lines(row["context"]))
    if op == "update":
        return Revision(tuple(row["facts"]), tuple(row["memories"]))
    if op == "generate":
        recalled = tuple(Remembered(m["text"], date.fromisoformat(m["day"])) for m in row["memories"])
        return Inquiry(row["question"], recalled, date.fromisoformat(row["today"]))
    raise InvalidInput(f"op={op!r} of a trace is no operation; expected extract, update or generate")


def _lines(rows: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((speaker, text) for speaker, text in rows)


@dataclass(frozen=True, slots=True)
class TraceSet:
    """Traces to learn from. ``sha256`` covers them all and the prompts they were made with."""

    traces: tuple[Trace, ...]

    def __len__(self) -> int:
        return len(self.traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self.traces)

    def of(self, op: Op) -> TraceSet:
        """Those of one operation."""
        return TraceSet(tuple(trace for trace in self.traces if trace.op == op))

    def first(self, count: int | None) -> TraceSet:
        """The first ``count``; ``None``: all."""
        return TraceSet(self.traces[:count])

    @property
    def teacher(self) -> str:
        """Who taught; several names are joined by ``+``."""
        return "+".join(sorted({trace.teacher for trace in self.traces}))

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256(PROMPTS.encode())
        for trace in self.traces:
            digest.update(trace.to_json().encode())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write as JSON lines."""
        path.write_text("".join(f"{trace.to_json()}\n" for trace in self.traces), "utf-8")

    @classmethod
    def load(cls, path: Path) -> TraceSet:
        """Raises ``InvalidInput`` naming the line that is no trace."""
        traces = []
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            try:
                traces.append(Trace.from_json(line))
            except InvalidInput as error:
                raise InvalidInput(f"{path}, line {number}: {error}") from error
        return cls(tuple(traces))


class TraceRecorder:
    """A ``MemoryTeacher`` that passes every request on and writes down what came back. Thread-safe."""

    def __init__(self, teacher: MemoryTeacher, path: Path) -> None:
        self.name = teacher.name
        self._teacher = teacher
        self._path = path
        self._lock = threading.Lock()

    def extract(self, exchange: Exchange) -> tuple[str, ...]:
        facts = tuple(self._teacher.extract(exchange))
        self._record(exchange, facts)
        return facts

    def update(self, revision: Revision) -> tuple[MemoryOp, ...]:
        operations = tuple(self._teacher.update(revision))
        # An empty list says nothing about its kind, so that it is written here and not by ``written``.
        self._write(Trace(revision, written(operations) if operations else "[]", self.name))
        return operations

    def generate(self, inquiry: Inquiry) -> str:
        said = self._teacher.generate(inquiry)
        self._record(inquiry, said)
        return said

    def _record(self, request: Request, output: Output) -> None:
        self._write(Trace(request, written(output), self.name))

    def _write(self, trace: Trace) -> None:
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(f"{trace.to_json()}\n")
