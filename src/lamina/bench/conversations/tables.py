"""From what systems returned to the rows of the tables: turns, turns at equal tokens, sessions.

Each table's definition is a sentence in words that belongs to its numbers: on these data a change of definition
moves a number by more than most systems differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lamina.bench.conversations.evaluation import SESSIONS, TURNS, Asked, Run
from lamina.bench.conversations.metrics import interval, mean, score
from lamina.bench.conversations.session_protocol import mean_score, score_sessions

KS = (5, 10, 20)
SESSION_KS = (3, 5, 10)
assert max(KS) <= TURNS and max(SESSION_KS) <= SESSIONS

Gold = Callable[[Asked], frozenset[str]]


# -- turns ---------------------------------------------------------------------------------------


def turn_table(
    runs: Mapping[str, Run], keep: Callable[[Asked], bool], names: Mapping[int, str], seed: int
) -> dict[str, dict[str, Any]]:
    """A row for every system, with recall in as many tokens as the first one's ten results have on average."""
    rows = {name: turn_row(run, keep, names, seed) for name, run in runs.items()}
    budget = next(iter(rows.values()))["tokens@10"]
    for name, run in runs.items():
        asked = [one for one in run.asked if keep(one)]
        rows[name]["equal_tokens"] = {"budget": budget, **equal_tokens(asked, budget, names)}
    return rows


def turn_row(run: Run, keep: Callable[[Asked], bool], names: Mapping[int, str], seed: int) -> dict[str, Any]:
    """A system's row: means over the questions to ``keep``, the interval of recall@10, means by category (named by
    ``names``) and recall@10 by conversation. Seconds are those of all questions asked."""
    asked = [one for one in run.asked if keep(one)]
    talks: dict[str, list[float]] = {}
    for one in asked:
        talks.setdefault(one.conversation, []).append(_recall(one.turns[:10], one))
    row = turn_means(asked) | {
        "recall@10_interval": list(interval(talks, seed=seed)),
        "seconds": run.storing + run.asking,
        "ms_per_question": 1000 * run.asking / len(run.asked),
        "by_category": {},
    }
    for category, name in names.items():
        if of_it := [one for one in asked if one.question.category == category]:
            row["by_category"][name] = {"questions": len(of_it), **turn_means(of_it)}
    row["by_conversation"] = {
        name: {"questions": len(recalls), "recall@10": sum(recalls) / len(recalls)} for name, recalls in talks.items()
    }
    return row


def turn_means(asked: Sequence[Asked]) -> dict[str, Any]:
    at = {k: mean([score(one.turns, frozenset(one.question.evidence), k) for one in asked]) for k in KS}
    return {
        **{f"recall@{k}": at[k].recall for k in KS},
        "ndcg@10": at[10].ndcg,
        "recall_any@10": at[10].recall_any,
        "recall_all@10": at[10].recall_all,
        "tokens@10": sum(sum(one.turn_tokens[:10]) for one in asked) / len(asked),
    }


def equal_tokens(asked: Sequence[Asked], budget: float, names: Mapping[int, str]) -> dict[str, Any]:
    """Recall, overall and by category, of the results that fit into ``budget`` tokens, best first."""
    recalls = [(one.question.category, _recall(fitting(one, budget), one)) for one in asked]
    of = {name: [recall for category, recall in recalls if category == number] for number, name in names.items()}
    return {
        "recall": _average(recall for _, recall in recalls),
        "turns": _average(len(fitting(one, budget)) for one in asked),
        "by_category": {name: _average(found) for name, found in of.items() if found},
    }


def fitting(one: Asked, budget: float) -> Sequence[str]:
    """The first results whose tokens sum to at most ``budget``; the one that does not fit ends the list."""
    total = 0
    for place, tokens in enumerate(one.tokens):
        total += tokens
        if total > budget:
            return one.deep[:place]
    return one.deep


def _recall(ids: Sequence[str], one: Asked) -> float:
    evidence = frozenset(one.question.evidence)
    return len(evidence & set(ids)) / len(evidence)


# -- sessions ------------------------------------------------------------------------------------


def session_row(asked: Sequence[Asked], gold: Gold, corpus: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Session-level means over ``asked``, and over those with gold in two sessions or more (``several``).

    ``corpus`` names all sessions of each conversation. Sessions that were not returned come last.
    """
    several = [one for one in asked if len(gold(one)) > 1]
    row = {"questions": len(asked), **_session_means(asked, gold, corpus)}
    return row | ({"several": {"questions": len(several), **_session_means(several, gold, corpus)}} if several else {})


def _session_means(asked: Sequence[Asked], gold: Gold, corpus: Mapping[str, Sequence[str]]) -> dict[str, float]:
    rankings = [whole(one.sessions, corpus[one.conversation], max(SESSION_KS)) for one in asked]
    return means_at(SESSION_KS, rankings, [gold(one) for one in asked])


def means_at(ks: Sequence[int], rankings: Sequence[Sequence[str]], golds: Sequence[frozenset[str]]) -> dict[str, float]:
    """Every metric of ``session_protocol`` at every k, means over questions. The ids may be those of turns as well."""
    means: dict[str, float] = {}
    for k in ks:
        scores = [score_sessions(ranking, gold, k) for ranking, gold in zip(rankings, golds, strict=True)]
        means |= {f"{name}@{k}": value for name, value in asdict(mean_score(scores)).items()}
    return means


def whole(returned: Sequence[str], corpus: Sequence[str], k: int) -> list[str]:
    """``corpus`` with what was returned first. Nothing is gained by not returning: blanks fill up to the k-th place."""
    found = set(returned)
    blanks = [f"(nothing {place})" for place in range(len(returned), k)]
    return [*returned, *blanks, *(one for one in corpus if one not in found)]


def _average(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
