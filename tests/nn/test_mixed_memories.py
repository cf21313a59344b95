"""MoM against its equations written out; what is not chosen is not touched; where tokens go and what that costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from mom_written_out import KINDS, drawn_mom, given_rows, mom_config, written_out

from lamina.errors import InvalidInput
from lamina.nn.context import whole
from lamina.nn.linear_recurrence import gated_delta_chunk
from lamina.nn.mixed_memories import MoM
from lamina.nn.routing.routed_segments import Segments, remember


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_it_is_the_equations_of_the_paper_and_so_are_its_gradients(settings: dict[str, Any]) -> None:
    layer, (x, ctx) = drawn_mom(**settings), given_rows()
    x.requires_grad_()
    found, expected = layer(x, ctx), written_out(layer, x, ctx.mask)
    real = ctx.mask
    torch.testing.assert_close(found[real], expected[real], rtol=1e-8, atol=1e-10)
    learned = [x, *layer.parameters()]
    weights = torch.randn(found[real].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    ours, theirs = (
        torch.autograd.grad((each[real] * weights).sum(), learned, allow_unused=True) for each in (found, expected)
    )
    for mine, theirs_ in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.zeros_like(mine) if theirs_ is None else theirs_, rtol=1e-6, atol=1e-9)


def test_gradients_are_those_of_small_differences() -> None:
    layer, (x, ctx) = drawn_mom(), given_rows(2, 6)
    assert torch.autograd.gradcheck(lambda given: layer(given, ctx), x.requires_grad_())


def test_all_memories_over_all_tokens_with_writing_masked_say_the_same() -> None:
    """The dense form: every memory goes through every token, and neither writes nor fades where it was not chosen."""
    layer, (x, ctx) = drawn_mom(scope="stream", shared=False), given_rows(rows=1)
    found = layer(x, ctx)
    p = layer.router(x).softmax(-1)
    weight, chosen = p.topk(2, dim=-1)
    share = torch.zeros_like(p).scatter(2, chosen, weight / weight.sum(-1, keepdim=True))
    part, keys = layer.routed, layer.heads * layer.key_dim
    assert layer.conv is not None
    total = torch.zeros(1, layer.heads, x.shape[1], layer.value_dim, dtype=torch.float64)
    for m in range(4):
        raw = x @ part.weight[m].T
        mixed = F.silu(layer.conv(torch.cat([layer.query(x), raw[..., : part.content]], dim=-1))[0])
        q, k, v = (
            each.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for each in torch.split(mixed, [keys, keys, layer.heads * layer.value_dim], dim=-1)
        )
        b, a = raw[..., part.content :].transpose(1, 2).chunk(2, dim=1)
        routed = (share[..., m] > 0)[:, None]
        b = torch.sigmoid(b + part.write_bias.view(4, -1)[m][:, None]) * routed
        a = -layer.log_decay.exp()[:, None] * F.softplus(a + layer.fade_bias[:, None]) * routed
        read, _ = gated_delta_chunk(F.normalize(q, dim=-1) * layer.key_dim**-0.5, F.normalize(k, dim=-1), v, b, a)
        total += share[..., m][:, None, :, None] * read
    expected = layer.out(layer.norm(total.transpose(1, 2)).flatten(2) * F.silu(layer.gate(x)))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("settings", KINDS[:2], ids=str)
def test_what_comes_later_changes_no_bit_and_other_rows_cannot_even_poison(settings: dict[str, Any]) -> None:
    """The convolution of a segment begins with zeros: not with the end of the segment that lies before it."""
    layer, (x, ctx) = drawn_mom(**settings), given_rows(time=40)
    clean = layer(x, ctx)
    for place in (5, 17, 39):
        other = x.clone()
        other[2, place:] *= -1e6
        found = layer(other, ctx)
        assert torch.equal(found[2, :place], clean[2, :place]) and not torch.equal(found[2, place], clean[2, place])
    x[2] = torch.nan
    found = layer(x, ctx)
    torch.testing.assert_close(found[:2], clean[:2], rtol=0, atol=1e-12)
    assert found[2].isnan().all()


@given(
    rows=st.integers(1, 4), time=st.integers(1, 20), memories=st.integers(1, 5), chunk=st.integers(1, 9), data=st.data()
)
def test_segments_keep_the_order_of_time(rows: int, time: int, memories: int, chunk: int, data: Any) -> None:
    k = data.draw(st.integers(1, memories))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    chosen = torch.rand(rows, time, memories, generator=generator).topk(k).indices
    mask = torch.arange(time) >= torch.randint(0, time + 1, (rows, 1), generator=generator)
    segments = Segments.of(chosen, mask, memories, chunk=chunk)
    numbers = torch.arange(rows * time).view(rows, time, 1) + 1
    block = segments.pack(segments.take(numbers))
    for row in range(rows):
        for memory in range(memories):
            own = [t for t in range(time) if mask[row, t] and memory in chosen[row, t].tolist()]
            expected = [row * time + t + 1 for t in own]
            assert block[row, memory, :, 0].tolist() == expected + [0] * (segments.length - len(own))
            assert segments.lengths[row, memory] == segments.real[row, memory].sum() == len(own)
    assert segments.length <= time and (segments.length % chunk == 0 or segments.length == time)
    assert torch.equal(segments.unpack(block), segments.take(numbers))
    assert torch.equal(segments.add(segments.take(numbers)), numbers * mask[..., None] * k)
    assert sum(segments.counts) == len(segments.token) == k * int(mask.sum())
    assert torch.equal(segments.memory, segments.memory.sort().values)


def test_a_memory_that_is_not_chosen_does_not_fade() -> None:
    states = torch.randn(1, 2, 1, 3, 4, dtype=torch.float64)
    segments = Segments.of(torch.ones(1, 6, 1, dtype=torch.long), torch.ones(1, 6, dtype=torch.bool), 2)
    q, k, v = (torch.randn(1, 2, 6, 1, size, dtype=torch.float64) for size in (3, 3, 4))
    gates = torch.full((1, 2, 6, 1), 0.5, dtype=torch.float64)
    _, after = remember(q, F.normalize(k, dim=-1), v, gates, -gates, segments, states)
    assert torch.equal(after[:, 0], states[:, 0]) and not torch.equal(after[:, 1], states[:, 1])


def test_the_loss_of_the_router_is_the_formula_and_leaves_padding_out() -> None:
    layer, (x, ctx) = drawn_mom(aux=0.5).train(), given_rows()
    layer(x, ctx)
    p = layer.router(x[ctx.mask]).softmax(-1)
    chosen = p.topk(2).indices
    shares = torch.stack([(chosen[:, s, None] == torch.arange(4)).double().mean(0) for s in range(2)])
    (found,) = ctx.aux
    torch.testing.assert_close(found, 0.5 / 2 * 4 * (shares * p.mean(0)).sum())  # of one of two layers
    torch.testing.assert_close(ctx.stats["0.shares"].double(), shares.sum(0))
    gradient = torch.autograd.grad(found, layer.router.weight)[0]
    expected = torch.autograd.grad(0.5 / 2 * 4 * (shares.sum(0) * p.mean(0)).sum(), layer.router.weight)[0]
    torch.testing.assert_close(gradient, expected)
    other = x.clone()
    other[~ctx.mask] = 9.0
    again = ctx.of_layer(0, None)
    again.aux.clear()
    layer(other, again)
    torch.testing.assert_close(again.aux[0], found)
    again.aux.clear()
    layer.eval()(x, again)
    assert not again.aux


def test_the_loss_of_the_router_is_least_where_all_memories_are_used_alike() -> None:
    layer = drawn_mom(aux=2.0).train()  # of two layers
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[:, :4] = torch.eye(4) * 5.0
    even = torch.zeros(1, 12, 12, dtype=torch.float64)
    for t in range(12):
        even[0, t, t % 4], even[0, t, (t + 1) % 4] = 2.0, 1.0
    uneven = even.clone()
    uneven[:] = even[:, :1]
    losses = []
    for x in (even, uneven):
        ctx = whole(x)
        layer(x, ctx)
        losses.append(float(ctx.aux[0].detach()))
    assert abs(losses[0] - 2.0) < 1e-9 < 1.0 < losses[1] - losses[0]


def test_equal_scores_are_settled_alike_whatever_the_length() -> None:
    layer = drawn_mom(memories=7, top_k=3)
    with torch.no_grad():
        layer.router.weight.zero_()
    x, ctx = given_rows()
    chosen, weight = layer._route(x, ctx)
    assert (chosen == torch.arange(3)).all() and torch.allclose(weight, torch.full_like(weight, 1 / 3))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"top_k": 5}, "top_k=5: give how many of the memories=4"),
        ({"top_k": 0}, "top_k=0"),
        ({"heads": 0}, "heads=0"),
        ({"taps": -1}, "taps=-1"),
        ({"scope": "row"}, "scope='row'"),
        ({"aux": -1.0}, "aux=-1.0"),
        ({"decay": 0.0}, "decay=0.0"),
        ({"chunk": 0}, "chunk=0"),
    ],
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        MoM(mom_config(), **wrong)
