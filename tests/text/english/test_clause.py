"""Who, which verb, how meant: the shallow parse on the constructions that matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.text.english.clause import expand, parse

# sentence | subject | verb | rest | tense | marks: n negated, e ended, plan / hypothetical / reported
TABLE = """
I live in Boston | I | live | in Boston | present |
I've been working at Google | I | work | at Google | perfect |
My sister lives in Denver | My sister | live | in Denver | present |
Pizza is my favorite food | Pizza | be | my favorite food | present |
My boyfriend's name is Leo | My boyfriend's name | be | Leo | present |
The exam's set for Monday | The exam | be | set for Monday | present |
Tom and I are divorced | Tom and I | be | divorced | present |
My husband and I celebrated | My husband and I | celebrate |  | past |
I've got two cats | I | have | two cats | present |
I got married | I | get | married | past |
Will works at Apple | Will | work | at Apple | present |
Hope lives in Hope | Hope | live | in Hope | present |
Hope you are well | you | be | well | present |
Will no longer works at Apple | Will | work | at Apple | present | ne
May is my sister | May | be | my sister | present |
Ana no longer works at Acme | Ana | work | at Acme | present | ne
I'm no longer working at Acme | I | work | at Acme | present | ne
Bob Smith now works for Zentra | Bob Smith | work | for Zentra | present |
Dr. Smith never works here | Dr. Smith | work | here | present | n
Moved to Rome | | move | to Rome | past |
I don't like sushi | I | like | sushi | present | n
I don't like sushi anymore | I | like | sushi anymore | present | ne
I no longer work there | I | work | there | present | ne
I am no longer single | I | be | single | present | ne
I used to live in Rome | I | live | in Rome | past | ne
I stopped smoking | I | smoke | | past | ne
I quit playing chess | I | play | chess | past | ne
I started working for Bosch | I | work | for Bosch | present |
I want to move to Spain | I | move | to Spain | present | plan
I'm going to be a nurse | I | be | a nurse | present | plan
I'm moving to Rome | I | move | to Rome | present | plan
I'll sell it | I | sell | it | present | plan
I have to leave | I | leave | | present | plan
I'm thinking about selling it | I | sell | it | present | plan
I might move | I | move | | present | hypothetical
I would love to have a dog | I | have | a dog | present | plan
If I move I will tell you | I | move | I will tell you | present | hypothetical
Maybe I live there | I | live | there | present | hypothetical
I hope I live there | I | live | there | present | hypothetical
Tom says I work at Apple | I | work | at Apple | present | reported
I heard that Tom lives in Oslo | Tom | live | in Oslo | present | reported
I think my favourite book is Dune | my favourite book | be | Dune | present |
On weekends I'm a drummer | I | be | a drummer | present |
"""
ROWS = [[cell.strip() for cell in row.split("|")] for row in TABLE.strip().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_table(row: list[str]) -> None:
    text, subject, verb, rest, tense, marks = [*row, ""][:6]
    clause = parse(expand(text))
    assert clause is not None
    assert (clause.subject, clause.verb, clause.rest, clause.tense) == (subject, verb, rest, tense)
    modality = marks if marks in ("plan", "hypothetical", "reported") else "asserted"
    assert clause.modality == modality
    if modality == "asserted":
        assert (clause.negated, clause.ended) == ("n" in marks, "e" in marks)


@pytest.mark.parametrize("text", ["", "...", "Wow", "the red house", "🎉"])
def test_no_verb_no_clause(text: str) -> None:
    assert parse(expand(text)) is None


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    clause = parse(expand(text))
    assert clause is None or clause.verb


_FUNCTION_WORDS = """
I we my the Tom not never no longer am is was have has had got to do did going used quit stop think says that if and
live work want be been being , . can't 's would like about of giving up end
"""
_WORDS = st.sampled_from(_FUNCTION_WORDS.split())


@given(st.lists(_WORDS, max_size=10).map(" ".join))
def test_any_order_of_function_words(text: str) -> None:
    parse(expand(text))
