"""Batching, cutting, caching and the whole embedder against one text at a time."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.llm.embed import MiniLM, batches, cut

WORDS = [
    "we",
    "saw",
    "two",
    "dogs",
    "near",
    "the",
    "lake",
    "and",
    "Ana",
    "told",
    "us",
    "about",
    "her",
    "painting",
    "class",
]


@pytest.fixture(scope="module")
def exact() -> MiniLM:
    return MiniLM(cache_size=0, exact=True)


@given(st.lists(st.integers(1, 300), max_size=60), st.integers(1, 600))
def test_batches_cover_every_row_once_within_the_budget(lengths, budget):
    groups = list(batches(lengths, budget))
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget


@given(st.lists(st.integers(0, 9), max_size=300), st.integers(2, 40))
def test_windows_join_to_the_text_and_fit(ids, room):
    windows = cut(ids, room, frozenset({0}))
    assert [id for window in windows for id in window] == ids
    assert all(len(window) <= room for window in windows)
    assert all(len(window) > room // 2 for window in windows[:-1])


def test_windows_end_at_the_last_stop_of_their_second_half():
    assert cut([1, 1, 1, 9, 1, 9, 1, 1, 1], 8, frozenset({9})) == [[1, 1, 1, 9, 1, 9], [1, 1, 1]]
    assert cut([9, 1, 1, 1, 1, 1, 1, 1, 1], 8, frozenset({9})) == [[9, 1, 1, 1, 1, 1, 1, 1], [1]]


@pytest.mark.model
def test_order_and_values_do_not_depend_on_the_batch(exact):
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, size=n)) for n in generator.integers(1, 60, size=80)]
    together = exact.encode(texts)
    alone = np.concatenate([exact.encode([text]) for text in texts])
    assert together.dtype == np.float32 and together.shape == (80, 384)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


@pytest.mark.model
def test_agrees_with_the_framed_tokenizer(exact):
    """Prefix and suffix are found by looking at the tokenizer; here it frames the text itself."""
    import torch

    from lamina.zoo import minilm

    network, tokenizer = minilm.load(torch.float32)
    ids = tokenizer.encode("Ana moved to Porto in 2021.").ids
    with torch.inference_mode():
        expected = network(torch.tensor([ids]), torch.tensor([len(ids)]))[0].numpy()
    np.testing.assert_allclose(
        exact.encode(["Ana moved to Porto in 2021."])[0], expected / np.linalg.norm(expected), atol=1e-5
    )


@pytest.mark.model
def test_empty_inputs(exact):
    assert exact.encode([]).shape == (0, 384)
    blank = exact.encode(["", "   \n", "\u200b"])
    np.testing.assert_allclose(blank, blank[:1].repeat(3, 0), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(blank, axis=1), 1, atol=1e-5)


@pytest.mark.model
def test_wrong_inputs_are_named(exact):
    with pytest.raises(InvalidInput, match=r"encode\(\[text\]\)"):
        exact.encode("a bare string")
    with pytest.raises(InvalidInput, match=r"texts\[1\]=7 is of type int"):
        exact.encode(["fine", 7])
    assert exact.encode(["lone surrogate \ud800"]).shape == (1, 384)


@pytest.mark.model
def test_the_tail_of_a_long_text_counts(exact):
    """The answer stands after the 256 pieces that the network reads: a truncated vector would ignore it."""
    filler = "The weather report for the northern coast was read aloud once more. " * 20
    answer = "My passport is in the blue drawer. " * 12
    plain, with_tail, question = exact.encode([filler, filler + answer, "Where is my passport?"])
    assert exact.count_tokens(filler) > 256
    assert question @ with_tail > question @ plain + 0.1


@pytest.mark.model
def test_long_text_is_the_length_weighted_mean_of_its_windows(exact):
    sentence = "The weather report for the northern coast was read aloud once more."
    per = exact.count_tokens(sentence)
    fit = 254 // per
    first, rest = " ".join([sentence] * fit), " ".join([sentence] * 3)
    a, b = exact.encode([first, rest])
    expected = a * (fit * per + 2) + b * (3 * per + 2)
    np.testing.assert_allclose(exact.encode([f"{first} {rest}"])[0], expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.model
def test_threads_load_once_and_agree():
    embedder = MiniLM()
    loads = []
    real = embedder._load
    embedder._load = lambda: (loads.append(1), real())[1]
    rows: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: rows.update({i: embedder.encode(WORDS[i : i + 3])})) for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    for i in range(3):
        np.testing.assert_allclose(rows[i][1:], rows[i + 1][:2], atol=0.02)
