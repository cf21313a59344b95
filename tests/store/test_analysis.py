"""Index terms: stems, stop words, scripts without spaces."""

from __future__ import annotations

import threading

import pytest

from lamina.store.analysis import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna's painted lakes", ["anna", "paint", "lake"]),
        ("What did you do there?", []),
        ("It’s 3:45 on route_66", ["3", "45", "rout", "66"]),
        ("Ｆｕｌｌ Straße", ["full", "strass"]),
        ("東京都 ok", ["東京", "京都", "ok"]),
        ("水", ["水"]),
        ("", []),
    ],
)
def test_terms(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


def test_threads_do_not_share_a_stemmer() -> None:
    words = [f"running{n} painters{n} connections{n}" for n in range(300)]
    expected = [terms(word) for word in words]
    results: list[list[list[str]]] = []
    threads = [threading.Thread(target=lambda: results.append([terms(w) for w in words])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
