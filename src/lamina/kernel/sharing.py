"""MemDumper and MemLoader: memories leave as a signed bundle and arrive as guests, in quarantine.

MemOS: A Memory OS for AI System, arXiv 2507.03724, section 5 (MemLoader, MemDumper); the file is ``bundle_file``.

Leaving: governance decides about every memory; what is sensitive is redacted; a cache or a weight leaves only with
the text it was made of, unredacted and at the version it was made of, because tensors cannot be redacted.

Arriving: each memory gets an id of its own, made from the signer, the exporter's id and the new owner, so that no file
can overwrite a memory and a later bundle of the same memory is its next version. Owner, policy, trust and provenance
are rewritten; vectors never travel (a stranger's vector could be near anything): text is embedded here. Tensors for
another model, or without their text, are left out and told; their text comes in all the same. Everything lands
*archived* with the tag of the quarantine, where no search finds it, until ``confirm``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, State, Usage, now
from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import Conflict, FingerprintMismatch, IllegalTransition, InvalidInput, NotFound, NotPermitted
from lamina.kernel.bundles import bundle_file
from lamina.kernel.bundles.bundle_file import Bundle
from lamina.kernel.bundles.keys import Key, PublicKey
from lamina.kernel.governance import Context, Deny, Principal, check, require
from lamina.kernel.governing.exports import ExportRegister
from lamina.kernel.governing.redaction import redact_cube
from lamina.kernel.lifecycle import TRANSITIONS, says_the_same, state_of
from lamina.llm.base import Embedder
from lamina.store.base import Store, Write
from lamina.text.decisions import QUARANTINED

_VERSION = "exporter's version"  # in the log's row of an import
_IMPORTED = uuid.UUID("6f1c9c7e-9a3f-4d0b-8f1e-31d2a8b0c5e4")


@dataclass(frozen=True, slots=True)
class Dumped:
    """What a dump wrote: the bundle, its memories, those left out with the reason, and what was redacted."""

    path: Path
    bundle: str
    ids: tuple[str, ...]
    left_out: Mapping[str, str]
    redacted: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load stored: the exporter's id to ours, of those new, revised, and here already; those left out, why."""

    bundle: str
    signer: PublicKey
    ids: Mapping[str, str]
    new: tuple[str, ...]
    revised: tuple[str, ...]
    same: tuple[str, ...]
    left_out: Mapping[str, str]


class MemDumper:
    """Writes memories of ``store`` to bundles signed with ``key``; ``exports`` remembers which file holds what."""

    def __init__(self, store: Store, key: Key, exports: ExportRegister) -> None:
        self._store, self._key, self._exports = store, key, exports

    def dump(
        self,
        ids: Sequence[str],
        path: str | os.PathLike[str],
        *,
        actor: Principal,
        destination: str | None = None,
    ) -> Dumped:
        """Write the newest versions of ``ids`` to ``path``, for ``destination`` (``None``: the owner's own backup).

        Each memory must pass ``check(actor, "export", ...)``. Raises ``InvalidInput`` if none is left, ``Conflict``
        when one was forgotten meanwhile.
        """
        left_out: dict[str, str] = {}
        chosen: dict[str, MemCube] = {}
        redacted: dict[str, tuple[str, ...]] = {}
        for id in dict.fromkeys(ids):
            cube, context = self._store.get(id), Context(destination=destination)
            if cube is None or not check(actor, "read", cube):
                left_out[id] = "there is no such memory"
            elif isinstance(verdict := check(actor, "export", cube, context), Deny):
                left_out[id] = verdict.reason
            elif state_of(cube) is State.DELETED:
                left_out[id] = "it was deleted"
            else:
                chosen[id] = redact_cube(cube)
                if chosen[id] is not cube:
                    redacted[id] = chosen[id].header.sensitivity
        for id in [id for id, cube in chosen.items() if cube.header.kind != "text"]:
            chosen[id] = self._at_present(chosen[id])
            if missing := _missing_parent(chosen[id], chosen, redacted):
                left_out[id] = missing
                del chosen[id]
        if not chosen:
            raise InvalidInput(f"ids: nothing may leave: {dict(list(left_out.items())[:3])}")
        self._exports.add(path, list(chosen))
        bundle = bundle_file.write(path, list(chosen.values()), self._key, destination=destination)
        if gone := [id for id in chosen if self._store.get(id) is None]:  # forgotten before there was a file to clear
            Path(path).unlink()
            self._exports.add(path, [])
            raise Conflict(f"memories {gone[:3]} were forgotten while the bundle was written; it was removed")
        return Dumped(Path(path), bundle, tuple(chosen), left_out, redacted)

    def _at_present(self, cube: MemCube) -> MemCube:
        """Its parents by their newest versions, where those say what they said when it was made of them."""
        parents = [
            (id, newest.header.version)
            if (newest := self._store.get(id)) is not None and says_the_same(self._store, id, version)
            else (id, version)
            for id, version in cube.header.lineage.derived_from
        ]
        lineage = replace(cube.header.lineage, derived_from=tuple(parents))
        return MemCube(replace(cube.header, lineage=lineage), cube.payload)


def _missing_parent(cube: MemCube, texts: Mapping[str, MemCube], redacted: Collection[str] = ()) -> str | None:
    """Why tensors may not travel, or ``None``. An adapter made of no memory stands for itself."""
    for id, version in cube.header.lineage.derived_from:
        parent = texts.get(id)
        if parent is None:
            return f"it was made of {id}, which is not in the bundle"
        if parent.header.version != version:
            return f"it was made of version {version} of {id}, which is at version {parent.header.version}"
        if id in redacted:
            return f"it was made of {id}, which had to be redacted; tensors cannot be"
    return None


class MemLoader:
    """Stores the memories of bundles signed by whom is ``trusted``. ``model``: the fingerprint of the model in use, if
    any."""

    def __init__(
        self, store: Store, embedder: Embedder, trusted: Sequence[PublicKey], *, model: Fingerprint | None = None
    ) -> None:
        self._store, self._embedder, self._model = store, embedder, model
        self._trusted = tuple(trusted)

    def load(
        self,
        path: str | os.PathLike[str],
        owner: Scope,
        *,
        actor: Principal,
        only: Collection[str] | None = None,
        expires: datetime | None = None,
        max_bytes: int = bundle_file.MAX_BYTES,
    ) -> Loaded:
        """Store a bundle's memories (``only``: those ids of the exporter) as ``owner``'s, in quarantine, all or none.

        ``expires``: when the right to keep them ends, if not before. Raises ``UntrustedBundle``, ``CorruptCube``,
        ``NotFound``, ``FrozenCube`` when one is frozen here, ``InvalidInput`` for an owner in another tenant than
        ``actor``, and ``NotPermitted`` for one that ``actor`` may not write for.
        """
        if owner.tenant != actor.tenant:
            raise InvalidInput(f"owner={owner!r}: {actor.name} loads into its own tenant {actor.tenant!r}")
        if isinstance(verdict := check(actor, "write", Header(scope=owner)), Deny):
            raise NotPermitted(f"{actor.name} may not take memories in for {owner}: {verdict.reason}")
        bundle = bundle_file.read(path, self._trusted, max_bytes=max_bytes)
        chosen = {cube.id: _until(cube, expires) for cube in bundle.cubes if only is None or cube.id in only}
        ids = {id: local_id(bundle.signer, id, owner) for id in chosen}
        left_out = {id: why for id, cube in chosen.items() if (why := self._outdated(cube, ids[id])) is not None}
        chosen = {id: cube for id, cube in chosen.items() if id not in left_out}
        left_out |= {id: why for id, cube in chosen.items() if (why := self._unfit(cube, chosen)) is not None}
        chosen = {id: cube for id, cube in chosen.items() if id not in left_out}
        ids = {id: ids[id] for id in chosen}
        ordered = sorted(chosen.values(), key=lambda cube: cube.header.kind != "text")  # texts before their tensors
        new, revised, same = self._store_all(bundle, ordered, ids, owner, actor)
        return Loaded(bundle.id, bundle.signer, ids, new, revised, same, left_out)

    def confirm(self, id: str, *, actor: Principal, reason: str = "confirmed") -> MemCube:
        """Believe an imported memory: it becomes active, and searchable. Raises ``NotFound``, ``IllegalTransition``,
        and ``NotPermitted`` for one that ``actor`` may not write."""
        with self._store.transaction() as tx:
            cube = tx.newest(id)
            if cube is None or not check(actor, "read", cube):
                raise NotFound(f"there is no memory {id!r}")
            require(actor, "write", cube)
            if not _waits(cube):
                raise IllegalTransition(f"memory {id!r} is not an import in quarantine")
            told = {"from": State.ARCHIVED.value, "to": State.ACTIVE.value}
            action = TRANSITIONS[State.ARCHIVED, State.ACTIVE]
            header = replace(
                cube.header,
                version=cube.header.version + 1,
                recorded=max(now(), cube.header.recorded),
                state=State.ACTIVE,
                tags=cube.header.tags[2:],  # after the mark and its reason: the exporter's own
            )
            write = Write(MemCube(header, cube.payload), self._store.vector(id), actor.name, action, reason, told)
            tx.revise(write, expect=cube.header.version)
        return write.cube

    def waiting(self, ids: Collection[str]) -> list[str]:
        """Those of our ``ids`` that are in quarantine still."""
        return [id for id in ids if (cube := self._store.get(id)) is not None and _waits(cube)]

    def _outdated(self, cube: MemCube, id: str) -> str | None:
        """Why an older version than one that came before is not taken in, however well it is signed: anybody may keep
        an old bundle and hand it out again."""
        came = max((int(event.details.get(_VERSION, 0)) for event in self._store.events(cube=id)), default=0)
        if cube.header.version >= came:
            return None
        return f"it is version {cube.header.version}, and version {came} came before"

    def _unfit(self, cube: MemCube, texts: Mapping[str, MemCube]) -> str | None:
        """Why a cube is not taken in, or ``None``."""
        if not isinstance(cube.payload, TensorPayload):
            return None
        if self._model is None:
            return "there is no model here to check it against; its text was taken"
        try:
            cube.payload.fingerprint.check(self._model)
        except FingerprintMismatch as error:
            return f"it was made for another model, its text was taken: {error}"
        return _missing_parent(cube, texts)

    def _store_all(
        self, bundle: Bundle, cubes: Sequence[MemCube], ids: Mapping[str, str], owner: Scope, actor: Principal
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        texts = [cube.text for cube in cubes if cube.header.kind == "text"]
        vectors = iter(self._embedder.encode(texts)) if texts else iter(())
        new, revised, same = list[str](), list[str](), list[str]()
        versions: dict[str, int] = {}
        with self._store.transaction() as tx:
            for cube in cubes:
                vector = next(vectors) if cube.header.kind == "text" else None
                known, told = tx.newest(ids[cube.id]), {"signer": bundle.signer.id, _VERSION: cube.header.version}
                guest = _guest(cube, bundle, ids, versions, owner, 1 if known is None else known.header.version + 1)
                write = Write(guest, vector, actor.name, "import", f"bundle {bundle.id}", told)
                if known is None:
                    tx.insert([write])
                    new.append(guest.id)
                elif _holds_already(known, guest):
                    same.append(guest.id)
                    guest = known
                else:
                    tx.revise(replace(write, action="update"), expect=known.header.version)
                    revised.append(guest.id)
                versions[cube.id] = guest.header.version
        return tuple(new), tuple(revised), tuple(same)


def _waits(cube: MemCube) -> bool:
    header = cube.header
    return header.trust == "import" and QUARANTINED in header.tags and state_of(cube) is State.ARCHIVED


def local_id(signer: PublicKey, id: str, owner: Scope) -> str:
    """Our id of a memory that ``signer`` (its key, whatever its name) calls ``id``, when it belongs to ``owner``."""
    return str(uuid.uuid5(_IMPORTED, repr((signer.id, id, owner.tenant, owner.user, owner.agent, owner.run))))


def _until(cube: MemCube, expires: datetime | None) -> MemCube:
    ends = [moment for moment in (cube.header.expires, expires) if moment is not None]
    return MemCube(replace(cube.header, expires=min(ends, default=None)), cube.payload)


def _guest(
    cube: MemCube, bundle: Bundle, ids: Mapping[str, str], versions: Mapping[str, int], owner: Scope, version: int
) -> MemCube:
    """``cube`` as it is stored here: whose it is, where it came from, that nobody has confirmed it."""
    old = cube.header
    parents = ((ids[id], versions[id]) for id, _ in old.lineage.derived_from if id in versions)
    header = Header(
        id=ids[cube.id],
        version=version,
        kind=old.kind,
        semantic_type=old.semantic_type,
        scope=owner,
        created=old.created,
        valid_from=old.valid_from,
        valid_to=old.valid_to,
        expires=old.expires,
        provenance=Provenance(extractor="import", model=old.provenance.model),
        lineage=Lineage(tuple(parents), "import"),
        claim=old.claim,
        state=State.ARCHIVED,
        trust="import",
        access=old.access,
        sensitivity=old.sensitivity,
        retention=old.retention,
        watermark=old.watermark,
        tags=(QUARANTINED, f"import: {bundle.signer.name}", *(tag for tag in old.tags if tag != QUARANTINED)),
        keywords=old.keywords,
        entities=old.entities,
        importance=old.importance,
        usage=Usage(),
        metadata=old.metadata,
    )
    return MemCube(header, cube.payload)


def _holds_already(known: MemCube, guest: MemCube) -> bool:
    """Whether the same is here, confirmed or not; a memory the owner closed stays closed."""
    names = ("watermark", "valid_from", "valid_to", "expires", "access", "sensitivity")
    same = all(getattr(known.header, name) == getattr(guest.header, name) for name in names)
    return (same and known.sha256 == guest.sha256) or known.header.superseded is not None
