"""Which sentence of a turn a statement was taken from: the one that shares most words with it."""

from __future__ import annotations

from lamina.store.analysis import terms
from lamina.text.english.sentences import sentences


def nearest_sentence(statement: str, text: str) -> tuple[int, int]:
    """``[start, end)`` of the sentence of ``text`` nearest to ``statement``; all of ``text`` if none shares a word."""
    wanted = set(terms(statement))
    shared = {span: len(wanted & set(terms(text[span[0] : span[1]]))) for span in sentences(text)}
    best = max(shared, key=lambda span: shared[span], default=None)
    return best if best is not None and shared[best] else (0, len(text))
