"""Vector quantisation against loops in float64: nearest codes, means, no dead code, exact where there is room."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.activation.documents.codes import Codebook
from lamina.errors import InvalidInput


def _tokens(count: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=30)
def test_every_token_is_coded_by_its_nearest_code(count: int, codes: int, seed: int) -> None:
    tokens = _tokens(count, seed=seed)
    book = Codebook.fit(tokens, codes=codes, seed=seed)
    assert book.codes.shape == (min(codes, count), 6)
    assert book.nbytes == 2 * book.codes.numel()
    numbers = book.encode(tokens)
    assert (numbers.shape, numbers.dtype) == ((count,), torch.int16)
    decoded = book.decode(numbers)
    for n in range(count):
        token = tokens[n].double().numpy()
        errors = [float(((token - code) ** 2).sum()) for code in book.codes.double().numpy()]
        assert errors[int(numbers[n])] == pytest.approx(min(errors), abs=1e-6)
        assert torch.equal(decoded[n], book.codes[int(numbers[n])].float())


def _lloyd(points: list[list[float]], codes: list[list[float]]) -> list[list[float]]:
    """The mean of the points nearest to each code."""
    nearest = [
        min(range(len(codes)), key=lambda c: sum((a - b) ** 2 for a, b in zip(p, codes[c], strict=True)))
        for p in points
    ]
    groups = [[p for p, n in zip(points, nearest, strict=True) if n == c] for c in range(len(codes))]
    return [[sum(column) / len(group) for column in zip(*group, strict=True)] for group in groups]


def test_codes_are_the_means_of_their_own_tokens() -> None:
    tokens = _tokens(60, 2)
    book = Codebook.fit(tokens, codes=5)
    again = _lloyd(tokens.double().tolist(), book.codes.double().tolist())
    np.testing.assert_allclose(again, book.codes.double().numpy(), atol=2e-3)  # float16


def test_a_code_that_nothing_chose_starts_again_where_the_error_is_worst() -> None:
    tokens = torch.tensor([[0.0, 0.0]] * 30 + [[5.0, 1.0], [-3.0, 4.0], [2.0, 9.0]])
    for seed in range(20):  # most of the first codes fall on the same token
        book = Codebook.fit(tokens, codes=4, seed=seed)
        assert torch.equal(book.decode(book.encode(tokens)), tokens)


def test_with_a_code_for_every_token_only_float16_is_lost() -> None:
    tokens = _tokens(20)
    book = Codebook.fit(tokens, codes=512)
    assert torch.equal(book.decode(book.encode(tokens)), tokens.half().float())


def test_more_codes_are_more_exact() -> None:
    tokens = _tokens(300, 4)
    books = [Codebook.fit(tokens, codes=codes) for codes in (4, 32, 256)]
    errors = [float((book.decode(book.encode(tokens)) - tokens).pow(2).mean()) for book in books]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.1 * errors[0]


def test_the_same_seed_gives_the_same_codes_and_others_another_version() -> None:
    one, two, other = (Codebook.fit(_tokens(30), codes=4, seed=seed) for seed in (0, 0, 1))
    assert one.version == two.version != other.version


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidInput, match="codes=0 must be"):
        Codebook.fit(_tokens(3), codes=0)
    with pytest.raises(InvalidInput, match="codes=32769 must be"):
        Codebook.fit(_tokens(3), codes=32769)
    with pytest.raises(InvalidInput, match="tokens is empty"):
        Codebook.fit(_tokens(0))
