"""Session chains against sorting from scratch, whatever order turns come and go in."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lamina.store.neighbours import DISTANCES, Neighbours

steps = st.lists(st.tuples(st.sets(st.integers(0, 19)), st.sets(st.integers(0, 19))), max_size=6)


@given(
    st.lists(st.integers(0, 2), min_size=20, max_size=20), st.lists(st.integers(0, 6), min_size=20, max_size=20), steps
)
def test_links_equal_sorting_from_scratch(
    session: list[int], ordinal: list[int], changes: list[tuple[set[int], set[int]]]
) -> None:
    chains = Neighbours()
    chains.extend(20)
    linked: set[int] = set()
    before = chains.array.copy()
    for add, remove in changes:
        gone = sorted(remove - add)
        touched = chains.change(add=sorted(add), remove=gone, session=np.asarray(session), ordinal=np.asarray(ordinal))
        linked = (linked | add) - set(gone)
        for row in range(20):
            expected = [-1] * 4
            if row in linked:
                peers = sorted((ordinal[r], r) for r in linked if session[r] == session[row])
                place = peers.index((ordinal[row], row))
                expected = [peers[place + d][1] if 0 <= place + d < len(peers) else -1 for d in DISTANCES]
            assert chains.array[row].tolist() == expected
        assert set(np.flatnonzero((chains.array != before).any(axis=1))) <= set(touched.tolist())
        before = chains.array.copy()
