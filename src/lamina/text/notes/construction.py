"""Writing a note: keywords K, tags G and a one-sentence context X about a verbatim turn, and its vector e.

A-MEM, arXiv 2502.12110, section 3.1, where a language model writes them (``prompted.py``); here rules do:

* K: names and keyphrases by ``idf * words``, each next one discounted by what it repeats (maximal marginal
  relevance, Carbonell and Goldstein 1998, over stems; lambda 0.7), at most 5;
* G: the kinds of statement the rules extractor finds, the month and the season, and at most 2 of 60 topic labels
  whose cosine with the turn is 0.30 or more;
* X: who, when, what it follows, what it is about.

The paper embeds the concatenation of content, K, G and X. Here the vector is a mixture, so that the content keeps
its weight however long K and X grow: ``norm(0.6 turn + 0.2 previous + 0.2 next)`` for a turn of a dialogue,
``norm(0.8 base + 0.2 e(K, G, X))`` for a note that stands alone and for any note that evolved.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube
from lamina.llm.base import Embedder
from lamina.store.analysis import terms
from lamina.text.base import Turn
from lamina.text.english.entities import entities, keywords
from lamina.text.english.lexicon import words
from lamina.text.english.sentences import sentences
from lamina.text.extraction import RulesExtractor
from lamina.text.notes.register import slot_of

Vector = NDArray[np.float32]

MAX_KEYWORDS = 5
CONTEXT = (0.6, 0.2, 0.2)  # the turn, the one before, the one after
ENRICHED = 0.2  # weight of e(K, G, X)
_TOPIC_FLOOR, _TOPICS = 0.30, 2
_REPEATS = 0.7  # lambda of maximal marginal relevance
_SEASONS = ("winter", "spring", "summer", "autumn")
_LABELS = sorted(
    words("""
family friendship romance marriage children pets health illness exercise sports food cooking restaurants travel
holidays home moving_house gardening furniture work career job_search business money shopping gifts school university
language_learning books films television music concerts dancing painting photography crafts games computers phones
software science nature animals weather environment politics law religion volunteering community celebrations weddings
mental_health stress grief cars cycling history
""")
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a note says of its turn, before it is stored. ``slots`` are posting keys of the attributes it states."""

    keywords: tuple[str, ...]
    tags: tuple[str, ...]
    context: str
    slots: tuple[str, ...] = ()
    extractor: str = "rules"


class Rules:
    """Drafts by rules. ``embedder`` places turns among topic labels; it is asked for the labels once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._extractor = RulesExtractor()
        self._lock = threading.Lock()
        self._labels: Vector | None = None

    def draft(self, turn: MemCube, vector: Vector, previous: Sequence[str], idf: Callable[[str], float]) -> Draft:
        """``previous`` are keywords of the turn before in the session; ``idf`` maps a stem to its rarity."""
        facts = self._extractor.extract(_as_turn(turn))
        found = keyphrases(turn.text, idf, without=_speaker_words(turn))
        kinds = dict.fromkeys(fact.semantic_type for fact in facts if fact.semantic_type != "fact")
        slots = dict.fromkeys(slot_of(f.claim.subject, f.claim.slot) for f in facts if f.claim.slot)
        tags = (*kinds, *_when(turn), *self._topics(vector))
        return Draft(found, tags, context_line(turn, found, previous), tuple(slots))

    def _topics(self, vector: Vector) -> list[str]:
        with self._lock:
            if self._labels is None:
                self._labels = self._embedder.encode(_LABELS)
        near = self._labels @ vector
        best = np.argsort(-near, kind="stable")[:_TOPICS]
        return [_LABELS[place] for place in best.tolist() if near[place] >= _TOPIC_FLOOR]


def keyphrases(text: str, idf: Callable[[str], float], without: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """At most five names and phrases, the most telling first; none made of stems in ``without`` alone."""
    named = [name for name in entities(text) if "@" not in name and "://" not in name]
    said = [phrase for start, end in sentences(text) for phrase in keywords(text[start:end])]
    stems = {phrase: set(terms(phrase)) for phrase in dict.fromkeys((*named, *said))}
    named_stems = set[str]().union(*(stems[name] for name in named))
    weight = {
        phrase: sum(idf(stem) for stem in held)
        for phrase, held in stems.items()
        if held - without and (phrase in named or not held <= named_stems)
    }
    kept: list[str] = []
    used: set[str] = set()
    while weight and len(kept) < MAX_KEYWORDS:
        best = max(weight, key=lambda p: weight[p] * (_REPEATS - (1 - _REPEATS) * _share(stems[p], used)))
        del weight[best]
        if not stems[best] <= used:
            kept.append(best)
            used |= stems[best]
    return tuple(kept)


def context_line(turn: MemCube, found: Sequence[str], previous: Sequence[str]) -> str:
    """X: "Anna, 8 May 2023: follows sailing club; about Lisbon, flights"."""
    said = turn.header.utterance
    who = f"{said.speaker}, " if said is not None and said.speaker.casefold() not in ("user", "assistant") else ""
    parts = []
    if previous:
        parts.append(f"follows {', '.join(previous[:2])}")
    if found:
        parts.append(f"about {', '.join(found[:3])}")
    return f"{who}{day(turn)}{': ' if parts else ''}{'; '.join(parts)}"


def day(turn: MemCube) -> str:
    """When it was said, for people: "8 May 2023"."""
    at = turn.header.recorded
    return f"{at.day} {at:%B %Y}"


def enriched_text(note: MemCube) -> str:
    """K, G and X in one line: what ``e(K, G, X)`` is the vector of."""
    header = note.header
    topics = [tag for tag in header.tags if not tag[:1].isdigit()]
    return f"{note.text}. {', '.join((*header.keywords, *topics))}"


def in_context(vector: Vector, before: Vector | None, after: Vector | None) -> Vector:
    """The mixture of a turn with its neighbours in the session, unit norm; the turn's own where it has none."""
    if before is None and after is None:
        return vector
    own, previous, following = CONTEXT
    mixed = own * vector
    if before is not None:
        mixed = mixed + previous * before
    if after is not None:
        mixed = mixed + following * after
    return unit(mixed)


def with_enrichment(base: Vector, of_text: Vector) -> Vector:
    """``norm(0.8 base + 0.2 e(K, G, X))``."""
    return unit((1 - ENRICHED) * base + ENRICHED * of_text)


def unit(vector: Vector) -> Vector:
    norm = float(np.linalg.norm(vector))
    return np.asarray(vector / norm if norm else vector, np.float32)


def rarity(frequency: Callable[[str], int], total: int) -> Callable[[str], float]:
    """``idf(stem) = ln(1 + (N - n + 0.5) / (n + 0.5))``, as in BM25."""

    def idf(stem: str) -> float:
        n = min(frequency(stem), total)
        return math.log1p((total - n + 0.5) / (n + 0.5))

    return idf


def extend_tags(draft: Draft, tags: Sequence[str]) -> Draft:
    """The draft with the caller's own tags first."""
    return replace(draft, tags=tuple(dict.fromkeys((*tags, *draft.tags))))


def _share(held: set[str], used: set[str]) -> float:
    return len(held & used) / max(len(held), 1)


def _when(turn: MemCube) -> tuple[str, str]:
    at = turn.header.recorded
    return f"{at:%Y-%m}", _SEASONS[at.month % 12 // 3]


def _speaker_words(turn: MemCube) -> frozenset[str]:
    said = turn.header.utterance
    return frozenset(terms(said.speaker)) if said is not None else frozenset()


def _as_turn(cube: MemCube) -> Turn:
    said = cube.header.utterance
    assert said is not None, "notes are about turns"
    return Turn(cube.text, said.speaker, said.role, cube.header.recorded, said.session, said.ordinal)
