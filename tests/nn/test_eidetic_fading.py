"""B'MOJO against its equations written out query by query, its special cases, its bytes and what it must never see."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lamina.cube.payload import Fingerprint
from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext, DecodingCache, LayerState, whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.eidetic.innovation_store import NOWHERE, InnovationStore
from lamina.nn.eidetic.joint_softmax import Source, mixed
from lamina.nn.eidetic_fading import BMojo

SSM = {"heads": 2, "key_dim": 4, "value_dim": 6}
DOUBLED = 4 * 2 * 4 * 6  # bytes of the state's matrices beyond float32, as all is float64 here


def _config(**more: Any) -> LaminaConfig:
    return LaminaConfig(**{"hidden_size": 12, "num_heads": 4, "num_kv_heads": 2, "head_dim": 6} | more)


def _block(config: LaminaConfig | None = None, seed: int = 0, **chosen: Any) -> BMojo:
    if chosen.get("ssm", "gated_delta") == "gated_delta":
        chosen = {"ssm_settings": SSM} | chosen
    block = BMojo(config or _config(), **chosen).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    return block


def _x(time: int = 17, rows: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(rows, time, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _turn(x: Tensor, place: int, theta: float = 10_000.0) -> Tensor:
    """One head of one token, by complex numbers."""
    half = x.shape[-1] // 2
    angles = place * theta ** (-torch.arange(half, dtype=torch.float64) / half)
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], -1)


def _norm(x: Tensor, norm: nn.Module | None) -> Tensor:
    return x if norm is None else norm(x)


def _written_out(block: BMojo, x: Tensor) -> tuple[Tensor, list[list[int]]]:
    """One row ``(time, width)``: query after query, key after key. Also what each query saw verbatim, by place."""
    time, w, c = len(x), block.window, block.every
    d = block.head_dim
    f = block.norm(block.fading(x[None], whole(x[None])))[0] if block.fading is not None and block.norm else None
    far = block.fading_heads or block.heads
    errors = [math.nan] * time
    if block.predict is not None and f is not None:
        for j in range(time):
            guess = block.predict(f[j - 1]) if j else torch.zeros_like(x[0])
            target = x[j] / (x[j].square().mean() + torch.finfo(x.dtype).eps).sqrt()
            errors[j] = float((guess - target).square().mean().float())
    outputs, verbatim = [], []
    for i in range(time):
        begun = i // c * c
        candidates = [j for j in range(time) if j <= begun - w]
        kept = sorted(candidates, key=lambda j: (-errors[j], j))[: block.eidetic] if block.eidetic else []
        verbatim.append(sorted(kept))
        heads = []
        for head in range(4):
            own = slice(head * d, head * d + d)
            group = slice(head // 2 * d, head // 2 * d + d)
            logits, values = [], []
            for j in range(time):
                near, fading = 0 <= i - j < w, w <= i - j < 2 * w and f is not None
                for sees, source, matrices in ((near or j in kept, x, block.heads), (fading, f, far)):
                    if not sees or source is None:
                        continue
                    query = _norm(matrices.query(x[i])[own], matrices.query_norm)
                    key = _norm(matrices.key(source[j])[group], matrices.key_norm)
                    apart = i - j
                    if not near and source is x and block.position == "clamp":
                        apart = min(apart, 2 * w)
                    logits.append(_turn(query, apart) @ key / d**0.5)
                    values.append(matrices.value(source[j])[group])
            shares = torch.stack(logits).softmax(0)
            heads.append((shares[:, None] * torch.stack(values)).sum(0))
        outputs.append(block.out(torch.cat(heads)))
    return torch.stack(outputs), verbatim


@pytest.mark.parametrize(
    "chosen",
    [
        {"window": 3, "eidetic": 3},
        {"window": 4, "eidetic": 2, "update_every": 3, "position": "clamp"},
        {"window": 3, "eidetic": 4, "update_every": 1, "tie_weights": False, "qk_norm": True},
        {"window": 5},
        {"window": 2, "eidetic": 20},
        {"window": 9, "eidetic": 3, "position": "clamp"},
    ],
)
def test_it_is_its_equations(chosen: dict[str, Any]) -> None:
    block, x = _block(**chosen), _x()
    ctx = whole(x)
    with torch.no_grad():
        found = block(x, ctx)
        for row in range(2):
            expected, verbatim = _written_out(block, x[row])
            torch.testing.assert_close(found[row], expected, rtol=1e-9, atol=1e-10)
            if block.eidetic:
                told = ctx.stats["0.positions"][row].repeat_interleave(block.every, 0)[:17]
                assert [sorted(p for p in places if p != NOWHERE) for places in told.tolist()] == verbatim
    if block.eidetic:
        assert any(verbatim) and len({tuple(each) for each in verbatim}) > 1  # the selection changed with the text


class Same(nn.Module):
    """A state that summarises a token by itself."""

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        return x


def test_no_token_is_lost_or_seen_twice_between_the_window_and_what_fades() -> None:
    config = LaminaConfig(hidden_size=12, num_heads=1)
    block = BMojo(config, window=3, ssm=Same()).double()
    with torch.no_grad():
        block.heads.query.weight.zero_()  # all keys alike: what is found is the mean of the values seen
        for matrix in (block.heads.value, block.out):
            matrix.weight.copy_(torch.eye(12))
        assert block.norm is not None
        block.norm.weight.fill_(12**-0.5)  # a token of length 1 stays one
        x = torch.eye(12, dtype=torch.float64)[None]
        found = block(x, whole(x))[0]
    for i in range(12):
        seen = (found[i] > 1e-6).nonzero()[:, 0].tolist()
        assert seen == list(range(max(0, i - 5), i + 1))
        torch.testing.assert_close(found[i, seen], torch.full((len(seen),), 1 / len(seen)).double(), rtol=0, atol=1e-4)
    block.norm.weight.data.fill_(0.0)  # now summaries say nothing, so their places show
    found = block(x, whole(x))[0]
    assert (found[6] > 1e-6).nonzero()[:, 0].tolist() == [4, 5, 6]
    torch.testing.assert_close(found[6, 4:7], torch.full((3,), 1 / 6).double(), rtol=0, atol=1e-6)


def test_a_window_over_all_without_a_state_is_attention() -> None:
    for window, alike in ((40, None), (4, 4)):
        plain = Attention(_config(), window=alike).double()
        block = _block(window=window, ssm=None)
        pairs = ((plain.query, block.heads.query), (plain.key, block.heads.key), (plain.value, block.heads.value))
        for theirs, ours in (*pairs, (plain.out, block.out)):
            theirs.load_state_dict(ours.state_dict())
        x = _x()
        torch.testing.assert_close(block(x, whole(x)), plain(x, whole(x)), rtol=1e-9, atol=1e-10)


def test_where_nothing_surprises_enough_it_is_the_fading_form() -> None:
    fading, both = _block(window=3), _block(window=3, eidetic=4, threshold=1e9)
    both.load_state_dict(fading.state_dict(), strict=False)
    x = _x()
    ctx = whole(x)
    torch.testing.assert_close(both(x, ctx), fading(x, whole(x)), rtol=1e-12, atol=1e-12)
    assert (ctx.stats["0.positions"] == NOWHERE).all()
    some = _block(window=3, eidetic=20, threshold=float(ctx.stats["0.scores"].median()))
    some.load_state_dict(both.state_dict())
    some(x, ctx)
    kept = ctx.stats["0.positions"][0, -1]
    expected = [j for j in range(13) if ctx.stats["0.scores"][0, j] > some.threshold]  # type: ignore[operator]
    assert sorted(kept[kept != NOWHERE].tolist()) == expected


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(1, 12), min_size=1, max_size=6), every=st.integers(1, 4), seed=st.integers(0, 9))
def test_however_a_text_is_cut_it_is_one_text(cuts: list[int], every: int, seed: int) -> None:
    block, x = _block(window=4, eidetic=3, update_every=every, seed=seed), _x(sum(cuts), seed=seed)
    with torch.no_grad():
        expected, state, done, found = block(x, whole(x)), LayerState(), 0, []
        for cut in cuts:
            mask = torch.ones(2, cut, dtype=torch.bool)
            places = torch.arange(done, done + cut).expand(2, -1)
            found.append(block(x[:, done : done + cut], BlockContext(mask, places, state=state)))
            done += cut
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=1e-9, atol=1e-10)
    assert state.nbytes == 2 * block.state_bytes(done, el=8) + 2 * DOUBLED


def test_bytes_do_not_grow_with_the_text_and_keys_seen_are_counted() -> None:
    config = LaminaConfig(
        vocab_size=20, hidden_size=24, num_hidden_layers=1, num_heads=3, mixer="bmojo", ffn="none",
        block={"bmojo": {"window": 5, "eidetic": 4, "update_every": 2}},
    )  # fmt: skip
    model = LaminaForCausalLM(config).eval()
    block = model.model.layers[0].mixer
    assert isinstance(block, BMojo)
    sizes = {}
    for time in (1, 3, 8, 30, 60):
        cache = DecodingCache(1)
        with torch.no_grad():
            stats = model(torch.randint(20, (2, time)), past_key_values=cache).stats
        sizes[time] = cache.nbytes
        assert cache.nbytes == 2 * block.state_bytes(time)
        seen = stats["0.seen"].double()
        assert seen.max() <= 2 * 5 + 4
        assert seen.mean() == pytest.approx(block.keys_seen(time), rel=1e-12)
    assert sizes[8] < sizes[30] == sizes[60]
    assert block.fading is not None and block.predict is not None
    parts = (block.heads.query, block.heads.key, block.heads.key, block.heads.value, block.heads.value)
    matrices = sum(part.weight.numel() for part in (*parts, block.out, block.predict))
    own = matrices + costs.macs_per_token(block.fading, 30) + int(2 * 24 * block.keys_seen(30))
    assert block.macs_per_token(30) == own


def test_what_a_cache_keeps_verbatim_can_be_taken_out_and_put_back() -> None:
    block, x = _block(window=3, eidetic=4), _x(20)
    ctx = whole(x)
    state = LayerState()
    with torch.no_grad():
        block(x, BlockContext(ctx.mask, ctx.positions, stats=ctx.stats, state=state))
        more = BlockContext(torch.ones(2, 1, dtype=torch.bool), torch.full((2, 1), 20))
        store = InnovationStore.of(state.tensors)
        assert torch.equal(store.places, ctx.stats["0.positions"][:, -1])
        for row in range(2):  # keys without positions and values of the very tokens at these places
            expected = block.heads.kept(x[row, store.places[row]][None])[0]
            torch.testing.assert_close(store.pairs[row], expected)
            torch.testing.assert_close(store.scores[row], ctx.stats["0.scores"][row, store.places[row]])

        def answer(kept: InnovationStore) -> Tensor:
            again = LayerState()
            again.tensors = state.tensors | kept.as_tensors()
            found: Tensor = block(_x(1, seed=3), replace(more, state=again))
            return found

        made_by = Fingerprint("lamina", "weights", "tokens", "float64")
        rows = [InnovationStore.from_payload(store.to_payload(made_by, row), made_by, 4) for row in range(2)]
        joined = [torch.cat([getattr(row, name) for row in rows]) for name in ("pairs", "places", "scores")]
        assert torch.equal(answer(InnovationStore(*joined)), answer(store))
        assert not torch.allclose(answer(InnovationStore.empty(store.pairs, 4)), answer(store))


def test_gradients_are_right() -> None:
    block = _block(window=2, eidetic=2, tie_weights=False).train()
    x = _x(7, rows=1).requires_grad_()
    weights = [parameter for name, parameter in block.named_parameters() if not name.startswith("predict")]
    assert torch.autograd.gradcheck(lambda x, *_: block(x, whole(x)), (x, *weights[:4]))


def test_only_the_predictor_learns_from_what_was_not_predicted() -> None:
    block = _block(window=3, eidetic=2, innovation_weight=0.5).train()
    x = _x().requires_grad_()
    ctx = whole(x)
    block(x, ctx)
    (aux,) = ctx.aux
    assert aux.item() == pytest.approx(0.5 * ctx.stats["0.scores"].mean().item(), rel=1e-6)
    aux.backward()
    assert [name for name, parameter in block.named_parameters() if parameter.grad is not None] == ["predict.weight"]
    assert x.grad is None
    quiet = whole(x)
    block.eval()(x, quiet)
    assert not quiet.aux


def test_a_score_is_of_what_came_before_and_not_of_how_large_a_token_is() -> None:
    block, x = _block(window=3, eidetic=2), _x()

    def scores(given: Tensor) -> Tensor:
        ctx = whole(given)
        with torch.no_grad():
            block(given, ctx)
        return ctx.stats["0.scores"]

    plain, other, larger = scores(x), x.clone(), x.clone()
    torch.testing.assert_close(plain[:, 0], torch.ones(2))  # before the first token nothing is foretold
    other[:, 6] += 1.0
    larger[:, 6] *= 50.0
    assert (
        torch.equal(scores(other)[:, :6], plain[:, :6])
        and not torch.isclose(scores(other)[:, 6:8], plain[:, 6:8]).any()
    )
    torch.testing.assert_close(scores(larger)[:, 6], plain[:, 6], rtol=1e-5, atol=1e-6)


def test_nothing_in_the_window_or_after_it_is_kept() -> None:
    block, x = _block(window=4, eidetic=3, update_every=2), _x(31)
    ctx = whole(x)
    block(x, ctx)
    for chunk, places in enumerate(ctx.stats["0.positions"].unbind(1)):
        there = places[places != NOWHERE]
        assert (there <= chunk * 2 - 4).all()
        assert all(len(set(row[row != NOWHERE].tolist())) == min(3, max(0, chunk * 2 - 3)) for row in places)


def test_other_ways_to_select() -> None:
    x = _x(25)
    found = {}
    for select in ("recent", "random", "oracle"):
        block, ctx = _block(window=3, eidetic=2, select=select), whole(x)
        if select == "oracle":
            with pytest.raises(InvalidInput, match="give scores"):
                block(x, ctx)
            ctx = BlockContext(ctx.mask, ctx.positions, route=torch.arange(50).view(2, 25).neg().double())
        block(x, ctx)
        found[select] = ctx.stats["0.positions"][:, -1].sort(1).values
    assert found["recent"].tolist() == [[20, 21]] * 2
    assert found["oracle"].tolist() == [[0, 1]] * 2
    assert not torch.equal(found["random"][0], found["random"][1])
    many = _block(window=3, eidetic=10, select="random")
    longer = _x(200, rows=8)
    ctx = whole(longer)
    many(longer, ctx)
    mean = ctx.stats["0.positions"][:, -1].double().mean()
    assert 70 < mean < 125, mean  # of 0 to 195; the deviation of such a mean is 6


def test_sources_are_merged_as_by_their_log_sums_and_not_by_a_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    sources = []
    for keys in (5, 7, 2):
        logits = torch.randn(1, 2, 3, 4, keys, generator=generator, dtype=torch.float64)
        values = torch.randn(1, 2, 3, keys, 6, generator=generator, dtype=torch.float64)
        sources.append(Source(logits, values, torch.ones(1, 2, 4, keys, dtype=torch.bool)))
    sums = torch.stack([source.logits.logsumexp(-1) for source in sources])
    apart = torch.stack([source.logits.softmax(-1) @ source.values for source in sources])
    weights = (sums - sums.logsumexp(0)).exp()[..., None]
    expected = (weights * apart).sum(0).permute(0, 1, 3, 2, 4).flatten(1, 2).flatten(2)
    torch.testing.assert_close(mixed(sources), expected)
    assert not torch.allclose(apart.mean(0).permute(0, 1, 3, 2, 4).flatten(1, 2).flatten(2), expected, atol=0.1)
    faint = [Source(s.logits.bfloat16() + 6 * (n == 0), s.values.bfloat16(), s.seen) for n, s in enumerate(sources)]
    exact = [Source(s.logits.double(), s.values.double(), s.seen) for s in faint]
    torch.testing.assert_close(mixed(faint).double(), mixed(exact), rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"window": 1}, "window=1"),
        ({"window": 4, "update_every": 5}, "update_every=5"),
        ({"window": 4, "update_every": 0}, "update_every=0"),
        ({"eidetic": -1}, "eidetic=-1"),
        ({"ssm": "mamba"}, "ssm='mamba'"),
        ({"select": "best"}, "select='best'"),
        ({"position": "near"}, "position='near'"),
        ({"ssm": None, "eidetic": 2}, "give an ssm"),
    ],
)
def test_wrong_settings_are_told(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        BMojo(_config(), **chosen)


def test_rows_padded_on_the_right_are_refused() -> None:
    block, x = _block(window=3), _x(4)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    with pytest.raises(InvalidInput, match="on the left"):
        block(x, BlockContext(mask, (mask.long().cumsum(1) - 1).clamp(min=0)))
