"""The baselines against their formulas written out plainly, on vectors that need no model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import locomo_file
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.bench.conversations import systems
from lamina.bench.conversations.baselines import Okapi, line
from lamina.bench.conversations.dataset import Conversation, load_locomo
from lamina.bench.conversations.mem0_ranking import EntityLinks, Mem0Ranker, sigmoid
from lamina.bench.conversations.systems import SYSTEMS, chosen
from lamina.bench.mem0_peer import installed
from lamina.bench.synthetic import WordVectors
from lamina.errors import NotFound
from lamina.store.analysis import terms
from lamina.text.pipelines import DEFAULT, PIPELINES

QUERY = "Has anybody seen the salmon, the otter or a zebra?"


@pytest.fixture
def talk(tmp_path: Path) -> Conversation:
    return load_locomo(locomo_file.write(tmp_path))[0]


def order(name: str, talk: Conversation, folder: Path, k: int = 24, query: str = QUERY) -> list[str]:
    with SYSTEMS[name](talk, WordVectors(), folder) as ranker:
        return [hit.dia_id for hit in ranker.rank(query, k)]


def expected(talk: Conversation, scores: list[float]) -> list[str]:
    places = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    return [talk.turns[place].dia_id for place in places]


def naive_bm25(documents: list[list[str]], query: list[str], k1: float = 1.2, b: float = 0.75) -> list[float]:
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        total = 0.0
        for term in set(query):
            n = sum(term in other for other in documents)
            tf = Counter(document)[term]
            idf = math.log(1 + (len(documents) - n + 0.5) / (n + 0.5))
            total += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(document) / max(mean, 1.0)))
        scores.append(total)
    return scores


words = st.lists(st.sampled_from("abcdef"), max_size=8)


@given(st.lists(words, min_size=1, max_size=6), words)
def test_okapi_is_its_formula(documents: list[list[str]], query: list[str]) -> None:
    assert Okapi(documents).scores(query) == pytest.approx(naive_bm25(documents, query))


def test_fused_ranks_are_reciprocal(talk: Conversation, tmp_path: Path) -> None:
    dense, lexical = order("dense", talk, tmp_path), order("bm25-stemmed", talk, tmp_path)
    ids = [turn.dia_id for turn in talk.turns]
    scores = [1 / (61 + dense.index(one)) + 1 / (61 + lexical.index(one)) for one in ids]
    assert order("rrf", talk, tmp_path) == expected(talk, scores)


def test_plain_hybrid_is_cosine_and_half_of_bm25_in_context(talk: Conversation, tmp_path: Path) -> None:
    encoder = WordVectors()
    query = encoder.encode([QUERY])[0].astype(np.float64)
    vectors = encoder.encode([line(turn) for turn in talk.turns]).astype(np.float64)
    documents, cosines = [], []
    for place, turn in enumerate(talk.turns):
        total, document = 0.6 * vectors[place], []
        for other in (place - 1, place, place + 1):
            if 0 <= other < len(talk.turns) and talk.turns[other].session == turn.session:
                document += terms(line(talk.turns[other]))
                total = total + (0.2 * vectors[other] if other != place else 0)
        documents.append(document)
        cosines.append(float(query @ total / np.linalg.norm(total)))
    lexical = naive_bm25(documents, terms(QUERY))
    scores = [cosine + 0.5 * word / max(lexical) for cosine, word in zip(cosines, lexical, strict=True)]
    assert order("plain-hybrid", talk, tmp_path) == expected(talk, scores)


def test_sessions_are_ranked_whole(talk: Conversation, tmp_path: Path) -> None:
    """Four sessions of six turns; the animals asked for are in the last."""
    four = replace(talk, turns=tuple(replace(turn, session=str(n // 6)) for n, turn in enumerate(talk.turns)))
    ids = [turn.dia_id for turn in talk.turns]
    for name in ("session-bm25", "session-bm25-stemmed", "session-dense"):
        found = order(name, four, tmp_path, query="crocodile dolphin")
        assert found[:6] == ids[18:]
        assert sorted(found) == sorted(ids)
        assert all(found[n : n + 6] == ids[start : start + 6] for n in (6, 12, 18) for start in [ids.index(found[n])])
        assert order(name, four, tmp_path, k=3, query="zebra walrus pelican") == ids[:3]


def test_chance_repeats_itself_but_not_across_questions(talk: Conversation, tmp_path: Path) -> None:
    assert order("random", talk, tmp_path) == order("random", talk, tmp_path)
    assert order("random", talk, tmp_path) != order("random", talk, tmp_path, query="another")


# -- mem0's formulas -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms_", "middle", "slope"), [(1, 5, 0.7), (3, 5, 0.7), (4, 7, 0.6), (9, 9, 0.5), (15, 10, 0.5), (16, 12, 0.5)]
)
def test_bm25_through_a_sigmoid(terms_: int, middle: float, slope: float) -> None:
    found = sigmoid(np.array([0.0, middle, middle + 2]), terms_)
    assert found == pytest.approx([0.0, 0.5, 1 / (1 + math.exp(-2 * slope))])


def test_entities_lend_by_similarity_and_rarity() -> None:
    texts = ["Bob: I met Mary Ann in Rome.", "Ann: I know Mary Ann.", 'Bob: I like "Moby Dick".', "Ann: Nothing."]
    boosts = EntityLinks(texts, WordVectors()).boosts("Where is Mary Ann?", len(texts))
    assert boosts[0] == boosts[1] == pytest.approx(0.5 / (1 + 0.001 * (2 - 1) ** 2), rel=1e-5)
    assert boosts[2] == boosts[3] == 0
    assert not EntityLinks(texts, WordVectors()).boosts("where is it?", len(texts)).any()
    assert not EntityLinks(["no names"], WordVectors()).boosts("Where is Mary Ann?", 1).any()


def test_mem0s_score_is_the_sum_of_parts_over_what_there_is(talk: Conversation) -> None:
    encoder = WordVectors()
    found = Mem0Ranker(talk.turns, encoder).score(QUERY, 20)
    lines = [line(turn) for turn in talk.turns]
    cosine = encoder.encode(lines) @ encoder.encode([QUERY])[0]
    bm25 = sigmoid(np.array(naive_bm25([terms(one) for one in lines], terms(QUERY))), len(terms(QUERY)))
    entity = EntityLinks(lines, encoder).boosts(QUERY, len(lines))
    wanted = np.minimum(1, (cosine + bm25 + entity) / (2 + 0.5 * bool(entity.any())))
    wanted[cosine < 0.1] = -np.inf
    assert found == pytest.approx(wanted)
    assert np.isfinite(Mem0Ranker(talk.turns * 4, encoder).score(QUERY, 1)).sum() <= 60  # the pool


# -- which there are -----------------------------------------------------------------------------


def test_names_are_chosen_by_lists_and_all() -> None:
    assert chosen(["bm25, lamina", "dense", "bm25"])[0] == ["bm25", "lamina", "dense"]
    default, everything = chosen([])[0], chosen(["all"])[0]
    assert default[0] == "lamina" and not set(default) & set(PIPELINES)
    assert set(everything) - set(default) == set(PIPELINES) - {DEFAULT}
    assert ("mem0ai" in default) == ("mem0ai" in everything) == installed()
    with pytest.raises(NotFound, match="did you mean 'plain-hybrid'"):
        chosen(["plain-hybrids"])


def test_every_published_pipeline_answers_through_the_front_door(talk: Conversation, tmp_path: Path) -> None:
    for name in sorted(set(PIPELINES) - {DEFAULT}):
        folder = tmp_path / name
        folder.mkdir()
        with SYSTEMS[name](talk, WordVectors(), folder) as ranker:
            ids = [hit.dia_id for hit in ranker.rank("Who has seen the walrus?", 5)]
        assert ids and len(ids) == len(set(ids)) and set(ids) <= {turn.dia_id for turn in talk.turns}
    assert systems.lamina is SYSTEMS["lamina"]
