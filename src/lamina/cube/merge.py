"""What differs between two cubes, one cube out of many, many out of one.

None of these changes its arguments: closing or archiving the parents is the caller's job.

**fuse** makes a new cube (new id, version 1) from cubes of one scope and one kind, none of them deleted:

* text: parents in order of ``recorded``, equal texts once, joined by a newline; neighbouring pieces of
  one ``split`` are put back without a seam;
* tensors: one fingerprint; the union of names, where an equal name must hold equal bits;
* ``lineage`` names every parent; sources, tags, keywords, entities and metadata are united (the parent
  recorded last wins a metadata key); importance is the highest, usage the sum, ``recorded`` the latest;
* whatever limits a parent limits the result: the least trust, the forms of ``access`` common to all,
  the earliest ``expires``, and state ``generated`` (not yet confirmed) if any parent's is, else ``active``;
* ``valid_from``/``valid_to`` is the hull of the parents', an end being unknown if it is for any of them;
* semantic type and extractor are kept if all agree, else those of the parent recorded last; a claim,
  model and prompt hash only if all agree.

**split** copies the parent's header to each piece, with lineage ``split``. A text piece names its span of the
parent in ``provenance.sources``. What was said about the whole is not said about a part: pieces of
either operation are not verbatim turns (``utterance`` is dropped), and a split drops the claim and usage.
"""

from __future__ import annotations

import difflib
import itertools
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar, get_args

import numpy as np

from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Source, State, Trust, Usage, new_id, now
from lamina.cube.payload import Payload, TensorPayload, TextPayload
from lamina.cube.tensor import TensorView
from lamina.errors import InvalidInput

T = TypeVar("T")
_CHUNK = 1 << 20  # elements compared at a time: bounds the float64 copies of a large tensor


@dataclass(frozen=True, slots=True)
class CubeDiff:
    """How ``b`` differs from ``a``; false when they are equal.

    ``header`` and ``fingerprint``: field to (a's value, b's value). ``text``: lines of a unified diff.
    ``changed``: tensor to the largest absolute difference, ``inf`` if dtype or shape differ or a NaN
    stands against a number; 0.0 is possible (``-0.0`` against ``0.0``).
    """

    header: Mapping[str, tuple[Any, Any]]
    fingerprint: Mapping[str, tuple[Any, Any]]
    text: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, float]

    def __bool__(self) -> bool:
        return any(getattr(self, part.name) for part in fields(self))


def diff(a: MemCube, b: MemCube) -> CubeDiff:
    """What changed from ``a`` to ``b``. Text against tensors: all lines go, all tensors are added."""
    old, new = _tensors(a.payload), _tensors(b.payload)
    marks = (getattr(a.payload, "fingerprint", None), getattr(b.payload, "fingerprint", None))
    before, after = _lines(a.payload), _lines(b.payload)
    return CubeDiff(
        header=_differing(a.header, b.header),
        fingerprint={} if None in marks else _differing(*marks),
        text=tuple(
            difflib.unified_diff(
                before, after, f"{a.id} v{a.header.version}", f"{b.id} v{b.header.version}", lineterm=""
            )
        ),
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed={name: _distance(old[name], new[name]) for name in old if name in new and old[name] != new[name]},
    )


def fuse(cubes: Iterable[MemCube], *, operation: str = "merge") -> MemCube:
    """One new cube that holds what ``cubes`` hold, by the rules above; ``operation`` goes into its lineage.

    The order of ``cubes`` does not matter. Raises ``InvalidInput`` for no cubes, cubes of several scopes
    or kinds, a deleted one, or tensors that contradict each other; ``FingerprintMismatch`` for tensors of
    different models.
    """
    distinct = {(cube.id, cube.header.version): cube for cube in cubes}
    parents = sorted(distinct.values(), key=_order)
    if not parents:
        raise InvalidInput("cubes is empty; give at least one cube to fuse")
    for parent in parents:
        _refuse_deleted(parent, "fused")
    for what, values in (
        ("scope", _distinct(parent.header.scope for parent in parents)),
        ("kind", _distinct(parent.header.kind for parent in parents)),
        ("payload", _distinct(type(parent.payload).__name__ for parent in parents)),
    ):
        if len(values) > 1:
            raise InvalidInput(f"cubes have different {what}s ({reprlib.repr(values)}); fuse those of one {what} only")
    tensors = [parent.payload for parent in parents if isinstance(parent.payload, TensorPayload)]
    payload = _fused_tensors(tensors) if tensors else TextPayload(_fused_text(parents))
    return MemCube(_fused_header([parent.header for parent in parents], operation), payload)


def split(cube: MemCube, *, at: Sequence[int] = (), parts: Sequence[Sequence[str]] = ()) -> list[MemCube]:
    """New cubes that together hold what ``cube`` holds; ``fuse`` puts them back together.

    ``at``: for text, the character positions to cut at, rising, inside the text; n cuts give n + 1 pieces.
    ``parts``: for tensors, groups of names; every name in exactly one group. Raises ``InvalidInput``.
    """
    _refuse_deleted(cube, "split")
    if isinstance(cube.payload, TensorPayload):
        if at:
            raise InvalidInput(f"cube {cube.id} holds tensors; split it by names (parts=), not at positions {at!r}")
        return _split_tensors(cube, cube.payload, parts)
    if parts:
        raise InvalidInput(f"cube {cube.id} holds text; split it at positions (at=), not by names {parts!r}")
    return _split_text(cube, cube.payload.text, at)


def _split_text(cube: MemCube, text: str, at: Sequence[int]) -> list[MemCube]:
    bounds = [0, *at, len(text)]
    rising = all(type(cut) is int for cut in at) and all(a < b for a, b in itertools.pairwise(bounds))
    if at and not rising:
        raise InvalidInput(f"at must rise inside 1..{len(text) - 1}, the positions within the text, got {at!r}")
    provenance = cube.header.provenance
    return [
        MemCube(
            _piece_header(cube, replace(provenance, sources=(Source(cube.id, start, end),))),
            TextPayload(text[start:end]),
        )
        for start, end in itertools.pairwise(bounds)
    ]


def _split_tensors(cube: MemCube, payload: TensorPayload, parts: Sequence[Sequence[str]]) -> list[MemCube]:
    named = [name for part in parts for name in part]
    if sorted(named) != sorted(payload.tensors):
        raise InvalidInput(
            f"parts must name each of the cube's tensors exactly once: {reprlib.repr(sorted(payload.tensors))}, "
            f"got {reprlib.repr(named)}"
        )
    return [
        MemCube(
            _piece_header(cube, cube.header.provenance),
            TensorPayload({name: payload.tensors[name] for name in part}, payload.fingerprint),
        )
        for part in parts
    ]


def _piece_header(cube: MemCube, provenance: Provenance) -> Header:
    return replace(
        cube.header,
        id=new_id(),
        version=1,
        created=now(),
        superseded=None,
        superseded_by=None,
        provenance=provenance,
        lineage=Lineage(((cube.id, cube.header.version),), "split"),
        utterance=None,
        claim=None,
        state=_state([cube.header]),
        usage=Usage(),
    )


def _fused_header(headers: Sequence[Header], operation: str) -> Header:
    """``headers`` in order of ``recorded``; of one scope and one kind."""
    last = headers[-1]
    provenances = [header.provenance for header in headers]
    parents = _distinct(pair for header in headers for pair in [(header.id, header.version)])
    return Header(
        kind=last.kind,
        semantic_type=last.semantic_type,
        scope=last.scope,
        recorded=last.recorded,
        valid_from=_hull(min, [header.valid_from for header in headers]),
        valid_to=_hull(max, [header.valid_to for header in headers]),
        expires=min((header.expires for header in headers if header.expires), default=None),
        provenance=Provenance(
            sources=_distinct(source for provenance in provenances for source in provenance.sources),
            extractor=last.provenance.extractor,
            model=_agreed([provenance.model for provenance in provenances]),
            prompt_hash=_agreed([provenance.prompt_hash for provenance in provenances]),
        ),
        lineage=Lineage(parents, operation),
        claim=_agreed([header.claim for header in headers]),
        state=_state(headers),
        trust=max((header.trust for header in headers), key=get_args(Trust).index),  # from most to least trusted
        access=tuple(form for form in last.access if all(form in header.access for header in headers)),
        sensitivity=_distinct(label for header in headers for label in header.sensitivity),
        tags=_distinct(tag for header in headers for tag in header.tags),
        keywords=_distinct(keyword for header in headers for keyword in header.keywords),
        entities=_distinct(entity for header in headers for entity in header.entities),
        importance=max(header.importance for header in headers),
        usage=Usage(
            sum(header.usage.count for header in headers),
            max((header.usage.last for header in headers if header.usage.last), default=None),
        ),
        metadata={key: value for header in headers for key, value in header.metadata.items()},
    )


def _fused_text(parents: Sequence[MemCube]) -> str:
    """Distinct texts in the order of ``parents``; runs of neighbouring pieces count as one text."""
    runs: list[str] = []
    previous: tuple[tuple[str, int], int] | None = None  # the split cube, and where the last piece ended
    for cube in parents:
        span = _span(cube)
        if span and previous == (cube.header.lineage.derived_from[0], span.start):
            runs[-1] += cube.text
        else:
            runs.append(cube.text)
        previous = (cube.header.lineage.derived_from[0], span.end) if span else None
    return "\n".join(dict.fromkeys(runs))


def _fused_tensors(payloads: Sequence[TensorPayload]) -> TensorPayload:
    union: dict[str, TensorView] = {}
    for payload in payloads:
        payload.fingerprint.check(payloads[0].fingerprint)
        for name, view in payload.tensors.items():
            if union.setdefault(name, view) != view:
                raise InvalidInput(f"tensor {name!r} differs between the cubes; rename one or keep only one")
    return TensorPayload(union, payloads[0].fingerprint)


def _order(cube: MemCube) -> tuple[Any, ...]:
    """``recorded``; pieces of one split in the order of their spans; then the id, so that ties never vary."""
    span = _span(cube)
    place = (span.id, cube.header.lineage.derived_from[0][1], span.start) if span else (cube.id, 0, 0)
    return (cube.header.recorded, *place, cube.id, cube.header.version)


def _span(cube: MemCube) -> Source | None:
    """The span of its parent that an untouched piece of a split text is, else None."""
    lineage, sources = cube.header.lineage, cube.header.provenance.sources
    if lineage.operation != "split" or len(sources) != 1 or len(lineage.derived_from) != 1:
        return None
    if not isinstance(cube.payload, TextPayload) or sources[0].id != lineage.derived_from[0][0]:
        return None
    return sources[0] if sources[0].end - sources[0].start == len(cube.text) else None


def _refuse_deleted(cube: MemCube, verb: str) -> None:
    if cube.header.state is State.DELETED:
        raise InvalidInput(f"cube {cube.id} is deleted and cannot be {verb}; leave it out")


def _state(headers: Sequence[Header]) -> State:
    return State.GENERATED if any(header.state is State.GENERATED for header in headers) else State.ACTIVE


def _hull(end: Callable[[list[datetime]], datetime], moments: Sequence[datetime | None]) -> datetime | None:
    known = [moment for moment in moments if moment is not None]
    return end(known) if len(known) == len(moments) else None


def _agreed(values: Sequence[T]) -> T | None:
    return values[0] if all(value == values[0] for value in values) else None


def _distinct(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _tensors(payload: Payload) -> Mapping[str, TensorView]:
    return payload.tensors if isinstance(payload, TensorPayload) else {}


def _lines(payload: Payload) -> list[str]:
    """Split at newlines only: what remains, and a missing last newline, then shows as a difference."""
    return payload.text.split("\n") if isinstance(payload, TextPayload) else []


def _differing(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    pairs = {field.name: (getattr(a, field.name), getattr(b, field.name)) for field in fields(a)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _distance(a: TensorView, b: TensorView) -> float:
    """Largest absolute difference: exact for integers, in float64 for floats; NaN equals NaN."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return float("inf")
    x, y = a.numpy().reshape(-1), b.numpy().reshape(-1)
    return max(_chunk_distance(x[i : i + _CHUNK], y[i : i + _CHUNK]) for i in range(0, len(x), _CHUNK))


def _chunk_distance(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    if x.dtype.kind != "f":
        x, y = (part.astype("u1") if part.dtype.kind == "b" else part for part in (x, y))
        # A difference of signed integers wraps around into exactly the right unsigned one.
        return float((np.maximum(x, y) - np.minimum(x, y)).view(f"u{x.itemsize}").max())
    same = (x == y) | (np.isnan(x) & np.isnan(y))  # infinities of one sign included
    gap = np.abs(np.where(same, 0, x).astype("f8") - np.where(same, 0, y).astype("f8"))
    return float(np.where(np.isnan(gap), np.inf, gap).max())
