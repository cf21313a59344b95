"""A bounded memory of vectors already computed, which can be told to forget a text.

Keys are the sha256 of the text, so the cache itself never holds what a person wrote.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput

Compute = Callable[[list[str]], NDArray[np.float32]]


class VectorCache:
    """Least recently used rows are dropped beyond ``size`` texts (0 keeps none). Thread-safe."""

    def __init__(self, size: int) -> None:
        if size < 0:
            raise InvalidInput(f"cache_size={size} is negative; give 0 to cache nothing")
        self._size = size
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._forgotten = 0

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, texts: Sequence[str], dimension: int, compute: Compute) -> NDArray[np.float32]:
        """float32 ``(len(texts), dimension)`` in the order of ``texts``; ``compute`` sees each new text once."""
        keys = [_key(text) for text in texts]
        found: dict[bytes, NDArray[np.float32]] = {}
        with self._lock:
            before = self._forgotten
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
                    found[key] = self._rows[key]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if new:
            computed = dict(zip(new, compute(list(new.values())), strict=True))
            found |= computed
            with self._lock:
                # A text forgotten while it was being embedded must not come back through this door.
                if self._forgotten == before:
                    self._store(computed)
        out = np.empty((len(keys), dimension), np.float32)
        for i, key in enumerate(keys):
            out[i] = found[key]
        return out

    def forget(self, texts: Iterable[str]) -> None:
        """Drop the vectors of ``texts``, if any are held."""
        with self._lock:
            self._forgotten += 1
            for text in texts:
                self._rows.pop(_key(text), None)

    def clear(self) -> None:
        """Drop all vectors: texts were forgotten that nobody here knows any more."""
        with self._lock:
            self._forgotten += 1
            self._rows.clear()

    def _store(self, computed: dict[bytes, NDArray[np.float32]]) -> None:
        for key, row in computed.items():
            self._rows[key] = row.copy()  # a view would keep the whole batch alive
        while len(self._rows) > self._size:
            self._rows.popitem(last=False)


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


def checked(texts: Sequence[str]) -> list[str]:
    """``texts`` as a list of encodable strings: lone surrogates, which no tokenizer takes, become "?".

    Raises ``InvalidInput`` for a bare string (its letters would be embedded) or an item that is no string.
    """
    if isinstance(texts, str):
        raise InvalidInput(f"texts={texts[:40]!r} is one string; give a list: encode([text])")
    clean = []
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidInput(f"texts[{i}]={repr(text)[:40]} is of type {type(text).__name__}; give strings")
        clean.append(text.encode("utf-8", "replace").decode("utf-8"))
    return clean
