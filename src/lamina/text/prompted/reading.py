"""One way to read turns, whoever extracts: echoes are blanked first, orders and guesses are set aside after.

A plain ``Extractor`` reads each turn by itself; a ``ConversationExtractor`` reads several at once. Either way
what comes out is a ``Reading``, and nothing that memory injected itself, or that gives orders where only people
may, becomes an active fact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamina.cube.cube import Scope
from lamina.text.base import Extractor, Fact, Turn
from lamina.text.prompted.draft import ConversationExtractor, Draft, Reading
from lamina.text.prompted.echo import without_echoes
from lamina.text.prompted.instructions import is_person, why_refused


def read(
    extractor: Extractor | ConversationExtractor, scope: Scope, turns: Sequence[Turn], context: Sequence[Turn]
) -> Reading:
    """Facts of the first of ``turns`` (all of them with a plain extractor). Raises ``LLMUnavailable``."""
    heard = [replace(turn, text=without_echoes(turn.text, person=is_person(turn))) for turn in turns]
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


def _screened(draft: Draft, every: Sequence[Turn]) -> Draft:
    if draft.doubt is not None:
        return draft
    fact, turn = draft.fact, every[draft.cites[-1]]
    said = f"{fact.text}\n{turn.text[fact.start : fact.end]}"
    return replace(draft, doubt=why_refused(said, turn))
