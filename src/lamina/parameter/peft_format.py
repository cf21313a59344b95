"""Adapters to and from PEFT's folder: ``adapter_config.json`` and ``adapter_model.safetensors``.

So that an adapter taught here serves in vLLM, TGI or a plain ``PeftModel``, and one trained elsewhere becomes a memory
cube with rules and lineage. Plain LoRA only: anything that PEFT's other settings would change about the numbers
(rsLoRA, DoRA, biases, saved modules, per-module ranks) is refused by name rather than loaded wrongly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lamina._optional import require
from lamina.cube.payload import TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import LoRA

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Settings that change what the tensors mean; each must be what a plain LoRA has.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_rslora": (False, None),
    "use_dora": (False, None),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "fan_in_fan_out": (False, None),
    "modules_to_save": (None, []),
    "rank_pattern": (None, {}),
    "alpha_pattern": (None, {}),
    "layer_replication": (None, []),
    "trainable_token_indices": (None, [], {}),
}


def to_peft(payload: TensorPayload, folder: str | Path, lm: CausalLM, *, base: str = "") -> None:
    """Write the adapter into ``folder`` (made if missing). ``base`` is what PEFT is told of the base model's name.

    Raises ``FingerprintMismatch`` if ``lm`` is not its model, ``InvalidInput`` for what is no adapter.
    """
    payload.fingerprint.check(lm.fingerprint)
    lora = LoRA.from_payload(payload)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = _body(lm)
    tensors = {
        f"base_model.model.{prefix}{module}.lora_{side}.weight": tensor.detach().cpu().float().numpy()
        for module, pair in lora.pairs.items()
        for side, tensor in zip("AB", pair, strict=True)
    }
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or lm.name,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(f"{prefix}{module}" for module in lora.pairs),
    }
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), "utf-8")


def from_peft(folder: str | Path, lm: CausalLM) -> TensorPayload:
    """The adapter in ``folder``, as a payload for ``lm``. That it was trained on *this* base model only its owner
    knows: PEFT keeps a name, no hash. Raises ``InvalidInput`` for anything but a plain LoRA that fits.
    """
    torch = require("torch", "reading an adapter")
    folder = Path(folder)
    try:
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
        tensors = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidInput(f"folder={str(folder)!r} holds no PEFT adapter with safetensors: {error}") from error
    for name, plain in _PLAIN.items():
        if config.get(name, plain[0]) not in plain:
            raise InvalidInput(
                f"{_CONFIG}: {name}={config[name]!r} is no plain LoRA; merge it, or train it again as one"
            )
    prefix = _body(lm)
    sides: dict[str, dict[str, Any]] = {}
    for key, array in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None or not found["module"].startswith(prefix):
            raise InvalidInput(f"{_WEIGHTS}: {key!r} is no LoRA tensor of a {type(lm.model).__name__}")
        sides.setdefault(found["module"].removeprefix(prefix), {})[found["side"]] = torch.from_numpy(array)
    if any(set(pair) != {"A", "B"} for pair in sides.values()) or not sides:
        raise InvalidInput(f"{_WEIGHTS}: each module needs lora_A and lora_B, and there must be at least one")
    dtype = lm.model.dtype
    pairs = {module: (pair["A"].to(dtype), pair["B"].to(dtype)) for module, pair in sides.items()}
    return LoRA(pairs, float(config.get("lora_alpha", 8))).to_payload(lm.fingerprint)


def _body(lm: CausalLM) -> str:
    """How the model's body is called inside it: ``model.`` for a Llama."""
    return f"{lm.model.base_model_prefix}." if lm.model.base_model is not lm.model else ""
