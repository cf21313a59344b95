"""The right answer of each memory operation, read off the canonical sentences of ``operation_dialogues``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lamina.bench.experiments.operations.operation_dialogues import ATTRIBUTES, Asked, Standing, Statement
from lamina.parameter.experts.operations import NOT_MENTIONED, Inquiry, MemoryOp, Revision


def statement_of(text: str) -> Statement | None:
    """The statement that a canonical sentence makes; ``None`` for any other sentence."""
    for attribute, (third, says) in _PATTERNS.items():
        if match := third.fullmatch(text):
            standing: Standing = "ended" if match["ended"] else "holds"
            return Statement(match["name"], attribute, match["value"], standing)
        if match := says.fullmatch(text):
            return Statement(match["name"], attribute, match["value"], "never")
    return None


def _pattern(phrase: str, before: str) -> re.Pattern[str]:
    head, _, tail = phrase.partition("{v}")
    return re.compile(rf"(?P<name>\w+) {before}{re.escape(head)}(?P<value>[\w ]+){re.escape(tail)}\.")


_PATTERNS = {
    name: (_pattern(form.third, "(?P<ended>no longer )?"), _pattern(form.says, "does not "))
    for name, form in ATTRIBUTES.items()
}


def decide(revision: Revision) -> tuple[MemoryOp, ...]:
    """The right operation for each fact, given the memories shown."""
    known = [statement_of(text) for text in revision.memories]
    return tuple(_decide(text, statement_of(text), known) for text in revision.facts)


def _decide(text: str, fact: Statement | None, known: Sequence[Statement | None]) -> MemoryOp:
    if fact is None:
        return MemoryOp("ADD", None, text)
    same = [
        (place, old)
        for place, old in enumerate(known)
        if old and (old.name, old.attribute) == (fact.name, fact.attribute)
    ]
    holds = next(((place, old) for place, old in same if old.standing == "holds"), None)
    denied = next((place for place, old in same if old.standing != "holds" and old.value == fact.value), None)
    if fact.standing == "holds":
        if holds is not None:
            place, old = holds
            return MemoryOp("NONE", place) if old.value == fact.value else MemoryOp("UPDATE", place, text)
        return MemoryOp("ADD", None, text) if denied is None else MemoryOp("UPDATE", denied, text)
    if holds is not None and holds[1].value == fact.value:
        return MemoryOp("DELETE", holds[0])
    if fact.standing == "ended":
        return MemoryOp("NONE")
    return MemoryOp("ADD", None, text) if denied is None else MemoryOp("NONE", denied)


def reply(inquiry: Inquiry, asked: Asked) -> str:
    """The right answer from the memories shown: what they say, which need not be what holds."""
    for memory in inquiry.memories:
        said = statement_of(memory.text)
        if said and said.standing == "holds" and (said.name, said.attribute) == (asked.name, asked.attribute):
            return said.value
    return NOT_MENTIONED
