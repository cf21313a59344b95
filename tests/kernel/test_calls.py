"""MemoryCall refuses what means nothing, and its filter selects what its window and types say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput
from lamina.kernel.reading.calls import EARLIEST, LATEST, MemoryCall
from lamina.store.base import Write
from lamina.store.filters import matches, parse
from lamina.store.sqlite import SqliteStore

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
ALICE = Scope(user="alice")


def call(**fields: Any) -> MemoryCall:
    return MemoryCall(**{"text": "Where?", "caller": "user:alice", "scope": ALICE, "anchor": AT, **fields})


def day(n: int) -> datetime:
    return AT + timedelta(days=n)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"text": " "}, "text"),
        ({"caller": ""}, "caller"),
        ({"scope": "alice"}, "scope"),
        ({"intent": "steal"}, "intent='steal'"),
        ({"semantic_types": ("fact", "rumour")}, "rumour"),
        ({"k": 0}, "k=0"),
        ({"k": True}, "k=True"),
        ({"anchor": datetime(2026, 3, 10)}, "time zone"),
        ({"time_window": (day(1), day(1))}, "time_window"),
        ({"time_window": (datetime(2026, 1, 1), day(1))}, "time_window"),
    ],
)
def test_nonsense_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        call(**fields)


def test_the_message_is_the_first_query() -> None:
    assert call().queries == ("Where?",)
    assert call().where is None


def cube(text: str, **fields: Any) -> MemCube:
    return MemCube(Header(scope=ALICE, **fields), TextPayload(text))


def test_the_filter_selects_by_recording_and_by_validity(tmp_path: Path) -> None:
    cubes = [
        cube("recorded inside", recorded=day(0)),
        cube("recorded before", recorded=day(-9)),
        cube("recorded at the end", recorded=day(1)),
        cube("held through", recorded=day(-9), valid_from=day(-9)),
        cube("held and ended", recorded=day(-9), valid_from=day(-9), valid_to=day(-1), semantic_type="event"),
        cube("overlaps the start", recorded=day(-9), valid_from=day(-9), valid_to=day(0), semantic_type="event"),
        cube("begins at the end", recorded=day(-9), valid_from=day(1)),
    ]
    with_window = call(time_window=(day(-1), day(1)))
    store = SqliteStore(tmp_path / "m.db", embedder="none")
    with store.transaction() as tx:
        tx.insert([Write(one) for one in cubes])
    found = {one.text for one in store.query(ALICE, with_window.where).cubes}
    assert found == {"recorded inside", "held through", "overlaps the start"}
    both = call(time_window=(day(-1), day(1)), semantic_types=("event", "plan"))
    assert [one.text for one in store.query(ALICE, both.where).cubes] == ["overlaps the start"]
    everything = call(time_window=(EARLIEST, LATEST))
    assert len(store.query(ALICE, everything.where, closed=True).cubes) == len(cubes)
    store.close()


_days = st.integers(-20, 20).map(day)


@given(
    recorded=_days,
    since=st.none() | _days,
    until=st.none() | _days,
    start=st.integers(-20, 19),
    length=st.integers(1, 9),
)
def test_the_filter_is_the_overlap_of_intervals(
    recorded: datetime, since: datetime | None, until: datetime | None, start: int, length: int
) -> None:
    low, high = day(start), day(start + length)
    one = cube("x", recorded=recorded, valid_from=since, valid_to=until)
    overlaps = since is not None and since < high and (until is None or until > low)
    where = call(time_window=(low, high)).where
    assert where is not None
    assert matches(parse(where), one.header) == (low <= recorded < high or overlaps)
