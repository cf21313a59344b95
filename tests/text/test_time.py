"""Dates in words against dates worked out by hand on a calendar, and properties that hold for any text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.text.time import TimeSpan, format_date, resolve

# Monday 8 May 2023, 13:56
ANCHOR = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)

# sentence | first moment | first moment after | granularity
TABLE = """
I moved here on 7 May 2023. | 2023-05-07 | 2023-05-08 | day
We met on May 7th, 2023. | 2023-05-07 | 2023-05-08 | day
It was the 7th of May, 2023. | 2023-05-07 | 2023-05-08 | day
Due 2023-11-30. | 2023-11-30 | 2023-12-01 | day
Logged 2023-05-07T10:15:00Z by the server. | 2023-05-07T10:15 | 2023-05-07T10:16 | minute
Signed 25/12/2022 at the office. | 2022-12-25 | 2022-12-26 | day
Signed 12/25/2022 at the office. | 2022-12-25 | 2022-12-26 | day
Signed 3.4.2022 at the office. | 2022-04-03 | 2022-04-04 | day
The fair is May 20. | 2023-05-20 | 2023-05-21 | day
The fair was on May 20. | 2022-05-20 | 2022-05-21 | day
We leave on 3 January. | 2024-01-03 | 2024-01-04 | day
We left on 3 January. | 2023-01-03 | 2023-01-04 | day
The trip is June 3-5, 2023. | 2023-06-03 | 2023-06-06 | range
The trip is 3-5 June 2023. | 2023-06-03 | 2023-06-06 | range
Born on 29 February 2020. | 2020-02-29 | 2020-03-01 | day
On the first of June we open. | 2023-06-01 | 2023-06-02 | day
I started in June 2021. | 2021-06-01 | 2021-07-01 | month
I started in December 2021. | 2021-12-01 | 2022-01-01 | month
I started in early June 2021. | 2021-06-01 | 2021-06-11 | range
I started in late June 2021. | 2021-06-21 | 2021-07-01 | range
We will marry in June. | 2023-06-01 | 2023-07-01 | month
We married in June. | 2022-06-01 | 2022-07-01 | month
We are moving in March. | 2024-03-01 | 2024-04-01 | month
I saw her last March. | 2023-03-01 | 2023-04-01 | month
I saw her last May. | 2022-05-01 | 2022-06-01 | month
It opens next May. | 2024-05-01 | 2024-06-01 | month
September was rough. | 2022-09-01 | 2022-10-01 | month
I graduated in 2019. | 2019-01-01 | 2020-01-01 | year
We watched the 2018 World Cup. | 2018-01-01 | 2019-01-01 | year
I graduated in 2019, then moved. | 2019-01-01 | 2020-01-01 | year
It was the late 1990s. | 1990-01-01 | 2000-01-01 | decade
Music from the 80s is best. | 1980-01-01 | 1990-01-01 | decade
I ran today. | 2023-05-08 | 2023-05-09 | day
I ran yesterday. | 2023-05-07 | 2023-05-08 | day
I run tomorrow. | 2023-05-09 | 2023-05-10 | day
I ran the day before yesterday. | 2023-05-06 | 2023-05-07 | day
I run the day after tomorrow. | 2023-05-10 | 2023-05-11 | day
We eat out tonight. | 2023-05-08T20 | 2023-05-09T04 | part
We ate out last night. | 2023-05-07T20 | 2023-05-08T04 | part
I ran this morning. | 2023-05-08T05 | 2023-05-08T12 | part
I ran yesterday afternoon. | 2023-05-07T12 | 2023-05-07T17 | part
Call me tomorrow evening. | 2023-05-09T17 | 2023-05-09T22 | part
Call me tomorrow at 5pm. | 2023-05-09T17 | 2023-05-09T18 | hour
Call me tomorrow at 17:30. | 2023-05-09T17:30 | 2023-05-09T17:31 | minute
Call me at 9 am on Friday. | 2023-05-12T09 | 2023-05-12T10 | hour
We met last Friday. | 2023-05-05 | 2023-05-06 | day
We met last Monday. | 2023-05-01 | 2023-05-02 | day
We meet next Friday. | 2023-05-19 | 2023-05-20 | day
We meet this Friday. | 2023-05-12 | 2023-05-13 | day
We will meet on Friday. | 2023-05-12 | 2023-05-13 | day
We met on Friday. | 2023-05-05 | 2023-05-06 | day
Sunday was lovely. | 2023-05-07 | 2023-05-08 | day
See you Sunday! | 2023-05-14 | 2023-05-15 | day
We met on Friday night. | 2023-05-05T20 | 2023-05-06T04 | part
We met Tuesday last week. | 2023-05-02 | 2023-05-03 | day
We meet Tuesday next week. | 2023-05-16 | 2023-05-17 | day
We met on Sat. and talked. | 2023-05-06 | 2023-05-07 | day
We met last week. | 2023-05-01 | 2023-05-08 | week
We meet next week. | 2023-05-15 | 2023-05-22 | week
It rained this week. | 2023-05-08 | 2023-05-15 | week
We met last weekend. | 2023-05-06 | 2023-05-08 | weekend
We meet this weekend. | 2023-05-13 | 2023-05-15 | weekend
We meet next weekend. | 2023-05-20 | 2023-05-22 | weekend
We met last month. | 2023-04-01 | 2023-05-01 | month
We meet next month. | 2023-06-01 | 2023-07-01 | month
We met last year. | 2022-01-01 | 2023-01-01 | year
We meet next year. | 2024-01-01 | 2025-01-01 | year
We met early last year. | 2022-01-01 | 2022-05-02 | range
Payment is due at the end of the month. | 2023-05-22 | 2023-06-01 | range
We sailed last summer. | 2022-06-01 | 2022-09-01 | season
We sail this summer. | 2023-06-01 | 2023-09-01 | season
We sail next summer. | 2023-06-01 | 2023-09-01 | season
We skied last winter. | 2022-12-01 | 2023-03-01 | season
We sailed in the summer of 2019. | 2019-06-01 | 2019-09-01 | season
Sales grew last quarter. | 2023-01-01 | 2023-04-01 | quarter
We met three days ago. | 2023-05-05 | 2023-05-06 | day
We met 2 weeks ago. | 2023-04-24 | 2023-05-01 | week
We met a couple of weeks ago. | 2023-04-24 | 2023-05-01 | week
We met a few weeks ago. | 2023-04-03 | 2023-05-01 | range
We met six months ago. | 2022-11-01 | 2022-12-01 | month
We met twenty-five years ago. | 1998-01-01 | 1999-01-01 | year
We met a year and a half ago. | 2021-11-01 | 2021-12-01 | month
We met two hours ago. | 2023-05-08T11 | 2023-05-08T12 | hour
We met two weekends ago. | 2023-04-29 | 2023-05-01 | weekend
We met two Fridays ago. | 2023-04-28 | 2023-04-29 | day
We fly in three days. | 2023-05-11 | 2023-05-12 | day
We fly in two weeks. | 2023-05-22 | 2023-05-29 | week
We fly two months from now. | 2023-07-01 | 2023-08-01 | month
I ran a lot over the past two weeks. | 2023-04-24T13:56 | 2023-05-08T13:56 | range
I've lived here for three years. | 2020-05-08T13:56 | 2023-05-08T13:56 | range
I have lived here since 2016. | 2016-01-01 | 2017-01-01 | year
I have lived here since March. | 2023-03-01 | 2023-04-01 | month
I stay until Friday. | 2023-05-12 | 2023-05-13 | day
We met the week before 9 June 2023. | 2023-06-02 | 2023-06-09 | week
We met the day after 9 June 2023. | 2023-06-10 | 2023-06-11 | day
We met two days before 9 June 2023. | 2023-06-07 | 2023-06-08 | day
We met the Friday before 15 July 2023. | 2023-07-14 | 2023-07-15 | day
We met the Sunday before 25 May 2023. | 2023-05-21 | 2023-05-22 | day
We met the weekend before 20 July 2023. | 2023-07-15 | 2023-07-17 | weekend
We met the week of 9 June 2023. | 2023-06-05 | 2023-06-12 | week
I worked there from 2010 to 2015. | 2010-01-01 | 2016-01-01 | range
I worked there between May 2019 and June 2020. | 2019-05-01 | 2020-07-01 | range
The exam is on the 14th. | 2023-05-14 | 2023-05-15 | day
The exam was on the 14th. | 2023-04-14 | 2023-04-15 | day
We met at the beginning of April. | 2023-04-01 | 2023-04-11 | range
The trip starts 2 weeks from Friday. | 2023-05-26 | 2023-05-27 | day
We fly a week from tomorrow. | 2023-05-16 | 2023-05-17 | day
We fly three days from 9 June 2023. | 2023-06-12 | 2023-06-13 | day
We fly a month from Friday. | 2023-06-12 | 2023-06-13 | day
The fair runs between 3 and 5 May 2023. | 2023-05-03 | 2023-05-06 | range
The fair runs from 3 to 5 June. | 2023-06-03 | 2023-06-06 | range
The fair runs between June 3 and 5. | 2023-06-03 | 2023-06-06 | range
The fair runs from June 3rd to 5th, 2023. | 2023-06-03 | 2023-06-06 | range
We are away Monday to Friday. | 2023-05-15 | 2023-05-20 | range
We are away from Friday to Monday. | 2023-05-12 | 2023-05-16 | range
We are away from Monday through Thursday. | 2023-05-15 | 2023-05-19 | range
We were away from Monday to Friday. | 2023-05-01 | 2023-05-06 | range
We were away from Friday to Sunday. | 2023-05-05 | 2023-05-08 | range
I leave Friday after next. | 2023-05-26 | 2023-05-27 | day
We meet the Monday after next. | 2023-05-22 | 2023-05-23 | day
We meet the week after next. | 2023-05-22 | 2023-05-29 | week
We meet the weekend after next. | 2023-05-27 | 2023-05-29 | weekend
We met last Christmas. | 2022-12-25 | 2022-12-26 | day
We meet on New Year's Eve. | 2023-12-31 | 2024-01-01 | day
"""
ROWS = [row.split(" | ") for row in TABLE.strip().splitlines()]

NOTHING = [
    "I may come.", "We march on.", "I sat down.", "She sun-dried tomatoes.", "I go there every Friday.",
    "I cook on Sundays.", "We met recently.", "The other day I ran.", "It costs 2019 dollars.", "Call 555-2019.",
    "Signed 03/04/2022.", "Born on 30 February 2020.", "It took 3 weeks.", "We finished in two weeks.", "I ran 5 km.",
    "I moved ages ago.", "Wait a second.", "Version 2.0.2021 is out.", "Chapter 7 is long.", "room 2014B",
    "We meet on the 31st of February.", "We meet on 31 February.", "We meet on February 31st.",
    "Due 31st of June, maybe.",
    "I work Monday to Friday.", "The shop is open Monday through Saturday.",
    "I'm free these days.", "I know April well.", "It cost $2000.", "In 99999 years, who knows.", "May I come in?",
]  # fmt: skip


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text if "T" not in text or ":" in text else text + ":00").replace(tzinfo=UTC)


@pytest.mark.parametrize(("sentence", "start", "end", "granularity"), [r for r in ROWS if r[3] != "none"])
def test_table(sentence: str, start: str, end: str, granularity: str) -> None:
    spans = resolve(sentence, ANCHOR)
    assert [(s.start, s.end, s.granularity) for s in spans] == [(moment(start), moment(end), granularity)]
    assert sentence[spans[0].char_start : spans[0].char_end] == spans[0].text


def test_the_table_is_large() -> None:
    assert len(ROWS) + len(NOTHING) >= 120


@pytest.mark.parametrize("sentence", NOTHING)
def test_nothing_rather_than_today(sentence: str) -> None:
    assert resolve(sentence, ANCHOR) == []


@pytest.mark.parametrize(
    ("sentence", "relation"),
    [
        ("I've been here since 2016.", "since"),
        ("I stay until Friday.", "until"),
        ("I have been here for two years.", "for"),
        ("Finish it before June 2024.", "before"),
        ("Finish it by Friday.", "before"),
        ("Let's talk after 3 June 2024.", "after"),
        ("We talked on 3 June 2022.", "at"),
    ],
)
def test_relation(sentence: str, relation: str) -> None:
    assert [span.relation for span in resolve(sentence, ANCHOR)] == [relation]


@pytest.mark.parametrize(
    ("anchor", "sentence", "start", "end"),
    [
        ("2024-01-01", "We met yesterday.", "2023-12-31", "2024-01-01"),
        ("2024-01-03", "We met last week.", "2023-12-25", "2024-01-01"),
        ("2024-01-03", "We met last month.", "2023-12-01", "2024-01-01"),
        ("2023-12-30", "We meet next week.", "2024-01-01", "2024-01-08"),
        ("2023-12-15", "We meet next month.", "2024-01-01", "2024-02-01"),
        ("2024-03-31", "We met last month.", "2024-02-01", "2024-03-01"),
        ("2024-01-31", "We meet next month.", "2024-02-01", "2024-03-01"),
        ("2024-03-01", "We met yesterday.", "2024-02-29", "2024-03-01"),
        ("2023-03-01", "We met yesterday.", "2023-02-28", "2023-03-01"),
        ("2024-02-29", "We met a year ago.", "2023-01-01", "2024-01-01"),
        ("2024-01-20", "We skied last winter.", "2022-12-01", "2023-03-01"),
        ("2024-01-20", "We ski this winter.", "2023-12-01", "2024-03-01"),
        ("2023-10-20", "We sailed last summer.", "2023-06-01", "2023-09-01"),
        ("2023-07-20", "We sailed last summer.", "2022-06-01", "2022-09-01"),
        ("2023-05-07", "We met last weekend.", "2023-04-29", "2023-05-01"),
        ("2023-05-13", "We met last weekend.", "2023-05-06", "2023-05-08"),
    ],
)
def test_edges_of_the_calendar(anchor: str, sentence: str, start: str, end: str) -> None:
    (span,) = resolve(sentence, datetime.fromisoformat(anchor + "T12:00").replace(tzinfo=UTC))
    assert (span.start, span.end) == (moment(start), moment(end))


def test_days_are_those_of_the_anchors_zone() -> None:
    tokyo = datetime(2023, 5, 8, 1, 0, tzinfo=timezone(timedelta(hours=9)))  # still 7 May in UTC
    (span,) = resolve("I ran today.", tokyo)
    assert (span.start.date().isoformat(), span.start.utcoffset()) == ("2023-05-08", timedelta(hours=9))


def test_a_day_with_a_clock_change_is_one_calendar_day() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    (span,) = resolve("I slept yesterday.", datetime(2023, 3, 27, 12, tzinfo=berlin))  # clocks went forward on 26 March
    assert (span.start.hour, span.end.hour, span.start.day, span.end.day) == (0, 0, 26, 27)
    assert span.end.astimezone(UTC) - span.start.astimezone(UTC) == timedelta(hours=23)


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("We met on 7 May 2023.", "7 May 2023"),
        ("We met last week.", "week of 1 May 2023"),
        ("We met last weekend.", "weekend of 6 May 2023"),
        ("We meet in June 2023.", "June 2023"),
        ("We sailed last summer.", "summer 2022"),
        ("We skied last winter.", "winter 2022"),
        ("We met in 2019.", "2019"),
        ("Music of the 80s.", "1980s"),
        ("Sales grew last quarter.", "Q1 2023"),
        ("We met yesterday morning.", "morning of 7 May 2023"),
        ("We ate out last night.", "night of 7 May 2023"),
        ("Call tomorrow at 5pm.", "9 May 2023, 17:00"),
        ("The trip is 3-5 June 2023.", "3 June 2023 to 5 June 2023"),
    ],
)
def test_format_date(sentence: str, text: str) -> None:
    assert [format_date(span) for span in resolve(sentence, ANCHOR)] == [text]


def test_several_expressions_in_order() -> None:
    spans = resolve("Last week I flew to Rome, and on 3 June 2024 I fly to Oslo.", ANCHOR)
    assert [span.text for span in spans] == ["Last week", "3 June 2024"]


_DATE_WORDS = """
last next this the a on in at since until for from to before after of week month year day Friday Sat. May march June 3
31 2019 2023 12:30 5pm 1st 22nd ago back days weeks a few two twenty-one summer winter Christmas tonight yesterday and
- / . , 99999999999 '90s 0s half New Year's Eve weekend decade 29 February 9999 0000 ſunday K now
"""
_WORDS = st.sampled_from(_DATE_WORDS.split())


def check(text: str, spans: list[TimeSpan]) -> None:
    end = 0
    for span in spans:
        assert end <= span.char_start < span.char_end <= len(text)
        assert text[span.char_start : span.char_end] == span.text
        assert span.start < span.end
        assert format_date(span)
        end = span.char_end


@settings(max_examples=400)
@given(st.lists(_WORDS, max_size=12).map(" ".join))
def test_any_mix_of_date_words_is_safe(text: str) -> None:
    check(text, resolve(text, ANCHOR))


@given(st.text(max_size=300), st.datetimes(datetime(1971, 1, 1), datetime(8999, 12, 31), timezones=st.just(UTC)))
def test_any_text_is_safe(text: str, anchor: datetime) -> None:
    check(text, resolve(text, anchor))


def test_a_long_hostile_text_takes_linear_time() -> None:
    """Guards against quadratic scans: a hundred thousand dates give a hundred thousand spans, and end."""
    text = "on 3 June 2024 " * 20_000
    assert len(resolve(text, ANCHOR)) == 20_000


@pytest.mark.parametrize("text", ["1.5 years ago", "0.5 weeks ago", "2,5 days ago"])
def test_a_fraction_is_not_read_as_its_last_digit(text: str) -> None:
    assert resolve(text, datetime(2026, 3, 4, tzinfo=UTC)) == []
