"""Experts in a store: kept beside the memories they make, found again, and at work as the pipeline ``memlora``.

Experts belong to an installation (tenant), not to one of its users: they are filed under an agent of their own, so
that no user's memories list them. One expert an operation is in use; a new one closes the one before it, which stays
in history. The model is loaded at the first turn. As long as there are no experts, turns wait in the store, as they
do for any model that cannot be reached: ``lamina adapters distill`` and then ``lamina retry``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from lamina.cube.cube import MemCube, Scope, now
from lamina.errors import LLMUnavailable, NotFound
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.loop import OperationLoop
from lamina.parameter.experts.operations import OPS, Op, Output, Request
from lamina.parameter.operation_experts import NAME, MemLoRA
from lamina.store.base import Store, Write
from lamina.text.base import Pipeline
from lamina.text.retrieval import HybridRetriever
from lamina.text.tools import Tools

_WRITES: tuple[Op, ...] = ("extract", "update")  # without either no turn can be read


def owner(tenant: str) -> Scope:
    """The scope in which a tenant's experts are filed."""
    return Scope(tenant, agent=NAME)


def keep(store: Store, experts: MemLoRA, tenant: str) -> list[MemCube]:
    """Store the experts in place of those of the same operations; the cubes, as stored."""
    made = experts.cubes(owner(tenant))
    before = find(store, tenant)
    with store.transaction() as tx:
        for cube in made:
            old = before.get(cube.header.metadata["op"])
            tx.insert([Write(cube, actor=NAME, action="distil", reason="an operation expert was distilled")])
            if old is not None:
                tx.close(old.id, at=now(), by=cube.id, actor=NAME, action="supersede", reason="a newer expert")
    return made


def find(store: Store, tenant: str) -> dict[Op, MemCube]:
    """The expert in use of each operation that has one."""
    page = store.query(
        owner(tenant), {"AND": [{"kind": "parameter"}, {"tags": {"contains": NAME}}]}, newest_first=False
    )
    found = {cube.header.metadata["op"]: cube for cube in page.cubes}
    return {op: found[op] for op in OPS if op in found}


def load(store: Store, tenant: str, *, ops: Sequence[Op] = OPS) -> MemLoRA:
    """The tenant's experts on their base, which is loaded by the name they carry.

    Raises ``NotFound`` if one of ``ops`` has no expert or none has, ``FingerprintMismatch`` if the model of that name
    has changed.
    """
    found = find(store, tenant)
    _check(found, ops if found else OPS, tenant)
    model = next(iter(found.values())).header.provenance.model or ""
    return MemLoRA.from_cubes(CausalLM.load(model.removeprefix("local:")), list(found.values()))


def _check(found: Mapping[Op, MemCube], ops: Sequence[Op], tenant: str) -> None:
    missing = [op for op in ops if op not in found]
    if missing:
        raise NotFound(
            f"tenant {tenant!r} has no expert for {', '.join(missing)}: lamina adapters record, then lamina adapters "
            "distill, make them"
        )


class StoredExperts:
    """A ``Worker`` that loads a tenant's experts when it is first asked. Thread-safe."""

    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._tenant = tenant
        self._loaded: MemLoRA | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """The base. Raises as ``answer``."""
        return self._experts().lm.name

    def answer(self, requests: Sequence[Request]) -> list[Output]:
        """Raises ``LLMUnavailable`` as long as experts are missing, ``OperationFailed``."""
        return self._experts().experts.answer(requests)

    def _experts(self) -> MemLoRA:
        with self._lock:
            if self._loaded is None:
                try:
                    self._loaded = load(self._store, self._tenant, ops=_WRITES)
                except NotFound as error:  # the turn waits, and is read once there are experts
                    raise LLMUnavailable(str(error)) from error
            return self._loaded


def memlora(tools: Tools, tenant: str) -> Pipeline:
    """MemLoRA: experts for extraction and update, distilled into this database; search as in hybrid."""
    loop = OperationLoop(NAME, StoredExperts(tools.store, tenant))
    return Pipeline(loop, loop, HybridRetriever(tools.indexes, tools.embedder))
