"""The synthetic tasks against readers that know nothing but the rule: one row after the other, in plain Python."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lamina.errors import InvalidInput
from lamina.nn.facts import BANDS, LongTailFacts, word
from lamina.nn.tasks import IGNORED, MQAR, Batch, CreditStream, InContextRecall, SelectiveCopy, Task, accuracy, distinct

FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**31)
TASKS: list[Task] = [
    MQAR(48, 4, 64),
    MQAR(64, 8, 128, power=1, filler="random", updates=3),
    SelectiveCopy(),
    InContextRecall(noise=0.2),
    InContextRecall(T=63, keys=5, V=24, noise=0.5, fuzzy=True),
    CreditStream(12),
    LongTailFacts(64, 8, 16, 32),
    LongTailFacts(64, 8, 4, 32, clusters=(2, 2)),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(batch: Batch) -> list[tuple[list[int], list[int]]]:
    return list(zip(batch.ids.tolist(), batch.targets.tolist(), strict=True))


@st.composite
def mqars(draw: st.DrawFn) -> MQAR:
    kv = draw(st.integers(1, 6))
    updates = draw(st.integers(0, kv))
    T = 4 * kv + 2 * updates + 2 * draw(st.integers(0, 10))
    power = draw(st.sampled_from([0.01, 0.5, 1.0, 3.0]))
    filler = draw(st.sampled_from(["zero", "random"]))
    return MQAR(T, kv, T + draw(st.integers(1, 20)), power, filler, updates)


@FEW
@given(mqars(), SEEDS)
def test_mqar_asks_each_key_once_for_its_last_value(task: MQAR, seed: int) -> None:
    batch = task.sample(4, seeded(seed))
    told = 2 * (task.kv + task.updates)
    for row, (ids, targets) in enumerate(rows(batch)):
        keys, values = ids[0:told:2], ids[1:told:2]
        assert len(set(keys[: task.kv])) == task.kv and set(keys[task.kv :]) <= set(keys[: task.kv])
        assert len(set(keys[task.kv :])) == task.updates and len(set(values)) == len(values)
        assert all(1 <= key < task.V // 2 for key in keys) and all(task.V // 2 <= value < task.V for value in values)
        bound = dict(zip(keys, values, strict=True))  # the last one wins
        asked = [place for place, target in enumerate(targets) if target != IGNORED]
        assert sorted(ids[place] for place in asked) == sorted(bound)
        assert all(place >= told and (place - told) % 2 == 0 for place in asked)
        assert [targets[place] for place in asked] == [bound[ids[place]] for place in asked]
        rest = [ids[place] for place in range(told, task.T) if place not in asked]
        assert all(0 <= each < task.V for each in rest)
        assert task.filler == "random" or not any(rest)
        slots = (task.T - told) // 2
        far = [place for place in asked if 2 * ((place - told) // 2) >= slots]
        assert batch.slices["far"][row].nonzero()[:, 0].tolist() == far
        if task.updates:
            updated = [place for place in asked if ids[place] in keys[task.kv :]]
            assert batch.slices["updated"][row].nonzero()[:, 0].tolist() == updated


@pytest.mark.parametrize("power", [0.01, 1.0, 2.5])
def test_mqar_draws_its_gaps_one_after_the_other_by_their_weight(power: float) -> None:
    drawn, slots = 20_000, 6
    task = MQAR(4 + 2 * slots, 2, 64, power)
    batch = task.sample(drawn, seeded(1))
    found = [Counter(), Counter()]  # of the first and of the second key
    for ids, targets in rows(batch):
        for place in range(4, task.T, 2):
            if targets[place] != IGNORED:
                found[[ids[0], ids[2]].index(ids[place])][(place - 4) // 2] += 1
    weights = [power * (slot + 1) ** (power - 1) for slot in range(slots)]
    first = [weight / sum(weights) for weight in weights]
    second = [
        sum(first[i] * weights[j] / (sum(weights) - weights[i]) for i in range(slots) if i != j) for j in range(slots)
    ]
    for counted, law in zip(found, (first, second), strict=True):
        chi = sum((counted[slot] - drawn * share) ** 2 / (drawn * share) for slot, share in enumerate(law))
        assert chi < 20.5  # 5 degrees of freedom: one in a thousand is higher


def test_distinct_draws_every_subset_of_equal_weights_alike() -> None:
    found = distinct(torch.zeros(5, dtype=torch.float64), 3, 12_000, seeded())
    counted = Counter(map(tuple, found.tolist()))
    assert len(counted) == 60 and all(len(set(order)) == 3 for order in counted)
    assert sum((count - 200) ** 2 / 200 for count in counted.values()) < 98.3  # 59 degrees of freedom, 0.999


@FEW
@given(st.integers(1, 8), st.integers(0, 20), st.integers(4, 30), SEEDS)
def test_selective_copy_repeats_what_stood_among_noise(n: int, more: int, V: int, seed: int) -> None:
    task = SelectiveCopy(2 * n + more, n, V)
    batch = task.sample(5, seeded(seed))
    for row, (ids, targets) in enumerate(rows(batch)):
        data = [each for each in ids[: task.T - n] if each != 0]
        assert len(data) == n and all(2 <= each < V for each in data)
        assert ids[task.T - n :] == [1] * n
        assert targets == [IGNORED] * (task.T - n) + data
        assert batch.slices["first"][row].sum() == n // 2 and batch.slices["last"][row].sum() == n - n // 2


def test_selective_copy_uses_all_places_alike() -> None:
    batch = SelectiveCopy(20, 4, 8).sample(8_000, seeded())
    counted = (batch.ids[:, :16] > 0).sum(0).double()  # each 2,000 expected, variance 8,000 * 1/4 * 3/4
    assert float((counted - 2_000).abs().max()) < 4.5 * math.sqrt(1_500)


@st.composite
def recalls(draw: st.DrawFn) -> InContextRecall:
    fuzzy = draw(st.booleans())
    T, noise = draw(st.integers(8, 50)), draw(st.sampled_from([0.0, 0.3, 1.0]))
    return InContextRecall(T, draw(st.integers(1, 4)), draw(st.integers(12, 40)), noise, fuzzy)


@FEW
@given(recalls(), SEEDS)
def test_in_context_recall_asks_wherever_the_key_stood_before(task: InContextRecall, seed: int) -> None:
    width = 2 if task.fuzzy else 1
    size = (task.V - (task.V // 4 if task.noise else 0)) // 2
    batch = task.sample(4, seeded(seed))
    for row, (ids, targets) in enumerate(rows(batch)):
        known: dict[tuple[int, ...], list[int]] = {}
        times: Counter[tuple[int, ...]] = Counter()
        expected, second = [IGNORED] * task.T, []
        place = 0
        while place < task.T:
            if ids[place] >= 2 * size:  # noise
                assert task.noise
                place += 1
                continue
            key = tuple(ids[place : place + width])
            value = ids[place + width : place + 2 * width]
            assert all(each < size for each in key) and all(size <= each < 2 * size for each in value)
            times[key] += 1
            for step, answer in enumerate(known.get(key, [])):
                if (asking := place + width - 1 + step) < task.T:
                    expected[asking] = answer
                    second += [asking] if times[key] == 2 else []
            assert known.get(key, value)[: len(value)] == value
            if len(value) == width:
                known.setdefault(key, value)
            place += 2 * width
        assert targets == expected
        assert len(known) <= task.keys
        assert batch.slices["second"][row].nonzero()[:, 0].tolist() == second
        assert batch.slices["later"][row].sum() == sum(each != IGNORED for each in expected) - len(second)


def test_noise_stands_before_its_share_of_pairs() -> None:
    batch = InContextRecall(T=90, keys=4, V=32, noise=0.25).sample(2_000, seeded())
    noisy = (batch.ids >= 24).double().mean()  # one token in four pairs of two: 0.25 / 2.25
    assert float(noisy) == pytest.approx(0.25 / 2.25, abs=0.003)


@FEW
@given(st.integers(1, 6), st.integers(1, 8), st.integers(2, 9), SEEDS)
def test_credit_stream_asks_for_the_flagged_value(k: int, more: int, values: int, seed: int) -> None:
    task = CreditStream(k + more, k, values)
    for ids, targets in rows(task.sample(6, seeded(seed))):
        flagged = [place for place, each in enumerate(ids[:-1]) if each >= values]
        assert len(flagged) == 1 and flagged[0] < k and max(ids[:-1]) < 2 * values
        assert ids[-1] == 2 * values and 2 * values + 1 == task.V
        assert targets == [IGNORED] * (task.T - 1) + [ids[flagged[0]] - values]


@st.composite
def worlds(draw: st.DrawFn) -> LongTailFacts:
    clusters = draw(st.sampled_from([(), (2,), (2, 3)]))
    subjects, relations = draw(st.integers(2, 6)), draw(st.integers(2, 5))
    each = draw(st.integers(4, subjects * relations))
    zipf = draw(st.sampled_from([0.0, 0.5, 1.0]))
    values, seed = draw(st.integers(2, 20)), draw(SEEDS)
    return LongTailFacts(each * math.prod(clusters), subjects, relations, values, zipf, clusters, seed)


@FEW
@given(worlds(), SEEDS)
def test_facts_are_distinct_and_every_sample_is_one_of_them(task: LongTailFacts, seed: int) -> None:
    known = {tuple(ids): targets[-1] for ids, targets in rows(task.evaluation())}
    assert len(known) == task.N
    first = task.subjects + task.relations + task.values  # ids before the words of topics
    for (*topic, subject, relation), value in known.items():
        assert subject < task.subjects <= relation < task.subjects + task.relations <= value < first
        assert all(first <= each < task.V for each in topic)
        if len(topic) == 2:  # 2 topics of 3 parts: the part alone says which topic
            assert (topic[1] - first - 2) // 3 == topic[0] - first
    leaves = Counter(ids[:-2] for ids in known)
    assert len(leaves) == math.prod(task.clusters) and len(set(leaves.values())) == 1
    batch = task.sample(9, seeded(seed))
    assert batch.ids.shape == (9, task.T)
    for ids, targets in rows(batch):
        assert targets == [IGNORED] * (task.T - 1) + [known[tuple(ids)]]


def test_facts_are_met_as_often_as_their_rank_says() -> None:
    task, drawn = LongTailFacts(40, 8, 5, 16, zipf=0.8, seed=3), 40_000
    counted = Counter(tuple(ids) for ids in task.sample(drawn, seeded()).ids.tolist())
    weights = [rank**-0.8 for rank in range(1, 41)]
    law = [drawn * weight / sum(weights) for weight in weights]
    everything = task.evaluation()
    by_rank = sorted(range(40), key=lambda fact: -counted[tuple(everything.ids[fact].tolist())])
    chi = sum(
        (counted[tuple(everything.ids[fact].tolist())] - want) ** 2 / want
        for fact, want in zip(by_rank, law, strict=True)
    )
    assert chi < 72.1  # 39 degrees of freedom, 0.999
    assert by_rank != list(range(40))  # the number of a fact says nothing of its rank
    bands = [set(everything.slices[name][:, -1].nonzero()[:, 0].tolist()) for name in BANDS]
    assert [len(band) for band in bands] == [10] * 4
    assert bands[0] >= set(by_rank[:8]) and bands[3].isdisjoint(by_rank[:20])
    assert set(everything.slices["tail"][:, -1].nonzero()[:, 0].tolist()) == bands[2] | bands[3]


def test_a_world_is_its_seeds_alone() -> None:
    one, same, other = (LongTailFacts(64, 8, 8, 256, seed=seed) for seed in (1, 1, 2))
    assert one == same and torch.equal(one.evaluation().targets, same.evaluation().targets)
    assert not torch.equal(one.evaluation().targets, other.evaluation().targets)
    assert one.bits == 512


def test_words_ask_for_a_fact_in_two_ways() -> None:
    task = LongTailFacts(64, 8, 4, 32, clusters=(2, 2))
    said = [[task.text(fact, phrase) for fact in range(64)] for phrase in (0, 1)]
    assert len({question for each in said for question, _ in each}) == 128
    assert [answer for _, answer in said[0]] == [answer for _, answer in said[1]]
    answers = task.evaluation().targets[:, -1].tolist()
    assert all(answer == f" {word(value)}." for (_, answer), value in zip(said[0], answers, strict=True))
    assert len({word(number) for number in range(10_000)}) == 10_000
    with pytest.raises(InvalidInput, match="phrase=2"):
        task.text(0, 2)


@pytest.mark.parametrize("task", TASKS, ids=repr)
def test_every_task_is_decided_by_its_generator(task: Task) -> None:
    before = torch.get_rng_state()
    one, same, other = (task.sample(16, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.ids, same.ids) and torch.equal(one.targets, same.targets)
    assert not torch.equal(one.ids, other.ids)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.ids.shape == one.targets.shape == (16, task.T) and one.ids.dtype == one.targets.dtype == torch.int64
    assert one.ids.min() >= 0 and one.ids.max() < task.V and one.targets.max() < task.V
    for mask in one.slices.values():
        assert mask.dtype == torch.bool and mask.shape == one.ids.shape and not (mask & ~one.asked).any()
    elsewhere = one.to("meta")
    assert all(each.is_meta for each in (elsewhere.ids, elsewhere.targets, *elsewhere.slices.values()))
    parts = list(one.split(5))
    assert [len(part) for part in parts] == [5, 5, 5, 1]
    assert torch.equal(torch.cat([part.ids for part in parts]), one.ids)
    for name, mask in one.slices.items():
        assert torch.equal(torch.cat([part.slices[name] for part in parts]), mask)


@pytest.mark.parametrize(
    ("task", "answer", "chance"),
    [
        (MQAR(48, 4, 64), 40, 1 / 32),
        (SelectiveCopy(), 5, 1 / 14),
        (InContextRecall(), 40, 1 / 32),
        (CreditStream(), 3, 1 / 8),
    ],
    ids=repr,
)
def test_the_same_answer_everywhere_is_chance(task: Task, answer: int, chance: float) -> None:
    batch = task.sample(3_000, seeded())
    found = accuracy(torch.full_like(batch.ids, answer), batch)
    for name, share in found.items():
        asked = int(batch.asked.sum() if name == "all" else batch.slices[name].sum())
        # answers of a row may be the same one: between 3,000 and all of them are independent
        assert share == pytest.approx(chance, abs=5 * math.sqrt(chance / min(asked, 3_000)))


def test_accuracy_counts_what_was_asked() -> None:
    task = SelectiveCopy(16, 4, 8)
    batch = task.sample(6, seeded())
    logits = torch.randn(6, 16, 8, generator=seeded(1))
    right = {"all": [0, 0], "first": [0, 0], "last": [0, 0]}
    for row in range(6):
        for place in range(12, 16):
            hit = int(logits[row, place].tolist().index(max(logits[row, place].tolist())) == batch.targets[row, place])
            for name in ("all", "first" if place < 14 else "last"):
                right[name][0] += hit
                right[name][1] += 1
    expected = {name: hits / asked for name, (hits, asked) in right.items()}
    assert accuracy(logits, batch) == accuracy(logits.argmax(-1), batch) == pytest.approx(expected)
    assert accuracy(batch.targets, batch) == {"all": 1.0, "first": 1.0, "last": 1.0}
    nothing = Batch(batch.ids, batch.targets, {"none": torch.zeros_like(batch.asked)})
    assert "none" not in accuracy(logits, nothing)
    with pytest.raises(InvalidInput, match=r"\(6, 15\).*\(6, 16\)"):
        accuracy(batch.ids[:, :15], batch)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MQAR(46, 12, 64), "T=46 with kv=12.*even T from 48"),
        (lambda: MQAR(49, 4, 64), "T=49.*even"),
        (lambda: MQAR(48, 4, 48), "V=48.*more ids than T=48"),
        (lambda: MQAR(48, 0, 64), "kv=0"),
        (lambda: MQAR(48, 2, 64, updates=3), "updates=3.*at most kv=2"),
        (lambda: MQAR(48, 2, 64, power=0), "power=0"),
        (lambda: MQAR(48, 2, 64, filler="ones"), "filler='ones'"),  # type: ignore[arg-type]
        (lambda: MQAR(48, 2, 64).sample(0, seeded()), "batch=0"),
        (lambda: SelectiveCopy(15, 8), "T=15.*from 16"),
        (lambda: SelectiveCopy(V=3), "V=3.*from 4"),
        (lambda: InContextRecall(T=7, fuzzy=True), "T=7.*from 8"),
        (lambda: InContextRecall(keys=33), "keys=33.*V=64 ids make 32 keys"),
        (lambda: InContextRecall(noise=1.5), "noise=1.5"),
        (lambda: InContextRecall(V=8192, fuzzy=True), "V=8192 makes"),
        (lambda: CreditStream(T=4), "T=4.*from 5"),
        (lambda: CreditStream(values=1), "values=1"),
        (lambda: LongTailFacts(100, 8, 8, 4), "N=100.*64 facts"),
        (lambda: LongTailFacts(30, 8, 8, 4, clusters=(4,)), r"N=30.*multiple of the 4 topics"),
        (lambda: LongTailFacts(32, 8, 8, 4, zipf=-1), "zipf=-1"),
        (lambda: LongTailFacts(32, 8, 8, 1), "values=1"),
        (lambda: next(SelectiveCopy().sample(2, seeded()).split(0)), "rows=0"),
    ],
)
def test_wrong_settings_are_named(make: Any, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        make()
