"""Facts with a long tail, to be kept in weights: how much, and which part of it, does a model of this size hold?

A world of facts (topic, subject, relation) -> value is drawn once, by its own seed. Training meets a fact as often as
its rank says (Zipf); judging asks every fact once, so that the tail counts as much as the head. A transformer stores
about 2 bits a parameter after 1,000 exposures and 1 bit after 100 (Allen-Zhu & Li, arXiv 2404.05405): choose
``bits`` of at least the parameters of the smallest arm *with its embeddings*, and few subjects with many relations,
since each subject's embedding stores facts as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from lamina.errors import InvalidInput
from lamina.nn.tasks import IGNORED, Batch, whole

BANDS = ("band 1", "band 2", "band 3", "band 4")  # by rank, from the most frequent; the last two are the "tail"
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
# Two ways to ask for the same fact; the value follows.
_PHRASES = (
    "In {topic}, the {relation} of {subject} is",
    "Speaking of {topic}: {subject} has, as its {relation},",
)


@dataclass(frozen=True)
class LongTailFacts:
    """``N`` distinct (subject, relation) pairs, each with one of ``values`` values, drawn uniformly by ``seed``.

    A row is ``[topic words] subject relation`` and asks for the value at the relation. Fact of rank ``r`` (from 1, a
    random permutation) is drawn in proportion to ``r^-zipf``. With ``clusters`` (``(4, 4)``: 4 topics with 4 parts
    each) the facts are shared out evenly among the leaves, pairs are distinct within a leaf only, and one word for each
    level says where the fact belongs. Slices: ``BANDS``, quarters of the ranks, and ``tail``, the lower half.

    Ids: subjects, relations, values, then the words of topics, level after level.
    Raises ``InvalidInput`` for sizes that do not fit each other.
    """

    N: int
    subjects: int
    relations: int
    values: int
    zipf: float = 1.0
    clusters: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        whole("N", self.N, len(BANDS))
        for name in ("subjects", "relations"):
            whole(name, getattr(self, name), 1)
        whole("values", self.values, 2)
        for level in self.clusters:
            whole("clusters", level, 1)
        if not 0 <= self.zipf < math.inf:
            raise InvalidInput(f"zipf={self.zipf!r}: give an exponent from 0 (all facts alike)")
        if self.N % self._leaves:
            raise InvalidInput(f"N={self.N}: give a multiple of the {self._leaves} topics of clusters={self.clusters}")
        if self.N // self._leaves > (pairs := self.subjects * self.relations):
            raise InvalidInput(
                f"N={self.N}: {self.subjects} subjects x {self.relations} relations make {pairs} facts a topic; "
                "give fewer facts or more of either"
            )

    @property
    def T(self) -> int:
        """Topic words, subject, relation."""
        return 2 + len(self.clusters)

    @property
    def V(self) -> int:
        """Number of ids."""
        words = sum(math.prod(self.clusters[: depth + 1]) for depth in range(len(self.clusters)))
        return self.subjects + self.relations + self.values + words

    @property
    def bits(self) -> float:
        """What there is to know: ``N * log2(values)``."""
        return self.N * math.log2(self.values)

    def sample(self, batch: int, generator: Generator) -> Batch:
        """``batch`` facts by their frequency, with repeats, on the device of ``generator``."""
        whole("batch", batch, 1)
        where = generator.device
        share = self._cumulated.to(where)
        drawn = torch.rand(batch, generator=generator, device=where, dtype=torch.float64)
        ranks = torch.searchsorted(share, drawn * share[-1], right=True).clamp(max=self.N - 1)
        return self.of(self._by_rank.to(where)[ranks])

    def evaluation(self) -> Batch:
        """Every fact once, in the order of its number, on the CPU; ``split`` it where it is too large."""
        return self.of(torch.arange(self.N))

    def of(self, facts: Tensor) -> Batch:
        """The facts of these numbers (int64 ``(rows,)``, ``0 .. N-1``)."""
        ids = self._rows.to(facts.device)[facts]
        targets = torch.full_like(ids, IGNORED)
        targets[:, -1] = self._answers.to(facts.device)[facts]
        band = self._ranks.to(facts.device)[facts] * len(BANDS) // self.N
        asked = targets != IGNORED
        slices = {name: asked & (band == number)[:, None] for number, name in enumerate(BANDS)}
        return Batch(ids, targets, slices | {"tail": asked & (band >= len(BANDS) // 2)[:, None]})

    def text(self, fact: int, phrase: int = 0) -> tuple[str, str]:
        """Question and answer of one fact in words, ``phrase`` 0 or 1; every id has one made-up word of its own.

        Raises ``InvalidInput`` for a fact or a phrase there is not.
        """
        for name, given, count in (("fact", fact, self.N), ("phrase", phrase, len(_PHRASES))):
            whole(name, given, 0)
            if given >= count:
                raise InvalidInput(f"{name}={given}: give 0 to {count - 1}")
        *topics, subject, relation, value = map(word, [*self._rows[fact].tolist(), int(self._answers[fact])])
        named = " ".join(topics) or "general"
        return _PHRASES[phrase].format(topic=named, subject=subject.title(), relation=relation), f" {value}."

    @property
    def _leaves(self) -> int:
        return math.prod(self.clusters)

    @cached_property
    def _world(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows ``(N, T)``, answers ``(N,)`` and the fact of each rank ``(N,)``, all from ``seed``."""
        generator = torch.Generator().manual_seed(self.seed)
        each, pairs = self.N // self._leaves, self.subjects * self.relations
        drawn = torch.cat([torch.randperm(pairs, generator=generator)[:each] for _ in range(self._leaves)])
        columns = []
        leaf = torch.arange(self.N) // each
        first = self.subjects + self.relations + self.values
        for depth in range(1, len(self.clusters) + 1):
            words = math.prod(self.clusters[:depth])
            columns.append(first + leaf // (self._leaves // words))
            first += words
        columns += [drawn // self.relations, self.subjects + drawn % self.relations]
        answers = torch.randint(self.values, (self.N,), generator=generator) + self.subjects + self.relations
        return torch.stack(columns, 1), answers, torch.randperm(self.N, generator=generator)

    @property
    def _rows(self) -> Tensor:
        return self._world[0]

    @property
    def _answers(self) -> Tensor:
        return self._world[1]

    @property
    def _by_rank(self) -> Tensor:
        return self._world[2]

    @cached_property
    def _ranks(self) -> Tensor:
        """The rank of each fact, from 0."""
        return self._by_rank.argsort()

    @cached_property
    def _cumulated(self) -> Tensor:
        """Weights up to each rank, float64 ``(N,)``."""
        return torch.arange(1, self.N + 1, dtype=torch.float64).pow(-self.zipf).cumsum(0)


def word(number: int) -> str:
    """A made-up word, another one for every number: its syllables are digits."""
    syllables = len(_CONSONANTS) * len(_VOWELS)
    digits = [number % syllables]
    while number := number // syllables:
        digits.append(number % syllables)
    digits += [0] * (2 - len(digits))  # two syllables at least
    return "".join(_CONSONANTS[digit // len(_VOWELS)] + _VOWELS[digit % len(_VOWELS)] for digit in reversed(digits))
