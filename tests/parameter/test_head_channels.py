"""Composition scores: those of brute-force matrices, and what is planted is found while what is not is not."""

from __future__ import annotations

import channel_models
import numpy as np
import pytest
import torch

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.head_channels import (
    Channel,
    Component,
    CompositionTable,
    Head,
    HeadFactors,
    Heads,
    HeadSVD,
    composition_scores,
    find_channel,
)

DISTANCES = (0, 1, 5, 32)
KINDS = ("q", "k", "v")


@pytest.fixture(params=channel_models.NAMES)
def lm(request: pytest.FixtureRequest, smollm2: CausalLM) -> CausalLM:
    return channel_models.noise(request.param, smollm2.tokenizer)


def _turn(heads: Heads, distance: int) -> torch.Tensor:
    """R (d_h, d_h) such that query^T R key is the score over ``distance``, from the definition of rotary positions."""
    if heads.rotary is None:
        return torch.eye(heads.head_dim).double()
    half = heads.head_dim // 2
    cos = torch.diag((heads.rotary.frequencies.double() * distance).cos())
    sin = torch.diag((heads.rotary.frequencies.double() * distance).sin())
    queries = torch.cat([torch.cat([cos, -sin], 1), torch.cat([sin, cos], 1)])  # turns a query by ``distance``
    assert queries.shape == (2 * half, 2 * half)
    return queries.T


def _brute(kind: str, reader: HeadFactors, turn: torch.Tensor) -> torch.Tensor:
    """The d x d matrix whose length after a direction is the score."""
    whole = reader.query.T @ turn @ reader.key
    return {"q": whole.T, "k": whole, "v": reader.ov}[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_whole_matrices(lm: CausalLM, kind: str) -> None:
    svd = HeadSVD(lm)
    table = composition_scores(svd, kind, distances=DISTANCES)
    raw = table.raw()
    for at in [(1, 0), (2, 1), (2, 3)]:
        reader, column = svd.heads.factors(*at), table.readers.index(Head(*at))
        maps = [_brute(kind, reader, _turn(svd.heads, distance)) for distance in table.distances]
        maps = [whole / whole.norm() for whole in maps]
        for member in [Component(0, 0, 0), Component(0, 3, 15), Component(at[0] - 1, 2, 7)]:
            a = svd.direction(member)
            heard = torch.stack([(whole @ a).norm() for whole in maps])
            row = svd.index(member)
            assert float(table.scores[row, column]) == pytest.approx(float(heard.square().mean().sqrt()), abs=1e-6)
            assert table.distances[int(table.loudest[row, column])] == table.distances[int(heard.argmax())]
        ov = svd.heads.factors(0, 1).ov
        whole_heads = torch.stack([(whole @ ov).norm() / ov.norm() for whole in maps]).square().mean().sqrt()
        assert float(raw[1, column]) == pytest.approx(float(whole_heads), abs=1e-6)
    before = torch.tensor(
        [[svd.name(row).layer < at.layer for at in table.readers] for row in range(len(svd.directions()))]
    )
    assert torch.equal(table.scores.isnan(), ~before)
    assert set(table.distances) == (set(DISTANCES) if kind != "v" and lm.name == "llama" else {0})


def test_random_directions_say_what_a_score_is_worth(lm: CausalLM) -> None:
    table = composition_scores(lm, "q", [(2, 0), (1, 1)])
    power = (table.mean**2 + table.deviation**2).sqrt()
    assert power.tolist() == pytest.approx([64**-0.5] * 2, rel=0.05)  # 1 / sqrt(d) in RMS, for any reader
    links = table.top(5)
    assert [link.z for link in links] == sorted((link.z for link in links), reverse=True)
    assert links[0].z == pytest.approx(float(table.z.nan_to_num(nan=-9).max()), rel=1e-4)
    assert {link.reader for link in table.top(5, Head(1, 1))} == {Head(1, 1)}
    assert len(table.top(10**6, Head(1, 1))) == 4 * 16
    frame = table.to_frame(3)
    assert frame["z"] == pytest.approx([link.z for link in links[:3]])
    assert frame["reader"][0] == str(links[0].reader)
    heat = table.heatmap(Head(2, 0))
    assert float(heat.nan_to_num(nan=-9).max()) == pytest.approx(table.top(1, Head(2, 0))[0].z, rel=1e-4)
    assert bool(heat[2].isnan().all()) and not bool(heat[:2].isnan().any())
    order = [table.percentile(link.component, Head(1, 1)) for link in table.top(64, Head(1, 1))]
    assert order == sorted(order, reverse=True)
    assert np.mean(order) == pytest.approx(50)


def _plant(lm: CausalLM, kind: str, loud: float = 40.0) -> None:
    """Head 0.1 writes direction a loudly; head 2.2 reads a (as ``kind``); head 0.3 writes an unrelated direction."""
    heads = Heads(lm)
    rng = torch.Generator().manual_seed(5)
    a, other = (torch.randn(heads.width, generator=rng, dtype=torch.float64) for _ in range(2))
    a, other = a - a.mean(), other - other.mean()
    other = other - a * (a @ other) / (a @ a)
    reader, writer, unrelated = (heads._read(lm.model, layer) for layer in (2, 0, 0))
    size = heads.head_dim
    row = {"q": 2 * size, "k": (2 // (heads.heads // heads.kv_heads)) * size}
    row["v"] = row["k"]
    weight = {"q": reader.query, "k": reader.key, "v": reader.value}[kind]
    with torch.no_grad():
        weight[row[kind]] += loud * a / a.norm() / reader.norm.weight  # the gain will be folded in
        writer.output[:, size + 3] += loud * a / a.norm()
        unrelated.output[:, 3 * size + 3] += loud * other / other.norm()


def _members(table: CompositionTable, layer: int, head: int) -> tuple[Component, float]:
    """The strongest component of a head, and its z to 2.2."""
    member = Component(layer, head, 0)
    column = table.readers.index(Head(2, 2))
    return member, float(table.z[table.svd.index(member), column])


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_channel_is_first_of_all_and_an_unrelated_one_is_not(smollm2: CausalLM, kind: str) -> None:
    for name in channel_models.NAMES:
        lm = channel_models.noise(name, smollm2.tokenizer, width=256)
        _plant(lm, kind)
        table = composition_scores(lm, kind, [(2, 2)])
        member, z = _members(table, 0, 1)
        assert table.top(1)[0].component == member
        assert z > 10
        assert abs(_members(table, 0, 3)[1]) < 4
        channel = find_channel(table, (2, 2))
        assert channel is not None and channel.members[0] == member
        assert Component(0, 3, 0) not in channel.members


def test_nothing_is_found_where_nothing_was_planted(lm: CausalLM) -> None:
    assert find_channel(composition_scores(lm, "q", [(1, 2)]), (1, 2)) is None
    with pytest.raises(InvalidInput, match=r"reader=\(0, 1\)"):
        find_channel(composition_scores(lm, "q", [(1, 2)]), (0, 1))


def test_deaf_channels_of_the_residual_carry_no_score(smollm2: CausalLM) -> None:
    lm = channel_models.noise("llama", smollm2.tokenizer)
    with torch.no_grad():  # the reader hears little else than channel 9, and a head writes it
        Heads(lm)._read(lm.model, 2).query[2 * 16, 9] += 500
        Heads(lm)._read(lm.model, 0).output[9, 16 + 3] += 500
    loud = composition_scores(lm, "q", [(2, 2)]).top(1)[0]
    assert loud.component == Component(0, 1, 0)
    table = composition_scores(lm, "q", [(2, 2)], without=[9])
    assert float(table.scores[table.svd.index(loud.component), 0]) < 0.2 * loud.score


def test_a_channel_has_as_many_dimensions_as_its_directions_need() -> None:
    rows = torch.eye(6).double()
    near = rows[0] + 0.1 * rows[1]
    members = tuple(Component(0, head, 0) for head in range(4))
    channel = Channel(torch.stack([rows[0], near / near.norm(), rows[2], rows[3]]), members)
    assert channel.dimension == 3
    assert channel.groups()[0] == [members[0], members[1]]
    assert sorted(map(len, channel.groups())) == [1, 1, 2]
    assert channel.basis.shape == (4, 6)
    torch.testing.assert_close(channel.basis @ channel.basis.T, torch.eye(4).double())
    assert Channel(rows[[0, 0]], members[:2]).basis.shape == (1, 6)


def test_wrong_arguments_are_named(lm: CausalLM) -> None:
    svd = HeadSVD(lm)
    for kind, distances, match in [("x", (0,), "kind='x'"), ("q", (), "distances"), ("q", (-1,), "distances")]:
        with pytest.raises(InvalidInput, match=match):
            composition_scores(svd, kind, distances=distances)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="layer=7"):
        composition_scores(svd, "q", [(7, 0)])
    table = composition_scores(svd, "q", [(1, 0)])
    with pytest.raises(InvalidInput, match="does not come before"):
        table.percentile(Component(1, 0, 0), Head(1, 0))
    for members in ([], [(0, 0, 0), (0, 0, 0)], [(0, 0, 16)], [(0, 4, 0)]):
        with pytest.raises(InvalidInput):
            Channel.of(svd, members)
