"""``lamina recall plan``: how a question would be answered from this history, and where that would change.

Nothing is answered and no memory is sent anywhere: a reader known by its released figures (``--reader
gemini-2.5-flash``) is looked up, any other chat model is timed on four short prompts that hold none. How well such a
reader answers nobody has measured: it has to be said with ``--trusted-tokens``, and accuracies are then those of the
reference reader with that many, and are called so.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from lamina.text.context_choice import HistoryStats, Plan, QualityPrior, ReaderProfile, Transition

_WINDOWS = {"local:smollm2": 8_192}

recall = typer.Typer(help="Read the whole history, extract from it, or retrieve?", no_args_is_help=True)

Query = Annotated[str, typer.Option("--query", "-q", help="The question to be answered.")]
Reader = Annotated[
    str | None, typer.Option(help="gemini-2.5-flash, gemini-2.5-flash-lite, or a chat model such as local:smollm2.")
]
Latency = Annotated[float | None, typer.Option("--max-latency", metavar="S", help="Seconds an answer may take.")]
Cost = Annotated[float | None, typer.Option("--max-cost", metavar="USD", help="Dollars an answer may cost.")]
PriceIn = Annotated[float, typer.Option(metavar="USD", min=0, help="Of a million tokens read, if not known.")]
PriceOut = Annotated[float, typer.Option(metavar="USD", min=0, help="Of a million tokens written, if not known.")]
Trusted = Annotated[
    float | None,
    typer.Option("--trusted-tokens", metavar="TOKENS", help="History at which an unknown reader is 5 points worse."),
]
Window = Annotated[int | None, typer.Option(help="Tokens the reader reads at most, where that is not known.")]


@command(OWNER)
def plan(
    session: Session,
    query: Query,
    reader: Reader = None,
    max_latency: Latency = None,
    max_cost: Cost = None,
    window: Window = None,
    price_in: PriceIn = 0.0,
    price_out: PriceOut = 0.0,
    trusted: Trusted = None,
) -> None:
    """Show which strategy would answer a question, what it takes, and from which size on another would."""
    from lamina.text.context_choice import Budget, QualityPrior, RecallRouter, transitions
    from lamina.text.context_prior import CONVERSATION
    from lamina.text.context_strategies import history_stats

    budget = Budget(max_latency_s=max_latency, max_cost=max_cost)
    _exists(session)
    prior = QualityPrior()
    profile = _profile(session, reader, window, trusted, prior)
    profile = replace(profile, usd_input=price_in or profile.usd_input, usd_output=price_out or profile.usd_output)
    if max_cost is not None and not (profile.local or profile.usd_input or profile.usd_output):
        raise InvalidInput(f"--max-cost {max_cost:g}: give the prices of {profile.name}, --price-in and --price-out")
    with session.memory() as memory:
        stats = history_stats(memory.store, session.scope())
    planned = RecallRouter(profile, budget, prior).plan(query, stats)
    each = stats.tokens / stats.conversations if stats.conversations else CONVERSATION
    changes = transitions(profile, budget, query=query, prior=prior, tokens_per_conversation=each)
    document = _document(planned, stats, profile, changes) | {"quality_of": _quality_of(profile, stats, prior)}
    output.emit(session.json, document, lambda screen: _show(screen, document))


recall.command("plan")(plan)


def _exists(session: Session) -> None:
    """Raises ``NotFound`` where there is no memory yet: a question about it creates none."""
    file = session.settings().database_path
    if not isinstance(file, str) and not file.exists():
        raise NotFound(f"no memory at {str(file)!r}: add something first, or name another with --db")


def _quality_of(profile: ReaderProfile, stats: HistoryStats, prior: QualityPrior) -> str | None:
    """Whose accuracies are expected; ``None`` where nothing is remembered, so that nothing can be expected."""
    from lamina.text.context_prior import REFERENCE

    if not stats.turns:
        return None
    return profile.name if prior.knows(profile.name) else f"{REFERENCE}, with the trusted tokens given"


def _profile(
    session: Session, name: str | None, window: int | None, trusted: float | None, prior: QualityPrior
) -> ReaderProfile:
    """A reader by its released figures, or the chat model timed here. Raises ``InvalidInput`` for what is not known."""
    from lamina.llm import chat_model
    from lamina.text.context_choice import HOSTED, ReaderProfile, with_trust

    if trusted is not None and not trusted > 0:
        raise InvalidInput(f"--trusted-tokens {trusted:g}: give a number above 0")
    if name in HOSTED:
        known = with_trust(HOSTED[name], prior)
        return replace(known, window=window) if window else known
    settings = session.settings()
    name = name or settings.llm
    read = window or _WINDOWS.get(name)
    if read is None:
        raise InvalidInput(f"--reader {name!r}: how much it reads is not known; give --window TOKENS")
    if trusted is None:
        raise InvalidInput(
            f"--reader {name!r} is an unknown reader: nobody measured how well it answers from a long history; give "
            "--trusted-tokens TOKENS, the history at which its answers are 5 points worse than with one conversation"
        )
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    model = chat_model(name, base_url=settings.llm_base_url, api_key=key)
    output.note(f"Timing {name} on short prompts ...")
    measured = ReaderProfile.measure(model, window=read, trusted_tokens=trusted)
    return replace(measured, local=name.startswith("local:"))


def _document(planned: Plan, stats: HistoryStats, profile: ReaderProfile, changes: list[Transition]) -> dict[str, Any]:
    options = [
        {
            "strategy": option.strategy,
            "tokens": option.usage.tokens,
            "usd": option.usage.usd,
            "seconds": option.usage.seconds,
            "quality": option.quality if stats.turns else None,
            "feasible": option.feasible,
        }
        for option in planned.alternatives
    ]
    return {
        "strategy": planned.strategy,
        "why": planned.why if stats.turns else "Nothing is remembered yet: there is nothing to retrieve.",
        "within_budget": planned.within_budget,
        "est_tokens": planned.est_tokens,
        "est_cost": planned.est_cost,
        "est_latency_s": planned.est_latency_s,
        "est_quality": planned.est_quality if stats.turns else None,
        "history": {"conversations": stats.conversations, "turns": stats.turns, "tokens": stats.tokens},
        "reader": profile.name,
        "alternatives": options,
        "transitions": [asdict(change) for change in changes],
    }


def _show(screen: Any, document: dict[str, Any]) -> None:
    screen.print(output.styled(document["strategy"], "bold" if document["within_budget"] else "bold yellow"))
    screen.print(output.styled(document["why"]))
    if document["quality_of"] not in (None, document["reader"]):
        screen.print(output.styled(f"Unknown reader: quality is that of {document['quality_of']}.", "dim"))
    for change in document["transitions"]:
        beyond = "" if change["within_budget"] else ", beyond the budget"
        line = (
            f"from {change['conversations']} conversations ({change['tokens']:,} tokens): {change['strategy']}{beyond}"
        )
        screen.print(output.styled(line, "dim"))
