"""Adapters travel to PEFT and back, and mean the same there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from lamina.errors import FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters, LoRA
from lamina.parameter.peft_format import from_peft, to_peft

pytestmark = pytest.mark.model


class _Tokenizer:
    chat_template = None
    backend_tokenizer = None

    def get_vocab(self) -> dict[str, int]:
        return {"a": 0}


def _model(seed: int = 0) -> CausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    return CausalLM(LlamaForCausalLM(config).eval(), _Tokenizer(), "tiny")  # type: ignore[arg-type]


def _lora(lm: CausalLM) -> LoRA:
    random = torch.Generator().manual_seed(1)
    modules = dict(lm.model.base_model.named_modules())
    chosen = [f"layers.{n}.{part}" for n in (0, 1) for part in ("self_attn.q_proj", "mlp.down_proj")]
    return LoRA(
        {
            name: (
                torch.randn(3, modules[name].in_features, generator=random),
                torch.randn(modules[name].out_features, 3, generator=random),
            )
            for name in chosen
        },
        alpha=5.0,
    )


IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])


def test_peft_computes_with_it_what_we_do(tmp_path: Path) -> None:
    lm = _model()
    adapters = Adapters(lm)
    payload = _lora(lm).to_payload(lm.fingerprint)
    to_peft(payload, tmp_path / "adapter", lm)
    with adapters.using([adapters.add(payload)]), torch.no_grad():
        ours = lm.model(IDS).logits
    other = PeftModel.from_pretrained(_model().model, tmp_path / "adapter").eval()
    with torch.no_grad():
        theirs = other(IDS).logits
    assert torch.allclose(ours, theirs, atol=1e-5) and not torch.allclose(ours, _model().model(IDS).logits, atol=1e-2)


def test_what_peft_trained_is_read(tmp_path: Path) -> None:
    torch.manual_seed(3)
    settings = LoraConfig(r=4, lora_alpha=7, target_modules=["v_proj", "up_proj"], task_type="CAUSAL_LM")
    theirs = get_peft_model(_model().model, settings).eval()
    for name, weight in theirs.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    theirs.save_pretrained(tmp_path)
    lm = _model()
    adapters = Adapters(lm)
    with adapters.using([adapters.add(from_peft(tmp_path, lm))]), torch.no_grad():
        assert torch.allclose(lm.model(IDS).logits, theirs(IDS).logits, atol=1e-5)


def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    lm = _model()
    payload = _lora(lm).to_payload(lm.fingerprint)
    to_peft(payload, tmp_path, lm)
    assert from_peft(tmp_path, lm).sha256 == payload.sha256


@pytest.mark.parametrize(
    ("name", "value"),
    [("use_dora", True), ("use_rslora", True), ("bias", "all"), ("peft_type", "IA3"), ("rank_pattern", {"q": 2})],
)
def test_what_is_no_plain_lora_is_refused_by_name(tmp_path: Path, name: str, value: object) -> None:
    lm = _model()
    to_peft(_lora(lm).to_payload(lm.fingerprint), tmp_path, lm)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(InvalidInput, match=name):
        from_peft(tmp_path, lm)


def test_other_models_and_no_folder_are_refused(tmp_path: Path) -> None:
    lm = _model()
    payload = _lora(lm).to_payload(lm.fingerprint)
    with pytest.raises(FingerprintMismatch):
        to_peft(payload, tmp_path / "x", _model(seed=1))
    assert not (tmp_path / "x").exists()
    with pytest.raises(InvalidInput, match="holds no PEFT adapter"):
        from_peft(tmp_path / "nothing", lm)
