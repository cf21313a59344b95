"""``lamina demo``: the whole job on a shipped conversation, in a temporary database, with measured numbers."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.demo.conversation import Conversation
    from lamina.demo.story import Asked, Changed, Forgotten, Ingested
    from lamina.llm.base import ChatModel
    from lamina.text.answering import Quote


@command(("pipeline", "json"))
def demo(
    session: Session,
    keep: Annotated[Path | None, typer.Option(metavar="PATH", help="Keep the database in this new file.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="No chat model: show the memories, not answers.")] = False,
    tiers: Annotated[
        bool, typer.Option("--tiers", help="One memory as text, cache and adapter, then forgotten.")
    ] = False,
) -> None:
    """Show the whole job on a shipped conversation: remember, answer, follow a change, forget, measure."""
    if tiers and fast:
        raise typer.BadParameter("--tiers shows a model at work: leave --fast out.")
    if keep is not None and keep.exists():
        raise InvalidInput(f"--keep {str(keep)!r} exists: name a new file, the demo starts from nothing.")
    with _folder(keep) as path:
        if tiers:
            from lamina.cli.demo_tiers import show_tiers

            show_tiers(session, path)
            return
        _Demo(session, path, fast=fast, kept=keep is not None).run()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="lamina-demo-") as folder:
        yield Path(folder) / "demo.db"


class _Demo:
    """Runs the steps and prints each as it is done; with ``--json`` one report at the end."""

    def __init__(self, session: Session, path: Path, *, fast: bool, kept: bool) -> None:
        self.session, self.path, self.fast, self.kept = session, path, fast, kept
        self.screen = output.console(stderr=session.json)
        self.report: dict[str, Any] = {}

    def run(self) -> None:
        from lamina.demo import conversation, story
        from lamina.memory import Memory

        begun = time.perf_counter()
        talk = conversation.load()
        with Memory(self.path, settings=self.session.settings()) as memory:
            self._title(1, f"Remember {len(talk.sessions)} conversations of two friends, {talk.turns} messages")
            with self._progress("messages", talk.turns) as advance:
                ingested = story.ingest(memory, talk, advance)
            self._ingested(ingested)
            model = self._model()
            self._title(2, "Answer from memory" if model else "Find the memories that answer")
            asked = []
            for question in talk.questions:
                asked.append(story.ask(memory, model, question, talk.today))
                self._asked(asked[-1])
            self._title(3, "Follow a fact that changed")
            self._changed(story.follow(memory, talk.change), talk)
            self._title(4, "Forget, and prove it")
            self._forgotten(story.forget(memory, talk, self.path))
            self._title(5, "Measured in this run")
            self._measured(ingested, asked, story.search_ms(memory, talk), talk, model)
        self.report["seconds"] = round(time.perf_counter() - begun, 1)
        self._end()

    def _model(self) -> ChatModel | None:
        if self.fast:
            return None
        with self._progress("Loading the chat model (converted once, at first use)", None):
            model = self.session.chat_model()
            model.chat([{"role": "user", "content": "Hello."}], max_tokens=1)
        return model

    # -- what each step prints and reports ---------------------------------------------------------

    def _title(self, number: int, text: str) -> None:
        self.screen.print()
        self.screen.print(output.styled(f"{number}. {text}", "bold cyan"))

    def _say(self, text: str, style: str = "", *, indent: int = 3) -> None:
        from rich.padding import Padding

        self.screen.print(Padding(output.styled(text, style), (0, 0, 0, indent), expand=False))

    def _ingested(self, done: Ingested) -> None:
        self._say(f"{done.turns} messages kept word for word, {done.facts} facts taken from them.")
        if done.replaced:
            self._say("What changed on the way:")
        for change in done.replaced:
            self._say(change.old, indent=5)
            self._say(f"-> {change.new or 'ended'}", "green", indent=5)
            self._say(change.reason, "dim", indent=8)
        self.report["ingested"] = asdict(done)

    def _asked(self, asked: Asked) -> None:
        self._say(f"Q  {asked.question}", "bold")
        shown: Sequence[Quote] = asked.found[:1]
        if asked.answer is not None:
            self._say(f"A  {asked.answer.text}", "green")
            shown = asked.answer.cited or asked.found[:1]
            if not asked.answer.cited:
                self._say("no memory supports this answer; the best match is:", "yellow", indent=6)
        for quote in shown:
            self._say(_said(quote), "dim", indent=6)
        self.report.setdefault("questions", []).append(
            {
                "question": asked.question,
                "answer": asked.answer.text if asked.answer else None,
                "cited": [_said(quote) for quote in (asked.answer.cited if asked.answer else asked.found[:1])],
                "seconds": round(asked.seconds, 3),
            }
        )

    def _changed(self, changed: Changed, talk: Conversation) -> None:
        self._say(f"Q  {changed.question}", "bold")
        self._say(f"as of {talk.change.before:%Y-%m-%d}:  {changed.before.text}", "green")
        self._say(f"as of {talk.change.after:%Y-%m-%d}:  {changed.after.text}", "green")
        self._say("The history of the first one:")
        for row in changed.history:
            self._say(f"{row['action']}: {row['reason'] or 'said for the first time'}", "dim", indent=6)
        self.report["changed"] = {
            "question": changed.question,
            "before": changed.before.text,
            "after": changed.after.text,
            "history": list(changed.history),
        }

    def _forgotten(self, done: Forgotten) -> None:
        self._say(f'Forget: "{done.text}"', "bold")
        self._say(f"{done.erased} memories erased: the message, and every fact taken from it.")
        self._say("Search finds it no more.")
        self._say(
            f"Its words stood at {done.places_before} places in the database files; now at {done.places_after}.",
            "green",
        )
        self.report["forgotten"] = {**asdict(done), "text": None}

    def _measured(
        self, done: Ingested, asked: Sequence[Asked], search_ms: float, talk: Conversation, model: ChatModel | None
    ) -> None:
        from lamina.demo.story import database_files

        numbers: dict[str, float] = {
            "messages_per_second": round(done.turns / done.seconds, 1),
            "search_p50_ms": round(search_ms, 1),
            "database_bytes": sum(file.stat().st_size for file in database_files(self.path)),
        }
        self._say(f"{numbers['messages_per_second']:g} messages a second remembered (embedding and facts included)")
        self._say(f"{numbers['search_p50_ms']:g} ms for a search (median)")
        self._say(f"{numbers['database_bytes'] / 1e6:.1f} MB of database")
        if model is not None:
            prompts = [a.answer.prompt_tokens for a in asked if a.answer is not None]
            mean, whole = sum(prompts) / len(prompts), model.count_tokens(talk.text())
            numbers |= {"prompt_tokens": round(mean), "whole_conversation_tokens": whole}
            self._say(
                f"{mean:.0f} tokens read for an answer, instead of {whole} for the whole conversation"
                f" ({whole / mean:.0f} times fewer)"
            )
        self.report["measured"] = numbers

    def _end(self) -> None:
        self.screen.print()
        self._say(f"Done in {self.report['seconds']:g} s. Try it yourself:", "bold", indent=0)
        if self.kept:
            self._say(f"lamina search 'Which cats does Mira have?' --user demo --db {self.path}")
        self._say("lamina add 'I moved to Porto in March.'")
        self._say("lamina search 'Where do I live?'")
        self._say("lamina chat")
        if self.session.json:
            output.print_json(self.report)

    @contextlib.contextmanager
    def _progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """A bar where somebody watches; one plain line elsewhere for what takes long."""
        if not self.screen.is_terminal:
            if total is None:
                self._say(f"{what} ...", "dim")
            yield lambda _: None
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.screen, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)


def _said(quote: Quote) -> str:
    who = f"{quote.speaker}, " if quote.speaker else ""
    return f'[{quote.number}] {who}{quote.at.day} {quote.at:%B %Y}: "{quote.text}"'
