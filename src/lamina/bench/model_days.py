"""A conversation remembered through a model that has every kind of bad day: what is kept, invented, lost, doubled?

A scripted server (``lamina.bench.scripted_llm``) plays the model. It states exactly one true fact for each message
of a seeded dialogue, and around that truth it misbehaves, each way equally often: fenced, truncated or misshapen
replies, turns that do not exist, copies of its prompt's example, invented numbers and names, refusals, rate
limits, silence, connections that break. What it could not answer is retried once it is well again. Some messages
say again what was said before, so that duplicates have a chance.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from lamina.bench.scripted_llm import Server, Step, failed, form_of, refused, said, serving
from lamina.bench.synthetic import WordVectors
from lamina.cube.cube import MemCube, Scope
from lamina.llm.openai import OpenAIChat
from lamina.memory import Memory
from lamina.store.index import IndexCache
from lamina.store.sqlite import SqliteStore
from lamina.text.base import Pipeline
from lamina.text.prompted.mem0 import additive, two_phase

TROUBLES = (
    "valid", "fenced", "truncated", "wrong schema", "unknown id", "example copied", "number invented",
    "name invented", "refusal", "rate limit", "time-out", "half-closed",
)  # fmt: skip
_AWAY = ("rate limit", "time-out", "half-closed")
_TIMEOUT = 0.2  # seconds
_EXAMPLE = "Ottilie sold the harpsichord on 1 May 2008."
_START = datetime(2025, 3, 3, 9, tzinfo=UTC)
_PATTERNS = (
    ("I bought a {thing} for {n} euros.", "{who} bought a {thing} for {n} euros."),
    ("My {kin} {name} sells {thing}s in {place}.", "{who}'s {kin} {name} sells {thing}s in {place}."),
    ("Our neighbour {name} has {n} {thing}s.", "The neighbour {name} of {who} has {n} {thing}s."),
    ("We painted the {thing} with {name} yesterday.", "{who} painted the {thing} with {name} on {yesterday}."),
    ("{name} and I met in {place} over a {thing}.", "{name} and {who} met in {place} over a {thing}."),
)  # fmt: skip
_THINGS = (
    "lamp",
    "piano",
    "kayak",
    "carpet",
    "oven",
    "bicycle",
    "telescope",
    "sofa",
    "drum",
    "kettle",
    "ladder",
    "tent",
)
_NAMES = ("Ingrid", "Paolo", "Keiko", "Marek", "Salma", "Dmitri", "Noor", "Hamish", "Lucia", "Tariq")
_PLACES = ("Lisbon", "Osaka", "Tartu", "Quito", "Bergen", "Galway")
_KIN = ("sister", "brother", "cousin", "uncle", "aunt")
_NEW = re.compile(r'^\[(\d+)\] ([^\n]*?): (".*")$', re.M)  # number, time and speaker, text


@dataclass(frozen=True, slots=True)
class BadDays:
    """What came of one conversation. Shares are of 1."""

    valid_kept: float  # of the facts the model stated truly, those that are active
    ungrounded_active: int  # facts of the model that are active and were never said
    turns_lost: int
    duplicates: int  # active facts beyond the first with the same wording
    retried_completed: float  # of the turns that had to wait, those read after the retry
    waited: int  # turns that had to wait
    quarantined: int  # inventions set aside


@dataclass(frozen=True, slots=True)
class Saying:
    text: str
    fact: str
    at: datetime


@dataclass(slots=True)
class Moody:
    """The model: what each message truly says, and today's mood for each new question."""

    facts: dict[str, str]
    moods: Iterator[str]
    rng: random.Random
    well: bool = False
    stated: set[str] = field(default_factory=set)  # facts it has given in a readable answer
    _mood: dict[str, str] = field(default_factory=dict)  # of the window that begins at a time

    def answer(self, body: dict[str, Any]) -> Step:
        """The next step for a request, by the form it asks for."""
        form, prompt = form_of(body), body["messages"][1]["content"]
        if form == "Verdict":
            bogus = {"fact": 0, "event": self.rng.choice(("NOOP", "DELETE", "UPDATE")), "id": 57}
            return said(json.dumps({"decisions": [bogus if self.rng.random() < 0.5 else {"fact": 0, "event": "ADD"}]}))
        if form == "Summarised":
            return said(json.dumps({"summary": f"They talk. {_EXAMPLE}"}))
        turns = [(int(n), when, json.loads(text)) for n, when, text in _NEW.findall(prompt.split("NEW turns:")[1])]
        true = [(number, self.facts[text]) for number, _, text in turns if text in self.facts]
        window = turns[0][1]
        if window not in self._mood:
            self._mood[window] = next(self.moods)
        return self._in_mood("valid" if self.well else self._mood[window], form, true, again=len(body["messages"]) > 2)

    def _in_mood(self, mood: str, form: str, true: list[tuple[int, str]], *, again: bool) -> Step:
        if mood in _AWAY:
            return _away(mood)
        if mood == "refusal":
            return refused("I would rather not.")
        text = self._written(form, [(fact, [number]) for number, fact in true] + self._invented(mood, true), mood)
        if mood == "truncated" and not again:
            return said(text[: len(text) // 2], finish="length")
        if mood == "wrong schema" and not again:
            return said(json.dumps({"notes": [fact for _, fact in true]}))
        self.stated.update(fact for _, fact in true)
        return said(f"Sure!\n```json\n{text}\n```" if mood == "fenced" else text)

    def _invented(self, mood: str, true: list[tuple[int, str]]) -> list[tuple[str, list[int]]]:
        number, fact = true[0]
        if mood == "example copied":
            return [(_EXAMPLE, [number])]
        if mood == "number invented":
            return [(f"{fact[:-1]} {self.rng.randint(3000, 4000)} times.", [number])]
        if mood == "name invented":
            return [(f"{fact[:-1]} together with Bartholomew.", [number])]
        return []

    def _written(self, form: str, items: list[tuple[str, list[int]]], mood: str) -> str:
        wrong = [99] if mood == "unknown id" else []
        if form == "Notes":
            return json.dumps({"facts": [{"text": text, "about": "", "turns": [*at, *wrong]} for text, at in items]})
        entry = {"attributed_to": "", "linked_memory_ids": wrong}
        return json.dumps({"memory": [{"text": text, "turns": [*at, *wrong], **entry} for text, at in items]})


def _away(mood: str) -> Step:
    if mood == "rate limit":
        return failed(429, "slow down")
    answer = said('{"facts": [], "memory": []}')
    answer.silence = 2 * _TIMEOUT if mood == "time-out" else 0.0
    answer.cut = mood == "half-closed"
    return answer


def dialogue(seed: int, exchanges: int) -> list[Saying]:
    """Messages by Rosalind with what each states; one in eight says an earlier one again."""
    rng = random.Random(seed)
    relatives = rng.sample([(kin, name) for kin in _KIN for name in _NAMES], len(_KIN) * len(_NAMES))
    sayings: list[Saying] = []
    for n in range(exchanges):
        at = _START + timedelta(days=2 * n)
        yesterday = at - timedelta(days=1)
        told, fact = rng.choice(_PATTERNS)
        kin, name = relatives[n % len(relatives)]  # each has one job: nothing true replaces anything true
        words = {"who": "Rosalind", "n": 100 + n, "kin": kin, "name": name, "thing": rng.choice(_THINGS)}
        words |= {"place": rng.choice(_PLACES), "yesterday": f"{yesterday:%d %B %Y}"}
        repeated = [s for s in sayings if "yesterday" not in s.text]
        if n % 8 == 7 and repeated:
            sayings.append(Saying(rng.choice(repeated).text, "", at))
            continue
        sayings.append(Saying(told.format(**words), fact.format(**words), at))
    known = {s.text: s.fact for s in reversed(sayings) if s.fact}
    return [Saying(s.text, known[s.text], s.at) for s in sayings]


def measure(seed: int, *, pipeline: Literal["mem0", "mem0-additive"] = "mem0", exchanges: int = 48) -> BadDays:
    """Tell the dialogue to a memory whose model is scripted; let it get well; retry; count."""
    sayings = dialogue(seed, exchanges)
    rng = random.Random(seed + 1)
    moods = [mood for _ in range(exchanges // len(TROUBLES) + 1) for mood in rng.sample(TROUBLES, len(TROUBLES))]
    model = Moody({s.text: s.fact for s in sayings}, iter(moods), rng)
    with serving(model.answer) as server, _memory(server, pipeline) as memory:
        for saying in sayings:
            messages = [
                {"role": "user", "name": "Rosalind", "content": saying.text},
                {"role": "assistant", "content": "I see, thank you for telling me."},
            ]
            memory.add(messages, user_id="rosalind", run_id="chat", timestamp=saying.at)
        waited = _count(memory, {"tags": {"contains": "pending"}})
        model.well = True
        result = memory.retry()
        return _judged(memory, model, sayings, waited, result["extracted"])


def _memory(server: Server, pipeline: str) -> Memory:
    embedder = WordVectors()
    store = SqliteStore(":memory:", embedder=embedder.name)
    chat = OpenAIChat("scripted", base_url=server.url, timeout=_TIMEOUT, retries=0)
    build = two_phase if pipeline == "mem0" else additive
    parts: Pipeline = build(chat, store, embedder, IndexCache())
    return Memory(store=store, embedder=embedder, extractor=parts.extractor, updater=parts.updater)


def _judged(memory: Memory, model: Moody, sayings: list[Saying], waited: int, retried: int) -> BadDays:
    facts = [cube for cube in _all(memory, {"semantic_type": {"ne": "turn"}}) if "quarantined" not in cube.header.tags]
    wordings = [cube.text.casefold() for cube in facts]
    true = {saying.fact.casefold() for saying in sayings}
    stated = {fact.casefold() for fact in model.stated}
    by_model = [cube for cube in facts if cube.header.provenance.model is not None]
    turns = _count(memory, {"semantic_type": "turn"})
    return BadDays(
        valid_kept=len(stated & set(wordings)) / len(stated),
        ungrounded_active=sum(cube.text.casefold() not in true for cube in by_model),
        turns_lost=2 * len(sayings) - turns,
        duplicates=len(wordings) - len(set(wordings)),
        retried_completed=retried / waited if waited else 1.0,
        waited=waited,
        quarantined=_count(memory, {"tags": {"contains": "quarantined"}, "state": "archived"}),
    )


def _count(memory: Memory, where: dict[str, Any]) -> int:
    return len(_all(memory, where))


def _all(memory: Memory, where: dict[str, Any]) -> list[MemCube]:
    return memory.store.query(Scope(user="rosalind"), where, limit=10_000).cubes
