"""Wordings of questions that need two memories, and of what answers them: one set to develop on, one to report.

"Where does Ana's mentor work?" needs who the mentor is and where that person works. Rules read both, so a set worded
after the rules would measure only itself. Each set has its own words for the relation, half of which no list in the
code holds, its own wordings of both memories, and its own forms of the question. Rules may be improved on
``DEVELOPMENT``; cards report ``HELD_OUT``, which was written down before the rules were changed and not changed since.

``{a}`` is who is asked about, ``{m}`` the person in between, ``{r}`` the relation, ``{o}`` a firm or a town.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

About = Literal["work", "live"]


@dataclass(frozen=True, slots=True)
class Wordings:
    """``listed`` relations are words the code knows, ``unlisted`` ones it does not; as many of each."""

    listed: Sequence[str]
    unlisted: Sequence[str]
    first: Sequence[str]
    second: Mapping[About, Sequence[str]]
    questions: Mapping[About, Sequence[str]]

    @property
    def relations(self) -> tuple[str, ...]:
        """All words for the relation."""
        return (*self.listed, *self.unlisted)


DEVELOPMENT = Wordings(
    listed=("mentor", "boss", "coach", "neighbour", "uncle", "accountant"),
    unlisted=("sponsor", "idol", "rival", "patron", "muse", "bandmate"),
    first=(
        "{a}'s {r} is {m}.",
        "{m} is the {r} of {a}.",
        "{a} has a new {r}, {m}.",
        "{a} says {m} is a wonderful {r}.",
        "I ran into {a} and {a}'s {r} {m} at the market.",
        "{m} mentors {a}, as a {r} does.",
        "As for {r}s, {a} chose {m}.",
        "{a} hired {m} as {r}.",
    ),
    second={
        "work": ("{m} works at {o}.", "{m} was hired by {o} last spring.", "{m} now earns a living at {o}."),
        "live": ("{m} lives in {o}.", "{m} moved to {o} a while ago.", "{m} bought a small flat in {o}."),
    },
    questions={
        "work": (
            "Where does {a}'s {r} work?",
            "Who employs the {r} of {a}?",
            "What is the employer of {a}'s {r}?",
            "Which company is the {r} of {a} with?",
        ),
        "live": (
            "In which city does {a}'s {r} live?",
            "Where is the {r} of {a} at home?",
            "What is the home town of {a}'s {r}?",
            "Which town does the {r} of {a} live in?",
        ),
    },
)

HELD_OUT = Wordings(
    listed=("landlord", "teacher", "therapist", "cousin", "sister", "lawyer"),
    unlisted=("benefactor", "understudy", "confidant", "admirer", "guru", "chaperone"),
    first=(
        "{a} calls {m} the best {r} ever.",
        "Since spring {m} has acted as {r} to {a}.",
        "When {a} needed a {r}, {m} stepped in.",
        "The {r} {a} keeps talking about is called {m}.",
        "{a} and {m}, the {r}, get along well.",
        "{m} has been {a}'s {r} for years.",
        "Everybody knows that {m} became the {r} of {a}.",
        "{a} would not want any other {r} than {m}.",
    ),
    second={
        "work": (
            "{m} draws a salary from {o}.",
            "{m} spends the whole week at {o}.",
            "{o} took {m} on in May.",
            "{m} runs the front desk of {o}.",
        ),
        "live": (
            "{m} rents two rooms in {o}.",
            "{m} calls {o} home.",
            "{m} settled in {o} after the war.",
            "You will find {m} in {o} most evenings.",
        ),
    },
    questions={
        "work": (
            "Which firm pays {a}'s {r}?",
            "Where is the {r} of {a} employed?",
            "Do you know the workplace of {a}'s {r}?",
            "For whom does the {r} {a} has work these days?",
            "{a}'s {r} has a job where?",
        ),
        "live": (
            "What town is home to the {r} of {a}?",
            "Where would a letter reach {a}'s {r}?",
            "Tell me the address of {a}'s {r}.",
            "Which place does the {r} {a} has live in?",
            "{a}'s {r}, where is that person settled?",
        ),
    },
)
