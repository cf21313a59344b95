"""Gram matrices by blocks against whole ones, vectors in place against torch's, and what all of it allocates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from lamina.activation.attach import attach
from lamina.activation.budgeted import stacks
from lamina.activation.budgeted.factors import factorise
from lamina.activation.budgeted.stacks import Stack, leading, spanning
from lamina.activation.cross_layer_svd import XKV
from lamina.bench.experiments.recall.recall_readers import peak_bytes


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def parts(whole: Tensor, size: int) -> Stack:
    return Stack([lambda at, own=own: own[:, at] for own in whole.split(size, 2)], *whole.shape)


@pytest.mark.parametrize("count", [7, 700])
def test_blocks_of_parts_make_what_the_whole_makes(count: int) -> None:
    whole = drawn(2, count, 384)
    stack, left = parts(whole, 128), drawn(2, count, 5, seed=1)
    blocks = list(stack.blocks())
    assert len(blocks) == (1 if count == 7 else 5)
    assert torch.equal(torch.cat([block for _, block in blocks], 1), whole)
    assert torch.allclose(stack.gram(), whole.mT @ whole)
    assert torch.allclose(stack.outer(), whole @ whole.mT)
    assert torch.allclose(stack.back(left), whole.mT @ left)


@pytest.mark.parametrize("count", [60, 500])
def test_factors_of_parts_are_those_of_the_whole(count: int) -> None:
    whole = drawn(2, count, 96)
    found, wanted = factorise(parts(whole, 32), 20), factorise(whole, 20)
    assert torch.allclose(found.dense(), wanted.dense(), atol=1e-10)
    assert torch.allclose(found.lost, wanted.lost)


def test_vectors_take_the_place_of_their_matrix() -> None:
    whole = drawn(3, 90, 40)
    gram = whole.mT @ whole
    _, wanted = torch.linalg.eigh(gram)
    found = leading(gram.clone(), 7)
    assert torch.allclose((found.mT @ wanted.flip(-1)[..., :7]).abs(), torch.eye(7).double().expand(3, 7, 7), atol=1e-9)
    size = 300
    matrix = drawn(1, size, size)
    matrix = matrix @ matrix.mT
    assert peak_bytes(lambda: leading(matrix, 10)) < 2.2 * matrix.nbytes  # LAPACK's own work; no copy


def test_a_range_finder_loses_hardly_more_than_the_best() -> None:
    left, right = (torch.linalg.qr(drawn(200, 120, seed=seed)).Q for seed in (1, 2))
    whole = (left * (0.5 + torch.arange(120)) ** -1.0 @ right.mT)[None]
    found = spanning(lambda vectors: whole.mT @ (whole @ vectors), 1, 200, 30)
    sizes = torch.linalg.svdvals(whole).square()[0]
    lost = whole.square().sum() - (whole @ found).square().sum()
    assert sizes[30:].sum() <= lost + 1e-12 < 1.01 * sizes[30:].sum()


def test_large_sides_need_no_matrix_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is of low rank comes out exactly, rows behind rows too."""
    monkeypatch.setattr(stacks, "_WHOLE", 32)
    whole = drawn(2, 150, 8) @ drawn(2, 8, 90, seed=1)
    before = factorise(whole[:, :100], 8)
    found = factorise(whole[:, 100:], 8, before)
    assert torch.allclose(found.dense(), whole, atol=1e-8)
    assert torch.allclose(found.norm, whole.square().sum((1, 2)))
    assert found.lost.max() < 1e-8 * found.norm.max()


@pytest.mark.parametrize("bits", [None, 8])
def test_rows_are_never_widened_whole(bits: int | None) -> None:
    rows = drawn(1, 40_000, 64, dtype=torch.float32)

    def call() -> None:
        found = factorise(rows, 8)
        if bits is not None:
            found.rounded(bits)

    call()
    factors = 4 * 8 * (40_000 + 64)
    assert peak_bytes(call) < 3 * factors + 4 * 2**20 < 2 * rows.nbytes / 2  # float64 copies would be twice the rows


@pytest.mark.parametrize("spec", [{"ratio": 4.0}, {"ratio": 4.0, "bits": 8}])
def test_reading_allocates_far_less_than_with_a_whole_cache(spec: dict[str, float]) -> None:
    """Everything that torch allocates at once: cache, work space, and what the model itself needs."""
    torch.manual_seed(0)
    shape = {"vocab_size": 97, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 24}
    config = LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=2048)
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, 97, (1, 1024))

    def read(policy: XKV | None) -> None:
        with torch.no_grad():
            if policy is None:
                model(ids, use_cache=True, logits_to_keep=1)
            else:
                with attach(model, policy):
                    model(ids, use_cache=True, logits_to_keep=1)

    read(None)
    whole, ours = peak_bytes(lambda: read(None)), peak_bytes(lambda: read(XKV(**spec, group=4)))
    assert whole > 24 * 1024 * 2 * 128 * 4
    assert ours < 0.7 * whole
