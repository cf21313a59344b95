"""MemoryFormer's tables: the paper's equations channel by channel, gradients, what is read, stored and remembered."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lamina.errors import InvalidInput
from lamina.nn import costs
from lamina.nn.attention import Attention
from lamina.nn.config import LaminaConfig
from lamina.nn.context import whole
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.table_linear import MemoryBlock, MemoryLayer, TableAttention, memory_former, usage_entropy
from lamina.train.loop import parameter_groups

Score = Literal["magnitude", "probability"]
SMALL: dict[str, Any] = {"vocab_size": 30, "hidden_size": 24, "num_hidden_layers": 2, "num_heads": 3, "num_kv_heads": 1}
BOTH = pytest.mark.parametrize("score", ["magnitude", "probability"])


def _layer(inner: int = 12, outer: int = 5, bits: int = 3, **more: Any) -> MemoryLayer:
    layer = MemoryLayer(inner, outer, bits, **more).double()
    nn.init.normal_(layer.tables)
    nn.init.normal_(layer.bias)
    return layer


def _written_out(layer: MemoryLayer, x: Tensor) -> Tensor:
    """One input vector, table by table and channel by channel, in numbers alone but for the rows."""
    y = layer.bias.clone()
    for table in range(layer.in_features // layer.bits):
        row, product, magnitude = 0, 1.0, 0.0
        for value in x[table * layer.bits : (table + 1) * layer.bits].tolist():
            row = 2 * row + (value >= 0)
            up, down = math.exp(value / layer.temperature), math.exp(-value / layer.temperature)
            product *= math.exp(abs(value) / layer.temperature) / (up + down)
            magnitude += abs(value)
        weight = product * magnitude if layer.score == "magnitude" else product
        y = y + weight * layer.tables[table * 2**layer.bits + row]
    return y


@BOTH
@given(bits=st.sampled_from([1, 2, 3, 4, 6, 12]), temperature=st.sampled_from([0.5, 1.0, 3.0]), seed=st.integers(0, 99))
@settings(deadline=None)
def test_it_is_the_equation(score: Score, bits: int, temperature: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = _layer(bits=bits, score=score, temperature=temperature)
    x = 2 * torch.randn(2, 3, 12, dtype=torch.float64)
    expected = torch.stack([torch.stack([_written_out(layer, token) for token in row]) for row in x])
    torch.testing.assert_close(layer(x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(layer(x, layer.code(x)), expected, rtol=1e-10, atol=1e-10)


@BOTH
def test_gradients_are_right(score: Score) -> None:
    torch.manual_seed(0)
    layer = _layer(score=score, temperature=1.5)
    x = torch.randn(4, 12, dtype=torch.float64)
    x = (x + 0.1 * x.sign()).requires_grad_()  # away from the steps, where there is no derivative

    def at(x: Tensor, tables: Tensor, bias: Tensor) -> Tensor:
        found: Tensor = torch.func.functional_call(layer, {"tables": tables, "bias": bias}, (x,))
        return found

    assert torch.autograd.gradcheck(at, (x, layer.tables, layer.bias))


@BOTH
def test_gradients_are_the_papers(score: Score) -> None:
    torch.manual_seed(0)
    layer = _layer(score=score)
    x = torch.randn(1, 12, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(1, 5, dtype=torch.float64)
    layer(x).backward(dy)
    rows, _ = layer.code(x)
    assert layer.tables.grad is not None and x.grad is not None
    expected = torch.zeros_like(layer.tables)
    for table, row in enumerate(rows[0].tolist()):
        z = x.detach()[0, 3 * table : 3 * table + 3]
        p = 1 / (1 + (-2 * z.abs()).exp()).prod()
        slope = 2 * p * z.sign() * torch.sigmoid(-2 * z.abs())
        if score == "magnitude":
            slope = slope * z.abs().sum() + p * z.sign()
        weight = p * z.abs().sum() if score == "magnitude" else p
        read = 8 * table + row
        expected[read] = weight * dy[0]
        torch.testing.assert_close(x.grad[0, 3 * table : 3 * table + 3], (dy[0] @ layer.tables[read]) * slope)
    torch.testing.assert_close(layer.tables.grad, expected)  # so no other row has any


def test_far_from_zero_only_the_magnitude_still_has_a_gradient() -> None:
    sizes = {}
    for score in ("magnitude", "probability"):
        torch.manual_seed(0)
        layer = _layer(score=score)
        x = (20.0 * torch.randn(2, 12, dtype=torch.float64).sign()).requires_grad_()
        layer(x).sum().backward()
        assert x.grad is not None
        sizes[score] = float(x.grad.abs().max())
    assert sizes["probability"] < 1e-12 < 1e-2 < sizes["magnitude"]


@BOTH
def test_sparse_gradients_are_those_rows_of_the_dense_ones(score: Score) -> None:
    torch.manual_seed(0)
    dense = _layer(score=score)
    sparse = MemoryLayer(12, 5, 3, score=score, sparse_grad=True).double()
    sparse.load_state_dict(dense.state_dict())
    x = torch.randn(2, 12, dtype=torch.float64)
    for layer in (dense, sparse):
        layer(x).square().sum().backward()
    found, expected = sparse.tables.grad, dense.tables.grad
    assert found is not None and expected is not None and found.is_sparse
    torch.testing.assert_close(found.to_dense(), expected)
    read = {8 * table + row for rows in sparse.code(x)[0].tolist() for table, row in enumerate(rows)}
    assert set(found.coalesce().indices()[0].tolist()) == read
    before = sparse.tables.detach().clone()
    torch.optim.SparseAdam([sparse.tables], lr=0.1).step()
    assert set((sparse.tables != before).any(-1).nonzero()[:, 0].tolist()) == read


class _Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation makes."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, Tensor):
                self.elements = max(self.elements, each.numel())
        return out


def test_rows_are_never_gathered() -> None:
    layer = MemoryLayer(64, 96, 4)
    layer.reset_parameters()
    x = torch.randn(500, 64, requires_grad=True)
    with _Largest() as largest:
        layer(x).sum().backward()
    assert largest.elements == 500 * 96 < 500 * 16 * 96


def test_exact_zeros_all_read_the_last_row_and_a_norm_before_keeps_rows_evenly_read() -> None:
    torch.manual_seed(0)
    layer = _layer(24, 5, 4)
    rows, score = layer.code(torch.zeros(3, 24, dtype=torch.float64))
    assert (rows == 15).all() and not score.any()  # and count for nothing where magnitude counts
    shifted = torch.randn(4000, 24, dtype=torch.float64) + 2.0  # what is not centred
    off = usage_entropy(layer.code(F.rms_norm(shifted, (24,)))[0], 4)
    even = usage_entropy(layer.code(F.layer_norm(shifted, (24,)))[0], 4)
    assert (off < 1.0).all() and (even > 3.9).all()


def test_in_the_blocks_a_norm_stands_before_every_hash() -> None:
    torch.manual_seed(0)
    model = LaminaForCausalLM(memory_former(**SMALL, bits=4)).eval().double()
    given: list[Tensor] = []
    plain = MemoryLayer.code

    class Looked(MemoryLayer):
        def code(self, x: Tensor) -> tuple[Tensor, Tensor]:
            given.append(x.detach())
            return plain(self, x)

    for module in model.modules():
        if isinstance(module, MemoryLayer):
            module.__class__ = Looked
    model.get_input_embeddings().weight.data.add_(3.0)
    model(torch.randint(0, 30, (2, 9)))
    assert len(given) == 2 * 3  # the codes of queries, keys and values are made once
    for x in given:
        torch.testing.assert_close(x.mean(-1), torch.zeros_like(x[..., 0]), atol=1e-9, rtol=0)
        assert (x.std(-1) - 1).abs().max() < 0.05


def test_usage_is_counted_table_by_table() -> None:
    rows = torch.tensor([[0, 3], [1, 3], [2, 3], [3, 3]])
    assert usage_entropy(rows, 2).tolist() == pytest.approx([2.0, 0.0])
    assert usage_entropy(torch.tensor([[[0], [0], [0], [1]]]), 1).tolist() == pytest.approx([0.8112781])


def test_queries_keys_and_values_are_read_by_the_same_codes_and_mixed_as_in_attention() -> None:
    torch.manual_seed(0)
    config = LaminaConfig(**SMALL)
    block, usual = TableAttention(config, bits=4, window=4).double(), Attention(config, window=4).double()
    block.tables.reset_parameters(0.7)
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    centred = F.layer_norm(x, (24,), eps=config.norm_eps)
    codes = block.tables.code(centred)
    parts = []
    for tables, bias in zip(
        block.tables.tables.split(block.widths, 1), block.tables.bias.split(block.widths), strict=True
    ):
        each = MemoryLayer(24, tables.shape[1], 4).double()
        each.load_state_dict({"tables": tables, "bias": bias})
        parts.append(each(centred, codes))
    usual.query, usual.key, usual.value, usual.out = (_Says(part) for part in (*parts, None))  # type: ignore[assignment]
    ctx = whole(x[..., 0])
    torch.testing.assert_close(block(x, ctx), usual(x, whole(x[..., 0])))
    assert torch.equal(ctx.stats["0.table_attention.rows"], codes[0])
    assert block.state_bytes(7) == usual.state_bytes(7)


class _Says(nn.Module):
    def __init__(self, said: Tensor | None) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: Tensor) -> Tensor:
        return x if self.said is None else self.said


def test_the_feed_forward_block_is_two_layers_and_norms() -> None:
    torch.manual_seed(0)
    block = MemoryBlock(LaminaConfig(**SMALL), bits=4, expand_bits=2)
    block.init_weights(LaminaConfig(**SMALL))
    block = block.double()
    x = torch.randn(2, 3, 24, dtype=torch.float64)
    inner = torch.stack([_written_out(block.write, z) for z in F.layer_norm(x, (24,), eps=1e-6).view(6, 24)])
    y = torch.stack([_written_out(block.read, z) for z in F.layer_norm(inner, (36,), eps=1e-6)])
    torch.testing.assert_close(block(x, whole(x[..., 0])), y.view(2, 3, 24))
    assert block.write.tables.shape == (6 * 16, 36) and block.read.tables.shape == (6 * 64, 24)


def test_weights_begin_as_the_paper_says() -> None:
    torch.manual_seed(0)
    block = LaminaForCausalLM(memory_former(**SMALL | {"hidden_size": 48, "num_heads": 4})).model.layers[1]
    spreads = {
        "attention": (block.mixer.tables.tables, (2 / (5 * 48)) ** 0.5),
        "write": (block.ffn.write.tables, 0.02),
        "read": (block.ffn.read.tables, 0.02),
        "bias": (block.mixer.tables.bias, 0.001),
    }
    for name, (weights, spread) in spreads.items():
        assert float(weights.detach().std()) == pytest.approx(spread, rel=0.2 if name == "bias" else 0.02), name


@pytest.mark.parametrize(("width", "bits"), [(64, 4), (64, 8), (96, 8)])
def test_multiply_adds_and_bytes_are_those_of_the_formulas(width: int, bits: int) -> None:
    tables = width // bits
    with torch.device("meta"):
        model = LaminaForCausalLM(memory_former(vocab_size=9, hidden_size=width, num_heads=4, bits=bits))
    block, norms = model.model.layers[0], 2 * 2 * width + 2 * (bits + 2) * tables
    mixing = block.mixer.macs_of_mixing(16)
    macs = costs.macs_per_token(block, 16) - mixing
    assert macs == 3 * tables * width + tables * (bits + 2) * tables + tables * width
    assert macs / (12 * width**2) == pytest.approx((4 / bits + (bits + 2) / bits**2) / 12, rel=1e-12)
    biases = 3 * width + (bits + 2) * tables + width
    read = costs.bytes_read_per_token(block.mixer) + costs.bytes_read_per_token(block.ffn)
    assert read == 4 * (macs + biases + norms)
    rows = 2**bits
    elements = 3 * tables * rows * width + tables * rows * (bits + 2) * tables + tables * 4 * rows * width
    stored = costs.stored_bytes(block.mixer) + costs.stored_bytes(block.ffn)
    assert stored == 4 * (elements + biases + norms)


def test_the_sizes_published_for_512_channels_come_out() -> None:
    with torch.device("meta"):
        model = LaminaForCausalLM(memory_former(vocab_size=9, hidden_size=512, num_heads=8, num_hidden_layers=1))
    tables = [each for each in model.modules() if isinstance(each, MemoryLayer)]
    assert sum(each.tables.numel() for each in tables) / 1e6 == pytest.approx(69.2, abs=0.05)
    assert sum(each.count * each.tables[0].numel() * 2 for each in tables) / 1e3 == pytest.approx(344, rel=0.01)


def test_a_token_reads_and_multiplies_what_is_counted() -> None:
    """Rows that a token touches, found by their gradients."""
    torch.manual_seed(0)
    layer = _layer(24, 7, 4)
    layer(torch.randn(1, 24, dtype=torch.float64)).sum().backward()
    assert layer.tables.grad is not None and layer.bias.grad is not None
    touched = int((layer.tables.grad != 0).sum())
    assert layer.macs_per_token(1) == touched == 6 * 7
    assert layer.bytes_read_per_token() == 8 * (touched + layer.bias.grad.numel())
    assert layer.hashing_per_token() == 6 * 24 + 2 * 6


def test_scores_keep_their_digits_in_half_precision() -> None:
    torch.manual_seed(0)
    layer = MemoryLayer(64, 16, 16, score="probability")
    layer.reset_parameters(1.0)
    x = 1e-3 * torch.randn(5, 64)
    half = MemoryLayer(64, 16, 16, score="probability").half()
    half.load_state_dict(layer.state_dict())
    rows, score = half.code(x.half())
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, layer.code(x.half().float())[1])
    assert torch.equal(rows, layer.code(x.half().float())[0])
    assert half(x.half()).dtype == torch.float16 and half.double()(x.half()).dtype == torch.float16
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.code(x)[1].dtype == torch.float32


def test_tables_decay_by_nothing_and_learn_three_times_as_fast() -> None:
    model = LaminaForCausalLM(memory_former(**SMALL, bits=4))
    tables = {id(each.tables) for each in model.modules() if isinstance(each, MemoryLayer)}
    biases = {id(each.bias) for each in model.modules() if isinstance(each, MemoryLayer)}
    groups = parameter_groups(model, 1e-3)
    seen = {id(each): group for group in groups for each in group["params"]}
    assert len(seen) == len(list(model.parameters()))
    for identity, group in seen.items():
        assert (group["lr"] == pytest.approx(3e-3)) == (identity in tables | biases)
        assert identity not in tables or group["weight_decay"] == 0.0


def test_no_matrix_is_left_in_the_blocks() -> None:
    """What looks for matrices, as adapters and quantizers do, finds none here."""
    model = LaminaForCausalLM(memory_former(**SMALL, bits=4))
    assert not [each for each in model.model.layers.modules() if isinstance(each, nn.Linear)]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"bits": 5}, "bits=5 does not divide the 24 channels"),
        ({"bits": 0}, "bits=0: give a whole number from 1 to 16"),
        ({"bits": 17}, "bits=17"),
        ({"bits": True}, "bits=True"),
        ({"expand_bits": -1}, "expand_bits=-1"),
        ({"bits": 12, "expand_bits": 5}, "expand_bits=5: give a whole number from 0 to 4"),
        ({"score": "soft"}, "score='soft'"),
        ({"temperature": 0.0}, r"temperature=0\.0"),
        ({"head_dim": 4}, "3 heads of head_dim=4 are not hidden_size=24"),
    ],
)
def test_what_does_not_fit_is_told(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        LaminaForCausalLM(memory_former(**SMALL | wrong))


def test_an_empty_layer_is_told() -> None:
    with pytest.raises(InvalidInput, match="out_features=0"):
        MemoryLayer(8, 0)
    with pytest.raises(InvalidInput, match="0 channels"):
        MemoryLayer(0, 8)
