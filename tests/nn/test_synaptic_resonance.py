"""Synaptic Resonance against its equations written out in float64, token by token and head by head."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext, LayerState, whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.linear_recurrence import gated_delta_chunk
from lamina.nn.plasticity.context_resonance import ContextGate
from lamina.nn.plasticity.fast_weights import RULES, fast_weight_chunks, fast_weight_steps
from lamina.nn.synaptic_resonance import SynapticResonance

WIDTH, HEADS, KEYS, VALUES, FEATURES = 12, 2, 5, 7, 3
SIZES: dict[str, Any] = {"heads": HEADS, "key_dim": KEYS, "value_dim": VALUES, "context_dim": FEATURES, "chunk": 4}


def _config(**more: Any) -> LaminaConfig:
    return LaminaConfig(hidden_size=WIDTH, num_heads=2, num_hidden_layers=1, **more)


def _layer(seed: int = 0, **settings: Any) -> SynapticResonance:
    """One in float64 whose parameters are none of them at their beginning."""
    torch.manual_seed(seed)
    layer = SynapticResonance(_config(), **{**SIZES, **settings}).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.6)
    return layer


def _x(time: int = 19, rows: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, time, WIDTH, generator=generator, dtype=torch.float64)


def _kept(x: Tensor) -> BlockContext:
    return replace(whole(x), state=LayerState())


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.pow(2).sum().sqrt()


def _written_out(layer: SynapticResonance, x: Tensor, gate: str) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gates ``(rows, time, heads)`` and last matrices, by loops over rows, heads and tokens."""
    w = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    rows, time = x.shape[:2]
    out, gates = torch.zeros_like(x), x.new_zeros(rows, time, HEADS)
    states = x.new_zeros(rows, HEADS, KEYS, VALUES)
    for row in range(rows):
        trace = [0.02 * w["gate.start"][head] for head in range(HEADS)] if gate != "none" else []
        mean = [0.0] * HEADS
        for t in range(time):
            near = sum(w["conv.conv.weight"][:, 0, 3 - back] * x[row, t - back] for back in range(min(t, 3) + 1))
            assert isinstance(near, Tensor)
            normed = []
            for head in range(HEADS):
                ks, vs = slice(head * KEYS, (head + 1) * KEYS), slice(head * VALUES, (head + 1) * VALUES)
                r = 1.0
                if gate != "none":
                    u = _unit(w["gate.relevance.weight"][head * FEATURES : (head + 1) * FEATURES] @ near)
                    cosine = float(u @ _unit(trace[head]))
                    if gate == "resonance":
                        mean[head] += 0.01 * (cosine - mean[head])
                    theta = min(max(float(w["gate.base"][head]) + mean[head], -0.5), 0.9)
                    beta = math.log1p(math.exp(float(w["gate.sharpness"][head])))
                    r = 1 / (1 + math.exp(-beta * (cosine - theta)))
                if gate == "resonance":
                    rho = 1 / (1 + math.exp(-float(w["gate.keep"][head])))
                    trace[head] = trace[head] + (1 - rho) * r * (u - trace[head])
                gates[row, t, head] = r
                k, q = _unit(w["key.weight"][ks] @ near), _unit(w["query.weight"][ks] @ near)
                v = w["value.weight"][vs] @ near
                eta = 1 / (1 + math.exp(-float(w["rate.weight"][head] @ near)))
                delta = 1 / (1 + math.exp(-float(w["faded"][head]))) if "faded" in w else 0.0
                before = states[row, head].clone()
                error = v - before.T @ k if layer.rule == "delta" else v
                states[row, head] = (1 - delta * r) * before + eta * r * torch.outer(k, error)
                read = states[row, head].T @ q
                size = (read.pow(2).mean() + 1e-6).sqrt()
                normed.append(read / size * w["norm.weight"] * F.silu(w["out_gate.weight"][vs] @ near))
            out[row, t] = w["scale"] * (w["out.weight"] @ torch.cat(normed))
    return out, gates, states


@pytest.mark.parametrize("gate", ["resonance", "token", "none"])
@pytest.mark.parametrize(("rule", "fade"), [("delta", 0.0), ("delta", 0.3), ("hebb", 0.0), ("hebb", 0.3)])
def test_it_says_what_its_equations_say(rule: str, fade: float, gate: str) -> None:
    layer, x = _layer(rule=rule, fade=fade, gate=gate), _x()
    expected, gates, states = _written_out(layer, x, gate)
    ctx = _kept(x)
    found = layer(x, ctx)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ctx.stats["0.gates"], gates, rtol=1e-9, atol=1e-10)
    assert ctx.state is not None
    torch.testing.assert_close(ctx.state.tensors["resonance.state"], states, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(ctx.stats["0.energy"], states.pow(2).sum((2, 3)).sqrt(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("time", "chunk"), [(1, 32), (31, 32), (33, 32), (70, 32), (70, 7)])
def test_chunks_agree_with_steps_in_float32(rule: Any, time: int, chunk: int) -> None:
    generator = torch.Generator().manual_seed(time)
    q, k = (F.normalize(torch.randn(2, 3, time, 8, generator=generator), dim=-1) for _ in range(2))
    v = torch.randn(2, 3, time, 6, generator=generator)
    b, share = (torch.rand(2, 3, time, generator=generator) for _ in range(2))
    a, begin = torch.log1p(-0.4 * share), torch.randn(2, 3, 8, 6, generator=generator)
    steps = fast_weight_steps(rule, q, k, v, b, a, begin)
    for chunked, stepped in zip(fast_weight_chunks(rule, q, k, v, b, a, begin, chunk=chunk), steps, strict=True):
        torch.testing.assert_close(chunked, stepped, rtol=1e-5, atol=1e-5)


def test_without_trace_and_fading_it_is_the_delta_rule() -> None:
    layer, x = _layer(gate="none", taps=0), _x()
    ctx = _kept(x)
    layer(x, ctx)
    by_head = [F.linear(x, each.weight).view(2, -1, HEADS, each.out_features // HEADS).transpose(1, 2)
               for each in (layer.query, layer.key, layer.value)]  # fmt: skip
    q, k = (F.normalize(each, dim=-1) for each in by_head[:2])
    b = F.linear(x, layer.rate.weight).sigmoid().transpose(1, 2)
    _, state = gated_delta_chunk(q, k, by_head[2], b, torch.zeros_like(b))
    assert ctx.state is not None
    torch.testing.assert_close(ctx.state.tensors["resonance.state"], state)


@pytest.mark.parametrize("settings", [{"rule": "delta", "fade": 0.2}, {"rule": "hebb"}, {"gate": "token"}])
def test_gradients_of_everything(settings: dict[str, Any]) -> None:
    layer = _layer(**settings)
    names = [name for name, _ in layer.named_parameters()]

    def loss(x: Tensor, *weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        found: Tensor = torch.func.functional_call(layer, given, (x, whole(x)))
        return found

    leaves = [parameter.detach().clone().requires_grad_() for parameter in layer.parameters()]
    assert torch.autograd.gradcheck(loss, (_x(6, 1).requires_grad_(), *leaves), fast_mode=True)


def test_beside_a_window_it_is_added_to_attention() -> None:
    layer, alone, x = _layer(window=4), Attention(_config(), window=4).double(), _x()
    assert layer.attention is not None
    alone.load_state_dict(layer.attention.state_dict())
    branch = _layer()
    branch.load_state_dict({name: each for name, each in layer.state_dict().items() if "attention" not in name})
    torch.testing.assert_close(layer(x, whole(x)), branch(x, whole(x)) + alone(x, whole(x)))


def test_with_scale_0_a_model_begins_as_what_it_was() -> None:
    layer, x = _layer(window=4), _x()
    with torch.no_grad():
        layer.scale.zero_()
    assert layer.attention is not None
    y = layer(x, whole(x))
    assert torch.equal(y, layer.attention(x, whole(x)))
    y.sum().backward()
    assert layer.scale.grad is not None and layer.scale.grad != 0  # and it can learn to speak
    begun = LaminaForCausalLM(
        LaminaConfig(mixer="synaptic_resonance", block={"synaptic_resonance": {"window": 4, "scale": 0.0}})
    )
    assert not any(each.mixer.scale.item() for each in begun.model.layers)


def test_the_gate_hangs_on_the_context_and_a_token_gate_does_not() -> None:
    """The same token after two different texts: that is what no gate on tokens alone can tell apart."""
    first, second = _x(9, 1, seed=3), _x(9, 1, seed=4)
    second[:, -1] = first[:, -1]
    for gate, differs in (("resonance", True), ("token", False)):
        layer = _layer(gate=gate, taps=0)
        last = []
        for x in (first, second):
            ctx = whole(x)
            layer(x, ctx)
            last.append(ctx.stats["0.gates"][0, -1])
        assert (not torch.allclose(last[0], last[1], atol=1e-3)) == differs


def test_the_trace_follows_what_resonates_and_the_threshold_rises_with_it() -> None:
    gate = ContextGate(WIDTH, 1, FEATURES).double()
    config = _config()
    torch.manual_seed(0)
    torch.nn.init.normal_(gate.relevance.weight)
    gate.init_weights(config)
    token = _x(1, 1)
    u = F.normalize(gate.relevance(token)[0, 0], dim=-1)
    gates, trace, drift = gate(token.expand(1, 300, -1), torch.ones(1, 300, dtype=torch.bool))
    assert float((u @ F.normalize(trace[0, 0], dim=-1)).detach()) > 0.99
    assert gates[0, 40, 0] > gates[0, 0, 0]  # resonance: what came often is let in
    assert gates[0, -1, 0] < gates[0, 40, 0] and 0.5 < drift[0, 0] < 1  # homeostasis: but not for ever more
    with torch.no_grad():
        gate.base.fill_(5.0)  # clamped: at a threshold of 0.9 what resonates still passes
    again, _, _ = gate(token.expand(1, 300, -1), torch.ones(1, 300, dtype=torch.bool), trace, drift)
    assert float(again[0, -1, 0]) > 0.5


def test_it_begins_half_open() -> None:
    """Neither shut, when nothing would be learned, nor open, when nothing would be chosen."""
    torch.manual_seed(0)
    model = LaminaForCausalLM(LaminaConfig(mixer="synaptic_resonance")).eval()
    gates = model(torch.randint(0, 256, (8, 50)), use_cache=False).stats["0.gates"]
    assert 0.3 < float(gates.mean()) < 0.7


def test_what_was_bound_is_found_before_anything_is_learned() -> None:
    """Queries begin as keys, and a token as half its predecessor: bound to ``value``, ``key`` alone asks for it."""
    torch.manual_seed(0)
    layer = LaminaForCausalLM(LaminaConfig(mixer="synaptic_resonance")).model.layers[0].mixer
    assert torch.equal(layer.query.weight, layer.key.weight)
    x = torch.randn(4, 30, 64, generator=torch.Generator().manual_seed(0))
    near = layer.conv(x)[0]
    torch.testing.assert_close(near[:, 1:], 0.5**0.5 * (x[:, 1:] + x[:, :-1]))


def test_padding_neither_writes_nor_moves_the_trace() -> None:
    layer, x = _layer(), _x()
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[:, :5] = False
    ctx = replace(whole(x), mask=mask, state=LayerState())
    layer(x, ctx)  # the padded places hold anything at all
    alone = _kept(x[:, 5:])
    layer(x[:, 5:], alone)
    assert ctx.state is not None and alone.state is not None
    assert not ctx.stats["0.gates"][:, :5].any()
    for name, tensor in alone.state.tensors.items():
        torch.testing.assert_close(ctx.state.tensors[name], tensor)


def test_a_pair_is_read_back_at_once_and_does_not_grow() -> None:
    """The read is after the write; and with unit keys a delta state stays within what was written, however long."""
    q = k = F.normalize(torch.randn(1, 1, 5000, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    v, one = torch.ones(1, 1, 5000, 6), torch.ones(1, 1, 5000)
    read, state = fast_weight_chunks("delta", q, k, v, one, 0 * one, torch.zeros(1, 1, 8, 6))
    torch.testing.assert_close(read, v, rtol=1e-4, atol=1e-4)
    assert float(state.norm()) <= math.sqrt(8 * 6) * 1.01


def test_frozen_synapses_are_read_and_not_written() -> None:
    layer, x = _layer(fade=0.2), _x()
    ctx = _kept(x)
    assert ctx.state is not None
    layer(x, ctx)
    before = dict(ctx.state.tensors)
    layer.plastic = False
    frozen = layer(x, replace(ctx, positions=ctx.positions + 19))
    assert torch.equal(ctx.state.tensors["resonance.state"], before["resonance.state"])
    assert not torch.equal(ctx.state.tensors["resonance.trace"], before["resonance.trace"])
    assert frozen.abs().max() > 0


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("gate", ["resonance", "token", "none"])
def test_bytes_of_the_state_are_those_of_the_formula_at_any_length(gate: str, window: int | None) -> None:
    layer = _layer(gate=gate, window=window).float()
    for time in (6, 40):
        x = _x(time, rows=3).float()
        ctx = _kept(x)
        layer(x, ctx)
        assert ctx.state is not None and ctx.state.nbytes == 3 * layer.state_bytes(time)


def test_sizes_of_the_published_shape() -> None:
    """At 576 channels and 9 heads of 64: 148.6 KB a layer, and five square matrices with the small ones."""
    with torch.device("meta"):
        config = LaminaConfig(hidden_size=576, num_heads=9)
        layer = SynapticResonance(config, taps=0)
    assert layer.state_bytes(1) == 9 * (64 * 64 + 32 + 1) * 4 == 148_644
    matrices = sum(each.numel() for each in layer.parameters() if each.dim() == 2 and each.shape[1] == 576)
    assert matrices == 5 * 576**2 + 576 * 9 * (32 + 1)
    assert costs.macs_per_token(layer, 8) == matrices + 2 * 9 * 32 + 3 * 9 * 64 * 64  # 6 operations a state's number


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_state_is_kept_in_float32(dtype: torch.dtype) -> None:
    layer, x = _layer().to(dtype), _x().to(dtype)
    ctx = _kept(x)
    assert layer(x, ctx).dtype == dtype and ctx.state is not None
    for name in ("state", "trace", "drift"):
        assert ctx.state.tensors[f"resonance.{name}"].dtype == torch.float32
    ctx.state.tensors["resonance.state"] = ctx.state.tensors["resonance.state"].bfloat16()
    with pytest.raises(InvalidInput, match="half precision"):
        layer(x, ctx)


def test_a_state_that_is_broken_is_named() -> None:
    layer, x = _layer(), _x()
    ctx = replace(_kept(x), layer=3)
    layer(x, ctx)
    assert ctx.state is not None
    ctx.state.tensors["resonance.state"][0, 1, 2, 3] = math.nan
    with pytest.raises(InvalidInput, match=r"layer 3, heads \[1\]"):
        layer(x, ctx)
    ctx.state.tensors["resonance.state"] = torch.zeros(2, HEADS, KEYS, VALUES + 1)
    with pytest.raises(InvalidInput, match=r"\(2, 2, 5, 7\)"):
        layer(x, ctx)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"heads": 0}, "heads=0"),
        ({"key_dim": 2.5}, "key_dim=2.5"),
        ({"context_dim": True}, "context_dim=True"),
        ({"chunk": 0}, "chunk=0"),
        ({"rule": "oja"}, "rule='oja'"),
        ({"gate": "topic"}, "gate='topic'"),
        ({"fade": 1.0}, "fade=1.0"),
        ({"taps": -1}, "taps=-1"),
        ({"window": 0}, "window=0"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        SynapticResonance(_config(), **settings)
