"""Edits and interventions: the same numbers either way, nothing left behind, and what does not fit is refused."""

from __future__ import annotations

from pathlib import Path

import channel_models
import pytest
import torch

from lamina.cube import file
from lamina.cube.payload import TensorPayload
from lamina.errors import FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.head_channels import (
    Batch,
    Channel,
    HeadSVD,
    WeightDelta,
    composition_scores,
    edit,
    intervene,
    read_channel,
)

MEMBERS = [(0, 1, 0), (0, 1, 3), (0, 2, 1), (1, 3, 2)]
FACTORS = [3.0, 0.0, -1.0, 0.5]
EDITS = [(*member, factor) for member, factor in zip(MEMBERS, FACTORS, strict=True)]
TEXTS = ("Today, I need to buy a cup", "The ring", "A longer text than either of the two others, by some words")


@pytest.fixture(params=channel_models.NAMES)
def lm(request: pytest.FixtureRequest, smollm2: CausalLM) -> CausalLM:
    return channel_models.noise(request.param, smollm2.tokenizer)


def _batch(lm: CausalLM, texts: tuple[str, ...] = TEXTS) -> Batch:
    return Batch.of([lm.encode(text) for text in texts])


def _logits(lm: CausalLM, batch: Batch | None = None) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = (batch or _batch(lm)).forward(lm).logits[:, -1]
    return found


def _weights(lm: CausalLM) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}


def test_a_batch_gives_each_prompt_the_numbers_it_has_alone(lm: CausalLM) -> None:
    together = _logits(lm)
    for row, text in zip(together, TEXTS, strict=True):
        with torch.no_grad():
            alone = lm.model(torch.tensor([lm.encode(text)])).logits[0, -1]
        torch.testing.assert_close(row, alone, rtol=0, atol=1e-8)
    with pytest.raises(InvalidInput, match="none empty"):
        Batch.of([[1], []])


def test_an_edit_is_the_intervention_at_all_positions(lm: CausalLM) -> None:
    svd, before = HeadSVD(lm), _logits(lm)
    with intervene(lm, Channel.of(svd, MEMBERS), "scale", FACTORS, positions="all"):
        hooked = _logits(lm)
    assert torch.equal(_logits(lm), before)
    with WeightDelta.of(svd, EDITS).applied():
        edited = _logits(lm)
    torch.testing.assert_close(edited, hooked, rtol=0, atol=1e-9)
    assert float((edited - before).abs().max()) > 1e-3
    with intervene(lm, Channel.of(svd, MEMBERS), "scale", FACTORS, positions="end"):
        assert float((_logits(lm) - hooked).abs().max()) > 1e-3  # earlier tokens matter


def test_an_edit_scales_its_components_and_no_other(lm: CausalLM) -> None:
    svd = HeadSVD(lm)
    found = [svd.components(0, 1), svd.components(1, 0)]
    delta = edit(lm, EDITS)
    after = HeadSVD(lm)
    scaled = found[0].s.clone()
    scaled[0] *= 3
    scaled[3] = 0
    factors = after.heads.factors(0, 1)
    torch.testing.assert_close(factors.ov, found[0].a.T @ scaled.diag() @ found[0].b, rtol=0, atol=1e-9)
    torch.testing.assert_close(after.components(1, 0).s, found[1].s, rtol=0, atol=0)
    delta.revert()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_revert_restores_every_bit(smollm2: CausalLM, dtype: torch.dtype) -> None:
    for name in channel_models.NAMES:
        lm = channel_models.noise(name, smollm2.tokenizer)
        for weight in lm.model.parameters():
            weight.data = weight.data.to(dtype)
        before, fingerprint = _weights(lm), lm.fingerprint
        delta = edit(lm, EDITS)
        assert delta.is_applied
        assert delta.kept_bytes == 3 * 64 * 16 * dtype.itemsize  # of three heads, whatever the model's size
        changed = [key for key, tensor in lm.model.state_dict().items() if not torch.equal(tensor, before[key])]
        assert len(changed) == 2
        assert lm.fingerprint != fingerprint  # no cache of the bare model passes for one of the edited
        delta.revert()
        after = lm.model.state_dict()
        assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
        assert lm.fingerprint == fingerprint
        assert (delta.is_applied, delta.kept_bytes) == (False, 0)


def test_an_edit_is_a_memory_of_its_model(lm: CausalLM, smollm2: CausalLM, tmp_path: Path) -> None:
    delta = WeightDelta.of(HeadSVD(lm), EDITS)
    with delta.applied():
        edited = _logits(lm)
    file.write(delta.to_cube(task="lists"), tmp_path / "edit.cube")
    cube = file.read(tmp_path / "edit.cube")
    assert cube.header.kind == "parameter"
    assert cube.header.metadata["components"] == [["0.1.0", 3.0], ["0.1.3", 0.0], ["0.2.1", -1.0], ["1.3.2", 0.5]]
    assert cube.header.metadata["task"] == "lists"
    assert isinstance(cube.payload, TensorPayload)
    assert cube.nbytes < 4 * (8 * (64 + 16) + 40)
    again = WeightDelta(lm, cube.payload)
    assert [(s.layer, s.head, s.k, s.alpha) for s in again.scaled] == EDITS
    with again.applied():
        assert torch.equal(_logits(lm), edited)
    other = channel_models.noise(lm.name, smollm2.tokenizer)
    with torch.no_grad():
        other.model.get_input_embeddings().weight[0, 0] += 1
    with pytest.raises(FingerprintMismatch, match="weights"):
        WeightDelta(other, cube.payload)


def test_a_second_edit_is_refused(lm: CausalLM) -> None:
    svd = HeadSVD(lm)
    first, second = WeightDelta.of(svd, EDITS), WeightDelta.of(svd, EDITS[:1])
    with pytest.raises(InvalidInput, match="is not applied"):
        first.revert()
    first.apply()
    for refused in (first.apply, second.apply, second.revert, lambda: edit(lm, EDITS[:1])):
        with pytest.raises(InvalidInput, match=r"lm\.overlay='edit:"):
            refused()
    with pytest.raises(InvalidInput, match="overlay"):
        Adapters(lm)
    first.revert()
    with second.applied():
        pass


def test_an_exception_leaves_nothing_behind(lm: CausalLM) -> None:
    svd, before = HeadSVD(lm), _logits(lm)
    with pytest.raises(ZeroDivisionError), WeightDelta.of(svd, EDITS).applied():
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), intervene(lm, Channel.of(svd, MEMBERS), "remove"):
        raise ZeroDivisionError
    assert torch.equal(_logits(lm), before)
    assert lm.overlay == ""


def test_what_is_no_edit_of_this_model_is_refused(lm: CausalLM) -> None:
    svd = HeadSVD(lm)
    for edits in ([], [(0, 0, 0, 2.0)] * 2, [(0, 0, 99, 2.0)], [(9, 0, 0, 2.0)], [(0, 0, 0, float("nan"))]):
        with pytest.raises(InvalidInput):
            WeightDelta.of(svd, edits)
    good = WeightDelta.of(svd, EDITS).payload
    tensors = {name: view.torch().clone() for name, view in good.tensors.items()}
    swapped = {"rows": tensors["rows"].flip(0)}
    long = {"directions": tensors["directions"] * 2, "rows": tensors["rows"] * 2}
    double = {"directions": tensors["directions"][[0] * 4], "rows": tensors["rows"][[0] * 4]}
    double["heads"] = tensors["heads"][[0] * 4]
    short = {"heads": tensors["heads"][:2]}
    far = {"heads": tensors["heads"] + 50}
    for wrong in (swapped, long, double, short, far, {"more": tensors["rows"]}):
        with pytest.raises(InvalidInput):
            WeightDelta(lm, TensorPayload.from_torch(tensors | wrong, good.fingerprint))
    WeightDelta(lm, TensorPayload.from_torch(tensors, good.fingerprint))


def test_removing_is_scaling_by_nothing(lm: CausalLM) -> None:
    channel = Channel.of(HeadSVD(lm), MEMBERS)
    with intervene(lm, channel, "remove"):
        removed = _logits(lm)
    with intervene(lm, channel, "scale", 0.0):
        assert torch.equal(_logits(lm), removed)
    with intervene(lm, channel, "scale", 1.0):
        torch.testing.assert_close(_logits(lm), _logits(lm), rtol=0, atol=0)
    with intervene(lm, channel, "scale", 0.0), intervene(lm, channel, "scale", 1.0):
        torch.testing.assert_close(_logits(lm), removed, rtol=0, atol=1e-9)


def test_a_channel_says_what_it_is_set_to(lm: CausalLM) -> None:
    svd, batch = HeadSVD(lm), _batch(lm)
    channel, before = Channel.of(svd, MEMBERS), _logits(lm)
    said = read_channel(lm, channel, batch)
    assert said.shape == (3, 4)
    with intervene(lm, Channel.of(svd, MEMBERS[:3]), "set", read_channel(lm, Channel.of(svd, MEMBERS[:3]), batch)):
        torch.testing.assert_close(_logits(lm), before, rtol=0, atol=1e-8)  # one layer, what it said anyway
    target = torch.tensor([0.3, -2.0, 1.0, 0.5], dtype=torch.float64)
    with intervene(lm, channel, "set", target):
        torch.testing.assert_close(_heard(lm, channel, batch), target.expand(3, 4), rtol=0, atol=1e-8)
        moved = _logits(lm)
    assert float((moved - before).abs().max()) > 1e-3


def test_swapping_takes_what_another_prompt_says(lm: CausalLM) -> None:
    channel, batch = Channel.of(HeadSVD(lm), MEMBERS), _batch(lm)
    other = _batch(lm, TEXTS[::-1])
    said = read_channel(lm, channel, other)
    with intervene(lm, channel, "swap", other):
        torch.testing.assert_close(_heard(lm, channel, batch), said, rtol=0, atol=1e-8)
    with pytest.raises(InvalidInput, match="swap takes the batch"), intervene(lm, channel, "swap", 1.0):
        pass


def _heard(lm: CausalLM, channel: Channel, batch: Batch) -> torch.Tensor:
    """What arrives of the members in the channel at the last token: all that their layers' maps write, less what the
    heads that are no members write, from the values that enter the maps."""
    svd = HeadSVD(lm)
    total = torch.zeros(len(batch), len(channel.basis), dtype=torch.float64)
    caught: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    hooks = [
        svd.heads.writer(layer).register_forward_hook(
            lambda _m, i, o, layer=layer: caught.update({layer: (i[0][:, -1], o[:, -1])})
        )
        for layer in (0, 1)
    ]
    _logits(lm, batch)
    for hook in hooks:
        hook.remove()
    for layer, members in ((0, (1, 2)), (1, (3,))):
        read, written = caught[layer]
        for head in set(range(4)) - set(members):
            written = written - read[:, head * 16 : (head + 1) * 16] @ svd.heads.output_slice(layer, head).detach().T
        total += (written - svd.heads.writer(layer).bias.detach()) @ channel.basis.T
    return total


def test_wrong_arguments_of_interventions_are_named(lm: CausalLM) -> None:
    channel = Channel.of(HeadSVD(lm), MEMBERS)
    wrong = [
        ("louder", 1.0, "end", "op='louder'"),
        ("scale", 1.0, "first", "positions='first'"),
        ("scale", [1.0], "end", "one for each of 4"),
        ("scale", float("inf"), "end", "finite"),
        ("set", [1.0, 2.0], "end", "4 finite coordinates"),
    ]
    for op, value, positions, match in wrong:
        with pytest.raises(InvalidInput, match=match), intervene(lm, channel, op, value, positions):  # type: ignore[arg-type]
            pass


def test_a_real_model_is_edited_as_it_is_intervened_on_and_reverted(smollm2: CausalLM) -> None:
    svd, batch, before = HeadSVD(smollm2), _batch(smollm2), _logits(smollm2, _batch(smollm2))
    link = composition_scores(svd, "q", [(22, 5)]).top(1)[0]
    assert link.component[:2] == (21, 5)  # its own order of components may differ by machine
    assert link.z > 20
    channel, fingerprint = Channel.of(svd, [link.component, (20, 0, 0)]), smollm2.fingerprint
    with intervene(smollm2, channel, "scale", [3.0, 0.0], positions="all"):
        hooked = _logits(smollm2, batch)
    with WeightDelta.of(svd, [(*link.component, 3.0), (20, 0, 0, 0.0)]).applied():
        edited = _logits(smollm2, batch)
    torch.testing.assert_close(edited, hooked, rtol=0, atol=2e-3)
    assert float((edited - before).abs().max()) > 0.1
    assert torch.equal(_logits(smollm2, batch), before)
    assert smollm2.fingerprint == fingerprint
