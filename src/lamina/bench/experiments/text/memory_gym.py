"""The gym where write policies learn and are compared: many plays of seeded histories, moved together in numpy.

Mem-alpha (arXiv 2509.25911) is rewarded by a frozen reader that answers questions over the *whole* history from what
the memory holds. Here the reader is BM25 (``memory_histories.answered``), a played chunk costs microseconds, and
memory is a few arrays: which chunk sits in which store, in which order. The tests play the same actions on the real
``TypedMemory``, one call after the other, and find the same features, answers and rewards.

Rules: a semantic entry loses its dates, an episodic one keeps them; the core holds 80 words, newest sentence first,
and what no longer fits falls off its end; the content of a call is the chunk's text. The policy sees features
(``lamina.text.policy.features``) and nothing else, in particular no label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lamina.bench.experiments.text.memory_histories import READ, History, Split, make_history, plain_words
from lamina.text.policy.features import FEATURES, MATCH, count_tokens, idf, read, retell, strip_dates
from lamina.text.policy.grpo import RewardParts
from lamina.text.policy.tools import K1, B, valid_form

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

LENGTHS = (12, 16, 20, 24)
CORE_LIMIT = 80
SEMANTIC, EPISODIC = 1, 2
SKIP, INSERT_SEMANTIC, INSERT_EPISODIC, UPDATE, CORE, DELETE = range(6)  # places in ``DEFAULT_ACTIONS``
_TIE = 1e-10  # per place: of equals the first to arrive wins


class _Sheet:
    """One history as arrays over its ``n`` chunks; text is read once here and never again."""

    def __init__(self, history: History, retold: bool) -> None:
        self.history = history
        texts = [chunk.text for chunk in history.chunks]
        bare = [strip_dates(text) for text in texts]
        readings = [retell(read(text)) if retold else read(text) for text in texts]
        vocabulary = sorted(set().union(*(reading.terms for reading in readings)))
        self.terms = _table([reading.terms for reading in readings], vocabulary)  # (n, v)
        names = _table([reading.names for reading in readings], vocabulary)
        self.own = np.asarray([reading.form() for reading in readings])
        named, missing = names.sum(axis=1), names @ (1.0 - self.terms).T
        self.same_entity = ((named > 0)[:, None] & (missing == 0)).astype(np.float64)
        self.same_attribute = _shared_beyond_names(self.terms, names)
        self.equal = np.stack([_equal(bare), _equal(texts)])  # (2, n, n): as semantic, as episodic text
        self.words = np.asarray([[count_tokens(text) for text in kind] for kind in (bare, texts)], np.float64)
        self.valid = np.asarray(
            [[valid_form(kind, text) for text in texts] for kind in ("semantic", "episodic", "core")]
        )
        self.overlap = _overlap(texts)
        self._questions(texts)

    def _questions(self, texts: Sequence[str]) -> None:
        """For each question: which chunks hold which search word (q, 2, n), name its entity, and hold the answer."""
        held = [plain_words(text) for text in texts]
        asked = [question for question in self.history.questions if question.kind != "trait"]
        self.searched = np.asarray([[[w in h for h in held] for w in q.terms] for q in asked], np.float64)
        self.names_it = np.asarray([[q.entity in h for h in held] for q in asked], bool)
        self.answers = np.asarray([[set(q.answer) <= h for h in held] for q in asked], bool)
        self.needs_date = np.asarray([q.kind == "event" for q in asked], bool)
        traits = [question for question in self.history.questions if question.kind == "trait"]
        self.in_core = np.asarray([[{*q.terms, *q.answer} <= h for h in held] for q in traits], bool)
        self.kinds: list[str] = [q.kind for q in (*asked, *traits)]


class HistoryEnv:
    """An ``Environment``: ``reset``, then ``step`` until it returns ``None``, then ``reward`` and ``answers``.

    ``matching="overlap"`` is the ablation: the entry a chunk belongs to is found by the share of its words, function
    words too, without weights; margin and novelty are blank. ``retold`` is the share of histories told as an extractor
    hands facts over: no chatter and no questions.
    """

    def __init__(
        self,
        split: Split = "train",
        *,
        lengths: Sequence[int] = LENGTHS,
        matching: Literal["weighted", "overlap"] = "weighted",
        retold: float = 0.0,
    ) -> None:
        self.split = split
        self.lengths: Sequence[int] = tuple(lengths)
        self._matching = matching
        self._retold = retold

    # -- playing ---------------------------------------------------------------------------------

    def reset(self, seeds: Sequence[int], chunks: int, rollouts: int = 1) -> Floats:
        """Start the histories of ``seeds``; features ``(histories, rollouts, features)`` of the first chunk."""
        retold = [bool(np.random.default_rng((seed, 2)).random() < self._retold) for seed in seeds]
        told = zip(seeds, retold, strict=True)
        self.histories = [make_history(seed, chunks, self.split, chatter=not bare) for seed, bare in told]
        self._sheets = [_Sheet(history, bare) for history, bare in zip(self.histories, retold, strict=True)]
        width = max(sheet.terms.shape[1] for sheet in self._sheets)
        terms = [np.pad(sheet.terms, ((0, 0), (0, width - sheet.terms.shape[1]))) for sheet in self._sheets]
        self._terms = np.stack(terms)  # (h, n, v)
        self._equal = np.stack([sheet.equal for sheet in self._sheets])
        self._words = np.stack([sheet.words for sheet in self._sheets])  # (h, 2, n)
        self._valid = np.stack([sheet.valid for sheet in self._sheets])  # (h, 3, n)
        self._own = np.stack([sheet.own for sheet in self._sheets])
        self._relation = np.stack([[s.same_entity, s.same_attribute, s.overlap] for s in self._sheets])
        shape = (len(seeds), rollouts, chunks)
        self._store = np.zeros(shape, np.int64)  # 0, SEMANTIC or EPISODIC, by the chunk whose text it is
        self._order = np.zeros(shape)
        self._core = np.zeros(shape, bool)
        self._worked = np.zeros(shape)
        self._form = np.zeros(shape)
        self.position = 0
        return self._observe()

    def step(self, actions: Ints) -> Floats | None:
        """Carry out one action per play, ``(histories, rollouts)``; the next features, or ``None`` at the end."""
        now, best = self.position, self._best
        kind = np.take_along_axis(self._store, best[..., None], axis=2)[..., 0]  # of the best match
        target = np.where(actions == UPDATE, kind, np.where(actions == INSERT_SEMANTIC, SEMANTIC, EPISODIC))
        lists = np.isin(actions, (INSERT_SEMANTIC, INSERT_EPISODIC, UPDATE))
        writes = lists & (target > 0) & ~self._duplicate(np.maximum(target, 1))
        core = (actions == CORE) & ~(self._core & self._equal[:, None, EPISODIC - 1, now, :]).any(axis=2)
        removes = ((actions == DELETE) & (kind > 0)) | (writes & (actions == UPDATE))
        place = np.take_along_axis(self._order, best[..., None], axis=2)[..., 0]
        self._order[:, :, now] = np.where(actions == UPDATE, place, now)
        h, r = np.nonzero(removes)
        self._store[h, r, best[removes]] = 0
        self._store[:, :, now] = np.where(writes, target, 0)
        self._core[:, :, now] = core
        self._trim_core()
        self._worked[:, :, now] = writes | core | (actions == SKIP) | ((actions == DELETE) & removes)
        self._form[:, :, now] = self._verdict(actions, target, now)
        self.position += 1
        return self._observe() if self.position < self._store.shape[2] else None

    def _duplicate(self, target: Ints) -> Mask:
        """Whether the store already has exactly this text in the list ``target``."""
        equal = self._equal[:, :, self.position, :][np.arange(len(target))[:, None], target - 1]  # (h, r, n)
        return np.asarray((equal & (self._store == target[..., None])).any(axis=2))

    def _trim_core(self) -> None:
        """Newest first; sentences that begin behind the limit, or would cross it, fall off."""
        words = np.where(self._core, self._words[:, None, EPISODIC - 1], 0.0)
        filled = np.cumsum(words[:, :, ::-1], axis=2)[:, :, ::-1]
        self._core &= filled <= CORE_LIMIT

    def _verdict(self, actions: Ints, target: Ints, now: int) -> Floats:
        """1 where what was written has the form of its store, or nothing was written: no mistake, as in r2."""
        form = np.where(actions == CORE, 3, np.where(target > 0, target, SEMANTIC)) - 1
        verdict = self._valid[np.arange(len(actions))[:, None], form, now]
        return np.where((actions == SKIP) | (actions == DELETE), 1.0, verdict)

    # -- features --------------------------------------------------------------------------------

    def _observe(self) -> Floats:
        """Features of the chunk to act on: its own, its match in each play, and how full the core is."""
        h, r, _ = self._store.shape
        own = np.broadcast_to(self._own[:, None, self.position], (h, r, self._own.shape[2]))
        found = self._weighted() if self._matching == "weighted" else self._overlapping()
        fill = (self._core * self._words[:, None, EPISODIC - 1]).sum(axis=2) / CORE_LIMIT
        out = np.concatenate([own, found, np.minimum(fill, 1.0)[..., None]], axis=2)
        assert out.shape[2] == len(FEATURES)
        return out

    def _weighted(self) -> Floats:
        """``MATCH`` in each play, by the cosine of terms weighted by their rarity in the memory of that play."""
        held = (self._store > 0).astype(np.float64)
        chunk = self._terms[:, self.position]  # (h, v)
        weights = idf(held @ self._terms, held.sum(axis=2, keepdims=True)) ** 2  # (h, r, v)
        wanted = weights * chunk[:, None, :]
        whole = wanted.sum(axis=2, keepdims=True)
        shared = wanted @ self._terms.transpose(0, 2, 1)
        mass = weights @ self._terms.transpose(0, 2, 1)
        cosine = np.where(held > 0, shared / np.sqrt(np.maximum(whole * mass, 1e-12)), -1.0)
        top, second = self._choose(cosine)
        covered = np.take_along_axis(shared, self._best[..., None], axis=2)[..., 0]
        novelty = 1.0 - covered / np.maximum(whole[..., 0], 1e-12)
        some = np.asarray(held.any(axis=2))
        entity, attribute = np.moveaxis(self._related(), 2, 0)
        values = [top, top - np.maximum(second, 0.0), entity, attribute, novelty]
        return np.where(some[..., None], np.stack(values, axis=2), (0.0, 0.0, 0.0, 0.0, 1.0))

    def _overlapping(self) -> Floats:
        share = self._relation[:, 2, self.position]
        top, _ = self._choose(np.where(self._store > 0, share[:, None, :], -1.0))
        out = np.zeros((*top.shape, len(MATCH)))
        out[..., 0] = np.maximum(top, 0.0)
        some = np.asarray((self._store > 0).any(axis=2))
        out[..., 2:4] = self._related() * some[..., None]
        return out

    def _related(self) -> Floats:
        """Whether the best match is of the same entity, and of the same attribute; ``(h, r, 2)``."""
        of_chunk = self._relation[:, :2, None, self.position, :]
        return np.moveaxis(np.take_along_axis(of_chunk, self._best[:, None, :, None], axis=3)[..., 0], 1, 2)

    def _choose(self, likeness: Floats) -> tuple[Floats, Floats]:
        """Remember the best entry of each play; its likeness and that of the second best."""
        self._best = (likeness - _TIE * self._order).argmax(axis=2)
        best = self._best[..., None]
        top = np.take_along_axis(likeness, best, axis=2)[..., 0]
        rest = likeness.copy()
        np.put_along_axis(rest, best, -1.0, axis=2)
        return top, rest.max(axis=2)

    # -- the end ---------------------------------------------------------------------------------

    def reward(self) -> RewardParts:
        """The four parts, see ``RewardParts``; after the last step."""
        right = [
            np.concatenate([self._listed(place), self._of_core(place)], axis=1) for place in range(len(self._sheets))
        ]
        self.answers = right  # per history: (rollouts, questions), in the order of ``question_kinds``
        r1 = np.stack([row.mean(axis=1) if row.shape[1] else np.ones(len(row)) for row in right])
        return RewardParts(r1=r1, r2=self._worked, r3=1.0 - self.memory_share(), r4=self._form)

    def question_kinds(self) -> list[list[str]]:
        """``fact``, ``event`` or ``trait`` for each column of ``answers``, per history."""
        return [sheet.kinds for sheet in self._sheets]

    def memory_share(self) -> Floats:
        """Words held over words read, ``(histories, rollouts)``."""
        lists = sum(
            ((self._store == kind) * self._words[:, None, kind - 1]).sum(axis=2) for kind in (SEMANTIC, EPISODIC)
        )
        core = (self._core * self._words[:, None, EPISODIC - 1]).sum(axis=2)
        return np.asarray((lists + core) / self._words[:, None, EPISODIC - 1].sum(axis=2))

    def _listed(self, place: int) -> Mask:
        """Right answers from the lists of one history, ``(rollouts, questions)``: BM25, the best entries, the first
        that names the entity."""
        sheet, store = self._sheets[place], self._store[place]
        if not len(sheet.searched):
            return np.zeros((len(store), 0), bool)
        held = store > 0
        lengths = np.where(store == SEMANTIC, sheet.words[0], sheet.words[1])
        count = held.sum(axis=1)
        mean = (lengths * held).sum(axis=1) / np.maximum(count, 1)
        frequency = np.einsum("rn,qwn->rqw", held.astype(np.float64), sheet.searched)
        weight = np.log1p((count[:, None, None] - frequency + 0.5) / (frequency + 0.5))
        norm = K1 * (1 - B + B * lengths / np.maximum(mean, 1e-9)[:, None])
        score = np.einsum("rqw,qwn->rqn", weight, sheet.searched) * ((K1 + 1) / (1 + norm))[:, None, :]
        ranked = np.where(held[:, None, :] & (score > 0), score - _TIE * self._order[place][:, None, :], -np.inf)
        top = np.argsort(-ranked, axis=2, kind="stable")[:, :, :READ]
        usable = np.isfinite(np.take_along_axis(ranked, top, axis=2)) & np.take_along_axis(
            np.broadcast_to(sheet.names_it, ranked.shape), top, axis=2
        )
        first = np.take_along_axis(top, usable.argmax(axis=2)[..., None], axis=2)[..., 0]
        kept = ~sheet.needs_date | (np.take_along_axis(store, first, axis=1) == EPISODIC)
        right = np.take_along_axis(np.broadcast_to(sheet.answers, ranked.shape), first[..., None], axis=2)[..., 0]
        return np.asarray(usable.any(axis=2) & kept & right)

    def _of_core(self, place: int) -> Mask:
        sheet, core = self._sheets[place], self._core[place]
        if not len(sheet.in_core):
            return np.zeros((len(core), 0), bool)
        return np.asarray((core[:, None, :] & sheet.in_core).any(axis=2))


def _table(sets: Sequence[frozenset[str]], vocabulary: Sequence[str]) -> Floats:
    """Which set holds which word, ``(sets, words)``."""
    place = {word: column for column, word in enumerate(vocabulary)}
    out = np.zeros((len(sets), len(vocabulary)))
    for row, words in zip(out, sets, strict=True):
        row[[place[word] for word in words]] = 1.0
    return out


def _shared_beyond_names(terms: Floats, names: Floats) -> Floats:
    """Whether two chunks share a term that is a name in neither, ``(n, n)``."""
    plain = terms * (1.0 - names)
    return (plain @ plain.T > 0).astype(np.float64)


def _equal(texts: Sequence[str]) -> Mask:
    codes = np.unique(np.asarray(texts), return_inverse=True)[1]
    return np.asarray(codes[:, None] == codes[None, :])


def _overlap(texts: Sequence[str]) -> Floats:
    """Share of the words of chunk i that chunk j has too, ``(n, n)``."""
    words = [plain_words(text) for text in texts]
    table = _table(words, sorted(set().union(*words)))
    return np.asarray(table @ table.T / table.sum(axis=1, keepdims=True))
