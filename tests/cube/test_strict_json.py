"""JSON from anywhere: what ``json.loads`` lets pass and this does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cube_strategies import json_values
from hypothesis import given

from lamina.cube import strict_json
from lamina.errors import InvalidInput


@given(json_values)
def test_agrees_with_the_standard_library(value: Any) -> None:
    assert json.loads(strict_json.dumps(value)) == value
    for ascii_only in (True, False):
        assert strict_json.loads(json.dumps(value, ensure_ascii=ascii_only), max_bytes=1 << 20) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1] 2", "not valid JSON"),
        ("\ufeff{}", "not valid JSON"),
        ('{"a": 1, "a": 1}', "repeats the key 'a'"),
        ('[{"b": {"x": 1, "y": 2, "x": 3}}]', "repeats the key 'x'"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("9" * 5000, "not valid JSON"),
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 65 + "1" + "}" * 65, "nested deeper"),
        ('["' + "[" * 200 + '",' + "[" * 65, "nested deeper"),
        ("é" * 600, "1200 bytes is over the limit of 1000"),
    ],
    ids=range(13),
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        strict_json.loads(text, max_bytes=1000 if text.startswith("é") else 1 << 20)


def test_depth_counts_brackets_outside_strings_only() -> None:
    value = ["[" * 500 + '\\"' + "{" * 500, *[[[]]] * 500]
    assert strict_json.loads(json.dumps(value), max_bytes=1 << 20) == value
    deepest = "[" * 64 + "]" * 64
    assert strict_json.loads(deepest, max_bytes=1 << 20) == json.loads(deepest)


def test_many_keys_with_a_repeated_one_stay_cheap() -> None:
    """A search that is quadratic in the keys would take hours here and trip the test timeout."""
    text = "{" + ",".join(f'"{n}":0' for n in range(300_000)) + ',"299999":0}'
    with pytest.raises(InvalidInput, match="299999"):
        strict_json.loads(text, max_bytes=1 << 23)
