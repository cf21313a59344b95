"""``lamina adapters record``: a teacher works in a memory pipeline, and all that it is asked and says is written down.

Teacher and experts sit in the same place of the same pipeline (``experts.loop``), here over a memory that is thrown
away afterwards: what is recorded are the prompts that will be met in use. Questions come from the conversation (what
a user asks in it is first asked of the memory) and from ``--questions``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import PLAIN, Session, command
from lamina.cli.progress import steps
from lamina.errors import InvalidInput, LLMError

if TYPE_CHECKING:
    from lamina.memory import Memory
    from lamina.parameter.experts.operations import MemoryTeacher
    from lamina.parameter.experts.traces import TraceRecorder

_USER = "record"


@dataclass(slots=True)
class _Talk:
    """Exchanges (a message, with the reply to it if there is one), and what is asked when all of them are told."""

    exchanges: list[list[dict[str, Any]]]
    questions: list[str] = field(default_factory=list)

    @property
    def end(self) -> datetime:
        return datetime.fromisoformat(self.exchanges[-1][-1]["timestamp"])


@command(PLAIN)
def record(
    session: Session,
    file: Annotated[
        Path | None, typer.Argument(exists=True, dir_okay=False, help="A chat log, as lamina import reads it.")
    ] = None,
    out: Annotated[Path, typer.Option(dir_okay=False, help="Traces are added to this file.")] = Path("traces.jsonl"),
    teacher: Annotated[
        str, typer.Option(metavar="rules|state|URL", help="state knows what the shipped dialogues mean.")
    ] = "rules",
    model: Annotated[str | None, typer.Option(help="Name of the model at URL; its key: LAMINA_LLM_API_KEY.")] = None,
    questions: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Questions about FILE, one a line.")
    ] = None,
    dialogues: Annotated[int, typer.Option(min=1, help="Without FILE: how many shipped ones.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the shipped dialogues.")] = 0,
) -> None:
    """Let a teacher keep a memory of conversations, and write down every operation it performs."""
    from lamina.llm import embedder
    from lamina.parameter.experts.traces import TraceRecorder, TraceSet

    if not out.absolute().parent.is_dir():
        raise InvalidInput(f"--out {str(out)!r}: its folder does not exist; make it first.")
    before = len(TraceSet.load(out)) if out.exists() else 0
    talks, taught = _shipped(dialogues, seed) if file is None else ([_logged(file, questions)], None)
    if teacher != "state" or taught is None:
        taught = _teacher(session, teacher, model)
    out.touch()
    recorder, encoder = TraceRecorder(taught, out), embedder(session.settings().embedder)
    unread = 0
    with steps(session.json, "exchanges", sum(len(talk.exchanges) for talk in talks)) as advance:
        for talk in talks:
            with _memory(session, recorder, encoder) as memory:
                for _ in _play(talk, memory, recorder):
                    advance(1)
                unread += _waiting(memory)
    done = Counter(trace.op for trace in TraceSet.load(out).traces[before:])
    told = {"file": str(out), "teacher": taught.name, "traces": dict(done), "unread": unread}
    output.emit(session.json, told, lambda screen: _show(screen, told))


def _memory(session: Session, recorder: TraceRecorder, encoder: Any) -> Memory:
    """A memory that lasts as long as the talk, kept by the teacher."""
    from lamina.memory import Memory
    from lamina.parameter.experts.loop import OperationLoop, Teaching

    loop = OperationLoop("teacher", Teaching(recorder))
    settings = session.settings()
    return Memory(":memory:", embedder=encoder, pipeline="hybrid", extractor=loop, updater=loop, settings=settings)


def _play(talk: _Talk, memory: Memory, recorder: TraceRecorder) -> Iterator[int]:
    """Tell and ask, in order. What the teacher gets wrong or leaves unanswered waits, and is no trace."""
    for number, exchange in enumerate(talk.exchanges):
        first = exchange[0]
        if first["role"] == "user" and first["content"].rstrip().endswith("?"):
            _ask(memory, recorder, first["content"], datetime.fromisoformat(first["timestamp"]))
        try:
            memory.add(exchange, user_id=_USER)
        except LLMError as error:
            output.note(f"Not recorded: {error}")
        yield number
    for question in talk.questions:
        _ask(memory, recorder, question, talk.end + timedelta(days=1))


def _ask(memory: Memory, recorder: TraceRecorder, question: str, at: datetime) -> None:
    from lamina.cube.cube import Scope
    from lamina.parameter.experts.loop import FACTS, inquiry

    hits = memory.hits(question, Scope(memory.settings.tenant, _USER), where=FACTS)
    try:
        recorder.generate(inquiry(question, hits, now=at)[0])
    except LLMError as error:
        output.note(f"Not recorded: {error}")


def _waiting(memory: Memory) -> int:
    """Turns that the teacher did not read."""
    from lamina.cube.cube import Scope
    from lamina.text.prompted.restoring import PENDING

    where = {"tags": {"contains": PENDING}, "semantic_type": "turn"}
    return len(memory.store.query(Scope(memory.settings.tenant, _USER), where, limit=10_000).cubes)


def _teacher(session: Session, name: str, model: str | None) -> MemoryTeacher:
    from lamina.parameter.experts.teachers import OpenAITeacher, RuleTeacher

    if name == "rules":
        return RuleTeacher()
    if not name.startswith(("http://", "https://")):
        raise InvalidInput(
            f"--teacher {name!r}: give rules, the URL of an OpenAI-compatible endpoint, or, without FILE, state"
        )
    if model is None:
        raise InvalidInput(f"--teacher {name!r}: say with --model which of its models teaches")
    key = session.settings().llm_api_key
    return OpenAITeacher(model, base_url=name, api_key=key.get_secret_value() if key else None)


def _logged(file: Path, questions: Path | None) -> _Talk:
    """A chat log. The user and the assistant stay unnamed where it names nobody."""
    from lamina.text import chat_logs

    written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    said = chat_logs.read_chat(_text(file), default=written)
    if not said:
        raise InvalidInput(f"{file} holds no messages of people or assistants.")
    exchanges: list[list[dict[str, Any]]] = []
    for message in (item.message() for item in said):
        if message["role"] == "assistant" and exchanges and exchanges[-1][-1]["role"] == "user":
            exchanges[-1].append(message)
        else:
            exchanges.append([message])
    asked = _text(questions).splitlines() if questions is not None else []
    return _Talk(exchanges, [line.strip() for line in asked if line.strip()])


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8: byte {error.start} cannot be read. Convert it first.") from error


def _shipped(count: int, seed: int) -> tuple[list[_Talk], MemoryTeacher]:
    """Generated dialogues of two people each, and the teacher that knows what every line of them means."""
    from lamina.bench.experiments.operations.operation_dialogues import Dialogue, dialogues
    from lamina.bench.experiments.operations.operation_loop import state_teacher

    def talk(made: Dialogue) -> _Talk:
        exchanges = []
        for day, turns in groupby(made.turns, key=lambda turn: turn[0]):
            for minute, (_, exchange, _, _) in enumerate(turns):
                at = (datetime.combine(day, time(12), UTC) + timedelta(minutes=minute)).isoformat()
                exchanges.append([_message(*line, at) for line in exchange.said])
        return _Talk(exchanges, [asked.question for asked in made.questions])

    made = dialogues(count, "train", seed)
    return [talk(each) for each in made], state_teacher(made)


def _message(speaker: str, text: str, at: str) -> dict[str, Any]:
    if speaker == "Assistant":
        return {"role": "assistant", "content": text, "timestamp": at}
    return {"role": "user", "name": speaker, "content": text, "timestamp": at}


def _show(screen: Any, told: dict[str, Any]) -> None:
    traces: dict[str, int] = told["traces"]
    kinds = ", ".join(f"{count} {op}" for op, count in traces.items()) or "nothing"
    screen.print(output.styled(f"Recorded from {told['teacher']}: {kinds}."))
    if told["unread"]:
        screen.print(output.styled(f"{told['unread']} messages were not read by the teacher.", "yellow"))
    screen.print(output.styled(f"In {told['file']}. Look at it with: lamina adapters clean {told['file']}", "dim"))
