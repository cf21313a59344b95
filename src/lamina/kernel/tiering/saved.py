"""Saved: bundles and adapters in the store, so that what was promoted is ready in the next process without reading it.

A bundle is kept as one activation memory whose lineage names its members and their versions, in order; forgetting a
member forgets it. It is a copy of nothing but texts that are there anyway, so a newer one takes its place for good: old
ones are erased, not kept as history, since a token takes 46 KB in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from lamina.activation.cache import KVCube
from lamina.activation.prefix import Bundle, Member
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptCube, CorruptStore, FingerprintMismatch, InvalidInput
from lamina.kernel.migration import ACTOR
from lamina.kernel.tiering.residents import shared_scope
from lamina.llm.causal import CausalLM
from lamina.store.base import Filter, Store, Write

BUNDLE = "bundle"  # semantic type
_BUNDLES: Filter = {"AND": [{"kind": "activation"}, {"semantic_type": BUNDLE}]}

logger = logging.getLogger("lamina.kernel")


def save(store: Store, scope: Scope, bundle: Bundle | None, pinned: Collection[str]) -> MemCube | None:
    """Keep ``bundle`` as the one of its scope; ``None``, or one without members, just ends the old one."""
    old = [cube.id for cube in _of(store, scope, _BUNDLES)]
    made = None
    if bundle is not None and bundle.members:
        payload = bundle.cube.to_payload()
        members = tuple((member.id, member.version) for member in bundle.members)
        header = Header(
            kind="activation",
            semantic_type=BUNDLE,
            scope=scope,
            lineage=Lineage(members, "prefill"),
            provenance=Provenance(extractor="prefill", model=payload.fingerprint.sha256),
            access=("activation",),
            metadata={"pinned": [member.id for member in bundle.members if member.id in pinned]},
        )
        made = MemCube(header, payload)
    with store.transaction() as tx:
        if old:
            tx.forget(old, actor=ACTOR, reason="replaced by a newer bundle")
        if made is not None:
            tx.insert([Write(made, actor=ACTOR, action="prefill")])
    return made


def load(store: Store, lm: CausalLM, scope: Scope) -> tuple[Bundle, list[str]] | None:
    """The bundle of a scope and which of its members are pinned; ``None`` if there is none that fits this model, or a
    member changed: it is then built again when asked for."""
    for cube in _of(store, scope, _BUNDLES):
        members = []
        for id, version in cube.header.lineage.derived_from:
            text = store.get(id)
            if text is None or text.header.version != version or text.header.superseded is not None:
                return None
            members.append(Member(id, version, text.text, text.header.recorded.timestamp()))
        assert isinstance(cube.payload, TensorPayload)
        try:
            return Bundle.restore(lm, members, KVCube.from_payload(cube.payload, lm)), list(
                cube.header.metadata["pinned"]
            )
        except (FingerprintMismatch, CorruptCube, InvalidInput) as error:
            logger.warning("the saved bundle %s is not used: %s", cube.id, error)
    return None


def adapters(store: Store, scope: Scope) -> list[MemCube]:
    """The open adapters of a scope, oldest first."""
    return _of(store, scope, {"kind": "parameter"})


def _of(store: Store, scope: Scope, where: Filter) -> list[MemCube]:
    """Open memories of this user and agent, oldest first (a query would also find those of the user's other agents).
    What is damaged on the disk is left out: it was made of texts, and can be made again."""
    found = []
    for key in sorted(store.keys(scope, where).tolist()):
        try:
            found += [cube for cube in store.load([key]) if shared_scope(cube.header.scope) == scope]
        except CorruptStore as error:
            logger.warning("a saved form is not used: %s", error)
    return found
