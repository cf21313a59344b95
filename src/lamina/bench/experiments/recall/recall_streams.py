"""Streams whose segments state one fact each, and the segments that may end them, asking for one of these facts.

A fact is ``key value``, 64 keys and 64 values drawn evenly, in filler with Zipf's frequencies. It is never within the
last tokens of its segment. The segment that asks has ``NAME key`` in its first half and ends with ``ASK key BLANK``:
the answer stands in the labels alone, in place of the blank. Who answers without memory is right once in 64. Labelled
are the words of facts, which are what can be known of a next token here: the named key, so that memories are taught to
hold keys too, and the answer.

Questions on one stream are segments beside each other, not one after the other: each is the last of its own stream,
and none sees another. ``local_batch`` has a fact and its question in one segment: what a backbone must be able to do
before memories are put around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

Ids = NDArray[Any]

SEGMENT, SENSORY = 32, 4
KEYS, VALUES, VOCABULARY = 64, 64, 512
BLANK, NAME, ASK = 0, 1, 2
FIRST_KEY, FIRST_VALUE, FIRST_FILLER = 3, 3 + KEYS, 3 + KEYS + VALUES
UNLABELLED = -100


class Streams(NamedTuple):
    """``told`` (rows, segments x 32) int64, then on each row as many questions: ``asked`` and ``labels``
    (rows x questions, 32), the ``row`` they belong to and their ``age``: the fact's segment counted from the end."""

    told: Tensor
    asked: Tensor
    labels: Tensor
    row: Tensor
    age: Tensor


def streams(rng: np.random.Generator, rows: int, segments: int, questions: int) -> Streams:
    """``rows`` streams that end as segment ``segments`` asks; keys are distinct in a stream, ages evenly drawn.

    Raises ``InvalidInput`` for fewer than 2 segments or more facts than keys.
    """
    if not 2 <= segments <= KEYS + 1:
        raise InvalidInput(f"segments={segments!r} must be from 2 to {KEYS + 1}: one asks, the others have their keys")
    shape = (rows, segments - 1)
    told, keys = _filler(rng, (*shape, SEGMENT)), _keys(rng, *shape)
    values = FIRST_VALUE + rng.integers(VALUES, size=shape)
    row, place = np.indices(shape)
    start = rng.integers(SEGMENT - SENSORY - 1, size=shape)
    told[row, place, start], told[row, place, start + 1] = keys, values
    row = np.repeat(np.arange(rows), questions)
    age = rng.integers(1, segments, size=rows * questions)
    asked, labels, every = (
        _filler(rng, (len(row), SEGMENT)),
        np.full((len(row), SEGMENT), UNLABELLED),
        np.arange(len(row)),
    )
    key, named = keys[row, -age], rng.integers(SEGMENT // 2 - 1, size=len(row))
    asked[every, named], asked[every, named + 1] = NAME, key
    asked[:, -3], asked[:, -2], asked[:, -1] = ASK, key, BLANK
    labels[every, named + 1], labels[:, -1] = key, values[row, -age]
    return Streams(*(_tensor(array) for array in (told.reshape(rows, -1), asked, labels, row, age)))


def local_batch(rng: np.random.Generator, rows: int) -> tuple[Tensor, Tensor]:
    """Ids and labels (rows, 32) of segments that state a fact in their first half, then name its key, and ask."""
    ids, every = _filler(rng, (rows, SEGMENT)), np.arange(rows)
    labels = np.full_like(ids, UNLABELLED)
    key, value = FIRST_KEY + rng.integers(KEYS, size=rows), FIRST_VALUE + rng.integers(VALUES, size=rows)
    start, named = (rng.integers(SEGMENT // 2 - 4, size=rows) + half for half in (0, SEGMENT // 2))
    ids[every, start], ids[every, start + 1] = key, value
    ids[every, named], ids[every, named + 1] = NAME, key
    ids[:, -3], ids[:, -2], ids[:, -1] = ASK, key, BLANK
    labels[every, named + 1], labels[:, -1] = key, value
    return _tensor(ids), _tensor(labels)


def _keys(rng: np.random.Generator, rows: int, count: int) -> Ids:
    return FIRST_KEY + rng.permuted(np.tile(np.arange(KEYS), (rows, 1)), axis=1)[:, :count]


def _filler(rng: np.random.Generator, shape: tuple[int, ...]) -> Ids:
    words = VOCABULARY - FIRST_FILLER
    frequencies = 1 / np.arange(1, words + 1)
    return FIRST_FILLER + rng.choice(words, size=shape, p=frequencies / frequencies.sum())


def _tensor(array: Ids) -> Tensor:
    tensor: Tensor = require("torch", "streams of facts").from_numpy(np.ascontiguousarray(array))
    return tensor
