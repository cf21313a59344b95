"""What is read from a question: speakers, and the text that is left; times."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lamina.text.query import parse_query

ANCHOR = datetime(2023, 10, 20, tzinfo=UTC)
SPEAKERS = {"Anna": 0, "Will": 1, "Mary Lou": 2, "user": 3, "J": 4}


@pytest.mark.parametrize(
    ("query", "named", "text"),
    [
        ("When did Anna paint a lake?", (0,), "When did paint a lake?"),
        ("what is anna's job", (0,), "what is job"),
        ("Where will the cat sleep?", (), "Where will the cat sleep?"),
        ("Where does Will sleep?", (1,), "Where does sleep?"),
        ("Will Will come?", (1,), "come?"),
        ("Did Mary Lou and Anna meet J?", (0, 2), "Did and meet J?"),
        ("Savannah and Annabel", (), "Savannah and Annabel"),
        ("Anna", (0,), "Anna"),
        ("", (), ""),
    ],
)
def test_names_select_and_leave_the_text(query: str, named: tuple[int, ...], text: str) -> None:
    parsed = parse_query(query, SPEAKERS, ANCHOR)
    assert (parsed.speakers, parsed.text) == (named, text)


def test_a_name_alone_is_searched_by_word() -> None:
    assert parse_query("Anna?", SPEAKERS, ANCHOR).terms == ("anna",)
    assert parse_query("Anna's lakes and lake", SPEAKERS, ANCHOR).terms == ("lake",)


def test_periods() -> None:
    def periods(query: str) -> list[tuple[str, str]]:
        found = parse_query(query, {}, ANCHOR).periods
        return [(start.date().isoformat(), end.date().isoformat()) for start, end in found]

    assert periods("What did she sell in May 2023?") == [("2023-05-01", "2023-06-01")]
    assert periods("What did she sell yesterday?") == [("2023-10-19", "2023-10-20")]
    assert periods("What has she sold since 2021?") == []
    assert periods("What may she sell?") == []
