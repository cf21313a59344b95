"""What every verb shares: the options that say which memories are meant, errors, and exit codes.

A verb is a function ``verb(session, ...)``; ``@command`` turns it into what typer expects by replacing
``session`` with ``--db``, ``--tenant``, ``--pipeline``, ``--user``, ``--agent``, ``--run`` and ``--json``. Typer reads
signatures, so the decorator writes one. Nothing heavy is imported here: ``lamina --help`` reads this file.

Exit codes: 0 success, 1 an error Lamina reports, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec

import typer

from lamina.cli import output
from lamina.errors import InvalidInput, LaminaError, NotFound

if TYPE_CHECKING:
    from lamina.cube.cube import Scope
    from lamina.kernel.memos import MemOS
    from lamina.llm.base import ChatModel
    from lamina.memory import Memory
    from lamina.settings import Settings

P = ParamSpec("P")
STORE, PLAIN = ("db", "tenant", "pipeline", "json"), ("json",)
OWNER = ("db", "tenant", "pipeline", "user", "agent", "run", "json")


@dataclass(frozen=True, slots=True)
class Session:
    """The shared options as given; ``None`` leaves the choice to the settings."""

    json: bool = False
    db: str | None = None
    tenant: str | None = None
    pipeline: str | None = None
    user: str | None = None
    agent: str | None = None
    run: str | None = None

    def settings(self) -> Settings:
        """Settings with the options of this call on top. Raises ``InvalidInput`` for an unreadable one."""
        from lamina.settings import Settings

        given = {"database": self.db or None, "user": self.user}
        given |= {"tenant": self.tenant, "pipeline": self.pipeline}
        try:
            return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
        except ValueError as error:  # pydantic's and tomllib's are ValueErrors
            raise InvalidInput(f"settings: {error}. Check lamina.toml and the LAMINA_ variables.") from error

    def memory(self, *, new: bool = False) -> Memory:
        """The memory these options name; a context manager.

        Raises ``NotFound`` for a ``--db`` that does not exist, unless it may be ``new``: a mistyped path is no memory.
        """
        from lamina.memory import Memory
        from lamina.store.address import is_server

        if self.db and not new and self.db != ":memory:" and not is_server(self.db) and not Path(self.db).exists():
            raise NotFound(f"--db {self.db!r}: there is no such file. Check the path; lamina add makes a new one.")
        return Memory(settings=self.settings())

    def memos(self, *, new: bool = False) -> MemOS:
        """The kernel over the same memory, with the local model of the settings; ``new`` as in ``memory``."""
        from lamina.kernel.memos import MemOS

        kind, _, name = self.settings().llm.partition(":")
        return MemOS(self.memory(new=new), model=name if kind == "local" else "smollm2")

    def ids(self) -> dict[str, Any]:
        """``user_id`` (the settings' user unless given), and ``agent_id``, ``run_id`` if given."""
        ids = {"user_id": self.user or self.settings().user, "agent_id": self.agent, "run_id": self.run}
        return {name: value for name, value in ids.items() if value is not None}

    def scope(self) -> Scope:
        """The same as a scope for reading; ``--user '*'`` means every user of the tenant."""
        from lamina.cube.cube import Scope
        from lamina.text.arguments import identity

        ids = {name: None if value == "*" else identity(name, value) for name, value in self.ids().items()}
        return Scope(self.settings().tenant, ids["user_id"], ids.get("agent_id"), ids.get("run_id"))

    def chat_model(self) -> ChatModel:
        from lamina.llm import chat_model

        settings = self.settings()
        key = settings.llm_api_key
        return chat_model(settings.llm, base_url=settings.llm_base_url, api_key=key.get_secret_value() if key else None)


def _memory_option(*names: str, help: str, metavar: str | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, rich_help_panel="Memory")


# name -> (annotation, default), as they would stand in a verb's own signature
_SHARED: dict[str, tuple[Any, Any]] = {
    "db": (
        Annotated[str | None, _memory_option("--db", metavar="PATH", help="Database or URL [LAMINA_DATABASE].")],
        None,
    ),
    "tenant": (Annotated[str | None, _memory_option("--tenant", help="Whose installation [LAMINA_TENANT].")], None),
    "pipeline": (
        Annotated[
            str | None, _memory_option("--pipeline", metavar="NAME", help="How to build and read [LAMINA_PIPELINE].")
        ],
        None,
    ),
    "user": (Annotated[str | None, _memory_option("--user", "-u", help="Whose memories [LAMINA_USER].")], None),
    "agent": (Annotated[str | None, _memory_option("--agent", help="Of which agent; default: any.")], None),
    "run": (Annotated[str | None, _memory_option("--run", help="Of which run or session; default: any.")], None),
    "json": (Annotated[bool, typer.Option("--json", help="Print JSON.")], False),
}


def command(
    shared: tuple[str, ...],
) -> Callable[[Callable[Concatenate[Session, P], None]], Callable[..., None]]:
    """Make a typer command of ``verb(session, ...)`` with the shared options named."""

    def decorate(verb: Callable[Concatenate[Session, P], None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**values: Any) -> None:
            session = Session(**{name: values.pop(name) for name in shared})
            try:
                verb(session, **values)  # type: ignore[call-arg]
            except LaminaError as error:
                output.failure(error, as_json=session.json)
                raise typer.Exit(1) from error

        own = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        own += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (kind, default) in _SHARED.items()
            if name in shared
        ]
        run.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
        return run

    return decorate
