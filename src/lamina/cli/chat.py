"""``lamina chat``: talk to a model that remembers. Each question is answered from memory, with citations.

At a terminal it is a conversation; from a pipe, one question a line, one answer each (with ``--json`` one
JSON object a line). Both sides of the talk are remembered, but only what people said answers questions:
a small model's mistake must not come back as a memory of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import LaminaError

if TYPE_CHECKING:
    from lamina.llm.base import ChatModel
    from lamina.memory import Memory
    from lamina.text.answering import Answer

_HELP = "/memories shows the newest, /forget N erases number N of what was shown last, /quit ends."


@command(OWNER)
def chat(
    session: Session,
    no_store: Annotated[bool, typer.Option("--no-store", help="Answer only; remember nothing of this talk.")] = False,
) -> None:
    """Talk to a model that remembers you; its answers cite the memories they use."""
    interactive = sys.stdin.isatty() and not session.json
    if interactive:
        output.note(_HELP)
    with session.memory(new=True) as memory:
        talk = _Talk(session, memory, session.chat_model(), store=not no_store)
        for line in _lines(interactive):
            if line == "/quit":
                break
            try:
                talk.command(line) if line.startswith("/") else talk.ask(line)
            except LaminaError as error:
                if not interactive:
                    raise
                output.failure(error, as_json=False)


def _lines(interactive: bool) -> Iterator[str]:
    """What was typed or piped in, without empty lines, until it ends."""
    while True:
        if interactive:
            output.console().print(output.styled("you> ", "bold"), end="")
        raw = sys.stdin.readline()
        if not raw:
            return
        if line := raw.strip():
            yield line


@dataclass(slots=True)
class _Talk:
    """A conversation: the memory and model it uses, and which memories were shown last."""

    session: Session
    memory: Memory
    model: ChatModel
    store: bool
    shown: list[str] = field(default_factory=list)

    def ask(self, question: str) -> None:
        from lamina.text.answering import answer

        now = datetime.now(UTC)
        hits = self.memory.hits(question, self.session.scope(), top_k=8, where={"trust": {"ne": "assistant"}})
        result = answer(question, hits, self.model, now=now)
        self.shown = [quote.hit.cube.id for quote in result.cited]
        if self.session.json:
            sys.stdout.write(json.dumps(_as_dict(question, result), ensure_ascii=False) + "\n")
        else:
            _print(result)
        sys.stdout.flush()
        if self.store:
            self._remember(question, result.text)

    def _remember(self, question: str, reply: str) -> None:
        said = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        stored = self.memory.add([message for message in said if message["content"]], **self.session.ids())
        for row in stored["results"]:
            if row["semantic_type"] != "turn" and not self.session.json:
                output.note(f"  remembered: {row['memory']}")

    def command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        if name == "/memories":
            self._list()
        elif name == "/forget" and argument.strip().isdecimal() and 0 < int(argument) <= len(self.shown):
            gone = self.memory.forget(self.shown[int(argument) - 1], reason="asked in a chat")["forgotten"]
            self.shown = [id for id in self.shown if id not in gone]
            output.note(f"Erased {len(gone)} memories for good.")
        else:
            output.note(_HELP)

    def _list(self) -> None:
        rows = self.memory.get_all(filters=self.session.ids(), top_k=10)["results"]
        self.shown = [row["id"] for row in rows]
        screen = output.console(stderr=self.session.json)
        for number, row in enumerate(rows, 1):
            screen.print(output.styled(f"[{number}]", "bold cyan"), end=" ")
            output.memory_line(screen, row)


def _as_dict(question: str, result: Answer) -> dict[str, Any]:
    cited = [
        {"number": q.number, "id": q.hit.cube.id, "text": q.text, "speaker": q.speaker, "said": q.at.isoformat()}
        for q in result.cited
    ]
    return {"question": question, "answer": result.text, "cited": cited, "prompt_tokens": result.prompt_tokens}


def _print(result: Answer) -> None:
    """The answer and its sources, numbered as ``/forget`` counts them."""
    screen = output.console()
    screen.print(output.styled(result.text or "(no answer)"))
    for number, quote in enumerate(result.cited, 1):
        said = f"{quote.speaker}, " if quote.speaker else ""
        screen.print(output.styled(f'  [{number}] {said}{quote.at:%Y-%m-%d}: "{quote.text}"', "dim"))
