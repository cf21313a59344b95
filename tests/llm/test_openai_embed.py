"""OpenAIEmbedder against a real HTTP server."""

from __future__ import annotations

import numpy as np
import pytest
from llm_server import Step, failed, scripted

from lamina.errors import InvalidInput, LLMError
from lamina.llm.openai_embed import OpenAIEmbedder


def rows(*vectors: list[float]) -> Step:
    data = [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]
    return Step({"data": data[::-1]})  # the order is the index, not the place in the list


def embedder(url: str, **settings: object) -> OpenAIEmbedder:
    return OpenAIEmbedder("m", base_url=url, api_key="k", backoff=0.001, seed=0, **settings)


def test_rows_are_normalised_in_order_and_cached():
    with scripted(rows([3.0, 4.0], [0.0, 2.0]), rows([1.0, 0.0])) as server:
        model = embedder(server.url, dimension=2)
        np.testing.assert_allclose(model.encode(["a", "b"]), [[0.6, 0.8], [0, 1]])
        np.testing.assert_allclose(model.encode(["b", "c"]), [[0, 1], [1, 0]])
    assert [body["input"] for body in server.bodies()] == [["a", "b"], ["c"]]


def test_dimension_is_asked_for_once():
    with scripted(rows([1.0, 2.0, 2.0]), rows([0.0, 0.0, 5.0])) as server:
        model = embedder(server.url)
        assert model.dimension == 3
        assert model.encode([]).shape == (0, 3)
        np.testing.assert_allclose(model.encode(["a"]), [[0, 0, 1]])
    assert len(server.requests) == 2


def test_requests_are_batched_and_retried():
    with scripted(failed(503), rows([1.0], [1.0]), rows([-1.0])) as server:
        vectors = embedder(server.url, dimension=1, batch=2).encode(["a", "b", "c"])
    np.testing.assert_allclose(vectors, [[1], [1], [-1]])
    assert [len(body["input"]) for body in server.bodies()] == [2, 2, 1]


def test_blank_text_is_sent_as_a_full_stop():
    with scripted(rows([1.0])) as server:
        assert embedder(server.url, dimension=1).encode([" ", ""]).shape == (2, 1)
    assert server.bodies()[0]["input"] == ["."]


def test_forget_reaches_blank_and_plain_texts():
    with scripted(rows([1.0], [1.0]), rows([1.0], [1.0])) as server:
        model = embedder(server.url, dimension=1)
        model.encode(["a", ""])
        model.forget(["a", ""])
        model.encode(["a", ""])
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (rows([1.0, 2.0]), "vectors of 2 numbers"),
        (rows([0.0]), "zero or not finite"),
        (rows([1.0], [2.0]), "1 texts were sent and 2 vectors"),
        (Step('{"data": [{"index": 0, "embedding": [NaN]}]}'), "zero or not finite|not an embeddings answer"),
        (Step("<html>"), "not an embeddings answer"),
        (failed(400, "input too long"), "input too long"),
        (failed(401), "HTTP 401"),
    ],
)
def test_useless_answers_are_errors(step, problem):
    with scripted(step) as server, pytest.raises(LLMError, match=problem):
        embedder(server.url, dimension=1).encode(["a"])


def test_a_bare_string_is_refused():
    with scripted() as server, pytest.raises(InvalidInput):
        embedder(server.url, dimension=1).encode("text")
