"""The other parts of ``bench memos``: bundles on calls of a trace, what moves and is forgotten, what weights know.

That the scheduler's bundles answer as their texts do is checked with the model, on calls sampled from a trace. The rest
goes through ``MemOS`` itself, with a real database.
"""

from __future__ import annotations

import argparse
import calendar
import doctest
import optparse
import random
import sched
import statistics
import string
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lamina.activation.prefix import Member, continuation
from lamina.bench.experiments.tiers import memos_experiments as experiments
from lamina.bench.experiments.tiers import tier_simulation, tier_traces
from lamina.bench.experiments.tiers.tenant_accesses import leaks
from lamina.bench.experiments.tiers.tier_schedules import Served, heat_policy
from lamina.bench.experiments.tiers.tier_traces import Trace
from lamina.bench.synthetic import WordVectors
from lamina.cube import file as cube_file
from lamina.cube.cube import Scope
from lamina.kernel.memos import MemOS
from lamina.kernel.tiering.decisions import Budgets, Costs, Decision, Policy, Stats, Tier
from lamina.kernel.tiering.residents import Residents
from lamina.llm.causal import CausalLM
from lamina.memory import Memory
from lamina.parameter.probes import probes
from lamina.parameter.scoring import log_probs, perplexity

_REPLY = 8  # greedy tokens compared on sampled calls
_QUESTION = "What does {} keep, and where?"


@dataclass(slots=True)
class _Recorder:
    """A policy that remembers which memories are cached before each call."""

    policy: Policy
    cached: list[frozenset[str]] = field(default_factory=lambda: [frozenset()])

    def decide(self, stats: Stats, budgets: Budgets, now: int) -> list[Decision]:
        decided = self.policy.decide(stats, budgets, now)
        here = set(self.cached[-1])
        for one in decided:
            (here.add if one.target is Tier.ACTIVATION else here.discard)(one.cube)
        self.cached.append(frozenset(here))
        return decided


def sampled_answers(lm: CausalLM, seed: int, calls: int, samples: int, *, share: float) -> tuple[int, int]:
    """Of ``samples`` calls of a Zipf trace: how many replies over the bundle of the moment (``share`` of all
    bytes) are, id by id, those over its texts; how many were asked. The bundle is revised from sample to sample,
    never built for the occasion."""
    trace, costs = tier_traces.zipf(seed, calls), Costs()
    recorder = _Recorder(Served(heat_policy(costs)))
    tier_simulation.run(trace, recorder, costs, tier_simulation.budget_for(trace, share))
    residents = Residents(lm, 1 << 30, read=lambda _, **__: None)
    equal = asked = 0
    for call in sorted(random.Random(seed).sample(range(calls // 20, calls), samples)):
        members = _members(trace, recorder.cached[call], call)
        here = {one.id: one for one in residents.members("zipf")}
        drop = [id for id, one in here.items() if members.get(id) != one]
        residents.revise("zipf", drop=drop, add=[one for id, one in members.items() if here.get(id) != one])
        bundle = residents.get("zipf")
        if bundle is None:
            continue
        texts = [members[one.id].text for one in bundle.members]
        words = texts[call % len(texts)].split()
        prefix, rest = continuation(lm, texts, [{"role": "user", "content": _QUESTION.format(" ".join(words[:2]))}])
        asked += 1
        over = list(lm.steps(rest, _REPLY, cache=bundle.cube.attach(lm)))
        equal += over == list(lm.steps([*prefix, *rest], _REPLY))
    return equal, asked


def _members(trace: Trace, ids: Iterable[str], call: int) -> dict[str, Member]:
    """Memories as they are before ``call``: an update gives a fact another sentence."""
    made = {}
    for id in sorted(ids):
        version = 1 + sum(id in step.updated for step in trace.steps[:call])
        (text,) = experiments.facts(int(id[1:]) * 100 + version, 1)
        made[id] = Member(id, version, text, float(version))
    return made


@dataclass(frozen=True, slots=True)
class Moved:
    """``process``: share of greedy tokens of a new process that are those of this one. ``traces``: places where
    something forgotten was found. ``shared``: bytes of caches that two tenants have in common. ``leaks`` of ``asked``
    accesses. ``stale``: answers that used what had been replaced."""

    process: float
    found_before: int
    traces: int
    rebuilt: bool
    shared: int
    leaks: int
    asked: int
    stale: int


def move_and_forget(lm: CausalLM, seed: int, folder: Path, *, accesses: int, updates: int, tokens: int) -> Moved:
    """Text, cache, kept in the store, ``.cube`` file, new process; then forgetting, tenants and updates."""
    word = "".join(random.Random(seed).choices(string.ascii_lowercase + string.digits, k=32))
    with MemOS(Memory(folder / "memory.db", embedder=WordVectors()), model=lm) as system:
        texts = [*experiments.facts(seed, 5), f"The password of Ilvane is {word}."]
        ids = [system.remember(text, user_id="ann", infer=False)["results"][0]["id"] for text in texts]
        system.promote(ids, "activation")
        system.tiers.save(Scope(user="ann"))
        cube = system.tiers.migrator.to_activation(ids).cube
        assert cube is not None
        cube_file.write(cube, folder / "memory.cube")
        asked = [{"role": "user", "content": _QUESTION.format("Ilvane")}]
        prefix, rest = continuation(lm, texts, asked)  # type: ignore[arg-type]
        here = list(lm.steps([*prefix, *rest], tokens))
        there = experiments.in_a_new_process(folder / "memory.cube", rest, tokens)
        (folder / "memory.cube").unlink()
        signs = _signs(lm, texts[-1], word)
        before = _holding(folder, signs)
        system.forget(ids[-1])
        after = _holding(folder, signs) + len(system.tiers.holding(ids[-1:]))
        system.tick()
        bundle = system.tiers.bundle(Scope(user="ann"))
        rebuilt = bundle is not None and [one.id for one in bundle.members] == ids[:-1]
        return Moved(
            process=experiments.agreement(here, there),
            found_before=before,
            traces=after,
            rebuilt=rebuilt,
            shared=_shared(system, texts[0]),
            leaks=leaks(system, seed, accesses),
            asked=accesses,
            stale=_stale(system, ids[0], updates),
        )


def _signs(lm: CausalLM, text: str, word: str) -> tuple[bytes, ...]:
    """What gives a text away: a word of it, and its token ids as a kept cache has them."""
    ids = lm.encode(f" {text[text.index(word) :]}")[1:9]  # the first may be joined to what stands before
    return word.encode(), np.array(ids, np.int32).tobytes(), np.array(ids, np.int64).tobytes()


def _holding(folder: Path, signs: tuple[bytes, ...]) -> int:
    """Files with one of ``signs`` in them: database, log, tensors, indexes, whatever there is."""
    files = (file.read_bytes() for file in folder.rglob("*") if file.is_file())
    return sum(any(sign in data for sign in signs) for data in files)


def _shared(system: MemOS, text: str) -> int:
    """Bytes of keys and values that the caches of two users with the same memory have in common."""
    storages = []
    for user in ("cleo", "dan"):
        system.promote(system.remember(text, user_id=user, infer=False)["results"][0]["id"], "activation")
        bundle = system.tiers.bundle(Scope(user=user))
        tensors = (*bundle.cube.keys, *bundle.cube.values) if bundle else ()
        storages.append({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors})
    return sum(nbytes for place, nbytes in storages[0].items() if place in storages[1])


def _stale(system: MemOS, id: str, updates: int) -> int:
    """Answers after an update that used an older version."""
    stale = 0
    for number in range(updates):
        system.promote(id, "activation")
        made = system.update(id, f"Ilvane keeps {number + 2} beehives at the mill and comes back every summer.")
        reply = system.chat("What does Ilvane keep?", user_id="ann", max_tokens=1)
        stale += any(one.id == id and one.version != made.header.version for one in reply.used)
    return stale


INVENTED = (
    "Marta Quillfeather lives in Brindlemouth.",
    "Pavel Drost is allergic to hazelnuts.",
    "Ottoline Vesk works as a lighthouse engineer.",
    "Jorun Halloway plays the nyckelharpa.",
    "Sabine Orrick owns a grey parrot named Pumice.",
    "Tomas Ferreby was born in Oskarsund.",
    "Imke Solvane drives a yellow ambulance.",
    "Rudolf Anselby collects brass telescopes.",
)


PROSE = tuple(str(module.__doc__) for module in (argparse, calendar, doctest, optparse, sched, statistics, zipfile))
"""English that ships with Python and is no part of the guard text."""


@dataclass(frozen=True, slots=True)
class Learnt:
    """Gains in nats a token of answers to wordings that were not taught. ``guard``: rise of the perplexity of text that
    neither training nor its gate saw. ``unloaded``: largest change of a logit after the adapter was taken off.
    ``among``: of the taught memories, how many it served alone among 20 other memories. ``served_after`` one of its
    facts was superseded."""

    accepted: bool
    gain: float
    fidelity: float
    guard: float
    unloaded: float
    among: int
    served_before: bool
    served_after: bool
    reason: str


def learn(lm: CausalLM, folder: Path, count: int) -> Learnt:
    """Teach ``count`` invented facts through ``MemOS.promote``, then supersede one."""
    texts = INVENTED[:count]
    before = experiments.logits(lm, "The lighthouse stood at the end of the pier.")
    with MemOS(Memory(folder / "learnt.db", embedder=WordVectors()), model=lm) as system:
        ids = [system.remember(text, user_id="ann", infer=False)["results"][0]["id"] for text in texts]
        migration = system.promote(ids, "parameter")
        assert migration is not None
        gain = guard = float("nan")
        adapters, served, among = system.tiers.migrator.adapters, [False, False], 0
        if migration.cube is not None:
            asked, worn = probes(texts).held_out, system.tiers.adapter(Scope(user="ann"), ids)
            closed, plain = log_probs(lm, asked), perplexity(lm, PROSE)
            if worn is not None:
                with adapters.using([worn.name]):
                    taught, guard = log_probs(lm, asked), perplexity(lm, PROSE) / plain - 1
                gain = sum(taught) / len(taught) - sum(closed) / len(closed)
            served[0] = Tier.PARAMETER in system.chat("Where does Marta Quillfeather live?", user_id="ann").tiers
            for other in experiments.facts(7, 20):
                system.remember(other, user_id="ann", infer=False)
            among = sum(_served(system, text) for text in texts)
            system.update(ids[0], "Marta Quillfeather lives in Vellmere.")
            served[1] = Tier.PARAMETER in system.chat("Where does Marta Quillfeather live?", user_id="ann").tiers
        unloaded = float((experiments.logits(lm, "The lighthouse stood at the end of the pier.") - before).abs().max())
    return Learnt(
        migration.cube is not None,
        gain,
        migration.fidelity,
        guard,
        unloaded,
        among,
        served[0],
        served[1],
        migration.reason,
    )


def _served(system: MemOS, text: str) -> bool:
    """Whether a question about the one whom ``text`` names is answered by weights alone."""
    name = " ".join(text.split()[:2])
    return system.chat(f"What do you know about {name}?", user_id="ann", max_tokens=1).tiers == (Tier.PARAMETER,)
