"""Migration: the same memory in another form, with what the move cost and how much of it arrived.

MemOS, arXiv 2507.03724, section 3.3, names the paths; the procedures are ours. Text is the source of truth: a cache or
an adapter names the version of every text it was made from, so taking it away loses nothing, and forgetting a text
reaches all that was made of it.

    text -> activation       read once, kept as keys and values; exact, or as good as its storage form
    text -> parameter        context distillation into an adapter, judged on wordings it was not taught
    activation -> parameter  the same, the cache standing for the text in the teacher's context
    parameter -> text        what the adapter says by itself, set aside until somebody accepts it

*Fidelity* is 1 for nothing lost. Of a cache it is ``exp(-KL)`` of the next token after a question, against the model
that reads the text; of an adapter, the part of the in-context gain it gives (``parameter.recall.Verdict``). Below the
threshold nothing is kept, and the reason says why; both are in the log.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lamina._optional import require
from lamina.activation.cache import KVCube
from lamina.activation.prefix import continuation, render, system_turn
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, State
from lamina.cube.payload import TensorPayload, TextPayload
from lamina.errors import InvalidInput, LaminaError, NotFound
from lamina.kernel.lifecycle import says_the_same, still_says
from lamina.kernel.tiering.residents import refused, shared_scope
from lamina.llm.base import Embedder
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.distillation import Progress, distill
from lamina.parameter.probes import probes as probes_for
from lamina.parameter.recall import Gate, as_context, read_out
from lamina.store.base import Store, Write
from lamina.text.decisions import QUARANTINED

if TYPE_CHECKING:
    from lamina.activation.storage import Form

ACTOR = "memos"
_ASKED = "What do you know?"  # after which a cache is compared with its text


@dataclass(frozen=True, slots=True)
class Migration:
    """One move, made or refused. ``parents`` are the ``(id, version)`` it was made from; a refused one has no ``cube``.

    ``tokens`` were read for it, ``nbytes`` is what the new form takes, ``reason`` is empty if it was made.
    """

    operation: str  # prefill, distil, decode
    parents: tuple[tuple[str, int], ...]
    cube: MemCube | None
    seconds: float
    tokens: int
    nbytes: int
    fidelity: float
    threshold: float
    reason: str = ""

    @property
    def figures(self) -> dict[str, Any]:
        """What the log keeps: numbers and ids, nothing of the memory."""
        kept = ("operation", "seconds", "tokens", "nbytes", "fidelity", "threshold")
        return {name: getattr(self, name) for name in kept} | {"into": self.cube.id if self.cube else None}


class Migrator:
    """Moves memories of ``store`` into the forms of one model. Raises ``InvalidInput`` for memories of two scopes."""

    def __init__(
        self, store: Store, lm: CausalLM, *, embedder: Embedder | None = None, gate: Gate | None = None
    ) -> None:
        self.store = store
        self.lm = lm
        self.adapters = Adapters(lm)
        self.gate = gate or Gate()
        self._embedder = embedder

    def to_activation(self, ids: Sequence[str], *, form: Form = "float32", threshold: float = 0.99) -> Migration:
        """The texts as one key-value cube in the store. ``form`` as in ``activation.storage``."""
        texts = self._texts(ids, "activation")
        start = time.perf_counter()
        prefix = render(self.lm, [cube.text for cube in texts])
        exact = KVCube.build(self.lm, prefix)
        payload = exact.to_payload(form)
        fidelity = self._agreement(exact, KVCube.from_payload(payload, self.lm))
        reason = "" if fidelity >= threshold else f"fidelity {fidelity:.4f} of form {form} is under {threshold}"
        made = None if reason else _made("activation", texts, payload, "prefill", {"form": form})
        return self._kept("prefill", texts, made, start, len(prefix), payload.nbytes, fidelity, threshold, reason)

    def to_parameter(
        self,
        ids: Sequence[str],
        *,
        seed: int = 0,
        steps: int = 60,
        budget_s: float | None = None,
        progress: Progress | None = None,
    ) -> Migration:
        """The texts as one adapter in the store. Of ids, one may be an activation cube: then its texts are learnt, and
        its cache serves the teacher."""
        ids, cache = self._from_cache(ids)
        texts = self._texts(ids, "parameter")
        start = time.perf_counter()
        told = [cube.text for cube in texts]
        asked = probes_for(told, [cube.header.claim for cube in texts])
        context = system_turn(told)["content"] if cache else as_context(told)
        learnt = distill(
            self.lm,
            context,
            asked.train,
            seed=seed,
            steps=steps,
            budget_s=budget_s,
            progress=progress,
            teacher_cache=cache.attach(self.lm) if cache else None,
        )
        name = self.adapters.add(learnt.payload)
        verdict = self.gate.judge(self.adapters, [name], context, asked.held_out)
        if not verdict.accepted:
            self.adapters.remove(name)
        more = {"guard": verdict.guard, "spoken": verdict.spoken, "seed": seed, "steps": len(learnt.losses)}
        made = _made("parameter", texts, learnt.payload, "distil", more) if verdict.accepted else None
        read = sum(len(self.lm.encode(probe.question)) for probe in asked.train)
        found, needed = verdict.fidelity, self.gate.fidelity
        try:
            return self._kept("distil", texts, made, start, read, learnt.payload.nbytes, found, needed, verdict.reason)
        except LaminaError:
            if made is not None:
                self.adapters.remove(name)
            raise

    def to_text(self, id: str, questions: Sequence[str], *, threshold: float = 0.9) -> list[MemCube]:
        """What the adapter ``id`` answers to ``questions`` with confidence, as texts that are set aside (quarantined)
        until they are accepted: an adapter may say what it was never taught. Its own texts, if they are still there,
        are the better source: see ``sources``."""
        cube, payload = self._tensors(id, "parameter")
        known = self.adapters.names
        name = self.adapters.add(payload)
        try:
            with self.adapters.using([name]):
                readings = read_out(self.lm, questions, threshold=threshold)
        finally:
            if name not in known:  # unless it is worn anyway
                self.adapters.remove(name)
        decoded = [_decoded(cube, reading.answer, reading.confidence) for reading in readings]
        vectors = self._embedder.encode([one.text for one in decoded]) if self._embedder and decoded else None
        with self.store.transaction() as tx:
            tx.insert(
                [
                    Write(
                        one,
                        None if vectors is None else vectors[place],
                        actor=ACTOR,
                        action="decode",
                        reason="read out of an adapter; set aside until accepted",
                    )
                    for place, one in enumerate(decoded)
                ]
            )
        return decoded

    def sources(self, id: str) -> list[MemCube]:
        """The texts a cache or an adapter was made from, as they were then. Empty if they were forgotten."""
        cube = self.store.get(id)
        if cube is None:
            raise NotFound(f"there is no memory {id!r}")
        found = (self.store.get(parent, version=version) for parent, version in cube.header.lineage.derived_from)
        return [one for one in found if one is not None]

    def cache(self, id: str, *, check: bool = True) -> KVCube:
        """The key-value cube stored as ``id``. Raises ``NotFound``, ``FingerprintMismatch``, ``CorruptCube``; and
        ``InvalidInput`` if a text it was made from is not what it was."""
        cube, payload = self._tensors(id, "activation")
        self.require_current(cube)
        return KVCube.from_payload(payload, self.lm, check=check)

    def adapter(self, id: str) -> str:
        """The name in ``adapters`` of the adapter stored as ``id``. Raises as ``cache`` does."""
        cube, payload = self._tensors(id, "parameter")
        self.require_current(cube)
        return self.adapters.add(payload)

    def require_current(self, cube: MemCube) -> None:
        """Raise ``InvalidInput`` (code ``STALE``) if a text that ``cube`` was made from changed, ended or is gone."""
        for id, version in cube.header.lineage.derived_from:
            if not says_the_same(self.store, id, version):
                raise InvalidInput(
                    f"{cube.header.kind} memory {cube.id} was made from version {version} of {id}, which is no longer"
                    " current: make it again from the text",
                    code="STALE",
                )

    def _texts(self, ids: Sequence[str], form: Literal["activation", "parameter"]) -> list[MemCube]:
        cubes = []
        for id in ids:
            cube = self.store.get(id)
            if cube is None or cube.header.superseded is not None:
                raise NotFound(f"there is no open memory {id!r} to move")
            if cube.header.kind != "text":
                raise InvalidInput(f"memory {id} is {cube.header.kind} already; give the texts it was made from")
            if why := refused(cube.header, form, time.time()):
                raise InvalidInput(f"memory {id} cannot become {form}: {why}")
            cubes.append(cube)
        if len({shared_scope(cube.header.scope) for cube in cubes}) != 1:
            raise InvalidInput(
                f"ids={list(ids)[:3]!r}...: give memories of one scope, at least one; others never share a form"
            )
        return cubes

    def _tensors(self, id: str, kind: str) -> tuple[MemCube, TensorPayload]:
        cube = self.store.get(id)
        if cube is None or cube.header.superseded is not None or cube.header.kind != kind:
            raise NotFound(f"there is no open {kind} memory {id!r}")
        assert isinstance(cube.payload, TensorPayload)
        return cube, cube.payload

    def _from_cache(self, ids: Sequence[str]) -> tuple[list[str], KVCube | None]:
        """The texts behind a single activation cube, and the cube; any other ids as they are."""
        cube = self.store.get(ids[0]) if len(ids) == 1 else None
        if cube is None or cube.header.kind != "activation":
            return list(ids), None
        return [id for id, _ in cube.header.lineage.derived_from], self.cache(cube.id)

    def _agreement(self, exact: KVCube, stored: KVCube) -> float:
        """``exp(-KL)`` of the next token after a question, between the text's own cache and what is stored."""
        torch = require("torch", "comparing a cache with its text")
        _, rest = continuation(self.lm, [], [{"role": "user", "content": _ASKED}])
        with self.lm.lock, torch.inference_mode():
            ids = torch.tensor([rest])
            rows = [
                self.lm.model(ids, past_key_values=cube.attach(self.lm), logits_to_keep=1)
                .logits[0, -1]
                .double()
                .log_softmax(-1)
                for cube in (exact, stored)
            ]
        true, near = rows
        return float(torch.exp(-(true.exp() * (true - near)).sum()).clamp(max=1.0))

    def _kept(
        self,
        operation: str,
        texts: Sequence[MemCube],
        made: MemCube | None,
        start: float,
        tokens: int,
        nbytes: int,
        fidelity: float,
        threshold: float,
        reason: str,
    ) -> Migration:
        parents = tuple((cube.id, cube.header.version) for cube in texts)
        took = time.perf_counter() - start
        migration = Migration(operation, parents, made, took, tokens, nbytes, fidelity, threshold, reason)
        with self.store.transaction() as tx:
            for id, version in parents:  # a text that changed while we worked is not what was moved
                newest = tx.newest(id)
                if newest is None or not still_says(newest, version, self.store.get):
                    raise InvalidInput(f"memory {id} changed while it was moved: move it again", code="STALE")
            if made is not None:
                tx.insert([Write(made, actor=ACTOR, action=operation, details=migration.figures)])
            for id, _ in parents:
                action = "promote" if made else "refuse"
                tx.note(id, action=action, actor=ACTOR, reason=reason or operation, details=migration.figures)
        return migration


def _made(kind: Any, texts: Sequence[MemCube], payload: TensorPayload, operation: str, more: dict[str, Any]) -> MemCube:
    """A memory of ``texts`` in another form: theirs by scope, by lineage, and by the strictest of their rules."""
    headers = [cube.header for cube in texts]
    ends = [header.expires for header in headers if header.expires is not None]
    header = Header(
        kind=kind,
        semantic_type=headers[0].semantic_type if len(headers) == 1 else "summary",
        scope=headers[0].scope if len({header.scope for header in headers}) == 1 else shared_scope(headers[0].scope),
        lineage=Lineage(tuple((header.id, header.version) for header in headers), operation),
        provenance=Provenance(extractor=operation, model=payload.fingerprint.sha256),
        access=(kind,),
        expires=min(ends, default=None),
        sensitivity=tuple(sorted({label for header in headers for label in header.sensitivity})),
        metadata=more,
    )
    return MemCube(header, payload)


def _decoded(cube: MemCube, text: str, confidence: float) -> MemCube:
    header = Header(
        scope=cube.header.scope,
        state=State.ARCHIVED,
        trust="import",
        tags=(QUARANTINED,),
        lineage=Lineage(((cube.id, cube.header.version),), "decode"),
        provenance=Provenance(extractor="decode", model=cube.header.provenance.model),
        metadata={"confidence": round(confidence, 4)},
    )
    return MemCube(header, TextPayload(text))
