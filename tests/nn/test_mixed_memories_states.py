"""What MoM keeps between calls: written in place, counted, wide in half precision; what a token reads and does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mom_written_out import KINDS, SIZES, drawn_mom, given_rows, mom_config
from torch.utils.flop_counter import FlopCounterMode

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.attention import Attention
from lamina.nn.context import BlockContext, DecodingCache, LayerState, whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.mixed_memories import MoM


def test_one_token_touches_the_states_of_its_own_memories_alone() -> None:
    layer, (x, ctx) = drawn_mom(), given_rows()
    state = LayerState()
    with torch.no_grad():
        layer(x, ctx.of_layer(0, state))
        states = state.tensors["mom.routed.states"]
        before, place = states.clone(), states.data_ptr()
        told = BlockContext(torch.ones(3, 1, dtype=torch.bool), torch.full((3, 1), 11), state=state)
        chosen, _ = layer._route(x[:, :1], told)
        untouched = torch.ones(3, 4, dtype=torch.bool).scatter(1, chosen[:, 0], False)
        expected = layer(x[:, :1], told)
        after = state.tensors["mom.routed.states"]
        assert after.data_ptr() == place  # written where it stands: nothing of the others was copied
        assert torch.equal(after[untouched], before[untouched]) and int(untouched.sum()) == 3 * 2
        assert not (after[~untouched] == before[~untouched]).flatten(1).all(1).any()
        # Were the others as much as looked at, it would show.
        poisoned = LayerState()
        poisoned.tensors = {name: each.clone() for name, each in state.tensors.items()}
        poisoned.tensors["mom.routed.states"] = before.masked_fill(untouched[..., None, None, None], torch.nan)
        again = LayerState()
        layer(x, ctx.of_layer(0, again))
        poisoned.tensors |= {name: each for name, each in again.tensors.items() if name != "mom.routed.states"}
        assert torch.equal(layer(x[:, :1], BlockContext(told.mask, told.positions, state=poisoned)), expected)


def test_with_gradients_and_in_inference_mode_a_state_is_not_written_in_place() -> None:
    layer, (x, _) = drawn_mom(), given_rows()
    one = BlockContext(torch.ones(3, 1, dtype=torch.bool), torch.zeros(3, 1, dtype=torch.long))
    begun, state = whole(x), LayerState()
    layer(x, begun.of_layer(0, state))
    kept = state.tensors["mom.routed.states"]
    before = kept.detach().clone()
    y = layer(x[:, :1], one.of_layer(0, state))
    assert torch.equal(kept, before) and not torch.equal(state.tensors["mom.routed.states"], before)
    state.tensors["mom.routed.states"].sum().backward()
    assert layer.routed.weight.grad is not None and layer.routed.weight.grad.any()
    state = LayerState()
    with torch.inference_mode():
        layer(x, begun.of_layer(0, state))
    with torch.no_grad():
        torch.testing.assert_close(layer(x[:, :1], one.of_layer(0, state)), y)


def test_bytes_of_the_state_are_the_formula_at_any_length() -> None:
    for settings in KINDS:
        torch.manual_seed(0)
        model = LaminaForCausalLM(mom_config(mixer="mom", ffn="none", block={"mom": SIZES | settings})).eval()
        cache, layer = DecodingCache(2), model.model.layers[0].mixer
        assert isinstance(layer, MoM)
        for cut in (1, 5, 1, 30):
            with torch.no_grad():
                model(torch.randint(0, 30, (3, cut)), past_key_values=cache)
            assert cache.nbytes == 3 * 2 * layer.state_bytes(1) == 3 * 2 * layer.state_bytes(10**6)


def test_the_published_shape_takes_the_cache_of_1280_tokens() -> None:
    sizes = {"hidden_size": 1024, "num_heads": 4, "head_dim": 256}
    with torch.device("meta"):
        layer, rival = MoM(mom_config(**sizes), taps=0), Attention(mom_config(**sizes))
    assert layer.state_bytes(1) == 5_242_880  # 5 memories of 4 heads of 256 x 256
    assert layer.state_bytes(1) == 1280 * (rival.state_bytes(1, el=2) - 9)  # 9: place and mark


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_costs_are_those_of_what_is_done_and_read(settings: dict[str, Any]) -> None:
    layer = drawn_mom(**settings).float().eval()
    x = torch.randn(1, 6, 12)
    state = LayerState()
    one = BlockContext(torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, 1, dtype=torch.long), state=state)
    with torch.no_grad():
        layer(x, whole(x).of_layer(0, state))
        counter = FlopCounterMode(display=False)
        with counter:
            y = layer(x[:, :1], one)
    met = layer.top_k + (layer.common is not None)
    products = 4 * met * layer.heads * layer.key_dim * layer.value_dim  # single channels, which the counter leaves out
    streams = layer.memories + (layer.common is not None)  # what one short block convolves, chosen or not
    taps = 0 if layer.conv is None else layer.conv.taps * layer.conv.channels
    convolved = streams if layer.scope == "stream" else met
    assert counter.get_total_flops() // 2 - streams * taps == layer.macs_per_token(9) - products - convolved * taps
    stored = sum(each.nbytes for each in layer.parameters())
    unread = stored - layer.bytes_read_per_token()
    if settings in KINDS[:1]:
        left = torch.ones(4, dtype=torch.bool).scatter(0, layer._route(x[:, :1], one)[0][0, 0], False)
        assert unread == layer.routed.weight[left].nbytes > 0
        with torch.no_grad():
            layer.routed.weight[left] = torch.nan
            assert torch.isfinite(layer(x[:, :1], one)).all() and torch.isfinite(y).all()
    assert costs.bytes_read_per_token(layer) == stored - unread <= stored


def test_half_precision_keeps_wide_states_and_a_wide_router() -> None:
    layer, x = drawn_mom().float(), given_rows(2, 40)[0].float()
    exact, _ = layer._route(x, whole(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer._route(x, whole(x))[0], exact)
    state = LayerState()
    narrow = layer.bfloat16()
    y = narrow(x.bfloat16(), whole(x).of_layer(0, state))
    assert y.dtype == torch.bfloat16 and state.tensors["mom.routed.states"].dtype == torch.float32
    assert state.tensors["mom.shared.states"].dtype == torch.float32 and torch.isfinite(y).all()


def test_a_conversation_goes_on_with_its_own_rows() -> None:
    model = LaminaForCausalLM(mom_config(mixer="mom")).eval()
    cache = model(torch.zeros(2, 3, dtype=torch.long)).past_key_values
    with pytest.raises(InvalidInput, match="holds 2 rows and 1 are given"):
        model(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache)


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_it_is_taught_and_goes_on_under_autocast(settings: dict[str, Any]) -> None:
    layer, (x, ctx) = drawn_mom(**settings).float(), given_rows()
    exact, state = layer(x.float(), ctx), LayerState()
    with torch.autocast("cpu", torch.bfloat16):
        layer(x.float(), ctx).square().mean().backward()
        pieces = [
            layer(x[:, t : t + 1].float(), BlockContext(ctx.mask[:, t : t + 1], ctx.positions, state=state))
            for t in range(x.shape[1])
        ]
    assert all(each.grad is None or torch.isfinite(each.grad).all() for each in layer.parameters())
    near = torch.cat(pieces, dim=1)
    assert (near - exact)[ctx.mask].std() < 0.1 * exact[ctx.mask].std()
    assert state.tensors["mom.routed.states"].dtype == torch.float32
