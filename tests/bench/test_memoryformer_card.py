"""The card: every claim from the same code at toy size; what counts, times and deprives does what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lamina.bench.experiments.architectures import table_costs, table_language, table_layers
from lamina.bench.systems.memoryformer import CARD, MACS, MAGNITUDE, READ, STORED
from lamina.nn.decoder import LaminaForCausalLM
from lamina.nn.table_linear import MemoryLayer

TEXT = (np.arange(3000, dtype=np.uint8) % 7 + 60, np.arange(1300, dtype=np.uint8) % 7 + 60)


@pytest.fixture
def model() -> LaminaForCausalLM:
    torch.manual_seed(0)
    return LaminaForCausalLM(table_language.tables(32)).eval()


def test_a_toy_run_measures_every_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_layers, "_COUNTED", 48)
    found = {measurement.claim: measurement for measurement in CARD.measure(0, "smoke")}
    assert tuple(found) == CARD.claims
    assert all(measurement.ours is not None for measurement in found.values())
    assert found[MACS].holds and found[STORED].holds and found[READ].holds
    assert not found[MAGNITUDE].holds  # three steps teach nothing, and the card says so


@pytest.mark.parametrize("bits", [4, 8])
def test_what_ran_is_counted(bits: int) -> None:
    share = table_costs.share_of_multiply_adds(48, bits)
    assert share == table_costs.formula_of_multiply_adds(bits)
    assert float(table_costs.formula_of_multiply_adds(8)) == pytest.approx(0.0547, abs=5e-5)


def test_other_tables_are_other_bytes(model: LaminaForCausalLM) -> None:
    layers = table_language.layers(model)
    stored, read = table_costs.formula_of_elements(32, 8)
    assert table_costs.live_bytes(layers) == 2 * 4 * stored
    assert table_costs.touched_bytes(model.model, layers) == 2 * 4 * read
    wider = table_language.layers(LaminaForCausalLM(table_language.tables(48)))
    assert table_costs.live_bytes(wider) > 2 * 4 * stored


def test_it_is_asked_byte_by_byte(model: LaminaForCausalLM) -> None:
    text = TEXT[1][:300]
    ids = torch.from_numpy(text.copy()).long()
    losses = []
    for start in (0, 128):
        with torch.no_grad():
            logits = model(ids[None, start : start + 128], use_cache=False).logits[0]
        losses.append(F.cross_entropy(logits, ids[start + 1 : start + 129]))
    assert table_language.asked(model, text) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_lessons_teach_and_are_the_same_for_a_seed() -> None:
    config = table_language.tables(32)
    found = [table_language.taught(config, TEXT, 3, 60, 4, 1e-2) for _ in range(2)]
    assert found[0].loss == found[1].loss < 2.0 < np.log(256)
    assert "M parameters" in found[0].costs
    other = table_language.taught(config, TEXT, 3, 60, 4, 1e-2, table_language.without_gradient)
    assert other.loss != found[0].loss


def test_without_their_gradient_scores_teach_nothing_about_what_is_hashed(model: LaminaForCausalLM) -> None:
    table_language.with_codes(model, table_language.without_gradient)
    ids = torch.randint(0, 256, (2, 9))
    model.train()(ids, labels=ids).loss.backward()
    norm = model.model.layers[0].mixer.norm
    assert norm.weight.grad is None and model.model.layers[0].mixer.tables.tables.grad is not None


def test_random_rows_and_empty_tables_are_no_longer_about_the_input(model: LaminaForCausalLM) -> None:
    ids = torch.randint(0, 256, (1, 9))
    plain = model(ids, use_cache=False).logits
    empty = table_language.biases_alone(model)
    assert all(not layer.tables.any() for layer in table_language.layers(empty))
    assert all(layer.tables.any() for layer in table_language.layers(model))
    layer = table_language.layers(model)[0]
    x = torch.randn(5, layer.in_features)
    rows, score = layer.code(x)
    table_language.with_codes(model, table_language.at_random)
    drawn, same = layer.code(x)
    assert not torch.equal(drawn, rows) and torch.equal(same, score)
    assert drawn.min() >= 0 and drawn.max() < layer.rows
    assert not torch.allclose(model(ids, use_cache=False).logits, plain)


def test_rows_read_evenly_are_one_and_always_the_same_are_nothing(model: LaminaForCausalLM) -> None:
    text = np.random.default_rng(0).integers(0, 256, 20_000).astype(np.uint8)
    even = table_language.evenness(model, text)
    assert set(even) == {"table_attention", "memory_block"} and all(0.3 < share <= 1.0 for share in even.values())
    same = table_language.evenness(model, np.zeros_like(text))
    assert same["table_attention"] < 0.05


def test_times_are_of_the_same_work() -> None:
    found = table_costs.times(64, 8, (1, 2), 0, 5)
    assert set(found) == {1, 2} and all(value > 0 for each in found.values() for value in each.values())
    x = torch.randn(3, 64)
    plain, small = (table_costs._Dense(64, in_bytes=flag) for flag in (False, True))
    for dense in (plain, small):
        assert dense(x).shape == (3, 64)
    assert table_costs._Tables(64, 8)(x).shape == (3, 64)
    slow = {1: {"tables": 1.0, "dense": 2.0}, 16: {"tables": 3.0, "dense": 2.0}}
    assert table_costs.crossover(slow) == 16
    assert table_costs.crossover({1: slow[1]}) is None


def test_matrices_in_bytes_say_nearly_the_same() -> None:
    torch.manual_seed(0)
    exact = table_costs._matrix(64, 32, in_bytes=False)
    torch.manual_seed(0)
    rounded = table_costs._matrix(64, 32, in_bytes=True)
    x = torch.randn(4, 64)
    with torch.no_grad():
        torch.testing.assert_close(rounded(x.bfloat16()).float(), exact(x), atol=0.03, rtol=0.03)


def test_layers_are_found() -> None:
    assert all(
        isinstance(each, MemoryLayer) for each in table_language.layers(LaminaForCausalLM(table_language.tables(32)))
    )
    assert not table_language.layers(LaminaForCausalLM(table_language.dense(32)))
