"""MemGAS: find the past sessions that answer a question, at the granularity the question has.

"From Single to Multi-Granularity: Toward Long-Term Memory Association and Selection of Conversational Agents"
(arXiv 2505.19549, ICLR 2026). A session is remembered at several granularities: as a whole, by its turns, by a
summary and by keywords. Nodes of different sessions that speak of the same are linked when a session is added
(``granularities.association``). A question is compared with every granularity; a router trusts those that are sure
(``granularities.router``); the best nodes start a personalised PageRank over the links, and a session is worth what
its nodes get. No training, no language model at query time.

``MemGAS.paper(encoder)`` is the published method: four dense granularities, turns averaged. The default, ``Recipe()``,
differs where measurement says so:

* a session's turns count by the *best* of them, not their mean, which any long session shares with any other;
* words are a fifth granularity (BM25 over sessions): names and rare words survive no vector of a long text;
* scores are standardised over sessions before routing: raw cosines give all but equal weights;
* the walk starts from *every* node, with the router's weight times the probability that its entropy was taken of:
  fifteen seeds leave most sessions without any order. Its logarithm is added to the fused scores, both standardised.

The numbers of the default (temperature, shares, damping, the walk's weight) were chosen on the conversations
``conv-26`` and ``conv-30`` of LoCoMo alone, from the middle of a plateau; ``lamina bench memgas`` reports the others.
What carries the result is words, best turns and the shares: with them, router and links move recall by less than a
point, in either direction (on other conversations, recall_all@3 is 78.9, without both 79.3; at 10, 91.1 and 90.8). They
earn their place where no shares are known: with equal ones, the router adds 3.2 points to recall_all@3, links 0.7 more.
Links also answer ``explain``: which session led to a hit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import NDArray

from lamina.errors import Conflict, InvalidInput, NotFound
from lamina.llm.base import Embedder
from lamina.text.granularities import router
from lamina.text.granularities.association import AssociationGraph
from lamina.text.granularities.lexical import SessionWords
from lamina.text.granularities.pagerank import personalized_pagerank
from lamina.text.granularities.recipe import DENSE, PAPER, Granularity, Recipe
from lamina.text.granularities.session import Session
from lamina.text.granularities.summaries import extract_keywords, extract_summary

__all__ = ["DENSE", "PAPER", "Granularity", "MemGAS", "Recipe", "Session", "SessionHit"]

Scores = NDArray[np.float64]
Vectors = NDArray[np.float32]

_LEAST_MASS = 1e-12  # keeps the logarithm of a session that got nothing finite


@dataclass(frozen=True, slots=True)
class SessionHit:
    """A session found. ``parts``, ``weights`` and ``path`` are filled by ``explain=True``.

    ``parts`` hold the score of each granularity as it was compared, ``weights`` what the router made of them;
    ``path`` leads from the session whose link gave most to the hit (the hit alone if it needed none).
    """

    id: str
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    path: tuple[str, ...] = ()


class MemGAS:
    """Sessions and the links between them, in memory. Not locked: one writer or many readers at a time."""

    def __init__(
        self,
        encoder: Embedder,
        recipe: Recipe | None = None,
        *,
        summarizer: Callable[[Sequence[str]], str] = extract_summary,
        keyworder: Callable[[str], tuple[str, ...]] | None = None,
    ) -> None:
        """``summarizer`` gets a session's utterances, ``keyworder`` its text; the defaults extract."""
        self.recipe = recipe or Recipe()
        self._encoder = encoder
        self._summarizer = summarizer
        self._keyworder = keyworder or self._extracted
        self._ids: list[str] = []
        self._turns: list[Vectors] = []
        self._stacked: Vectors | None = None
        self._words = SessionWords()
        self._graph = AssociationGraph(candidates=self.recipe.candidates, min_gap=self.recipe.min_gap)

    @classmethod
    def paper(cls, encoder: Embedder) -> Self:
        """As published, with extracted summaries and keywords where a session brings none."""
        return cls(encoder, PAPER)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> tuple[str, ...]:
        """Sessions in the order they were added."""
        return tuple(self._ids)

    @property
    def nodes(self) -> Vectors:
        """float32 (sessions * 4, dimension): of each session its own vector, its turns' mean, summary, keywords."""
        return self._graph.nodes

    @property
    def edges(self) -> set[tuple[tuple[str, str], tuple[str, str]]]:
        """The links, each as two nodes ``(session id, granularity)``, the later session first."""
        names = [(id, name) for id in self._ids for name in DENSE]
        return {(names[late], names[early]) for late, early in self._graph.edges.tolist()}

    # -- writing ---------------------------------------------------------------------------------

    def add(self, session: Session) -> str:
        """Remember a session after all others; its id. Costs one product with the nodes there are.

        Raises ``Conflict`` for an id that is there, ``InvalidInput`` for no utterances, or vectors that are not
        finite or of another dimension than those of the sessions before.
        """
        self.extend([session])
        return session.id

    def extend(self, sessions: Sequence[Session]) -> None:
        """``add`` of each session in order, at once, all or none: one call of the encoder, one fit of all mixtures."""
        known = set(self._ids)
        for session in sessions:
            if session.id in known:
                raise Conflict(f"session {session.id!r:.60} is there already: remove it first")
            if not session.utterances:
                raise InvalidInput(f"session {session.id!r:.60} has no utterances: add what was said")
            known.add(session.id)
        if not sessions:
            return
        try:
            texts = [self._described(session) for session in sessions]
            described = self._encoded(sessions, texts)
            self._graph.extend(np.stack([nodes for nodes, _ in described]))
            self._turns += [turns for _, turns in described]
            self._ids += [session.id for session in sessions]
            self._stacked = None
        finally:  # words of what was refused
            self._words.truncate(len(self))

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` sessions, as if the others had never come."""
        self._graph.truncate(size)
        self._words.truncate(size)
        del self._ids[size:], self._turns[size:]
        self._stacked = None

    def _described(self, session: Session) -> list[str]:
        """What is encoded of a session, and for its turns unless they bring vectors; its words are counted."""
        text = session.text
        summary = self._summarizer(session.utterances) if session.summary is None else session.summary
        keywords = self._keyworder(text) if session.keywords is None else session.keywords
        self._words.add(text)
        return [text, summary, "; ".join(keywords), *([] if session.turns is not None else session.pairs)]

    def _encoded(self, sessions: Sequence[Session], texts: Sequence[list[str]]) -> list[tuple[Vectors, Vectors]]:
        """Of each session, the vectors of its nodes (4, d) and of its turns (t, d), checked."""
        rows = np.asarray(self._encoder.encode([text for some in texts for text in some]), np.float32)
        found = []
        for session, vectors in zip(sessions, np.split(rows, np.cumsum([*map(len, texts)])[:-1]), strict=True):
            turns = vectors[3:] if session.turns is None else np.asarray(session.turns, np.float32)
            if turns.shape[1:] != vectors.shape[1:] or not len(turns):
                raise InvalidInput(
                    f"turns of shape {turns.shape} do not fit vectors of {vectors.shape[1]}: use one encoder"
                )
            if not (np.isfinite(vectors).all() and np.isfinite(turns).all()):
                raise InvalidInput(
                    f"vectors of session {session.id!r:.60} hold NaN or infinity: the encoder failed on it"
                )
            found.append((np.stack([vectors[0], turns.mean(axis=0), vectors[1], vectors[2]]), turns))
        return found

    def remove(self, session_id: str) -> None:
        """Drop a session: its nodes, every link that touches them, its words. Raises ``NotFound``.

        What other sessions took from it stays as it was fitted: their links, and keywords chosen while its words
        counted. A memory built without it may differ there; build one anew, or ``truncate`` and ``extend``, if that
        matters. No word of it is kept.
        """
        if session_id not in self._ids:
            raise NotFound(f"session_id={session_id!r:.60}: no such session here")
        place = self._ids.index(session_id)
        self._graph.remove(place)
        self._words.remove(place)
        del self._ids[place], self._turns[place]
        self._stacked = None

    # -- reading ---------------------------------------------------------------------------------

    def search(
        self, query: str, k: int = 10, *, vector: Vectors | None = None, explain: bool = False
    ) -> list[SessionHit]:
        """The ``k`` best sessions, best first, ties to the newer one; fewer only if there are fewer.

        ``vector`` (d,) is the query's, if it is known. Raises ``InvalidInput`` for an empty query, a ``k`` that
        is no positive integer, or a vector that is not finite or of another dimension.
        """
        if not query.strip():
            raise InvalidInput(f"query={query!r:.60} is empty: ask something")
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise InvalidInput(f"k={k!r}: pass a positive number of sessions")
        if not self._ids:
            return []
        asked = np.asarray(self._encoder.encode([query])[0] if vector is None else vector, np.float32)
        if asked.shape != self._graph.nodes.shape[1:]:
            raise InvalidInput(
                f"query vector has shape {asked.shape}, the sessions' {self._graph.nodes.shape[1:]}: use one encoder"
            )
        if not np.isfinite(asked).all():
            raise InvalidInput("vector of the query holds NaN or infinity: the encoder failed on it")
        raw = self.similarities(query, asked)
        compared = router.standardized(raw) if self.recipe.standardize else raw
        weights = router.ROUTERS[self.recipe.router](compared, self.recipe.temperature) * np.asarray(self.recipe.shares)
        weights = weights / weights.sum()
        score, walked = self._rank(compared, weights)
        order = np.lexsort((-np.arange(len(self)), -score))[:k]
        if not explain:
            return [SessionHit(self._ids[place], float(score[place])) for place in order.tolist()]
        names = self.recipe.granularities
        return [
            SessionHit(
                id=self._ids[place],
                score=float(score[place]),
                parts=dict(zip(names, raw[:, place].tolist(), strict=True)),
                weights=dict(zip(names, weights.tolist(), strict=True)),
                path=self._path(place, walked),
            )
            for place in order.tolist()
        ]

    def similarities(self, query: str, vector: Vectors) -> Scores:
        """Score of each session (n) at each granularity (G), float64 (G, n)."""
        nodes = self._graph.nodes.reshape(len(self), len(DENSE), -1) @ vector
        rows: dict[str, NDArray[np.floating]] = {name: nodes[:, place] for place, name in enumerate(DENSE)}
        if self.recipe.turn_pool == "max":
            rows["turn"] = self._best_turns(vector)
        if "lexical" in self.recipe.granularities:
            rows["lexical"] = self._words.scores(query)
        return np.stack([np.asarray(rows[name], np.float64) for name in self.recipe.granularities])

    def _rank(self, compared: Scores, weights: Scores) -> tuple[Scores, Scores]:
        """Score of each session, and the probability of each node (n, G)."""
        fused = weights @ compared
        if self.recipe.walk == 0:
            return fused, np.zeros(compared.T.shape)
        walked = self._walk(compared, weights)
        mass = walked.sum(axis=1)
        if self.recipe.walk is None:
            return mass, walked
        both = router.standardized(np.stack([fused, np.log(mass + _LEAST_MASS)]))
        return both[0] + self.recipe.walk * both[1], walked

    def _walk(self, compared: Scores, weights: Scores) -> Scores:
        """Personalised PageRank of each node (n, G); a lexical node has no links."""
        if self.recipe.seeds is None:
            restart = weights * np.exp(router.log_probabilities(compared, self.recipe.temperature)).T
        else:
            restart = np.maximum(weights * compared.T, 0.0)
            ranked = np.argsort(-restart, axis=None, kind="stable")
            restart.flat[ranked[self.recipe.seeds :]] = 0.0
        return personalized_pagerank(self._links(), restart.ravel(), self.recipe.damping).reshape(restart.shape)

    def _links(self) -> NDArray[np.int64]:
        """Edges between the nodes that the recipe compares, numbered as in a table (n, G): (m, 2)."""
        names = self.recipe.granularities
        column = np.asarray([names.index(name) if name in names else -1 for name in DENSE])
        ends = self._graph.edges
        place = column[ends % len(DENSE)]
        return np.asarray((ends // len(DENSE) * len(names) + place)[(place >= 0).all(axis=1)])

    def _path(self, place: int, walked: Scores) -> tuple[str, ...]:
        """The session whose links lead the most probability to ``place``, and that; it alone if none do."""
        width, links = walked.shape[1], self._links()
        both = np.concatenate([links, links[:, ::-1]])
        degree = np.bincount(both[:, 0], minlength=walked.size)
        into = both[both[:, 1] // width == place]
        given = np.bincount(into[:, 0] // width, (walked.ravel() / np.maximum(degree, 1))[into[:, 0]], len(self))
        own = (self._ids[place],)
        return own if not given.any() else (self._ids[int(given.argmax())], *own)

    def _best_turns(self, vector: Vectors) -> Scores:
        if self._stacked is None:
            self._stacked = np.concatenate(self._turns)
        starts = np.cumsum([0, *(len(turns) for turns in self._turns[:-1])])
        return np.maximum.reduceat(self._stacked @ vector, starts).astype(np.float64)

    def _extracted(self, text: str) -> tuple[str, ...]:
        return extract_keywords(text, self._words.frequency, len(self._words))
