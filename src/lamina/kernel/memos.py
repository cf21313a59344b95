"""MemOS: one memory in three forms, each kept where it is cheapest to use.

    from lamina import MemOS

    system = MemOS("assistant.db")
    system.remember("I am allergic to walnuts.", user_id="alice")
    print(system.chat("Which nuts must I avoid?", user_id="alice").text)
    system.tick()  # what is used often becomes a ready-made cache; what has settled can become an adapter
    system.forget(memory_id)  # text, caches, adapters and copies

MemOS: A Memory OS for AI System, arXiv 2507.03724. Text is always there and is the source of truth; caches and adapters
are made of it, name its versions, and are never served when it changed. Nothing moves by itself: ``tick`` is called by
whoever serves, or ``running`` does it when nobody asks, with all other upkeep (``kernel.rhythms.upkeep``). Every verb
asks governance first, for ``principal``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lamina.budget import parse_bytes
from lamina.cube.cube import Header, MemCube, Scope, State, now
from lamina.errors import InvalidInput, NotFound, NotPermitted
from lamina.kernel import lifecycle
from lamina.kernel.forgetting import Receipt
from lamina.kernel.governance import GOVERNANCE, Action, Form, Principal, check, narrowed, require
from lamina.kernel.governing.elsewhere import Elsewhere
from lamina.kernel.governing.erasing import Erasing
from lamina.kernel.governing.guarded import Guarded
from lamina.kernel.governing.limits import RateLimits
from lamina.kernel.governing.redaction import redacted_messages
from lamina.kernel.migration import Migration, Migrator
from lamina.kernel.pipelines.pipeline import Pipeline, PipelineResult
from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.reading.calls import MemoryCall
from lamina.kernel.reading.reader import MemReader
from lamina.kernel.replying import Reply, plainly, reply
from lamina.kernel.rhythms.background import repeated
from lamina.kernel.rhythms.upkeep import Upkeep
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import Decision, Policy, Tier
from lamina.kernel.tiering.explaining import Explanation, at_rest
from lamina.kernel.tiering.tiers import Tiers
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.memory import Memory
from lamina.parameter.distillation import Progress
from lamina.store.base import Event
from lamina.text import arguments, removal
from lamina.text.base import Hit
from lamina.text.turns import Messages

_SHORTEST = 4  # tokens: in a bundle a short fact costs no more a token than a long one


class MemOS:
    """The kernel over one ``Memory`` and one local model. Thread-safe; a context manager.

    ``model`` is a name as in ``lamina.zoo.models.folder``, a ``CausalLM``, or what loads one (so that several systems
    can share it); it is loaded when first needed. ``budget`` bounds the bytes of ready-made caches ("512MiB").
    ``policy`` decides on moves (default: heat, with guessed costs and the floor that goes with them; give it measured
    ones by ``HeatPolicy.measured``). ``principal`` is who acts: by default the administrator of the memory's tenant.
    ``limits`` says how often it may ask (default: as often as it likes); a verb over it raises ``RateLimited``.
    ``clock`` gives nanoseconds since 1970.
    """

    def __init__(
        self,
        memory: Memory | str | Path | None = None,
        *,
        model: CausalLM | str | Callable[[], CausalLM] = "smollm2",
        budget: int | str = "512MiB",
        policy: Policy | None = None,
        principal: Principal | None = None,
        limits: RateLimits | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.memory = memory if isinstance(memory, Memory) else Memory(memory)
        self.store = self.memory.store
        tenant = self.memory.settings.tenant
        self.principal = principal or Principal(tenant, roles=frozenset({"admin", GOVERNANCE}))
        self.reader = MemReader()
        self._limits = RateLimits({}) if limits is None else limits
        self._model = model
        self._budget = parse_bytes("budget", budget)
        self._policy = policy or HeatPolicy(min_tokens=_SHORTEST)
        self._clock = clock
        self._tiers: Tiers | None = None
        self._loading = threading.Lock()
        self.upkeep = Upkeep(
            self.memory, policy=lambda: self.tick() if self._tiers else [], tiers=lambda: self.tiers, clock=clock
        )
        self._guarded = Guarded(self.store, self.principal, searcher=self.memory, forgetting=self._erase)
        self._erasing = Erasing(self.memory, self.principal, lambda: [self._tiers] if self._tiers else [])
        self._erasing.resume()
        self._elsewhere = Elsewhere(self.store)

    def heed(self) -> list[str]:
        """Let go of what was forgotten since the last call, in whatever process; its ids. Every verb begins with it."""
        gone = self._elsewhere.news()
        if gone:
            if (forget_all := getattr(self.memory.embedder, "forget_all", None)) is not None:
                forget_all()  # the texts are gone, so their vectors cannot be picked out
            self.memory.indexes.drop(self.store)
            if self._tiers is not None:
                self._tiers.forget(gone)
        return gone

    # -- using memory ----------------------------------------------------------------------------

    def remember(self, messages: Messages, *, redacted: bool = False, **options: Any) -> dict[str, Any]:
        """``Memory.add``: the words are kept, facts are taken from them.

        ``redacted`` replaces keys, card numbers, mail addresses and the like by their kind before anything is embedded
        or written (``kernel.governing.redaction``), and notes the kinds in the metadata and in ``Header.sensitivity``,
        which keeps the memory out of weights.
        """
        self._asks("write")
        self._guard.may_write_in(self._scope({name: options.get(name) for name in arguments.IDENTITY}))
        if redacted:
            messages, labels = redacted_messages(messages)
            options["metadata"] = {**(options.get("metadata") or {}), "redacted": labels}
            options["sensitivity"] = sorted({*options.get("sensitivity", ()), *labels})
        told = self.memory.add(messages, **options)
        self.upkeep.follow()
        return told

    def recall(
        self, query: str | MemoryCall, *, k: int = 10, where: Mapping[str, Any] | None = None, **owner: Any
    ) -> list[Hit]:
        """The memories that answer ``query``, best first, of what the principal may read. A ``MemoryCall`` (see
        ``reader``) brings its own scope, filter and count."""
        self._asks("read")
        if isinstance(query, MemoryCall):
            if query.scope.tenant != self.principal.tenant:
                return []
            allowed = narrowed(self.principal, query.where)
            hits = self.memory.hits(query.text, query.scope, top_k=query.k, where=allowed, reference=query.anchor)
        else:
            hits = self._guard.search(query, self._scope(owner), top_k=k, where=where)
        self.upkeep.found(hit.cube for hit in hits)
        return hits

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        memory: bool = True,
        k: int = 10,
        max_tokens: int = 64,
        session: str = "",
        **owner: Any,
    ) -> Reply:
        """The local model's answer, each memory in the cheapest form that suffices (``kernel.replying``).

        ``messages`` is what the user says, or a conversation that ends with it. ``memory=False`` uses none. A memory
        that is used in several ``session``s (by default, days) may settle into weights.
        """
        said: list[Message] = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        if not memory:
            self._asks("read")
            return plainly(self.tiers, said, max_tokens=max_tokens)
        scope = self._scope(owner)
        hits = self.recall(said[-1]["content"], k=k, **owner) if said else []
        answer = reply(
            self.tiers,
            said,
            hits,
            scope,
            at=now(),
            max_tokens=max_tokens,
            session=session,
            may_read=lambda id: self._guard.get(id) is not None,
            counted=bool(check(self.principal, "read", Header(scope=scope))),
        )
        self.upkeep.follow()
        return answer

    def feedback(self, memory_id: str, good: bool, *, correction: str | None = None, reason: str = "") -> MemCube:
        """What a person says about a memory that was used: right (it becomes active, if it waited for that), wrong
        (it is retracted), or wrong with a ``correction`` (its next version)."""
        cube = self._guard.readable(memory_id)
        if correction is not None and not good:
            self.update(memory_id, correction)
        elif not good:
            self.retract(memory_id, reason=reason or "called wrong")
        elif cube.header.state is State.GENERATED:
            self._writable(memory_id)
            lifecycle.transition(
                self.store, memory_id, State.ACTIVE, actor=self.principal, reason=reason or "confirmed"
            )
        return self._newest(memory_id)

    def run(self, pipeline: Pipeline, text: str = "", **owner: Any) -> PipelineResult:
        """Run declared steps over a message; all they write lands in one transaction."""
        self._asks("write")
        context = PipelineContext(
            store=self.store,
            embedder=self.memory.embedder,
            searcher=self.memory,
            scope=self._scope(owner),
            text=text,
            principal=self.principal,
            reader=self.reader,
        )
        return pipeline.run(context)

    # -- changing memory -------------------------------------------------------------------------

    def update(self, memory_id: str, text: str) -> MemCube:
        """The next version. Caches and adapters of the old one are not served from here on."""
        self._writable(memory_id)
        self.memory.update(memory_id, text)
        return self._newest(memory_id)

    def retract(self, memory_id: str, *, reason: str = "") -> MemCube:
        """Closed; it stays in history."""
        self._writable(memory_id)
        return self._mended(lifecycle.retract(self.store, memory_id, actor=self.principal, reason=reason))

    def archive(self, memory_id: str, *, reason: str = "") -> MemCube:
        self._writable(memory_id)
        return self._mended(lifecycle.archive(self.store, memory_id, actor=self.principal, reason=reason))

    def freeze(self, memory_id: str, *, reason: str = "") -> MemCube:
        """Nothing may change it until ``unfreeze``."""
        self._asks("write")
        self._guard.readable(memory_id)
        return lifecycle.freeze(self.store, memory_id, actor=self.principal, reason=reason)

    def unfreeze(self, memory_id: str, *, reason: str = "") -> MemCube:
        self._asks("write")
        self._guard.readable(memory_id)
        return lifecycle.unfreeze(self.store, memory_id, actor=self.principal, reason=reason)

    def restore(self, memory_id: str, *, version: int | None = None, reason: str = "") -> MemCube:
        """Active again; with ``version`` it says again, as a new version, what it said then."""
        self._writable(memory_id)
        old = self.store.get(memory_id, version=version) if version is not None else None
        vector = self.memory.embedder.encode([old.text])[0] if old is not None and old.header.kind == "text" else None
        who, why = self.principal, reason
        done = lifecycle.restore(self.store, memory_id, actor=who, reason=why, version=version, vector=vector)
        return self._mended(done)

    def as_of(self, memory_id: str, moment: datetime) -> MemCube | None:
        """The version that was current at ``moment``."""
        self._asks("read")
        return self._guard.as_of(memory_id, moment)

    def forget(self, memory_id: str, *, reason: str = "asked to forget", legal_override: bool = False) -> Receipt:
        """Erase a memory for good: text, versions, indexes, caches, adapters, and copies made by us."""
        self._asks("forget")
        receipt: list[Receipt] = []
        erase = partial(self._erase, override=legal_override, receipt=receipt)
        guard = Guarded(self.store, self.principal, forgetting=erase)
        guard.forget(memory_id, reason=reason, legal_override=legal_override)
        return receipt[0]

    def reset(self, *, reason: str = "reset") -> Receipt:
        """Erase everything of the tenant, as ``forget`` does. Raises ``NotPermitted`` before anything goes if some of
        it may not be erased: what is frozen."""
        self._asks("forget")
        every = removal.everything(self.store, Scope(tenant=self.principal.tenant))
        ids = list(dict.fromkeys(cube.id for cube in every))  # of each version
        for id in ids:
            if (cube := self.store.get(id)) is not None:
                require(self.principal, "forget", cube)
        return self._erasing.erase(ids, self.principal.name, reason)

    # -- tiers -----------------------------------------------------------------------------------

    def promote(
        self, memory_ids: str | Sequence[str], to: Form, *, progress: Progress | None = None
    ) -> Migration | None:
        """Move memories up by hand: "activation" holds them ready until ``demote``; "parameter" teaches an adapter,
        which is refused (see ``Migration.reason``) if it does not know them well enough. ``progress`` is told of each
        step of a lesson; what it raises ends the lesson, and leaves nothing of it."""
        self._asks("promote")
        ids = [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)
        for id in ids:
            self._guard.promote(id, to)
        return self.tiers.promote(ids, Tier(to), progress=progress)

    def demote(self, memory_ids: str | Sequence[str]) -> None:
        """Back to text; nothing is lost by it."""
        self._asks("promote")
        ids = [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)
        for id in ids:
            self._guard.demote(id)
        self.tiers.demote(ids)

    def tick(self, *, consolidate: bool = False) -> list[Decision]:
        """Let the policy move memories by their use: those that the principal may promote. What is stale or forbidden
        goes whoever asks. ``consolidate`` also trains adapters, which takes minutes."""
        self.heed()
        decided = self.tiers.tick(self._guarded.movable)
        if consolidate:
            self.tiers.consolidate(decided)
        return decided

    def explain(self, memory_id: str) -> Explanation:
        """Which form a memory is used in, how hot it is, and the reasons of its last moves, also after it expired. The
        model is not loaded for it."""
        self._asks("read")
        cube = self._guard.known(memory_id)
        text = cube.text if cube.header.kind == "text" and check(self.principal, "read", cube) else ""
        found = self._tiers.explain(memory_id) if self._tiers else at_rest(self.store, cube, self._clock())
        return replace(found, text=text)

    def scope_of(self, memory_id: str) -> Scope:
        """Whose memory it is."""
        self._asks("read")
        return self._guard.known(memory_id).header.scope

    def log(self, memory_id: str) -> list[Event]:
        """What happened to a memory, oldest first."""
        self._asks("read")
        return self._guard.history(memory_id)

    @property
    def tiers(self) -> Tiers:
        """The caches and adapters; the model is loaded at the first use."""
        with self._loading:
            if self._tiers is None:
                lm = CausalLM.load(self._model) if isinstance(self._model, str) else self._model
                lm = lm if isinstance(lm, CausalLM) else lm()
                migrator = Migrator(self.store, lm, embedder=self.memory.embedder)
                options: Any = {"budget": self._budget, "policy": self._policy, "clock": self._clock}
                self._tiers = Tiers(self.store, lm, migrator, uses=self.upkeep.log, **options)
            return self._tiers

    @property
    def loaded(self) -> Tiers | None:
        """The caches and adapters, if the model was loaded: for who looks and must not load it."""
        return self._tiers

    @contextmanager
    def running(self, interval: float = 5.0, *, consolidate: bool = False) -> Iterator[Self]:
        """Look every ``interval`` seconds, in a thread of its own until the block ends, whether nobody asks or work is
        late, and do what is due then. ``consolidate`` also trains adapters, which takes minutes. Raises
        ``NotPermitted`` for a principal that may not write in the whole tenant: upkeep archives what is idle there."""
        if not check(self.principal, "write", Header(scope=Scope(self.memory.settings.tenant))):
            raise NotPermitted(f"{self.principal.name} may not keep up the memories of others: run it as administrator")

        def work() -> None:
            self.heed()
            self.upkeep.ripple(consolidate=consolidate)

        with repeated(work, interval):
            yield self

    # -- inside ----------------------------------------------------------------------------------

    def _asks(self, action: Action) -> None:
        """Every verb begins so: what was forgotten meanwhile goes, and the principal has not asked too often."""
        self.heed()
        self._limits.spend(self.principal, action)

    @property
    def _guard(self) -> Guarded:
        self.heed()
        return self._guarded

    def _scope(self, owner: Mapping[str, Any]) -> Scope:
        if unknown := set(owner) - {"user_id", "agent_id", "run_id"}:
            raise InvalidInput(f"unknown arguments {sorted(unknown)}: say whose memory by user_id, agent_id, run_id")
        return arguments.scope_of(self.memory.settings.tenant, owner)

    def _erase(
        self, ids: list[str], actor: str, reason: str, *, override: bool = False, receipt: list[Receipt] | None = None
    ) -> list[str]:
        done = self._erasing.erase(ids, actor, reason, legal_override=override)
        self.heed()
        if receipt is not None:
            receipt.append(done)
        return list(done.ids)

    def _mended(self, cube: MemCube) -> MemCube:
        self.memory.mend(cube)
        self.upkeep.follow()
        return cube

    def _writable(self, id: str) -> MemCube:
        self._asks("write")
        return self._guard.writable(id)

    def _newest(self, id: str) -> MemCube:
        self.upkeep.follow()
        cube = self.store.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        return cube

    def release(self) -> None:
        """Let go of caches, adapters and indexes in this process, and note what they were used for; the store stays
        open. What is being answered keeps what it answers with; who asks again begins anew."""
        self.upkeep.close()
        with self._loading:
            self._tiers = None
        self.memory.indexes.drop(self.store)

    def close(self) -> None:
        """Close the memory. Caches and adapters in this process are let go."""
        self.release()
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
