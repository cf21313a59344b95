"""Embeddings from any OpenAI-compatible server."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from lamina._optional import require
from lamina.llm.endpoint import Endpoint
from lamina.llm.vector_cache import VectorCache, checked


class _Row(BaseModel):
    index: int
    embedding: list[float]


class _Rows(BaseModel):
    data: list[_Row]


class OpenAIEmbedder:
    """An ``Embedder`` behind ``/embeddings``. Vectors are normalised here, whatever the server does. Thread-safe."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimension: int | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.5,
        batch: int = 128,
        cache_size: int = 16_384,
        seed: int | None = None,
    ) -> None:
        """``batch`` is in texts a request; the rest as in ``OpenAIChat``. Without ``dimension`` it is learnt by
        embedding one word when first needed."""
        self.name = f"openai:{model}"
        self._model = model
        self._batch = batch
        self._dimension = dimension
        self._cache = VectorCache(cache_size)
        self._lock = threading.Lock()
        self._endpoint = Endpoint(
            base_url=base_url, api_key=api_key, timeout=timeout, retries=retries, backoff=backoff, seed=seed
        )

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._model!r}, base_url={self._endpoint.base_url!r})"

    @property
    def dimension(self) -> int:
        with self._lock:
            if self._dimension is None:
                self._dimension = len(self._request(["dimension"])[0])
            return self._dimension

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 ``(len(texts), dimension)``, rows of unit norm, order kept. A blank text is sent as ".", since
        servers refuse empty input. Raises ``LLMError`` or ``InvalidInput``."""
        return self._cache.rows(_sent(texts), self.dimension, self._compute)

    def forget(self, texts: Iterable[str]) -> None:
        """Drop cached vectors of ``texts``."""
        self._cache.forget(_sent(list(texts)))

    def forget_all(self) -> None:
        """Drop all cached vectors: another process forgot texts that can no longer be named."""
        self._cache.clear()

    def _compute(self, texts: list[str]) -> NDArray[np.float32]:
        rows = [row for i in range(0, len(texts), self._batch) for row in self._request(texts[i : i + self._batch])]
        if any(len(row) != self.dimension for row in rows):
            raise self._endpoint.error(f"vectors of {len(rows[0])} numbers came where dimension={self.dimension}")
        vectors = np.array(rows, np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(norms).all() or (norms == 0).any():
            raise self._endpoint.error("the server returned a vector that is zero or not finite")
        unit: NDArray[np.float32] = vectors / norms
        return unit

    def _request(self, texts: list[str]) -> list[list[float]]:
        errors = require("openai", self.name)
        try:
            raw = self._endpoint.call(
                lambda client: client.embeddings.with_raw_response.create(
                    model=self._model, input=texts, encoding_format="float"
                )
            )
            rows = sorted(_Rows.model_validate_json(raw.content).data, key=lambda row: row.index)
        except (errors.BadRequestError, errors.UnprocessableEntityError) as error:
            raise self._endpoint.explained(error) from None
        except ValidationError:
            raise self._endpoint.error("the body is not an embeddings answer: check base_url and model") from None
        if [row.index for row in rows] != list(range(len(texts))):
            raise self._endpoint.error(f"{len(texts)} texts were sent and {len(rows)} vectors came back")
        return [row.embedding for row in rows]


def _sent(texts: Sequence[str]) -> list[str]:
    return [text if text.strip() else "." for text in checked(texts)]
