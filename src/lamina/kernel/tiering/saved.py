"""Saved: bundles and adapters in the store, so that what was promoted is ready in the next process without reading it.

A bundle is kept as one activation memory whose lineage names its members and their versions, in order; forgetting a
member forgets it. It is a copy of nothing but texts that are there anyway, so a newer one takes its place for good: old
ones are erased, not kept as history, since a token takes 46 KB in float32.

It comes back as it was kept, also where a member changed since: ``Tiers`` takes that one out as it does with any, so
what stands before it is not read again. What is held by hand is noted apart (``kernel.tiering.pins``).
"""

from __future__ import annotations

import logging

from lamina.activation.cache import KVCube
from lamina.activation.prefix import Bundle, Member
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope
from lamina.cube.payload import TensorPayload
from lamina.errors import CorruptCube, CorruptStore, FingerprintMismatch, InvalidInput
from lamina.kernel.lifecycle import still_says
from lamina.kernel.migration import ACTOR
from lamina.kernel.tiering.residents import shared_scope
from lamina.llm.causal import CausalLM
from lamina.store.base import Filter, Store, Write

BUNDLE = "bundle"  # semantic type
_BUNDLES: Filter = {"AND": [{"kind": "activation"}, {"semantic_type": BUNDLE}]}

logger = logging.getLogger("lamina.kernel")


def save(store: Store, scope: Scope, bundle: Bundle | None) -> MemCube | None:
    """Keep ``bundle`` as the one of its scope; ``None``, one without members, or one with a member that
    changed meanwhile, just ends the old one."""
    old = [cube.id for cube in bundles(store, scope)]
    made: MemCube | None = None
    members: tuple[tuple[str, int], ...] = ()
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
        )
        made = MemCube(header, payload)
    with store.transaction() as tx:
        if old:
            tx.forget(old, actor=ACTOR, reason="replaced by a newer bundle")
        read = ((tx.newest(id), version) for id, version in members)
        if not all(newest is not None and still_says(newest, version, store.get) for newest, version in read):
            made = None  # changed or forgotten meanwhile, perhaps by another process: it must not come back this way
        if made is not None:
            tx.insert([Write(made, actor=ACTOR, action="prefill")])
    return made


def load(store: Store, lm: CausalLM, scope: Scope) -> Bundle | None:
    """The bundle of a scope as it was kept: whether its members may still be served is for ``Residents.valid`` to say.
    ``None`` if there is none that fits this model: it is then built again when asked for."""
    for cube in bundles(store, scope):
        members = []
        for id, version in cube.header.lineage.derived_from:
            text = store.get(id, version=version)
            if text is None:
                return None
            members.append(Member(id, version, text.text, text.header.recorded.timestamp()))
        assert isinstance(cube.payload, TensorPayload)
        try:
            return Bundle.restore(lm, members, KVCube.from_payload(cube.payload, lm))
        except (FingerprintMismatch, CorruptCube, InvalidInput) as error:
            logger.warning("the saved bundle %s is not used: %s", cube.id, error)
    return None


def bundles(store: Store, scope: Scope) -> list[MemCube]:
    """The bundle of a scope, if one was kept; also one that was closed because a text of it was corrected: what stands
    before that text is as good as it was."""
    return _of(store, scope, _BUNDLES)


def adapters(store: Store, scope: Scope) -> list[MemCube]:
    """The open adapters of a scope, oldest first."""
    return [cube for cube in _of(store, scope, {"kind": "parameter"}) if cube.header.superseded is None]


def _of(store: Store, scope: Scope, where: Filter) -> list[MemCube]:
    """Memories of this user and agent, closed ones too, oldest first (a query would also find those of the user's other
    agents). What is damaged on the disk is left out: it was made of texts, and can be made again."""
    found = []
    for key in sorted(store.keys(scope, where).tolist()):
        try:
            found += [cube for cube in store.load([key]) if shared_scope(cube.header.scope) == scope]
        except CorruptStore as error:
            logger.warning("a saved form is not used: %s", error)
    return found
