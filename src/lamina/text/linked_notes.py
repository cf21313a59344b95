"""A-MEM: every turn gets a note, notes are linked, old notes learn from new ones, and search follows the links.

Xu et al., "A-MEM: Agentic Memory for LLM Agents", arXiv 2502.12110. ``AMem`` writes (a ``Connector``),
``LinkedNotes`` reads (a ``Retriever``); ``lamina.text.notes.book.NoteBook`` is both for people who keep
notes rather than conversations. The parts are in ``lamina.text.notes``.

Where this differs from the paper, and why:

* works without a language model: rules write notes and links (``construction``, ``linking``, ``evolution``); with
  one, the paper's three prompts run, and whatever fails falls back to the rules for that note (``prompted``);
* link candidates come from shared rare names as well as from cosine, which alone cannot propose a bridge;
* links are followed only when a question needs it (``following``), within the same number of results;
* an evolution is a new version of the note, re-embedded in the same transaction, bounded and undoable; what was
  said is never changed. The released code leaves vectors stale until a periodic rebuild.

A note is a memory of type ``note`` derived from its turn, so it is forgotten with it and with every turn it took
words from; ``AMem.consolidate`` writes it anew from what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lamina.cube.cube import MemCube, Scope
from lamina.errors import LLMError, NotFound
from lamina.store.base import Store, Transaction
from lamina.store.index import ScopeIndex
from lamina.text.base import Connect, Hit, Outcome
from lamina.text.notes import linking
from lamina.text.notes.construction import Draft, Rules, extend_tags, rarity
from lamina.text.notes.evolution import MAX_EVOLUTIONS, OWN, learn, learners, may_learn, restored
from lamina.text.notes.following import Expand, Step, is_relational, is_weak, origins, steps
from lamina.text.notes.planning import NoteState, Plan, Sessions, followed, new_note, stored_sessions
from lamina.text.notes.prompted import Prompted
from lamina.text.notes.ranking import NoteRanking, linked_hit, ranked, turn_of
from lamina.text.notes.register import Register, Registers
from lamina.text.retrieval import HybridRetriever

if TYPE_CHECKING:
    from lamina.text.tools import Tools

_MENDED = 64  # notes that one correction or forgetting may cost
_CANDIDATES = 10  # nearest turns a model chooses links from, beside those the rules propose
_POOL = 50  # results of the hybrid search that notes may re-rank


class AMem:
    """The ``Connector`` of A-MEM. ``counts`` says what a model got wrong: fallbacks, unknown_ids, ungrounded.

    ``links`` and ``evolve`` switch off a part of the method, to see what it is worth.
    """

    name = "a-mem"

    def __init__(
        self, tools: Tools, registers: Registers | None = None, *, links: bool = True, evolve: bool = True
    ) -> None:
        self._tools = tools
        self._registers = registers or Registers()
        self._rules = Rules(tools.embedder)
        self._links = links
        self._evolve = evolve
        self.counts: Counter[str] = Counter()
        self._model = Prompted(tools.llm, tools.embedder, self.counts) if tools.llm is not None else None

    def prepare(self, scope: Scope, turns: Sequence[MemCube], vectors: NDArray[np.float32]) -> Connect:
        """See ``Connector.prepare``. Raises ``InvalidInput`` for vectors of another width than the store's."""
        plan = self.plan(scope, turns, vectors)

        def connect(tx: Transaction, outcomes: Sequence[Outcome]) -> None:  # noqa: ARG001 - notes are about turns
            plan.write(tx)

        return connect

    def mend(self, scope: Scope) -> None:
        """Write the notes that went with a memory, if they are few: a store that another pipeline filled is left
        to ``consolidate``."""
        register = self._registers.get(self._tools.store, scope)
        if len(register.open_turns()) - len(register.notes) <= _MENDED:
            self.consolidate(scope)

    def plan(
        self,
        scope: Scope,
        turns: Sequence[MemCube],
        vectors: NDArray[np.float32],
        tags: Sequence[str] = (),
    ) -> Plan:
        """What ``turns`` add; ``tags`` are the caller's own, for each of their notes."""
        store = self._tools.store
        register = self._registers.get(store, scope)
        sessions = Sessions.around(scope, turns, vectors, store)
        drafts = [extend_tags(draft, tags) for draft in self._drafts(turns, sessions, register)]
        plan = Plan({turn.id: turn for turn in turns})
        for turn, draft in zip(turns, drafts, strict=True):
            base, near = sessions.mixed(turn.id)
            note = new_note(turn, draft, near)
            plan.notes[turn.id] = NoteState(note, base, [note])
        if self._links:
            self._connect(plan, linking.Newcomers(turns, vectors, drafts), register, sessions)
        self._follow(plan, turns, register, sessions)
        plan.embed(self._tools.embedder)
        return plan

    def consolidate(self, scope: Scope) -> int:
        """Write the notes that open turns of exactly this scope lack.

        A note is lost when a turn it took words from was forgotten. Returns how many notes were written: what changed
        while models were asked is left for the next time.
        """
        store = self._tools.store
        register = self._registers.get(store, scope)
        missing = [store.get(id) for id in register.open_turns() if id not in register.notes]
        turns = [turn for turn in missing if turn is not None and turn.header.superseded is None]
        vectors = {turn.id: vector for turn in turns if (vector := store.vector(turn.id)) is not None}
        turns = sorted((turn for turn in turns if turn.id in vectors), key=lambda turn: (turn.header.recorded, turn.id))
        plans = {turn.id: self._rebuilt(turn, register) for turn in turns}
        with store.transaction() as tx:
            noted = self._registers.get(store, scope).notes  # under the write lock: as others left it
            ready = [plan for id, (plan, made_from) in plans.items() if id not in noted and _unchanged(tx, made_from)]
            for plan in ready:
                plan.write(tx)
        return len(ready)

    def note_about(self, turn: MemCube) -> MemCube | None:
        """The open note about a turn in its newest version."""
        return self._note(turn.id, self._registers.get(self._tools.store, turn.header.scope))

    def relearn(self, turn: MemCube) -> bool:
        """Let the note about ``turn`` learn from newer turns it is linked to; whether it did."""
        store = self._tools.store
        register = self._registers.get(store, turn.header.scope)
        plan = Plan({})
        edges = [e for e in store.edges(turn.header.scope, [turn.id]) if e.target == turn.id]
        links = [linking.Link(e.source, e.target, e.relation, e.weight, e.reason) for e in edges]
        for link in sorted(links, key=lambda link: -link.weight):
            state, donor = self._state(plan, turn.id, register), store.get(link.source)
            told = self._note(link.source, register)
            if state is None or donor is None or told is None or not learners([link], donor):
                continue
            if not may_learn(state.cube.header, donor):
                continue
            change = learn(state.cube, turn.text, donor, told.header.keywords[:OWN], link.relation)
            if change is not None:
                plan.evolve(turn.id, change, "rules")
        self._write(plan)
        return bool(plan.notes and plan.notes[turn.id].versions)

    def restore(self, turn: MemCube, old: MemCube) -> None:
        """Write an older version of the note about ``turn`` as its newest. Raises ``NotFound``."""
        plan = Plan({})
        state = self._state(plan, turn.id, self._registers.get(self._tools.store, turn.header.scope))
        if state is None:
            raise NotFound(f"turn {turn.id} has no note to restore: consolidate() writes it anew")
        state.become(restored(state.cube, old))
        self._write(plan)

    def _write(self, plan: Plan) -> None:
        plan.embed(self._tools.embedder)
        with self._tools.store.transaction() as tx:
            plan.write(tx)

    # -- parts of a plan -------------------------------------------------------------------------

    def _drafts(self, turns: Sequence[MemCube], sessions: Sessions, register: Register) -> list[Draft]:
        drafts: dict[str, Draft] = {}
        total = len(register) + len(turns)
        with register.lock:
            tags = Counter(register.tags)
        for turn in turns:
            before = sessions.before.get(turn.id)
            earlier = self._earlier_keywords(turn, before, drafts, sessions, register)
            idf = rarity(register.postings.frequency, total)
            draft = self._rules.draft(turn, sessions.vectors[turn.id], earlier, idf)
            if self._model is not None:
                try:
                    draft = self._model.draft(turn, draft, tags)
                except LLMError:
                    self.counts["fallbacks"] += 1
            drafts[turn.id] = draft
        return [drafts[turn.id] for turn in turns]

    def _earlier_keywords(
        self, turn: MemCube, before: str | None, drafts: Mapping[str, Draft], sessions: Sessions, register: Register
    ) -> Sequence[str]:
        if before is None or sessions.turns[before].header.expires != turn.header.expires:
            return ()
        if before in drafts:
            return drafts[before].keywords
        note = self._note(before, register)
        return note.header.keywords if note is not None else ()

    def _connect(self, plan: Plan, new: linking.Newcomers, register: Register, sessions: Sessions) -> None:
        store = self._tools.store
        index = self._tools.indexes.get(store, register.scope)
        links = linking.propose(new, register, index, store, sessions.before)
        plan.outdated = linking.outdated(new, register)
        for turn, draft in zip(new.turns, new.drafts, strict=True):
            asked = self._asked(plan, turn, draft, links[turn.id], register) if self._model is not None else None
            plan.links += links[turn.id] if asked is None else asked
            if asked is None and self._evolve:
                self._teach(plan, turn, draft, links[turn.id], register)

    def _teach(
        self, plan: Plan, donor: MemCube, draft: Draft, links: Sequence[linking.Link], register: Register
    ) -> None:
        """Let the notes over the strongest links learn from ``donor``, by rules."""
        learned = 0
        for link in learners(links, donor):
            if learned == MAX_EVOLUTIONS:
                return
            state = self._state(plan, link.target, register)
            about = plan.turns.get(link.target) or self._tools.store.get(link.target)
            if state is None or about is None or not may_learn(state.cube.header, donor):
                continue
            change = learn(state.cube, about.text, donor, draft.keywords, link.relation)
            if change is not None:
                plan.evolve(link.target, change, "rules")
                learned += 1

    def _asked(
        self, plan: Plan, turn: MemCube, draft: Draft, by_rules: Sequence[linking.Link], register: Register
    ) -> list[linking.Link] | None:
        """The model's links (those of session and slot stay the rules'), its changes applied; ``None`` if it failed."""
        assert self._model is not None
        near = linking.nearest_stored(plan.notes[turn.id].base, register, self._index(register), self._tools.store)
        ids = dict.fromkeys([link.target for link in by_rules] + near)
        candidates = []
        for id in list(ids)[: _CANDIDATES + linking.MAX_LINKS]:
            other = plan.turns.get(id) or self._tools.store.get(id)
            state = self._state(plan, id, register)
            if other is not None and state is not None:
                candidates.append((other, state.cube))
        if not candidates:
            return list(by_rules)
        try:
            links, changes = self._model.connect(turn, draft, candidates, register.tags)
        except LLMError:
            self.counts["fallbacks"] += 1
            return None
        for id, change in changes if self._evolve else ():
            plan.evolve(id, change, self._model.name)
        return linking.merged([link for link in by_rules if link.relation in ("follows", "same_slot")], links, by_rules)

    def _follow(self, plan: Plan, turns: Sequence[MemCube], register: Register, sessions: Sessions) -> None:
        """Notes of stored turns that these come right after: their vectors take in what followed."""
        for turn in turns:
            before = sessions.before.get(turn.id)
            if before is None or before in plan.turns:
                continue
            state = self._state(plan, before, register)
            base, near = sessions.mixed(before)
            if state is not None and turn in near:
                state.base = base
                state.become(followed(state.cube, turn))

    def _state(self, plan: Plan, turn: str, register: Register) -> NoteState | None:
        """The note about a turn as it is planned, or as it is stored; ``None`` if it has none."""
        if turn not in plan.notes:
            note, said = self._note(turn, register), self._tools.store.get(turn)
            if note is None or said is None or self._tools.store.vector(turn) is None:
                return None
            sessions = stored_sessions(said, self._index(register), self._tools.store)
            plan.notes[turn] = NoteState(note, sessions.mixed(turn)[0])
        return plan.notes[turn]

    def _note(self, turn: str, register: Register) -> MemCube | None:
        id = register.notes.get(turn)
        note = self._tools.store.get(id) if id is not None else None
        return note if note is not None and note.header.superseded is None else None

    def _rebuilt(self, turn: MemCube, register: Register) -> tuple[Plan, list[MemCube]]:
        """The note about a stored turn, written anew; the turns it was made from, as they were read."""
        sessions = stored_sessions(turn, self._index(register), self._tools.store)
        (draft,) = self._drafts([turn], sessions, register)
        base, near = sessions.mixed(turn.id)
        note = new_note(turn, draft, near)
        plan = Plan({})
        plan.notes[turn.id] = NoteState(note, base, [note])
        plan.embed(self._tools.embedder)
        return plan, [turn, *near]

    def _index(self, register: Register) -> ScopeIndex:
        return self._tools.indexes.get(self._tools.store, register.scope)


class LinkedNotes:
    """The ``Retriever`` of A-MEM: hybrid search, what notes add to it, and links where a question needs them.

    ``expand``: ``"auto"`` lets the question decide, ``True`` and ``False`` always do or do not follow links. In
    every case there are at most ``k`` results. A part named ``link RELATION from ID`` says which link led to a hit.
    """

    name = "a-mem"

    def __init__(self, tools: Tools, registers: Registers | None = None, *, expand: Expand = "auto") -> None:
        self._indexes = tools.indexes
        self._registers = registers or Registers()
        self._base = HybridRetriever(tools.indexes, tools.embedder)
        self._expand = expand

    def search(
        self,
        query: str,
        vector: NDArray[np.float32],
        store: Store,
        scope: Scope,
        *,
        k: int,
        allow: NDArray[np.int64] | None = None,
        as_of: datetime | None = None,
        reference: datetime | None = None,
        expand: Expand | None = None,
    ) -> list[Hit]:
        """See ``Retriever.search``; ``expand`` overrides what the retriever was made with."""
        pool = max(_POOL, 2 * k)
        hits = self._base.search(query, vector, store, scope, k=pool, allow=allow, as_of=as_of, reference=reference)
        register = self._registers.get(store, scope)
        index = self._indexes.get(store, scope)
        with index.lock:
            notes = NoteRanking(index, register.note_keys, query, vector, allow, as_of)
            found = ranked(hits, notes.parts(hits))
            speakers = list(index.table.speakers)
        wish = self._expand if expand is None else expand
        heads = found[: max(1, -(-k // 2))]
        scores = {turn_of(hit): hit.score for hit in heads}
        by_form = wish is True or is_relational(query, speakers) or is_weak(found[:k])
        follow = set(scores) if by_form else origins(query, heads, speakers)
        if wish is False or not follow:
            return found[:k]
        edges = store.edges(scope, [id for id in scores if id in follow], as_of=as_of)
        known = {turn_of(hit): hit for hit in found}
        led: list[Hit] = []
        for step in steps(scores, edges, follow):
            if len(heads) + len(led) == k:
                break
            with index.lock:
                shown = notes.key_of(step.turn)
            if shown is not None and (hit := known.get(step.turn) or linked_hit(store, *shown)) is not None:
                led.append(_over(hit, step))
        taken = {turn_of(hit) for hit in (*heads, *led)}
        rest = [hit for hit in found if turn_of(hit) not in taken]
        return [*heads, *led, *rest][:k]


def _unchanged(tx: Transaction, cubes: Sequence[MemCube]) -> bool:
    return all((now := tx.newest(cube.id)) is not None and now.header == cube.header for cube in cubes)


def _over(hit: Hit, step: Step) -> Hit:
    """A hit as reached by a link: its score is the link's, and a part says which."""
    gained = max(0.0, step.score - sum(hit.parts.values()))
    parts = {**hit.parts, f"link {step.edge.relation} from {step.origin}": gained}
    return replace(hit, parts=parts, score=sum(parts.values()))
