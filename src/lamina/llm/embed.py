"""Texts to unit vectors with an encoder in this process; the default is the packaged all-MiniLM-L6-v2.

Three things make it fast and fair: texts are sorted by length and batched under a token budget, so
that little is padding; vectors are cached; and a text longer than the encoder reads is cut into
windows, at sentence ends where there are any, whose vectors are averaged by length, so that its
tail counts (a plain truncation would make it unfindable).

An empty text, or one the tokenizer reduces to nothing, has a defined vector: that of the encoder's
bare frame ([CLS] [SEP]). ``encode`` is therefore total over strings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.llm.vector_cache import VectorCache, checked

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    # (ids (batch, time) padded on the right, lengths (batch,)) -> (batch, dimension) float32
    Network = Callable[[Tensor, Tensor], Tensor]

TOKENS_PER_BATCH = 1024  # on 2 threads 512 to 1536 are equally fast within the noise, 2048 and more slower


class LocalEmbedder:
    """An ``Embedder`` over a local network, loaded at the first text. Thread-safe."""

    def __init__(
        self,
        name: str,
        *,
        dimension: int,
        limit: int,
        load: Callable[[], tuple[Network, Tokenizer]],
        cache_size: int = 16_384,
    ) -> None:
        """``limit`` is the most pieces the network reads at once, its frame included; ``cache_size`` is in texts."""
        self.name = name
        self.dimension = dimension
        self._limit = limit
        self._load = load
        self._cache = VectorCache(cache_size)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 ``(len(texts), dimension)``, rows of unit norm in the order of ``texts``.

        Raises ``InvalidInput`` if ``texts`` is not a sequence of strings, and what loading raises.
        """
        return self._cache.rows(checked(texts), self.dimension, self._compute)

    def forget(self, texts: Iterable[str]) -> None:
        """Drop cached vectors of ``texts``: nothing of them stays in this process."""
        self._cache.forget(checked(list(texts)))

    def forget_all(self) -> None:
        """Drop all cached vectors: another process forgot texts that can no longer be named."""
        self._cache.clear()

    def count_tokens(self, text: str) -> int:
        """Word pieces of ``text``, without the frame."""
        return len(self._ready().tokenizer.encode(text, add_special_tokens=False).ids)

    def _ready(self) -> _Loaded:
        with self._lock:
            if self._loaded is None:
                self._loaded = _Loaded(*self._load())
            return self._loaded

    def _compute(self, texts: list[str]) -> NDArray[np.float32]:
        loaded = self._ready()
        room = self._limit - len(loaded.prefix) - len(loaded.suffix)
        windows: list[list[int]] = []
        owner: list[int] = []
        for i, encoding in enumerate(loaded.tokenizer.encode_batch_fast(texts, add_special_tokens=False)):
            for window in cut(encoding.ids, room, loaded.stops):
                windows.append([*loaded.prefix, *window, *loaded.suffix])
                owner.append(i)
        vectors = _unit(loaded.forward(windows, self.dimension))
        weights = np.array([len(window) for window in windows], np.float32)
        sums = np.zeros((len(texts), self.dimension), np.float32)
        np.add.at(sums, owner, vectors * weights[:, None])
        return _unit(sums)


class MiniLM(LocalEmbedder):
    """The packaged all-MiniLM-L6-v2: 384 dimensions, 256 word pieces a window, no network needed.

    ``exact=True`` computes in float32 even where bfloat16 is twice as fast (their cosine is above 0.9999).
    """

    def __init__(self, *, cache_size: int = 16_384, exact: bool = False) -> None:
        def load() -> tuple[Network, Tokenizer]:
            torch = require("torch", "the MiniLM embedder")
            require("tokenizers", "the MiniLM embedder")
            from lamina.zoo import minilm

            return minilm.load(torch.float32 if exact else None)

        super().__init__("all-MiniLM-L6-v2", dimension=384, limit=256, load=load, cache_size=cache_size)


class _Loaded:
    """A network and tokenizer, with what framing and cutting need to know of the tokenizer."""

    def __init__(self, network: Network, tokenizer: Tokenizer) -> None:
        self.network = network
        self.tokenizer = tokenizer
        framed, bare = tokenizer.encode("a"), tokenizer.encode("a", add_special_tokens=False)
        start = framed.special_tokens_mask.index(0)
        self.prefix = framed.ids[:start]
        self.suffix = framed.ids[start + len(bare.ids) :]
        ends = (tokenizer.token_to_id(mark) for mark in (".", "!", "?"))
        self.stops = frozenset(id for id in ends if id is not None)

    def forward(self, windows: Sequence[list[int]], dimension: int) -> NDArray[np.float32]:
        """Raw vectors of ``windows``, in their order."""
        torch = require("torch", "embedding text")
        out = np.empty((len(windows), dimension), np.float32)
        for rows in batches([len(window) for window in windows], TOKENS_PER_BATCH):
            lengths = np.array([len(windows[row]) for row in rows])
            ids = np.zeros((len(rows), lengths.max()), np.int64)
            for line, row in zip(ids, rows, strict=True):
                line[: len(windows[row])] = windows[row]
            with torch.inference_mode():
                out[rows] = self.network(torch.from_numpy(ids), torch.from_numpy(lengths)).numpy()
        return out


def batches(lengths: Sequence[int], budget: int) -> Iterable[list[int]]:
    """Indexes of ``lengths``, sorted by length and grouped so that rows x longest <= ``budget`` (or one row)."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    for index in order:
        if group and (len(group) + 1) * lengths[index] > budget:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def cut(ids: list[int], room: int, stops: frozenset[int]) -> list[list[int]]:
    """``ids`` in windows of at most ``room``: each ends after the last stop in its second half, else when full."""
    windows = []
    start = 0
    while len(ids) - start > room:
        ends = (end for end in range(start + room, start + room // 2, -1) if ids[end - 1] in stops)
        end = next(ends, start + room)
        windows.append(ids[start:end])
        start = end
    windows.append(ids[start:])
    return windows


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = rows / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit
