"""``lamina bench locomo``: does the memory find the turns that answer a question?

Evidence recall on LoCoMo (Maharana et al., arXiv 2402.17753), from the published file. No language model is
asked and none judges: a question's annotated evidence turns are either among the first k distinct turns or
not. The document states its own definition, because on this data a change of definition moves a number by
more than most systems differ.

``lamina`` goes through the front door as a user's program would: sessions of named messages with their
timestamps into ``Memory.add_batch`` on a file, facts inferred, questions through ``Memory.hits``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from lamina.bench import mem0_peer
from lamina.bench.catalog import unknown
from lamina.bench.conversations.baselines import BASELINES, Build, Found, Ranker, distinct_turns
from lamina.bench.conversations.dataset import CATEGORIES, Conversation, Question, load_locomo
from lamina.bench.conversations.metrics import Score, interval, mean, score
from lamina.cube.cube import Scope
from lamina.errors import InvalidInput, NotFound
from lamina.llm.base import Embedder
from lamina.llm.embed import LocalEmbedder, MiniLM

KS = (5, 10, 20)
SCORED = (1, 2, 3, 4)  # adversarial questions (5) ask for what was never said: they have no evidence to find
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Scored:
    """One question's scores under one system, by cut-off."""

    conversation: str
    category: int
    at: Mapping[int, Score]
    tokens: int


# -- the front door ------------------------------------------------------------------------------


@contextmanager
def lamina(talk: Conversation, embedder: Embedder, folder: Path) -> Iterator[Ranker]:
    """Lamina as a user gets it, in a file of its own."""
    from lamina.memory import Memory
    from lamina.settings import Settings

    settings = Settings(tenant="default", durable=True)  # named, so that nobody's settings change the result
    with Memory(folder / "memory.db", embedder=embedder, settings=settings) as memory:
        yield _FrontDoor(memory, talk, _ingest(memory, talk))


class _FrontDoor:
    def __init__(self, memory: Any, talk: Conversation, source: Mapping[str, str]) -> None:
        self._memory = memory
        self._scope = Scope("default", user=talk.name)
        self._source = source

    def rank(self, query: str, k: int) -> list[Found]:
        return distinct_turns(lambda n: self._search(query, n), k)

    def _search(self, query: str, n: int) -> list[Found]:
        found = []
        for hit in self._memory.hits(query, self._scope, top_k=n):
            turn = hit.source or hit.cube
            found.append(Found(self._source[turn.id], f"{turn.header.utterance.speaker}: {turn.text}"))
        return found


def _ingest(memory: Any, talk: Conversation) -> dict[str, str]:
    """One ``add_batch`` item a session; which stored turn is which of the conversation."""
    sessions = [list(turns) for _, turns in groupby(talk.turns, key=lambda turn: turn.session)]
    items = [
        {
            "messages": [{"role": turn.role, "name": turn.speaker, "content": turn.text} for turn in turns],
            "user_id": talk.name,
            "timestamp": turns[0].at,
        }
        for turns in sessions
    ]
    source: dict[str, str] = {}
    for turns, answer in zip(sessions, memory.add_batch(items), strict=True):
        stored = [row["id"] for row in answer["results"] if row["semantic_type"] == "turn"]
        source |= {id: turn.dia_id for id, turn in zip(stored, turns, strict=True)}
    return source


SYSTEMS: dict[str, Build] = {"lamina": lamina, **BASELINES}


# -- the harness ---------------------------------------------------------------------------------


def run(
    file: Path,
    *,
    systems: Sequence[str] = (),
    seed: int = 0,
    note: Note | None = None,
    embedder: LocalEmbedder | None = None,
) -> dict[str, Any]:
    """The result document for ``systems`` (default: all that are installed) on a LoCoMo file.

    ``embedder`` (default: MiniLM without a cache, so that each system pays for its own embedding) serves all
    systems, and counts tokens. Raises ``NotFound`` for an unknown system, ``InvalidInput`` for the file.
    """
    chosen, notes = _chosen(systems)
    talks = [_spoken(talk) for talk in load_locomo(file)]
    embedder = embedder or MiniLM(cache_size=0)
    table = {}
    for name in chosen:
        begin = time.perf_counter()
        scores = _evaluate(name, talks, embedder, note)
        table[name] = _summary(scores, seed) | {"seconds": time.perf_counter() - begin}
    return {
        "bench": "locomo",
        "seed": seed,
        "data": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "conversations": len(talks),
        "turns": sum(len(talk.turns) for talk in talks),
        "questions": sum(len(talk.answerable(SCORED)) for talk in talks),
        "repaired": sum(talk.repaired for talk in talks),
        "definition": definition(embedder.name),
        "systems": table,
        "notes": notes,
    }


def definition(encoder: str) -> str:
    """What the numbers mean, in words that go with them."""
    return (
        "Unit: turn. Questions: categories 1-4 with evidence left after repair (joined, padded and stray ids split "
        "or normalised, ids of no turn dropped). recall@k: share of a question's evidence turns among the first k "
        "distinct turns, mean over questions; any, all: share of questions with at least one, with every one. "
        "ndcg@10: binary gains, 1/log2(rank+1). tokens@10: mean tokens of 'Speaker: text' of the first 10 turns, "
        f"counted with the tokenizer of {encoder}. Interval: 95 %, bootstrap over conversations. Encoder of every "
        f"system: {encoder}. Image captions are part of the turn for every system. seconds: storing and asking, "
        "embedding included."
    )


def data_file(given: Path | None) -> Path:
    """The LoCoMo file: as given (a file, or a folder that holds locomo10.json), else LAMINA_LOCOMO.

    Raises ``InvalidInput`` if there is none.
    """
    named = given or (Path(os.environ["LAMINA_LOCOMO"]) if os.environ.get("LAMINA_LOCOMO") else None)
    if named is None:
        raise InvalidInput("data=None: locomo needs the published locomo10.json; give --data FILE or set LAMINA_LOCOMO")
    file = named / "locomo10.json" if named.is_dir() else named
    if not file.is_file():
        raise InvalidInput(f"data={str(file)!r}: no such file; give the path of the published locomo10.json")
    return file


def has_data(given: Path | None) -> bool:
    """Whether ``data_file`` finds one."""
    try:
        data_file(given)
    except InvalidInput:
        return False
    return True


def _chosen(systems: Sequence[str]) -> tuple[list[str], list[str]]:
    """Systems to run and what to say about them."""
    for name in systems:
        if name not in SYSTEMS:
            raise NotFound(unknown(name, SYSTEMS, "ranker"))
    chosen = list(dict.fromkeys(systems or SYSTEMS))
    if not systems and not mem0_peer.installed():
        chosen.remove("mem0")
        return chosen, [mem0_peer.MISSING]
    return chosen, [f"mem0: {mem0_peer.name()}, infer=False, semantic only"] if "mem0" in chosen else []


def _spoken(talk: Conversation) -> Conversation:
    """Without turns of no text, which no memory can hold."""
    return replace(talk, turns=tuple(turn for turn in talk.turns if turn.text.strip()))


def _evaluate(name: str, talks: Sequence[Conversation], embedder: LocalEmbedder, note: Note | None) -> list[Scored]:
    scores: list[Scored] = []
    for number, talk in enumerate(talks):
        if note:
            note(f"{name}: {talk.name} ({number + 1} of {len(talks)}, {len(talk.turns)} turns)")
        with (
            tempfile.TemporaryDirectory(prefix="lamina-locomo-") as folder,
            SYSTEMS[name](talk, embedder, Path(folder)) as ranker,
        ):
            scores += [_score(talk.name, question, ranker, embedder) for question in talk.answerable(SCORED)]
    return scores


def _score(conversation: str, question: Question, ranker: Ranker, embedder: LocalEmbedder) -> Scored:
    found = ranker.rank(question.text, max(KS))
    ranked = [hit.dia_id for hit in found]
    return Scored(
        conversation=conversation,
        category=question.category,
        at={k: score(ranked, frozenset(question.evidence), k) for k in KS},
        tokens=sum(embedder.count_tokens(hit.text) for hit in found[:10]),
    )


def _summary(scores: Sequence[Scored], seed: int) -> dict[str, Any]:
    """A system's row: means, the interval of recall@10, the means by category, and recall@10 by conversation."""
    talks: dict[str, list[float]] = {}
    for scored in scores:
        talks.setdefault(scored.conversation, []).append(scored.at[10].recall)
    row = _means(scores) | {"recall@10_interval": list(interval(talks, seed=seed)), "by_category": {}}
    for category in SCORED:
        if of_it := [scored for scored in scores if scored.category == category]:
            row["by_category"][CATEGORIES[category]] = {"questions": len(of_it), **_means(of_it)}
    row["by_conversation"] = {
        name: {"questions": len(recalls), "recall@10": sum(recalls) / len(recalls)} for name, recalls in talks.items()
    }
    return row


def _means(scores: Sequence[Scored]) -> dict[str, Any]:
    at = {k: mean([scored.at[k] for scored in scores]) for k in KS}
    return {
        **{f"recall@{k}": at[k].recall for k in KS},
        "ndcg@10": at[10].ndcg,
        "recall_any@10": at[10].recall_any,
        "recall_all@10": at[10].recall_all,
        "tokens@10": sum(scored.tokens for scored in scores) / len(scores),
    }
