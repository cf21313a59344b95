"""``lamina bench locomo``: does the memory find what answers a question?

Evidence recall on LoCoMo (Maharana et al., arXiv 2402.17753), from the published file: of turns, of turns in
equally many tokens, and of sessions under two definitions. A question's annotated evidence is either among the
results or not; no language model is asked and none judges, unless ``--answers`` wants some questions answered.
Each table states its own definition, because on this data a change of definition moves a number by more than
most systems differ.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lamina.bench.conversations import answers, published, tables
from lamina.bench.conversations.dataset import CATEGORIES, Conversation, load_locomo
from lamina.bench.conversations.evaluation import Asked, Run, evaluate
from lamina.bench.conversations.session_protocol import gold_sessions
from lamina.bench.conversations.systems import SYSTEMS, chosen
from lamina.errors import InvalidInput
from lamina.llm.embed import LocalEmbedder, MiniLM

SCORED = (1, 2, 3, 4)  # adversarial questions (5) ask for what was never said: turns have no evidence to find
Note = Callable[[str], None]


def run(
    file: Path,
    *,
    systems: Sequence[str] = (),
    seed: int = 0,
    note: Note | None = None,
    embedder: LocalEmbedder | None = None,
    qa: answers.Exam | None = None,
) -> dict[str, Any]:
    """The result document for ``systems`` (see ``systems.chosen``) on a LoCoMo file.

    ``embedder`` (default: MiniLM without a cache of its own; each system is charged for its embedding) serves all
    systems, and counts tokens; ``qa`` has some questions answered. Raises ``NotFound`` for an unknown system,
    ``InvalidInput`` for the file.
    """
    names, notes = chosen(systems)
    talks = [_spoken(talk) for talk in load_locomo(file)]
    embedder = embedder or MiniLM(cache_size=0)
    builds = {name: SYSTEMS[name] for name in names}
    runs = evaluate(talks, builds, embedder, note=note, listen=qa.listener(talks, seed) if qa else None)
    document = {
        "bench": "locomo",
        "seed": seed,
        "data": file.name,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "conversations": len(talks),
        "turns": sum(len(talk.turns) for talk in talks),
        "questions": sum(len(talk.answerable(SCORED)) for talk in talks),
        "repaired": sum(talk.repaired for talk in talks),
        "definition": definition(embedder.name),
        "systems": tables.turn_table(runs, _scored, {number: CATEGORIES[number] for number in SCORED}, seed),
        "session_level": _session_level(runs, talks, embedder.name),
        "published": [row.to_dict() for row in published.LOCOMO],
        "notes": notes,
    }
    return document | ({"answers": qa.document(seed, note)} if qa else {})


def definition(encoder: str) -> str:
    """What the numbers on turns mean, in words that go with them."""
    return (
        "Unit: turn. Questions: categories 1-4 with evidence left after repair (joined, padded and stray ids split "
        "or normalised, ids of no turn dropped). recall@k: share of a question's evidence turns among the first k "
        "distinct turns, mean over questions; any, all: share of questions with at least one, with every one. "
        "ndcg@10: binary gains, 1/log2(rank+1). tokens@10: mean tokens of 'Speaker: text' of the first 10 turns, "
        f"counted with the tokenizer of {encoder}. Interval: 95 %, bootstrap over conversations. Encoder of every "
        f"system: {encoder}, at most 256 word pieces at a time, a longer text as the mean of its windows. Image "
        "captions are part of the turn for every system. seconds: storing and asking all questions, embedding "
        "included (vectors are computed once, and their time is charged to every system that uses them), after a "
        "warm-up, without what is asked once more for sessions and equal tokens. Equal tokens: "
        "recall of the results that fit, best first, into the mean tokens@10 of the first system in the table; the "
        "first that does not fit ends the list. Lamina's ranking signals were chosen on half of these conversations "
        "(conv-26, 30, 41, 42, 43 and their questions), so its numbers are not of unseen data."
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


def _spoken(talk: Conversation) -> Conversation:
    """Without turns of no text, which no memory can hold."""
    return replace(talk, turns=tuple(turn for turn in talk.turns if turn.text.strip()))


def _scored(one: Asked) -> bool:
    return one.question.category in SCORED and bool(one.question.evidence)


# -- sessions ------------------------------------------------------------------------------------


def _session_level(runs: Mapping[str, Run], talks: Sequence[Conversation], encoder: str) -> list[dict[str, Any]]:
    corpus = {talk.name: list(dict.fromkeys(turn.session for turn in talk.turns)) for talk in talks}

    return [
        {
            "title": "Sessions, MemGAS's definition",
            "definition": f"{_AS_MEMGAS} {_sessions_of(encoder)}",
            "systems": {name: tables.session_row(run.asked, _cited, corpus) for name, run in runs.items()},
        },
        {
            "title": "Sessions, evidence repaired",
            "definition": f"{_REPAIRED} {_sessions_of(encoder)}",
            "systems": {
                name: tables.session_row([one for one in run.asked if one.question.evidence], _repaired, corpus)
                for name, run in runs.items()
            },
        },
    ]


def _cited(one: Asked) -> frozenset[str]:
    return gold_sessions(one.question.cited)


def _repaired(one: Asked) -> frozenset[str]:
    return gold_sessions(one.question.evidence)


_AS_MEMGAS = (
    "Unit: session. Questions: all, adversarial ones included. Gold: the sessions that the published evidence ids "
    "name; an id whose second part is no integer is skipped, 'D:11:26' names no session and is never found; a "
    "question left without gold counts as recall 1 and ndcg 0."
)
_REPAIRED = (
    "Unit: session. Questions: all categories, with evidence left after repair (as for turns). Gold: the sessions "
    "of the evidence."
)


def _sessions_of(encoder: str) -> str:
    return (
        "A session stands where its first turn stands in the ranking of turns, which is asked for until 10 distinct "
        "sessions are seen. recall_all@k: share of questions with every gold session among the first k; any: with at "
        "least one; fraction: mean share of gold sessions. ndcg_memgas: gains 1, 1, 1/log2(3), 1/log2(4), ...; ndcg: "
        "1/log2(rank+1). Means over questions; 'several' are the questions with gold in two sessions or more. "
        f"Encoder: {encoder}, at most 256 word pieces at a time, a longer text as the mean of its windows."
    )
