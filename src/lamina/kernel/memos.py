"""MemOS: one memory in three forms, each kept where it is cheapest to use.

    from lamina import MemOS

    system = MemOS("assistant.db")
    system.remember("I am allergic to walnuts.", user_id="alice")
    print(system.chat("Which nuts must I avoid?", user_id="alice").text)
    system.tick()  # what is used often becomes a ready-made cache; what has settled can become an adapter
    system.forget(memory_id)  # text, caches, adapters and copies

MemOS: A Memory OS for AI System, arXiv 2507.03724. Text is always there and is the source of truth; caches and adapters
are made of it, name its versions, and are never served when it changed. ``tick`` is called by whoever serves (or in the
background by ``running``); nothing moves by itself. Every verb asks governance first, for ``principal``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lamina.budget import parse_bytes
from lamina.cube.cube import Header, MemCube, Scope, State, now
from lamina.errors import FrozenCube, InvalidInput, LaminaError, NotFound, NotPermitted
from lamina.kernel import lifecycle
from lamina.kernel.forgetting import Forgetting, Receipt
from lamina.kernel.governance import GOVERNANCE, Deny, Principal, check, narrowed, require
from lamina.kernel.governing import exports
from lamina.kernel.governing.guarded import Guarded
from lamina.kernel.governing.redaction import redacted_messages
from lamina.kernel.migration import Migration, Migrator
from lamina.kernel.pipelines.pipeline import Pipeline, PipelineResult
from lamina.kernel.pipelines.pipeline_context import PipelineContext
from lamina.kernel.reading.calls import MemoryCall
from lamina.kernel.reading.reader import MemReader
from lamina.kernel.replying import Reply, plainly, reply
from lamina.kernel.scheduling import HeatPolicy
from lamina.kernel.tiering.decisions import Costs, Decision, Policy, Tier
from lamina.kernel.tiering.explaining import Explanation
from lamina.kernel.tiering.tiers import Tiers
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM
from lamina.memory import Memory
from lamina.store.base import Event
from lamina.text import arguments
from lamina.text.base import Hit
from lamina.text.turns import Messages

Form = Literal["text", "activation", "parameter"]

_SHORTEST = 4  # tokens: in a bundle a short fact costs no more a token than a long one

logger = logging.getLogger("lamina.kernel")


class MemOS:
    """The kernel over one ``Memory`` and one local model. Thread-safe; a context manager.

    ``model`` is a name as in ``lamina.zoo.models.folder``, a ``CausalLM``, or what loads one (so that several systems
    can share it); it is loaded when first needed. ``budget``
    bounds the bytes of ready-made caches ("512MiB"). ``policy`` decides on moves (default: heat, with the costs of
    SmolLM2 on one core; give it yours by ``HeatPolicy.measured``). ``principal`` is who acts: by default the
    administrator of the memory's tenant. ``clock`` gives nanoseconds since 1970.
    """

    def __init__(
        self,
        memory: Memory | str | Path | None = None,
        *,
        model: CausalLM | str | Callable[[], CausalLM] = "smollm2",
        budget: int | str = "512MiB",
        policy: Policy | None = None,
        principal: Principal | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.memory = memory if isinstance(memory, Memory) else Memory(memory)
        self.store = self.memory.store
        tenant = self.memory.settings.tenant
        self.principal = principal or Principal(tenant, roles=frozenset({"admin", GOVERNANCE}))
        self.reader = MemReader()
        self._model = model
        self._budget = parse_bytes("budget", budget)
        self._policy = policy or HeatPolicy.measured(Costs(), min_tokens=_SHORTEST)
        self._clock = clock
        self._tiers: Tiers | None = None
        self._loading = threading.Lock()
        self._guard = Guarded(self.store, self.principal, searcher=self.memory, forgetting=self._erase)
        self._forgetting().resume()  # what a crash interrupted

    # -- using memory ----------------------------------------------------------------------------

    def remember(self, messages: Messages, *, redacted: bool = False, **options: Any) -> dict[str, Any]:
        """``Memory.add``: the words are kept, facts are taken from them.

        ``redacted`` replaces keys, card numbers, mail addresses and the like by their kind before anything is embedded
        or written (``kernel.governing.redaction``), and notes the kinds in the metadata.
        """
        scope = self._scope({name: options.get(name) for name in arguments.IDENTITY})
        verdict = check(self.principal, "write", Header(scope=scope))
        if isinstance(verdict, Deny):
            raise NotPermitted(f"{self.principal.name} may not write memories of {scope}: {verdict.reason}")
        if redacted:
            messages, labels = redacted_messages(messages)
            options["metadata"] = {**(options.get("metadata") or {}), "redacted": labels}
        return self.memory.add(messages, **options)

    def recall(
        self, query: str | MemoryCall, *, k: int = 10, where: Mapping[str, Any] | None = None, **owner: Any
    ) -> list[Hit]:
        """The memories that answer ``query``, best first, of what the principal may read. A ``MemoryCall`` (see
        ``reader``) brings its own scope, filter and count."""
        if isinstance(query, MemoryCall):
            if query.scope.tenant != self.principal.tenant:
                return []
            allowed = narrowed(self.principal, query.where)
            return self.memory.hits(query.text, query.scope, top_k=query.k, where=allowed, reference=query.anchor)
        return self._guard.search(query, self._scope(owner), top_k=k, where=where)

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
            return plainly(self.tiers, said, max_tokens=max_tokens)
        scope = self._scope(owner)
        hits = self._guard.search(said[-1]["content"], scope, top_k=k) if said else []
        return reply(
            self.tiers,
            said,
            hits,
            scope,
            at=now(),
            max_tokens=max_tokens,
            session=session,
            may_read=lambda id: self._guard.get(id) is not None,
        )

    def feedback(self, memory_id: str, good: bool, *, correction: str | None = None, reason: str = "") -> MemCube:
        """What a person says about a memory that was used: right (it becomes active, if it waited for that), wrong
        (it is retracted), or wrong with a ``correction`` (its next version)."""
        cube = self._readable(memory_id)
        if correction is not None and not good:
            self.update(memory_id, correction)
        elif not good:
            self.retract(memory_id, reason=reason or "called wrong")
        elif cube.header.state is State.GENERATED:
            lifecycle.transition(
                self.store, memory_id, State.ACTIVE, actor=self.principal, reason=reason or "confirmed"
            )
        return self._newest(memory_id)

    def run(self, pipeline: Pipeline, text: str = "", **owner: Any) -> PipelineResult:
        """Run declared steps over a message; all they write lands in one transaction."""
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
        self._readable(memory_id)
        return lifecycle.freeze(self.store, memory_id, actor=self.principal, reason=reason)

    def unfreeze(self, memory_id: str, *, reason: str = "") -> MemCube:
        self._readable(memory_id)
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
        versions = self._guard.versions(memory_id)
        known = [one for one in versions if one.header.recorded <= moment]
        last = known[-1] if known else None
        ended = last is not None and last.header.superseded is not None and last.header.superseded <= moment
        return None if ended else last

    def forget(self, memory_id: str, *, reason: str = "asked to forget", legal_override: bool = False) -> Receipt:
        """Erase a memory for good: text, versions, indexes, caches, adapters, and copies made by us."""
        receipt: list[Receipt] = []
        erase = partial(self._erase, legal_override=legal_override, receipt=receipt)
        guard = Guarded(self.store, self.principal, forgetting=erase)
        guard.forget(memory_id, reason=reason, legal_override=legal_override)
        return receipt[0]

    # -- tiers -----------------------------------------------------------------------------------

    def promote(self, memory_ids: str | Sequence[str], to: Form) -> Migration | None:
        """Move memories up by hand: "activation" holds them ready until ``demote``; "parameter" teaches an adapter,
        which is refused (see ``Migration.reason``) if it does not know them well enough."""
        ids = [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)
        for id in ids:
            self._guard.promote(id, to)
        return self.tiers.promote(ids, Tier(to))

    def demote(self, memory_ids: str | Sequence[str]) -> None:
        """Back to text; nothing is lost by it."""
        ids = [memory_ids] if isinstance(memory_ids, str) else list(memory_ids)
        for id in ids:
            self._guard.promote(id, "text")  # who may move it up may move it down
        self.tiers.demote(ids)

    def tick(self, *, consolidate: bool = False) -> list[Decision]:
        """Let the policy move memories by their use. ``consolidate`` also trains adapters, which takes minutes."""
        decided = self.tiers.tick()
        if consolidate:
            self.tiers.consolidate(decided)
        return decided

    def explain(self, memory_id: str) -> Explanation:
        """Which form a memory is used in, how hot it is, and the reasons of its last moves."""
        self._readable(memory_id)
        return self.tiers.explain(memory_id)

    def scope_of(self, memory_id: str) -> Scope:
        """Whose memory it is."""
        return self._readable(memory_id).header.scope

    def log(self, memory_id: str) -> list[Event]:
        """What happened to a memory, oldest first."""
        return self._guard.history(memory_id)

    @property
    def tiers(self) -> Tiers:
        """The caches and adapters; the model is loaded at the first use."""
        with self._loading:
            if self._tiers is None:
                lm = CausalLM.load(self._model) if isinstance(self._model, str) else self._model
                lm = lm if isinstance(lm, CausalLM) else lm()
                migrator = Migrator(self.store, lm, embedder=self.memory.embedder)
                self._tiers = Tiers(
                    self.store, lm, migrator, budget=self._budget, policy=self._policy, clock=self._clock
                )
            return self._tiers

    @contextmanager
    def running(self, interval: float = 5.0) -> Iterator[Self]:
        """Call ``tick`` every ``interval`` seconds in a thread of its own until the block ends."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(interval):
                try:
                    self.tick()
                except LaminaError as error:  # the next one may do better
                    logger.warning("a tick failed: %s", error)

        thread = threading.Thread(target=run, name="lamina-memos", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()

    # -- inside ----------------------------------------------------------------------------------

    def _scope(self, owner: Mapping[str, Any]) -> Scope:
        if unknown := set(owner) - {"user_id", "agent_id", "run_id"}:
            raise InvalidInput(f"unknown arguments {sorted(unknown)}: say whose memory by user_id, agent_id, run_id")
        return arguments.scope_of(self.memory.settings.tenant, owner)

    def _erase(
        self,
        ids: list[str],
        actor: str,
        reason: str,
        *,
        legal_override: bool = False,
        receipt: list[Receipt] | None = None,
    ) -> list[str]:
        cubes = [cube for id in ids if (cube := self.store.get(id)) is not None]
        forgetting = self._forgetting([self._tiers] if self._tiers is not None else [])
        done = forgetting.forget(ids, actor=actor, reason=reason, legal_override=legal_override)
        for cube in cubes:
            self.memory.mend(cube)
        if receipt is not None:
            receipt.append(done)
        return list(done.ids)

    def _forgetting(self, caches: Sequence[Tiers] = ()) -> Forgetting:
        path = getattr(self.store, "path", None)
        copies = exports.beside(path) if path is not None else None
        embedder, indexes = self.memory.embedder, self.memory.indexes
        return Forgetting(self.store, embedder=embedder, indexes=indexes, caches=caches, exports=copies)

    def _mended(self, cube: MemCube) -> MemCube:
        self.memory.mend(cube)
        return cube

    def _readable(self, id: str) -> MemCube:
        cube = self._guard.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        return cube

    def _writable(self, id: str) -> MemCube:
        cube = self._readable(id)
        if cube.header.state is State.FROZEN:
            raise FrozenCube(f"memory {id} is frozen: unfreeze it first")
        require(self.principal, "write", cube)
        return cube

    def _newest(self, id: str) -> MemCube:
        cube = self.store.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        return cube

    def close(self) -> None:
        """Close the memory. Caches and adapters in this process are let go."""
        self._tiers = None
        self.memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
