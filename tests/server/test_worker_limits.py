"""The limit of a key, over several workers that do not count together."""

from __future__ import annotations

import pytest

from lamina.errors import RateLimited
from lamina.kernel.governance import Principal
from lamina.kernel.governing.limits import RateLimits
from lamina.server.worker import Serving, _limits


def _given(limits: RateLimits, most: int) -> int:
    """How many requests one key gets at once."""
    for count in range(most):
        try:
            limits.spend(Principal("acme", agent="3f9c01ab77de"), "read")
        except RateLimited:
            return count
    return most


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("per_minute", [1, 10, 64, 600])
def test_all_workers_together_give_no_more_than_was_said(workers: int, per_minute: int) -> None:
    serving = Serving(per_minute=per_minute, workers=workers)
    given = [_given(_limits(serving), per_minute + 1) for _ in range(workers)]
    assert sum(given) <= max(per_minute, workers) and min(given) == max(1, per_minute // workers)


def test_no_limit_is_none_at_any_worker() -> None:
    assert _given(_limits(Serving(workers=4)), 5000) == 5000
