"""One memory in three forms: read as text, attached as a cache, worn as an adapter; measured, then forgotten.

MemOS, arXiv 2507.03724: the same question is put to the same model in each form. The steps do and measure; printing is
the caller's, as in ``story``. Text and cache must show what they promise, or ``DemoFailed`` ends the demo. Whether an
adapter may stand for its memories is decided by its gate, so a refusal is a result and no failure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamina._optional import require
from lamina.cube.cube import MemCube, Scope
from lamina.cube.payload import TensorPayload
from lamina.demo.story import DemoFailed, occurrences
from lamina.kernel.forgetting import Receipt
from lamina.kernel.governing import traces
from lamina.kernel.memos import MemOS
from lamina.kernel.migration import Migration
from lamina.kernel.replying import Reply
from lamina.llm.base import Message
from lamina.parameter.probes import decoys
from lamina.parameter.probes import probes as probes_for
from lamina.parameter.recall import RecallGap, recall_gap

USER, SPEAKER = "demo", "Talia"
SAID = (
    "I live in Brindlemouth.",
    "I work at Harrow Glassworks.",
    "I am allergic to sesame.",
    "My favourite colour is maroon.",
    "I play the oboe.",
    "I drive a Skoda.",
    "My cat is called Pickles.",
    "I was born in 1968.",
)
QUESTION = "In which town does Talia live?"
SECRET = "Brindlemouth"  # the answer: a word that stands nowhere else
STEPS = 60  # of training: about two minutes on one core, and enough for eight such facts
_TIMES = 3  # a first token is timed so often; the median counts
_WORDS = 20  # tokens of an answer
_AGREES = 0.999  # least exp(-KL) of what is attached against what is read


@dataclass(frozen=True, slots=True)
class Served:
    """How a form served. ``first_token`` and ``seconds`` without the search; ``fidelity``: 1 for nothing lost."""

    form: str
    answer: str
    knows: bool
    first_token: float
    seconds: float
    read: int
    reused: int
    nbytes: int
    fidelity: float | None


@dataclass(frozen=True, slots=True)
class Learnt:
    """What became of the adapter; ``served`` and ``gap`` only if its gate accepted it."""

    migration: Migration
    served: Served | None
    gap: RecallGap | None


@dataclass(frozen=True, slots=True)
class Erased:
    """What went, and what a search of everything found afterwards. ``gap`` is of the adapters that are left, if any;
    ``stored`` are bytes of caches and adapters in the store, before and after, ``places`` those of the secret."""

    receipt: Receipt
    report: traces.Report
    places: tuple[int, int]
    stored: tuple[int, int]
    gap: RecallGap | None
    answer: str  # what the model says now


def tell(system: MemOS) -> tuple[list[MemCube], MemCube]:
    """Remember what one person said; the facts taken from it, and the one that the demo follows."""
    ids = []
    for text in SAID:
        rows = system.remember([{"role": "user", "name": SPEAKER, "content": text}], user_id=USER)["results"]
        ids += [row["id"] for row in rows if row["semantic_type"] != "turn"]
    facts = [cube for id in ids if (cube := system.store.get(id)) is not None]
    followed = [cube for cube in facts if SECRET in cube.text]
    if len(followed) != 1:
        raise DemoFailed(f"{len(followed)} memories hold the answer to {QUESTION!r}; there should be one.")
    return facts, followed[0]


def without(system: MemOS) -> Served:
    """The model alone, which cannot know."""
    replies = [system.chat(QUESTION, memory=False, max_tokens=tokens) for tokens in _lengths()]
    return _served("no memory", replies, 0, None)


def as_text(system: MemOS, fact: MemCube) -> Served:
    """The memory is read with the question. Raises ``DemoFailed`` if that does not answer it."""
    return _true(_asked(system, "text", fact.nbytes, 1.0))


def as_cache(system: MemOS, fact: MemCube) -> Served:
    """The memory is attached as keys and values. Raises ``DemoFailed`` if that is not as good as reading it."""
    system.promote(fact.id, "activation")
    system.tiers.save(_scope(system))
    bundle = system.tiers.bundle(_scope(system))
    if bundle is None:
        raise DemoFailed("the memory was promoted, but no cache of it stands ready.")
    served = _true(_asked(system, "activation", bundle.nbytes, _agreement(system)))
    if served.fidelity is None or served.fidelity < _AGREES or not served.reused:
        raise DemoFailed(f"what is attached is not what is read: fidelity {served.fidelity}, reused {served.reused}.")
    return served


def as_adapter(system: MemOS, facts: Sequence[MemCube], progress: Callable[[int, int, float], None]) -> Learnt:
    """All memories are taught to an adapter; nothing is read any more. ``progress``: step, steps, loss."""
    ids = [fact.id for fact in facts]
    migration = system.tiers.migrator.to_parameter(ids, steps=STEPS, progress=progress)
    if migration.cube is None:
        return Learnt(migration, None, None)
    worn = system.tiers.wear(migration.cube)
    served = _asked(system, "parameter", migration.nbytes, migration.fidelity)
    return Learnt(migration, served, _recall(system, facts, [worn.name]))


def forget(system: MemOS, fact: MemCube, database: Path) -> Erased:
    """Erase the memory from all forms, then look for it everywhere. Raises ``DemoFailed`` if anything is found."""
    before, size = occurrences(database, SECRET), _stored(system)
    if not before:
        raise DemoFailed("the secret is in no file before it is forgotten: there is nothing to prove.")
    gone = system.forget(fact.id, reason="asked to forget")
    left = system.tiers.migrator.adapters.names
    erased = Erased(
        receipt=gone,
        report=traces.verify(system.store, [SECRET, fact.text], gone.ids, caches=[system.tiers]),
        places=(before, occurrences(database, SECRET)),
        stored=(size, _stored(system)),
        gap=_recall(system, [fact], left) if left else None,
        answer=system.chat(QUESTION, max_tokens=_WORDS, user_id=USER).text,
    )
    found = any(SECRET in hit.cube.text for hit in system.recall(QUESTION, user_id=USER))
    if found or not erased.report or erased.places[1] or erased.stored[1] or SECRET in erased.answer:
        places = ", ".join(f"{one.tier}: {one.where}" for one in erased.report.traces)
        raise DemoFailed(f"the memory is still there ({places or 'search, a cache or the model has it'}).")
    return erased


def _asked(system: MemOS, form: str, nbytes: int, fidelity: float) -> Served:
    """Ask with the one memory that is found, and see that it served in ``form`` alone."""
    replies = [system.chat(QUESTION, k=1, max_tokens=tokens, user_id=USER) for tokens in _lengths()]
    used = {str(tier) for reply in replies for tier in reply.tiers}
    if used != {form}:
        raise DemoFailed(f"the question was answered from {sorted(used)}, not from {form}.")
    return _served(form, replies, nbytes, fidelity)


def _lengths() -> list[int]:
    """Whole answers need not be repeated to time their first token."""
    return [_WORDS, *[1] * (_TIMES - 1)]


def _served(form: str, replies: Sequence[Reply], nbytes: int, fidelity: float | None) -> Served:
    whole = replies[0]
    first = statistics.median(reply.first_token for reply in replies)
    known = SECRET in whole.text
    return Served(form, whole.text, known, first, whole.seconds, whole.read, whole.reused, nbytes, fidelity)


def _true(served: Served) -> Served:
    if not served.knows:
        raise DemoFailed(f"{QUESTION!r} from {served.form} was answered {served.answer!r}, without {SECRET!r}.")
    return served


def _agreement(system: MemOS) -> float:
    """``exp(-KL)`` of the first token of the answer: the cache attached, against all of it read."""
    torch = require("torch", "comparing a cache with its text")
    bundle, lm = system.tiers.bundle(_scope(system)), system.tiers.lm
    if bundle is None:
        return 0.0
    asked: Message = {"role": "user", "content": QUESTION}
    rest = bundle.rest(lm, [asked])
    with lm.lock, torch.inference_mode():
        whole = torch.tensor([[*bundle.cube.ids, *rest]])
        true = lm.model(whole, logits_to_keep=1).logits[0, -1].double().log_softmax(-1)
        out = lm.model(torch.tensor([rest]), past_key_values=bundle.cube.attach(lm), logits_to_keep=1)
        near = out.logits[0, -1].double().log_softmax(-1)
    return float(torch.exp(-(true.exp() * (true - near)).sum()).clamp(max=1.0))


def _recall(system: MemOS, facts: Sequence[MemCube], names: Sequence[str]) -> RecallGap:
    """How much better the adapters know the followed memory than decoys of it that were never taught."""
    fact = next(fact for fact in facts if SECRET in fact.text)
    held_out = probes_for([fact.text], [fact.header.claim]).held_out
    return recall_gap(system.tiers.migrator.adapters, names, held_out, decoys(held_out))


def _stored(system: MemOS) -> int:
    """Bytes of caches and adapters in the store."""
    scope, size = _scope(system), 0
    for kind in ("activation", "parameter"):
        page = system.store.query(scope, {"kind": kind})
        size += sum(cube.nbytes for cube in page.cubes if isinstance(cube.payload, TensorPayload))
    return size


def _scope(system: MemOS) -> Scope:
    return Scope(system.memory.settings.tenant, USER)
