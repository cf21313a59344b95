"""JSON that may come from anywhere: bounded in size and depth, without the leniencies of ``json.loads``.

Python's parser accepts NaN, keeps the last of duplicate keys, and recurses as deep as its input. Here
each of those is an ``InvalidInput``, and the bounds are checked before anything is built.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections import Counter
from typing import Any, NoReturn

from lamina.errors import InvalidInput

MAX_DEPTH = 64
# A string (skipped whole, so that brackets inside it do not count) or one bracket.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"))

# Compact JSON text. For values made by ``lamina.cube.codec`` only: they are finite trees by construction.
dumps = _encoder.encode


def loads(text: str, *, max_bytes: int) -> Any:
    """The value of a JSON text of at most ``max_bytes`` UTF-8 bytes, nested at most ``MAX_DEPTH`` deep.

    Raises ``InvalidInput`` for anything else, for duplicate keys, and for NaN and infinities.
    """
    size = len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    if size > max_bytes:
        raise InvalidInput(f"JSON of {size} bytes is over the limit of {max_bytes}")
    if text.count("[") + text.count("{") > MAX_DEPTH and _too_deep(text):
        raise InvalidInput(f"JSON is nested deeper than {MAX_DEPTH}")
    try:
        return _decoder.decode(text)
    except InvalidInput:
        raise
    except ValueError as error:  # bad syntax, or an integer of more digits than Python reads
        raise InvalidInput(f"not valid JSON: {error}") from error


def _too_deep(text: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()
        if mark in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif mark in "]}":
            depth -= 1
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise InvalidInput(f"JSON repeats the key {reprlib.repr(repeated)}")
    return result


def _no_constant(name: str) -> NoReturn:
    raise InvalidInput(f"JSON holds {name}, which is not a JSON number")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)
