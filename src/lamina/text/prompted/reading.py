"""One way to read turns, whoever extracts: echoes are blanked first, orders and guesses are set aside after.

A plain ``Extractor`` reads each turn by itself; a ``ConversationExtractor`` reads several at once. Either way
what comes out is a ``Reading``, and nothing that memory injected itself, that gives orders where only people may, or
that rests on nothing but what a tool returned, becomes an active fact (a person may accept it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamina.cube.cube import Scope
from lamina.text.base import Extractor, Fact, Turn
from lamina.text.prompted.conversation import beyond
from lamina.text.prompted.draft import ConversationExtractor, Draft, Reading
from lamina.text.prompted.echo import without_echoes
from lamina.text.prompted.instructions import why_refused
from lamina.text.prompted.quoting import nearest_sentence


def read(
    extractor: Extractor | ConversationExtractor, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn]
) -> Reading:
    """Facts of the first of ``turns`` (all of them with a plain extractor). Raises ``LLMUnavailable``."""
    heard = [replace(turn, text=without_echoes(turn, scope)) for turn in turns]
    if isinstance(extractor, ConversationExtractor):
        reading = extractor.read(scope, heard, context)
    else:
        reading = Reading(len(turns), tuple(by_turn(extractor, heard, context)))
    every = [*context, *heard]
    return Reading(reading.count, tuple(_screened(draft, every) for draft in reading.drafts))


def by_turn(
    extractor: Extractor, turns: Sequence[Turn], context: Sequence[Turn], *, name: str | None = None
) -> list[Draft]:
    """What a plain extractor finds, turn by turn, each statement of a turn once; ``name`` marks who found it."""
    drafts: list[Draft] = []
    heard = [*context]
    for turn in turns:
        distinct: dict[str, Fact] = {fact.text.casefold(): fact for fact in extractor.extract(turn, heard)}
        facts = (replace(fact, extractor=name) if name else fact for fact in distinct.values())
        drafts.extend(Draft(fact=fact, cites=(len(heard),)) for fact in facts)
        heard.append(turn)
    return drafts


def beyond_prompt(
    extractor: Extractor, turns: Sequence[Turn], context: Sequence[Turn], *, name: str
) -> tuple[Draft, ...]:
    """What a plain extractor finds in the ends of ``turns`` that are too long to be shown to a model."""
    rests = ((number, beyond(turn)) for number, turn in enumerate(turns))
    return tuple(
        replace(draft, cites=(len(context) + number,))
        for number, rest in rests
        if rest is not None
        for draft in by_turn(extractor, [rest], [*context, *turns[:number]], name=name)
    )


def _screened(draft: Draft, every: Sequence[Turn]) -> Draft:
    if draft.doubt is not None:
        return draft
    fact, cited = draft.fact, [every[place] for place in draft.cites]
    quotes = [nearest_sentence(fact.text, turn.text) for turn in cited[:-1]] + [(fact.start, fact.end)]
    for turn, (start, end) in zip(cited, quotes, strict=True):
        if doubt := why_refused(f"{fact.text}\n{turn.text[start:end]}", turn):
            return replace(draft, doubt=doubt)
    return replace(draft, doubt="only a tool says so") if all(turn.role == "tool" for turn in cited) else draft
