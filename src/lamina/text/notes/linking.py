"""Which older turns a new one is linked to, by which channel, how strongly.

A-MEM, arXiv 2502.12110, section 3.2, proposes links among the nearest notes by cosine alone. A note that bridges two
others ("Ann's mentor is M", "M works at O") resembles neither question nor partner enough for that, so here a
second channel proposes: what is shared and rare. The weight of a pair is that of its strongest channel:

* ``same_topic``: their cosine, if it is 0.55 or more and each is among the 5 nearest of the other;
* ``same_entity``: ``1 / log2(1 + df)`` for a name or keyphrase that df = 2 to 8 turns of the scope carry; a single
  word that both use in a keyphrase and that is no name counts 0.8 of that, as ``same_topic``;
* ``follows``: 0.6 for the turn before in the session;
* ``same_slot``: 0.9 if both state the same attribute of the same subject, and at most 8 turns do.

Turns of one call are compared with each other as well as with what is stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube
from lamina.store.base import Edge, Store, Transaction
from lamina.store.index import ScopeIndex
from lamina.store.table import TURN, hashed
from lamina.text.notes.construction import Draft
from lamina.text.notes.register import WINDOW, Keys, Postings, Register, union

NEAREST, SIMILAR = 5, 0.55
FOLLOWS, SAME_SLOT, COMMON_WORD = 0.6, 0.9, 0.8
MAX_LINKS = 8  # per turn
_BLOCK = 256  # turns of one call compared at once


@dataclass(frozen=True, slots=True)
class Link:
    """A link that a new turn (``source``) proposes to an older one (``target``); ids of turns."""

    source: str
    target: str
    relation: str
    weight: float
    reason: str


@dataclass(slots=True)
class Newcomers:
    """The turns of one call: their keys and drafts, and the postings they add to the scope's."""

    turns: Sequence[MemCube]
    vectors: NDArray[np.float32]
    drafts: Sequence[Draft]
    keys: dict[str, Keys] = field(init=False)
    postings: Postings = field(init=False)

    def __post_init__(self) -> None:
        self.keys = {turn.id: Keys.of(turn.text) for turn in self.turns}
        self.postings = Postings()
        for turn, draft in zip(self.turns, self.drafts, strict=True):
            self.postings.add(turn.id, self.keys[turn.id], draft.slots)


def propose(
    new: Newcomers,
    register: Register,
    index: ScopeIndex,
    store: Store,
    before: Mapping[str, str],
) -> dict[str, list[Link]]:
    """For each new turn its links, the strongest first, at most 8. ``before`` maps a turn to the one it follows."""
    place = {turn.id: number for number, turn in enumerate(new.turns)}
    near = mutual_nearest(new, register, index, store)
    found: dict[str, list[Link]] = {}
    for number, (turn, draft) in enumerate(zip(new.turns, new.drafts, strict=True)):
        best: dict[str, Link] = {}
        with register.lock:
            links = [
                *_similar(turn.id, near[number]),
                *_shared(turn.id, new, register),
                *_slots(turn.id, draft, new, register),
            ]
        if turn.id in before:
            links.append(Link(turn.id, before[turn.id], "follows", FOLLOWS, "the turn before"))
        for link in links:
            older = place.get(link.target, -1) < number
            if older and (link.target not in best or best[link.target].weight < link.weight):
                best[link.target] = link
        found[turn.id] = sorted(best.values(), key=lambda link: (-link.weight, link.target))[:MAX_LINKS]
    return found


# -- the channels --------------------------------------------------------------------------------


def _similar(id: str, near: Sequence[tuple[str, float]]) -> Iterator[Link]:
    for other, cosine in near:
        yield Link(
            id, other, "same_topic", min(cosine, 1.0), f"similar ({cosine:.2f}), each among the nearest of the other"
        )


def _slots(id: str, draft: Draft, new: Newcomers, register: Register) -> Iterator[Link]:
    for slot in draft.slots:
        for other in _few(id, slot, new, register):
            yield Link(id, other, "same_slot", SAME_SLOT, "both state the same attribute")


def _shared(id: str, new: Newcomers, register: Register) -> Iterator[Link]:
    keys = new.keys[id]
    for name in sorted(keys.names | keys.phrases):
        kind = "name" if name in keys.names else "phrase"
        if " " in name:
            yield from _linked(id, name, _few(id, f"{name} {kind}", new, register))
    for word in sorted(keys.words - register.speakers.keys()):
        owners = register.postings.owners.get(word, {}).keys() | new.postings.owners.get(word, {}).keys()
        if len(owners) > 1:  # two people of that name: it tells which of them only in full
            continue
        others = _few(id, word, new, register)
        if owners or _is_name(word, new, register):
            yield from _linked(id, word, others)
        elif word in keys.telling:
            weight = COMMON_WORD * _rarity(others)
            telling = [o for o in others if word in _keys(o, new, register).telling]
            yield from (Link(id, other, "same_topic", weight, shared_reason(word)) for other in telling)


def _linked(id: str, what: str, others: Sequence[str]) -> Iterator[Link]:
    for other in others:
        yield Link(id, other, "same_entity", _rarity(others), shared_reason(what))


def _rarity(others: Sequence[str]) -> float:
    return 1 / math.log2(2 + len(others))  # df = the others and this one


def shared_reason(what: str) -> str:
    return f"both mention {what!r}"


def _few(id: str, key: str, new: Newcomers, register: Register) -> list[str]:
    """The other open turns that carry ``key``, none if it is common."""
    carriers = union([register.postings.carriers(key), new.postings.carriers(key)])
    others = [o for o in carriers or () if o != id and (o in new.keys or o in register)]
    return others if WINDOW[0] <= 1 + len(others) <= WINDOW[1] else []


def _is_name(word: str, new: Newcomers, register: Register) -> bool:
    key = f"{word} name"
    return register.postings.carriers(key) != [] or new.postings.carriers(key) != []


def _keys(turn: str, new: Newcomers, register: Register) -> Keys:
    found = new.keys.get(turn) or register.keys(turn)
    assert found is not None
    return found


def mutual_nearest(
    new: Newcomers, register: Register, index: ScopeIndex, store: Store
) -> list[list[tuple[str, float]]]:
    """For each new turn, the turns that are similar to it and among whose nearest it is in turn."""
    stored = _stored_nearest(new.vectors, register, index, store)
    fresh, floors = _fresh_nearest(new, [[cosine for _, cosine in row] for row in stored])
    known = [[(id, c) for id, c in row if c >= max(SIMILAR, floor)] for row, floor in zip(stored, floors, strict=True)]
    floor_of = _floors(sorted({id for row in known for id, _ in row}), new, index, store)
    found: list[list[tuple[str, float]]] = []
    for number, row in enumerate(known):
        mutual = [(id, cosine) for id, cosine in row if cosine >= floor_of.get(id, math.inf)]
        mutual += [(new.turns[j].id, c) for j, c in fresh[number] if c >= max(SIMILAR, floors[number], floors[j])]
        found.append(mutual)
    return found


def _stored_nearest(
    vectors: NDArray[np.float32], register: Register, index: ScopeIndex, store: Store, more: int = 0
) -> list[list[tuple[str, float]]]:
    with index.lock:
        turns = index.visible() & (index.table["kind"] == TURN)
        rows = index.vectors.search_many(vectors, NEAREST + more, turns) if len(index) else []
        found = [list(zip(index.table["key"][at].tolist(), c.tolist(), strict=True)) for at, c in rows]
    keys = sorted({key for row in found for key, _ in row})
    ids = {key: cube.id for key, cube in zip(keys, store.load(keys), strict=True)}
    # A scope may hold narrower ones ("any run of this user"): their turns are not ours to link.
    kept = [[(ids[key], c) for key, c in row if ids[key] in register] for row in found]
    return kept or [[] for _ in vectors]


def nearest_stored(vector: NDArray[np.float32], register: Register, index: ScopeIndex, store: Store) -> list[str]:
    """The 10 stored turns most similar to ``vector``: among them a model chooses."""
    (row,) = _stored_nearest(vector[None, :], register, index, store, more=NEAREST)
    return [id for id, _ in row]


def merged(kept: Sequence[Link], chosen: Sequence[Link], by_rules: Sequence[Link]) -> list[Link]:
    """Links a model chose beside ``kept`` ones: each as strong as the rules found it, if they found it stronger."""
    weight = {link.target: link.weight for link in by_rules}
    best = {link.target: replace(link, weight=max(link.weight, weight.get(link.target, 0.0))) for link in chosen}
    best |= {link.target: link for link in kept if link.target not in best}
    return sorted(best.values(), key=lambda link: (-link.weight, link.target))[:MAX_LINKS]


def _fresh_nearest(
    new: Newcomers, stored: Sequence[Sequence[float]]
) -> tuple[list[list[tuple[int, float]]], list[float]]:
    """The nearest turns of the same call, and the cosine of the fifth nearest of all."""
    rows: list[list[tuple[int, float]]] = []
    floors: list[float] = []
    for start in range(0, len(new.turns), _BLOCK):
        block = new.vectors[start : start + _BLOCK] @ new.vectors.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        for number, similarity in enumerate(block):
            best = np.argsort(-similarity, kind="stable")[:NEAREST]
            row = [(int(j), float(similarity[j])) for j in best if np.isfinite(similarity[j])]
            rows.append(row)
            floors.append(_fifth([c for _, c in row] + list(stored[start + number])))
    return rows, floors


def _floors(ids: Sequence[str], new: Newcomers, index: ScopeIndex, store: Store) -> dict[str, float]:
    """How similar the fifth nearest of each stored turn is, the new turns included: one scan for all of them."""
    vectors = {id: vector for id in ids if (vector := store.vector(id)) is not None}
    if not vectors:
        return {}
    asked = np.stack(list(vectors.values()))
    with index.lock:
        turns = index.visible() & (index.table["kind"] == TURN)
        own = [index.table.newest(hashed(id)) for id in vectors]
        near = index.vectors.search_many(asked, NEAREST + 1, turns)
    fresh = asked @ new.vectors.T
    return {
        id: _fifth(
            [*(c for row, c in zip(rows.tolist(), cosines.tolist(), strict=True) if row != mine), *more.tolist()]
        )
        for id, mine, (rows, cosines), more in zip(vectors, own, near, fresh, strict=True)
    }


def _fifth(cosines: Sequence[float]) -> float:
    ranked = sorted(cosines, reverse=True)
    return ranked[NEAREST - 1] - 1e-6 if len(ranked) >= NEAREST else -math.inf


# -- keeping links few ---------------------------------------------------------------------------


def write_links(tx: Transaction, links: Sequence[Link], turns: Mapping[str, MemCube]) -> int:
    """Connect the links, keeping the 8 strongest of every turn they touch; how many are new.

    ``turns`` are the new turns by id. A link whose other end is gone or closed meanwhile is left out.
    """
    present = [link for link in links if _is_open(tx, link.target)]
    touched = sorted({id for link in present for id in (link.source, link.target)})
    known = [edge for edge in tx.edges(touched) if edge.relation in RELATIONS] if touched else []
    have = {frozenset((edge.source, edge.target)) for edge in known}
    fresh = [link for link in present if frozenset((link.source, link.target)) not in have]
    kept = _strongest([*known, *fresh], touched)
    now = max((turn.header.recorded for turn in turns.values()), default=None)
    for edge in known:
        if id(edge) not in kept and now is not None:
            tx.disconnect(edge.source, edge.target, edge.relation, at=max(now, edge.recorded))
    edges = [_edge(link, turns[link.source]) for link in fresh if id(link) in kept]
    tx.connect(edges)
    return len(edges)


RELATIONS = frozenset(
    ("same_topic", "same_entity", "follows", "same_slot", "same_event", "cause", "contrasts", "elaborates")
)


def _strongest(links: Sequence[Edge | Link], touched: Sequence[str]) -> set[int]:
    """Those among the 8 strongest at each of their ends that is touched, as ids of the objects."""
    at: dict[str, list[Edge | Link]] = {id: [] for id in touched}
    for link in links:
        for end in (link.source, link.target):
            if end in at:
                at[end].append(link)
    lost = {
        id(link)
        for row in at.values()
        for link in sorted(row, key=lambda link: (-link.weight, link.source, link.target))[MAX_LINKS:]
    }
    return {id(link) for link in links} - lost


def outdated(new: Newcomers, register: Register) -> dict[str, list[str]]:
    """Words that stop being worth a link with these turns, each with the stored turns that carry it.

    Too many carry it now, or it turned out to be part of two people's names.
    """
    lost: dict[str, list[str]] = {}
    with register.lock:
        for word in sorted({key for keys in new.keys.values() for key in (*keys.words, *keys.names, *keys.phrases)}):
            known = register.postings.carriers(word)
            if not known or len(known) < WINDOW[0]:
                continue
            owners = register.postings.owners.get(word, {}).keys()
            doubtful = owners and len(owners | new.postings.owners.get(word, {}).keys()) > len(owners) == 1
            if doubtful or union([known, new.postings.carriers(word)]) is None or _total(word, known, new) > WINDOW[1]:
                lost[word] = list(known)
    return lost


def _total(word: str, known: Sequence[str], new: Newcomers) -> int:
    return len({*known, *(new.postings.carriers(word) or ())})


def prune_links(tx: Transaction, words: Mapping[str, Sequence[str]], at: datetime) -> int:
    """Close the links that rest on such words alone; how many."""
    closed = 0
    for word, turns in words.items():
        for edge in tx.edges(list(turns)):
            if edge.reason == shared_reason(word):
                closed += tx.disconnect(edge.source, edge.target, edge.relation, at=max(at, edge.recorded))
    return closed


def _is_open(tx: Transaction, id: str) -> bool:
    cube = tx.newest(id)
    return cube is not None and cube.header.superseded is None


def _edge(link: Link, newer: MemCube) -> Edge:
    return Edge(
        source=link.source,
        target=link.target,
        relation=link.relation,
        weight=link.weight,
        evidence=newer.id,
        reason=link.reason,
        recorded=newer.header.recorded,
    )
