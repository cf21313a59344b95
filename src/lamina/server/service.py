"""Service: what all requests share. One store, one embedder and one model; for each tenant a ``MemOS`` over them.

A tenant's ``MemOS`` is made at its first request and let go when ``TENANTS`` newer ones came; its caches go with it,
its memories stay in the store. The model is loaded by the first request that needs it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool

from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput, NotFound, StoreUnavailable
from lamina.kernel.governance import Action, Context, Form, Principal, check, require
from lamina.kernel.governing.limits import RateLimits
from lamina.kernel.memos import MemOS
from lamina.kernel.rhythms.background import repeated
from lamina.llm.causal import CausalLM
from lamina.llm.openai_embed import OpenAIEmbedder
from lamina.memory import Memory
from lamina.server.caller import Caller, operator, unauthorized
from lamina.server.jobs import Jobs
from lamina.server.keys import PREFIX, RESERVED, KeyRing, Right, reserved
from lamina.server.places import Places
from lamina.store import acting
from lamina.text import arguments

TENANTS = 64
READY = 2.0  # seconds that the database has to say that it is there
Asked = Literal["model", "reading", "search", "change", "removal"]
T = TypeVar("T")


class Service:
    """``memory`` is the operator's; whoever made it closes it. ``public``: even without any keys a key is needed.
    ``limits`` holds for each key of each process; default: none."""

    def __init__(
        self,
        memory: Memory,
        *,
        model: CausalLM | str = "smollm2",
        public: bool = False,
        limits: RateLimits | None = None,
    ) -> None:
        self.settings = memory.settings
        if reserved(self.settings.tenant):
            raise InvalidInput(
                f"tenant={self.settings.tenant!r}: 'lamina' and names that begin with {RESERVED!r} are reserved"
            )
        self.keys, self.jobs = KeyRing(memory.store), Jobs(memory.store)
        self.places = Places(self.settings.model_requests)
        self._memory, self._model, self._public = memory, model, public
        self._limits = limits or RateLimits({})
        self._systems: OrderedDict[str, MemOS] = OrderedDict()
        self._probe: asyncio.Future[int] | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    def identify(self, token: str | None) -> Caller:
        """Whom ``token`` proves; the rest of the request is on behalf of it. Without a token of ours: the operator, if
        no key was ever made. Raises ``Unauthorized``.

        Clients of OpenAI's API always send some key; where none is needed, one of another kind does no harm."""
        caller = self._proved(token)
        acting.of(caller.actor)
        return caller

    def _proved(self, token: str | None) -> Caller:
        foreign = token is None or not token.startswith(PREFIX)
        if foreign and not self._public and not self.keys.any():
            return operator(self.settings.tenant)
        key = self.keys.verify(token) if token else None
        if key is None:
            raise unauthorized(token)
        return Caller.of(key)

    def spend(self, caller: Caller, right: Right) -> None:
        """One request of ``caller``. Raises ``RateLimited``."""
        self._limits.spend(Principal(caller.tenant, agent=caller.id), "write" if right == "admin" else right)

    def system(self, caller: Caller) -> MemOS:
        """The system of the caller's tenant, unguarded: ask ``readable`` or ``changeable`` about each id first, and
        ``Caller.owner`` about each owner."""
        with self._lock:
            system = self._systems.get(caller.tenant)
            if system is None:
                system = self._systems[caller.tenant] = MemOS(self._of(caller.tenant), model=self.model)
            self._systems.move_to_end(caller.tenant)
            over = [self._systems.popitem(last=False)[1] for _ in range(len(self._systems) - TENANTS)]
        for one in over:
            one.release()
        return system

    @contextmanager
    def running(self, interval: float = 5.0) -> Iterator[None]:
        """Upkeep of the tenants in use, in a thread of its own until the block ends: what was forgotten elsewhere is
        let go of, and in a lull memories are moved, swept and indexed (``kernel.rhythms.upkeep``). No adapter is taught
        by it; that is a job. Old records of jobs are erased."""
        with repeated(self._upkeep, interval):
            yield
        with self._lock:
            systems = list(self._systems.values())
            self._systems.clear()
        for system in systems:
            system.release()

    def _upkeep(self) -> None:
        with self._lock:
            systems = list(self._systems.values())
        for system in systems:
            system.heed()
            system.upkeep.ripple()
        self.jobs.purge()

    def memory(self, caller: Caller) -> Memory:
        """The memories of the caller's tenant; as unguarded as ``system``."""
        return self.system(caller).memory

    def model(self) -> CausalLM:
        """The one model of all tenants, loaded at its first use."""
        with self._loading:
            if not isinstance(self._model, CausalLM):
                self._model = CausalLM.load(self._model)
            return self._model

    async def asking(self, asked: Asked, work: Callable[[], T]) -> T:
        """What ``work`` gives, done in a thread; in one of the ``places`` if it may have to wait for a model.

        ``asked`` says of what kind it is: "model" asks the one in this process; "reading" has a chat model read what is
        said or found. Raises ``Busy`` if all places are taken."""
        if self._may_wait(asked):
            return await self.places.run(work)
        return await run_in_threadpool(work)

    def _may_wait(self, asked: Asked) -> bool:
        memory = self._memory
        chat, embedder = memory.llm is not None, isinstance(memory.embedder, OpenAIEmbedder)
        noted = bool(memory.pipeline.connectors)  # they may write anew what was made of a memory that changed
        return {
            "model": True,
            "reading": chat or embedder,
            "search": embedder,
            "change": embedder or (chat and noted),
            "removal": noted and (chat or embedder),
        }[asked]

    def readable(self, caller: Caller, memory_id: str) -> MemCube:
        """A memory that the caller may read; any other does not exist (``NotFound``). Of another tenant's no more is
        read than of one that never was, so that not even the time it takes tells them apart."""
        id, store = arguments.clean_text("memory_id", memory_id, 255), self.memory(caller).store
        owner = store.owner(id)
        cube = store.get(id) if owner is not None and owner.tenant == caller.tenant else None
        if cube is None or not check(caller.principal, "read", cube):
            raise NotFound(f"there is no memory {arguments.short(memory_id)}")
        return cube

    def changeable(
        self, caller: Caller, memory_id: str, action: Action = "write", *, form: Form | None = None
    ) -> MemCube:
        """One that it may change, or (``form``) make a cache or a weight of. Raises ``NotFound``, and ``NotPermitted``
        for one it may only read."""
        cube = self.readable(caller, memory_id)
        require(caller.principal, action, cube, Context(form=form))
        return cube

    async def ready(self) -> None:
        """One cheap read, for whoever asks without a key. One at a time is on its way, in a thread of its own: an
        outage does not fill the others with questions. Raises ``StoreUnavailable``, also for silence."""
        if self._probe is None or self._probe.done():
            read = to_thread.run_sync(self._memory.store.last_change, limiter=CapacityLimiter(1))
            self._probe = asyncio.ensure_future(read)
            self._probe.add_done_callback(
                lambda probe: probe.cancelled() or probe.exception()
            )  # nobody may wait for it
        done, _ = await asyncio.wait({self._probe}, timeout=READY)
        if not done:
            raise StoreUnavailable(f"the database does not answer within {READY:g} s")
        self._probe.result()

    def memories(self) -> int:
        """How many are open: of all tenants, where the database does not keep them apart."""
        return int(self._memory.store.stats().get("open", 0))

    def _of(self, tenant: str) -> Memory:
        if tenant == self.settings.tenant:
            return self._memory
        settings = self.settings.model_copy(update={"tenant": tenant})
        store = self._memory.store.as_tenant(tenant)
        return Memory(store=store, embedder=self._memory.embedder, settings=settings)
