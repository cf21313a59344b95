"""Mem-alpha: what to write to memory, learned from whether later questions get answered.

"Mem-alpha: Learning Memory Construction via Reinforcement Learning", Wang et al., arXiv 2509.25911. There a 4B language
model reads chunk after chunk of a history and calls tools on a core, a semantic and an episodic memory; its reward is
how a *frozen* reader then answers questions over the whole history (``policy/grpo.py``). ``MemAlpha`` learns the same
decision with a policy small enough for a laptop: *which* operation a chunk deserves. *What text* is written is the
extractor's business. Nothing the policy sees grows with the history (``policy/features.py``), so that what is learned
on 12 to 24 chunks holds on hundreds. ``policy/language_model.py`` is the paper's own form.

In ``Memory(pipeline="mem-alpha")`` the policy is an ``Updater``. Each decision becomes a version of a memory in the
ordinary store: logged, reversible, and the verbatim turn is kept whatever is decided. Two things differ from the gym.
The extractor has dropped chatter and retold the rest as statements, and the packaged weights have learned on such
histories too. And the entries a fact is compared with are those of its subject.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lamina.cube.cube import Claim, MemCube
from lamina.errors import CorruptCube, InvalidInput, NotFound
from lamina.text.base import Fact, Operation
from lamina.text.english.slots import base, clash, is_functional, same_value, stem
from lamina.text.policy.features import (
    FEATURES,
    Match,
    Reading,
    assemble,
    count_tokens,
    match,
    read,
    retell,
    strip_dates,
)
from lamina.text.policy.grpo import Environment, Recipe, Training, TrainLog, as_metadata, train
from lamina.text.policy.network import Adam, forward, initial
from lamina.text.policy.tools import MemoryType, ToolCall, TypedMemory
from lamina.text.update import RulesUpdater

Floats = NDArray[np.float64]
WEIGHTS = Path(__file__).parent / "policy" / "weights" / "mem-alpha.safetensors"
WEIGHTS_SHA256 = "89c3ad05a7c3f7da42920be65736a16effbc40a509dfe6ebb3192c88ff424102"
_NUMBER = re.compile(r"\d+")
CORE_LIMIT = 512  # words of a user's traits; as published


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """One thing the policy can do with a chunk: the tool it calls, and the memory that tool writes to."""

    name: str
    tool: str
    memory_type: MemoryType | None = None  # None: that of the best match


DEFAULT_ACTIONS = (
    ActionSpec("skip", "skip"),
    ActionSpec("insert-semantic", "memory_insert", "semantic"),
    ActionSpec("insert-episodic", "memory_insert", "episodic"),
    ActionSpec("update-best", "memory_update"),
    ActionSpec("core-write", "memory_update", "core"),
    ActionSpec("delete-best", "memory_delete"),
)


class _About(BaseModel):
    """The metadata of a policy's file; ``log`` is the curve, of a policy that can go on learning."""

    model_config = ConfigDict(extra="forbid")

    recipe: Recipe
    seed: int
    lr: float
    updates: int
    scores: dict[str, Any]
    features: list[str]
    actions: list[str]
    log: list[tuple[float, ...]] | None = None


class WritePolicy(Protocol):
    def act(self, memory: TypedMemory, chunk: str) -> list[ToolCall]:
        """The calls to make on ``memory`` for ``chunk``; none is carried out yet."""


class MemAlpha:
    """The learned ``WritePolicy``. A new one acts at random until ``fit``; ``MemAlpha.default()`` is trained.

    ``hidden`` units in its one layer, ``lr`` of Adam, ``seed`` of weights and histories.
    """

    def __init__(self, *, recipe: Recipe | None = None, hidden: int = 64, lr: float = 3e-3, seed: int = 0) -> None:
        self.recipe = recipe or Recipe()
        params = initial(len(FEATURES), hidden, len(DEFAULT_ACTIONS), seed)
        self.training = Training(params, Adam(params, lr), seed)
        self.scores: dict[str, Any] = {}
        self._resumable = True

    def fit(self, env: Environment, *, updates: int = 800) -> TrainLog:
        """Learn by GRPO for ``updates`` more updates; the whole curve so far. Raises ``InvalidInput`` for a policy
        saved without its optimizer."""
        if not self._resumable:
            raise InvalidInput("this policy was saved without its optimizer: train a new one, MemAlpha(seed=...)")
        return train(self.training, env, self.recipe, updates)

    def choose(self, features: Floats) -> NDArray[np.int64]:
        """The most probable action of each row, places in ``DEFAULT_ACTIONS``; features ``(..., len(FEATURES))``."""
        log_chances, _ = forward(self.training.params, features.reshape(-1, len(FEATURES)))
        return np.asarray(log_chances.argmax(axis=1).reshape(features.shape[:-1]))

    def act(self, memory: TypedMemory, chunk: str) -> list[ToolCall]:
        """One call, see ``WritePolicy``."""
        found = match(read(chunk), [read(entry.text) for entry in memory.entries])
        features = assemble(read(chunk), found, memory.core_fill)
        return [compose(DEFAULT_ACTIONS[int(self.choose(features))], memory, chunk, found)]

    def save(self, path: str | Path, *, resumable: bool = True) -> None:
        """Write a safetensors file with recipe, seed, curve and scores in its metadata. ``resumable=False`` leaves
        the optimizer and the curve out, and halves the rest: float32."""
        training = self.training
        tensors: dict[str, NDArray[Any]] = dict(training.params)
        about = {
            "recipe": as_metadata(self.recipe),
            "seed": training.seed,
            "lr": training.adam.lr,
            "updates": training.adam.steps,
            "scores": self.scores,
            "features": list(FEATURES),
            "actions": [action.name for action in DEFAULT_ACTIONS],
        }
        if resumable:
            tensors |= training.adam.moments
            about["log"] = training.log.rows
        else:
            tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        save_file(tensors, Path(path), metadata={"mem-alpha": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> MemAlpha:
        """A policy as ``save`` wrote it. Raises ``NotFound``, ``CorruptCube`` for another file, ``InvalidInput`` for
        a policy over other features or actions."""
        if not Path(path).is_file():
            raise NotFound(f"path={str(path)!r:.120}: no such file; write one with: lamina policy train")
        try:
            with safe_open(path, framework="numpy") as file:
                told = _About.model_validate_json((file.metadata() or {})["mem-alpha"])
                tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
            policy = cls(recipe=told.recipe, hidden=tensors["hidden.bias"].size, lr=told.lr, seed=told.seed)
        except (SafetensorError, KeyError, ValueError) as error:  # pydantic's are ValueErrors
            raise CorruptCube(f"path={str(path)!r:.120} holds no write policy: {error}") from error
        if told.features != list(FEATURES) or told.actions != [action.name for action in DEFAULT_ACTIONS]:
            raise InvalidInput(f"path={str(path)!r:.120}: a policy over other features or actions; train it again")
        training = policy.training
        wanted = training.params | (training.adam.moments if told.log is not None else {})
        if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in wanted.items()}:
            raise CorruptCube(f"path={str(path)!r:.120} holds tensors of other shapes than a write policy has")
        training.params = {name: tensors[name] for name in training.params}
        training.adam.steps = told.updates
        policy.scores, policy._resumable = told.scores, told.log is not None
        if told.log is not None:
            training.adam.moments = {name: tensors[name] for name in training.adam.moments}
            training.log.rows = list(told.log)
        return policy

    @classmethod
    def default(cls) -> MemAlpha:
        """The packaged policy. Raises ``CorruptCube`` if its file is not the one that was shipped."""
        if hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() != WEIGHTS_SHA256:
            raise CorruptCube(f"{WEIGHTS} is not the file that was shipped: install lamina again")
        return cls.load(WEIGHTS)


def compose(action: ActionSpec, memory: TypedMemory, chunk: str, found: Match) -> ToolCall:
    """The call of an action. Semantic entries lose their dates; the core is written anew, newest sentence first, with
    as many of the older ones as fit. Without a match, update and delete name no entry, and fail as calls."""
    if action.tool == "skip":
        return ToolCall("skip")
    if action.memory_type == "core":
        return ToolCall(action.tool, {"memory_type": "core", "new_content": _rewritten_core(memory, chunk)})
    best = memory.entries[found.place] if found.place is not None else None
    memory_type = action.memory_type or (best.memory_type if best else "semantic")
    arguments: dict[str, Any] = {"memory_type": memory_type}
    if action.memory_type is None:
        arguments["memory_id"] = best.id if best else None
    if action.tool != "memory_delete":
        content = strip_dates(chunk) if memory_type == "semantic" else chunk
        arguments["content" if action.tool == "memory_insert" else "new_content"] = content
    return ToolCall(action.tool, arguments)


def _rewritten_core(memory: TypedMemory, chunk: str) -> str:
    """One sentence a line. A sentence the core has already leaves it as it is, which the tool refuses."""
    lines = memory.core.split("\n") if memory.core else []
    if chunk in lines:
        return memory.core
    kept, used = [chunk], count_tokens(chunk)
    for line in lines:
        used += count_tokens(line)
        if used > memory.core_limit:
            break
        kept.append(line)
    return "\n".join(kept)


class MemAlphaUpdater:
    """The ``Updater`` that asks the policy. Deterministic: the most probable action is taken.

    What grammar is sure of (said again, another value of an attribute with one value, an ending) the rules decide: the
    gym has no negation and no attribute with two values at once. Of the rest the policy decides, as far as nothing
    is lost by it: it may file, fill out and leave out, but ends nothing that may still be true, and leaves out nothing
    that brings a number or a name of its own. A best match is the open fact the new one is most like, by its slot
    first. ``update-best`` augments it when the new fact repeats all it says, else the news is added. ``core-write``
    files a trait of the user as ``persona``.
    """

    name = "mem-alpha"

    def __init__(self, policy: MemAlpha | None = None) -> None:
        self._policy = policy or MemAlpha.default()
        self._rules = RulesUpdater()

    def slots_to_compare(self, claim: Claim) -> tuple[str | None, ...]:  # noqa: ARG002 - the protocol's
        """All of the subject's, whatever ``claim`` is about."""
        return (None,)

    def decide(
        self,
        fact: Fact,
        observed: datetime,
        same_subject: Sequence[MemCube],
        nearest: Sequence[tuple[MemCube, float]],
    ) -> Operation:
        """See ``Updater``. Pure: nothing is written."""
        ruled = self._rules.decide(fact, observed, same_subject, nearest)
        if ruled.kind != "add":
            core = ruled.target is not None and ruled.target.header.semantic_type == "persona"
            return replace(ruled, fact=replace(ruled.fact, semantic_type="persona")) if core else ruled
        known = _open(fact.claim, same_subject, nearest)
        traits = [cube for cube in known if cube.header.semantic_type == "persona"]
        chunk = _told(fact)
        kept = {"persona"} if chunk.dated else {"persona", "event"}  # what happened is not undone by a new state
        listed = [cube for cube in known if cube.header.semantic_type not in kept]
        found, target = _best(chunk, fact, listed)
        fill = min(1.0, sum(count_tokens(cube.text) for cube in traits) / CORE_LIMIT)
        action = DEFAULT_ACTIONS[int(self._policy.choose(assemble(chunk, found, fill)))]
        return _operation(action, fact, chunk, found, target, traits)


def _open(claim: Claim, same_subject: Sequence[MemCube], nearest: Sequence[tuple[MemCube, float]]) -> list[MemCube]:
    """Open memories, each once, in order of arrival. A plan or hearsay meets only its like: it ends no assertion."""
    found = {cube.id: cube for cube in (*same_subject, *(cube for cube, _ in nearest))}
    alike = (c for c in found.values() if c.header.claim and c.header.claim.modality == claim.modality)
    return sorted((c for c in alike if c.header.superseded is None), key=lambda cube: (cube.header.recorded, cube.id))


def _told(fact: Fact) -> Reading:
    """A fact as the policy reads it: with what the extractor knows instead of guesses.

    A preference was told in the first person, so the name that the extractor put there is taken out again.
    """
    reading = retell(read(fact.text))
    subject = {stem(word.lower()) for word in fact.claim.subject.split()}
    named = subject | {stem(word.lower()) for name in fact.entities for word in name.split()}
    own = fact.semantic_type in ("preference", "persona")
    terms = reading.terms - subject if own else reading.terms
    names = (reading.names | named) & terms
    return replace(reading, terms=terms, names=names, dated=fact.semantic_type == "event", first_person=own)


def _best(chunk: Reading, fact: Fact, listed: Sequence[MemCube]) -> tuple[Match, MemCube | None]:
    """The entry to update or delete. Among entries with the fact's slot and another value lies the only safe one."""
    slot = base(fact.claim.slot) if fact.claim.slot else None
    rivals = [cube for cube in listed if slot and cube.header.claim and base(cube.header.claim.slot or "") == slot]
    entries = rivals or listed
    found = match(chunk, [read(cube.text) for cube in entries])
    if found.place is None:
        return found, None
    return replace(found, same_entity=not chunk.first_person, same_attribute=bool(rivals)), entries[found.place]


def _operation(
    action: ActionSpec, fact: Fact, chunk: Reading, found: Match, target: MemCube | None, traits: Sequence[MemCube]
) -> Operation:
    """The action as an operation on the store. An action that would fail as a call becomes the harmless one."""
    why = f"Mem-alpha chose {action.name}" + (f" at cosine {found.cosine:.2f} to the best match." if target else ".")
    if action.name == "skip" and not _brings_something(fact, target):
        return Operation("skip", fact, why)
    if action.name == "core-write":
        again = next((cube for cube in traits if cube.text == fact.text), None)
        if again is not None:
            return Operation("noop", fact, f"{why} The core says so already.", again)
        trait = replace(fact, semantic_type="persona")
        old = next((cube for cube in reversed(traits) if _gives_way(cube, fact.claim)), None)
        return Operation("supersede" if old else "add", trait, why, old)
    if action.name == "update-best" and target is not None and read(target.text).terms <= chunk.terms:
        return Operation("augment", fact, why, target)
    memory_type = "event" if action.name == "insert-episodic" else "fact"
    return Operation("add", replace(fact, semantic_type=memory_type), why)


def _brings_something(fact: Fact, target: MemCube | None) -> bool:
    """Whether leaving a fact out would lose an attribute, a number or a name that its best match does not have."""
    there = target.text.casefold() if target is not None else ""
    named = (*_NUMBER.findall(fact.text), *(name.casefold() for name in fact.entities))
    return fact.claim.slot is not None or any(word not in there for word in named)


def _gives_way(cube: MemCube, claim: Claim) -> bool:
    """Whether a trait is another value of the claim's attribute, or its opposite: the core is rewritten, no pile."""
    old = cube.header.claim
    if old is None or old.slot is None or claim.slot is None:
        return False
    if old.polarity != claim.polarity:
        return old.slot == claim.slot and same_value(claim.slot, claim.value, old.value)
    return claim.polarity and is_functional(claim.slot) and clash(claim.slot, claim.value, old.slot, old.value)


def about(policy: MemAlpha) -> Mapping[str, Any]:
    """What a policy is, for people: recipe, seed, updates, scores."""
    training = policy.training
    return {
        "recipe": as_metadata(policy.recipe),
        "seed": training.seed,
        "updates": training.adam.steps,
        "parameters": sum(tensor.size for tensor in training.params.values()),
        "scores": policy.scores,
    }
