"""``lamina recall plan``: how a question would be answered from this history, and where that would change.

Nothing is answered and no memory is sent anywhere: a reader known by its released figures (``--reader
gemini-2.5-flash``) is looked up, any other chat model is timed on four short prompts that hold none.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamina.cli import output
from lamina.cli.command import OWNER, Session, command
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.text.context_choice import HistoryStats, Plan, ReaderProfile, Transition

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
) -> None:
    """Show which strategy would answer a question, what it takes, and from which size on another would."""
    from lamina.text.context_choice import Budget, QualityPrior, RecallRouter, transitions
    from lamina.text.context_prior import CONVERSATION
    from lamina.text.context_strategies import history_stats

    budget = Budget(max_latency_s=max_latency, max_cost=max_cost)
    profile = _profile(session, reader, window)
    profile = replace(profile, usd_input=price_in or profile.usd_input, usd_output=price_out or profile.usd_output)
    if max_cost is not None and not (profile.local or profile.usd_input or profile.usd_output):
        raise InvalidInput(f"--max-cost {max_cost:g}: give the prices of {profile.name}, --price-in and --price-out")
    with session.memory() as memory:
        stats = history_stats(memory.store, session.scope())
    prior = QualityPrior()
    planned = RecallRouter(profile, budget, prior).plan(query, stats)
    each = stats.tokens / stats.conversations if stats.conversations else CONVERSATION
    changes = transitions(profile, budget, query=query, prior=prior, tokens_per_conversation=each)
    document = _document(planned, stats, profile, changes)
    output.emit(session.json, document, lambda screen: _show(screen, document))


recall.command("plan")(plan)


def _profile(session: Session, name: str | None, window: int | None) -> ReaderProfile:
    """A reader by its released figures, or the chat model timed here. Raises ``InvalidInput`` without a window."""
    from lamina.llm import chat_model
    from lamina.text.context_choice import HOSTED, QualityPrior, ReaderProfile, with_trust

    if name in HOSTED:
        known = with_trust(HOSTED[name], QualityPrior())
        return replace(known, window=window) if window else known
    settings = session.settings()
    name = name or settings.llm
    read = window or _WINDOWS.get(name)
    if read is None:
        raise InvalidInput(f"--reader {name!r}: how much it reads is not known; give --window TOKENS")
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
    model = chat_model(name, base_url=settings.llm_base_url, api_key=key)
    output.note(f"Timing {name} on short prompts ...")
    return replace(ReaderProfile.measure(model, window=read), local=name.startswith("local:"))


def _document(planned: Plan, stats: HistoryStats, profile: ReaderProfile, changes: list[Transition]) -> dict[str, Any]:
    options = [
        {
            "strategy": option.strategy,
            "tokens": option.usage.tokens,
            "usd": option.usage.usd,
            "seconds": option.usage.seconds,
            "quality": option.quality,
            "feasible": option.feasible,
        }
        for option in planned.alternatives
    ]
    return {
        "strategy": planned.strategy,
        "why": planned.why,
        "within_budget": planned.within_budget,
        "est_tokens": planned.est_tokens,
        "est_cost": planned.est_cost,
        "est_latency_s": planned.est_latency_s,
        "est_quality": planned.est_quality,
        "history": {"conversations": stats.conversations, "turns": stats.turns, "tokens": stats.tokens},
        "reader": profile.name,
        "alternatives": options,
        "transitions": [asdict(change) for change in changes],
    }


def _show(screen: Any, document: dict[str, Any]) -> None:
    screen.print(output.styled(document["strategy"], "bold" if document["within_budget"] else "bold yellow"))
    screen.print(output.styled(document["why"]))
    for change in document["transitions"]:
        beyond = "" if change["within_budget"] else ", beyond the budget"
        line = (
            f"from {change['conversations']} conversations ({change['tokens']:,} tokens): {change['strategy']}{beyond}"
        )
        screen.print(output.styled(line, "dim"))
