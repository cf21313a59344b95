"""Where things stand in drawings: nothing overlaps, nothing leaves the frame, the same input is drawn the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.server.dashboard.drawing import lanes, layout, links, text
from lamina.server.dashboard.drawing.axis import Axis
from lamina.server.dashboard.drawing.links import Box

BOUND = layout.STRESS_STEPS + layout.PUSH_ROUNDS * layout.PUSH_STEPS + 30  # looks at all pairs, 40,000 of 200 nodes


def boxes_of(found: layout.Layout, sizes: list[tuple[float, float]]) -> list[Box]:
    return [Box(x, y, *size) for (x, y), size in zip(found.centres.tolist(), sizes, strict=True)]


def check(sizes: list[tuple[float, float]], edges: list[tuple[int, int]]) -> layout.Layout:
    """What holds for every drawing, looked at pair by pair."""
    found = layout.arrange(sizes, edges)
    boxes = boxes_of(found, sizes)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].meets(pair[1])]
    for box in boxes:
        assert box.width / 2 <= box.x <= found.width - box.width / 2 + 1e-6
        assert box.height / 2 <= box.y <= found.height - box.height / 2 + 1e-6
    assert found.steps <= BOUND
    return found


GRAPHS = {
    "star": [(0, n) for n in range(1, 200)],
    "tree": [(n, (n - 1) // 3) for n in range(1, 200)],
    "path": [(n, n + 1) for n in range(199)],
    "clique": [(a, b) for a in range(200) for b in range(a)],
    "pairs": [(n, n + 1) for n in range(0, 200, 2)],
    "grid": [(n, n + 1) for n in range(199) if n % 20 != 19] + [(n, n + 20) for n in range(180)],
    "lonely": [],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_two_hundred_nodes_in_a_bounded_number_of_steps(name: str) -> None:
    sizes = [(60.0 + 37 * n % 130, 27.0 if n % 3 else 42.0) for n in range(200)]
    check(sizes, GRAPHS[name])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_graph(data: st.DataObject) -> None:
    nodes = data.draw(st.integers(1, 24))
    ends = st.integers(0, nodes - 1)
    edges = data.draw(st.lists(st.tuples(ends, ends), max_size=60))
    size = st.tuples(st.floats(20, 190), st.floats(20, 45))
    sizes = data.draw(st.lists(size, min_size=nodes, max_size=nodes))
    found = check(sizes, edges)
    assert np.array_equal(found.centres, layout.arrange(sizes, edges).centres)


def test_no_nodes_are_no_drawing() -> None:
    found = layout.arrange([], [])
    assert found.centres.shape == (0, 2) and found.steps == 0


def test_parts_stand_apart() -> None:
    edges = [(0, 1), (1, 2), (2, 0), (3, 4), (5, 6), (6, 7)]
    sizes = [(80.0, 30.0)] * 8
    parts = layout.components(8, edges)
    assert parts == [[0, 1, 2], [3, 4], [5, 6, 7]]
    boxes = boxes_of(layout.arrange(sizes, edges), sizes)
    around = []
    for part in parts:
        low = [min(getattr(boxes[n], axis) - 40 * (axis == "x") - 15 * (axis == "y") for n in part) for axis in "xy"]
        high = [max(getattr(boxes[n], axis) + 40 * (axis == "x") + 15 * (axis == "y") for n in part) for axis in "xy"]
        around.append((low, high))
    for (low, high), (low2, high2) in combinations(around, 2):
        assert any(low[axis] >= high2[axis] + 39 or low2[axis] >= high[axis] + 39 for axis in (0, 1))


def test_what_is_linked_is_nearer_than_what_is_not() -> None:
    edges = [(n, n + 1) for n in range(9)]
    at = layout.arrange([(60.0, 30.0)] * 10, edges).centres
    steps = np.linalg.norm(np.diff(at, axis=0), axis=1)
    assert np.linalg.norm(at[0] - at[9]) > 6 * steps.max()


# -- lines and their words -------------------------------------------------------------------------------


def test_lines_end_at_borders() -> None:
    one, other = Box(100, 100, 80, 30), Box(400, 300, 60, 40)
    for aside in (False, True):
        line = links.line(one, other, aside=aside)
        for (x, y), box in ((line.start, one), (line.end, other)):
            outside = max(abs(x - box.x) - box.width / 2, abs(y - box.y) - box.height / 2)
            assert outside == pytest.approx(2.0)
    there, back = links.line(one, other, aside=True), links.line(other, one, aside=True)
    assert there.at(0.5) != pytest.approx(back.at(0.5), abs=5)
    assert there.path.startswith("M") and "nan" not in there.path


def test_words_of_lines_stand_where_nothing_else_does() -> None:
    edges = [(0, n) for n in range(1, 40)]
    sizes = [(90.0, 30.0)] * 40
    found = layout.arrange(sizes, edges, length=110)
    boxes = boxes_of(found, sizes)
    lines = [links.line(boxes[a], boxes[b]) for a, b in edges]
    said = [f"relation {n}" for n in range(len(lines))]
    places = links.placed(said, lines, boxes, inside=(found.width, found.height))
    stand = [Box(*at, text.width(word), links.HEIGHT) for word, at in zip(said, places, strict=True) if at]
    assert len(stand) >= 0.8 * len(lines)
    assert not [pair for pair in combinations([*stand, *boxes], 2) if pair[0].meets(pair[1])]


def test_words_that_have_no_room_are_not_written() -> None:
    near = [Box(50, 50, 80, 30), Box(140, 50, 80, 30)]
    assert links.placed(["a long relation"], [links.line(*near)], near, inside=(200, 100)) == [None]


# -- words -----------------------------------------------------------------------------------------------


@given(st.text(max_size=300), st.floats(0, 400))
def test_shortened_words_fit(words: str, most: float) -> None:
    short = text.shorten(words, most)
    assert text.width(short) <= most + 1e-6
    whole = text.plain(words)
    assert short == whole or short == "" or (short.endswith("…") and whole.startswith(short[:-1].rstrip()))


@given(st.text(max_size=300), st.integers(1, 3))
def test_wrapped_words_fit_and_lose_nothing_unsaid(words: str, lines: int) -> None:
    found = text.wrap(words, 120, lines)
    assert 1 <= len(found) <= lines and all(text.width(line) <= 120 + 1e-6 for line in found)
    whole = text.plain(words)
    assert " ".join(found) == whole or found[-1].endswith("…")


# -- lanes and time --------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 200)).map(lambda p: (p[0], p[0] + p[1])), max_size=40))
def test_rows_hold_no_two_things_at_one_place(spans: list[tuple[float, float]]) -> None:
    rows = lanes.rows(spans, gap=8.0)
    for (one, row), (other, row2) in combinations(zip(spans, rows, strict=True), 2):
        assert row != row2 or one[1] + 8 <= other[0] or other[1] + 8 <= one[0]
    most = max((sum(a <= start < b + 8 for a, b in spans) for start, _ in spans), default=0)
    assert len(set(rows)) <= most  # no more rows than things that are at one place


def test_a_sequence_is_one_row() -> None:
    assert lanes.rows([(20, 30), (0, 10), (10, 20)], gap=0.0) == [0, 0, 0]


@settings(max_examples=80, deadline=None)
@given(
    st.datetimes(datetime(1, 1, 2), datetime(9900, 1, 1)).map(lambda at: at.replace(tzinfo=UTC)),
    st.floats(14, 30_000),
    st.sampled_from([300.0, 900.0]),
)
def test_labels_of_an_axis_never_overlap(start: datetime, days: float, wide: float) -> None:
    axis = Axis(start, start + timedelta(days=days), 50.0, 50.0 + wide)
    ticks = axis.ticks()
    spans = [(tick.x - text.width(tick.label) / 2, tick.x + text.width(tick.label) / 2) for tick in ticks]
    assert all(left >= 50.0 and right <= 50.0 + wide for left, right in spans)
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    assert len(ticks) <= 80


@pytest.mark.parametrize(
    ("days", "some"), [(14, "5 Mar"), (120, "Apr 2026"), (365 * 4, "2028"), (365 * 60, "2050"), (365 * 2000, "3000")]
)
def test_an_axis_is_labelled_by_what_fits(days: int, some: str) -> None:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    assert some in [tick.label for tick in Axis(start, start + timedelta(days=days), 0.0, 900.0).ticks()]


def test_moments_outside_stand_at_the_border() -> None:
    axis = Axis(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), 10.0, 110.0)
    assert axis.x(datetime(2020, 1, 1, tzinfo=UTC)) == 10.0 and axis.x(datetime(2030, 1, 1, tzinfo=UTC)) == 110.0
    assert axis.x(datetime(2026, 7, 2, 12, tzinfo=UTC)) == pytest.approx(60.0)
