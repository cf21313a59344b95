"""Steps that change memories: ``add``, ``update``, ``archive``, ``retract``, and ``provenance`` for all of them.

MemOS, arXiv 2507.03724, section 4.2 (Provenance and Update interfaces). They stage; the pipeline writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import ClassVar, Literal

from lamina.cube.cube import Claim, Header, Lineage, MemCube, State
from lamina.cube.cube import Provenance as Origin
from lamina.cube.payload import TextPayload
from lamina.errors import Conflict, IllegalTransition, InvalidInput, NotFound
from lamina.kernel.lifecycle import TRANSITIONS, state_of
from lamina.kernel.pipelines.pipeline_context import PipelineContext, covers, positive
from lamina.kernel.pipelines.text_changes import Mode, changed
from lamina.kernel.reading.calls import SEMANTIC_TYPES
from lamina.text.english.entities import entities, keywords

Which = Literal["first", "all"]


@dataclass(frozen=True, slots=True)
class Add:
    """A new memory of ``text`` (default: the message). ``derived``: made of what was retrieved, so that its lineage
    names that, and forgetting reaches it."""

    name: ClassVar[str] = "add"
    text: str | None = None
    semantic_type: str = "note"
    tags: tuple[str, ...] = ()
    derived: bool = False

    def __post_init__(self) -> None:
        if self.semantic_type not in SEMANTIC_TYPES:
            raise InvalidInput(f"semantic_type={self.semantic_type!r:.60}: choose one of {', '.join(SEMANTIC_TYPES)}")

    def run(self, context: PipelineContext) -> str:
        text = self.text if self.text is not None else context.question
        cubes = [context.newest(hit.cube.id) for hit in context.hits] if self.derived else []
        parents = tuple((cube.id, cube.header.version) for cube in cubes)
        header = Header(
            semantic_type=self.semantic_type,
            scope=context.scope,
            created=context.at,
            recorded=context.at,
            provenance=Origin(extractor="pipeline"),
            lineage=Lineage(parents, "pipeline") if parents else Lineage(),
            tags=self.tags,
            keywords=keywords(text),
            entities=entities(text),
        )
        context.insert(MemCube(header, TextPayload(text)), reason="step add")
        return f"added {header.id}"


@dataclass(frozen=True, slots=True)
class Update:
    """Change the text of memories: ``append`` to it, ``merge`` in what it does not say yet, or ``overwrite`` it.

    ``label`` confines the change to the line ``label: ...`` of the text. ``ids`` names the memories; else the ``first``
    or ``all`` of what was retrieved. Each is a new version after the one that was retrieved (``expect``: after that
    one), or a ``Conflict``. An overwritten fact retires the turn it was taken from, as a correction does.
    """

    name: ClassVar[str] = "update"
    text: str | None = None
    mode: Mode = "append"
    label: str | None = None
    ids: tuple[str, ...] = ()
    which: Which = "first"
    expect: int | None = None

    def __post_init__(self) -> None:
        positive("expect", self.expect)
        if self.mode not in ("append", "merge", "overwrite"):
            raise InvalidInput(f"mode={self.mode!r:.60}: choose append, merge or overwrite")

    def run(self, context: PipelineContext) -> str:
        told = self.text if self.text is not None else context.question
        done = 0
        for old in _chosen(context, self.ids, self.which):
            if self.expect not in (None, old.header.version):
                raise Conflict(f"memory {old.id} is at version {old.header.version}, not {self.expect}: read it again")
            text = changed(old.text, told, self.mode, self.label)
            if text != old.text:
                self._revise(context, old, text)
                done += 1
        return f"{done} changed ({self.mode})"

    def _revise(self, context: PipelineContext, old: MemCube, text: str) -> None:
        claim = old.header.claim
        if claim is not None and self.mode == "overwrite":
            claim = Claim(claim.subject, claim.slot)  # its value is not what it was, and rules cannot read this one
        header = replace(
            _next(old, context.at, "update"), claim=claim, keywords=keywords(text), entities=entities(text)
        )
        context.revise(MemCube(header, TextPayload(text)), action="update", reason=f"step update: {self.mode}")
        if self.mode == "overwrite":
            _close_kin(context, old, "corrected by a pipeline", by=old.id)


@dataclass(frozen=True, slots=True)
class Archive:
    """Out of default search: the memories of ``ids``, or the ``first`` or ``all`` that were retrieved, each with its
    turn and that turn's facts as they were retrieved with it."""

    name: ClassVar[str] = "archive"
    ids: tuple[str, ...] = ()
    which: Which = "first"
    reason: str = ""

    def run(self, context: PipelineContext) -> str:
        cubes = _chosen(context, self.ids, self.which)
        if not self.ids:
            cubes = [context.newest(id) for cube in cubes for id in _group(context, cube.id)]
        for cube in {cube.id: cube for cube in cubes}.values():
            since = state_of(cube)
            if (since, State.ARCHIVED) not in TRANSITIONS:
                raise IllegalTransition(f"memory {cube.id} is {since.value}: it cannot be archived")
            header = replace(_next(cube, context.at, "archive"), state=State.ARCHIVED)
            context.revise(MemCube(header, cube.payload), action="archive", reason=self.reason or "step archive")
        return f"{len({cube.id for cube in cubes})} archived"


@dataclass(frozen=True, slots=True)
class Retract:
    """Close memories, with the turns they were taken from and the facts taken from them; history keeps them."""

    name: ClassVar[str] = "retract"
    ids: tuple[str, ...] = ()
    which: Which = "first"
    reason: str = ""

    def run(self, context: PipelineContext) -> str:
        cubes = _chosen(context, self.ids, self.which)
        for cube in cubes:
            context.close(cube.id, reason=self.reason or "step retract")
            _close_kin(context, cube, f"kin of the retracted memory {cube.id}")
        return f"{len(cubes)} retracted"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Say what made everything that this run writes, wherever the step stands. Sources of a memory stay its own."""

    name: ClassVar[str] = "provenance"
    extractor: str = "pipeline"
    model: str | None = None
    prompt_hash: str | None = None

    def run(self, context: PipelineContext) -> str:
        context.origin = Origin(extractor=self.extractor, model=self.model, prompt_hash=self.prompt_hash)
        return f"made by {self.extractor}"


def _chosen(context: PipelineContext, ids: Sequence[str], which: Which) -> list[MemCube]:
    """The memories a step is about: those named, or what was retrieved, at the version that was retrieved.

    Raises ``NotFound`` if the first is wanted and there is none, ``Conflict`` if one was changed since by others.
    """
    if ids:
        return [context.newest(id) for id in dict.fromkeys(ids)]
    hits = [hit for hit in context.hits if not context.is_gone(hit.cube.id)]
    if which == "first" and not hits:
        raise NotFound("nothing was retrieved: put a retrieve step before, with a wider query, or name ids")
    chosen = []
    for hit in hits[:1] if which == "first" else hits:
        cube = context.newest(hit.cube.id)
        if cube.header.version != hit.cube.header.version and not context.is_new(cube.id):
            raise Conflict(
                f"memory {cube.id} was at version {hit.cube.header.version} when it was retrieved and is at"
                f" {cube.header.version} now: run the pipeline again"
            )
        chosen.append(cube)
    return chosen


def _group(context: PipelineContext, id: str) -> list[str]:
    """The memory with its turn and that turn's other facts, as far as they were retrieved with it."""
    hit = next(hit for hit in context.hits if hit.cube.id == id)
    members = [hit.cube, *([hit.source] if hit.source is not None else []), *hit.facts]
    return [cube.id for cube in members if not context.is_gone(cube.id)]


def _next(old: MemCube, at: datetime, operation: str) -> Header:
    """The header of the version after ``old``, recorded no earlier than it."""
    return replace(
        old.header,
        version=old.header.version + 1,
        recorded=max(at, old.header.recorded),
        lineage=Lineage(((old.id, old.header.version),), operation),
    )


def _close_kin(context: PipelineContext, cube: MemCube, reason: str, by: str | None = None) -> None:
    """Close the turns that a memory was taken from and the facts taken from it: they say the same again.

    A run reaches no further than its scope: a copy in another, such as a branch, stays.
    """
    store = context.store
    sources = (source.id for version in store.versions(cube.id) for source in version.header.provenance.sources)
    for id in dict.fromkeys([*sources, *store.derived(cube.id)]):
        kin = store.get(id)
        here = kin is not None and kin.header.superseded is None and covers(context.scope, kin.header.scope)
        if here and id != cube.id and not context.is_gone(id):
            context.close(id, reason=reason, by=by)
