"""Attention heads as the matrices of A Mathematical Framework for Transformer Circuits (Elhage et al. 2021).

A head reads the residual ``x`` (width d) through rows of ``W_Q``, ``W_K``, ``W_V`` (d_h, d) and writes through
columns of ``W_O`` (d, d_h): ``W_OV = W_O W_V`` is what it writes when it looks somewhere, ``W_QK = W_Q^T W_K`` where
it looks. What stands between heads is folded in, so that the matrices act on the normalised residual itself:

* the gain of the norm goes into the readers, ``W diag(gain)``, its shift into their biases;
* LayerNorm takes the mean of the residual away, so writers lose theirs: what a column adds to all channels alike
  nobody reads;
* with grouped-query attention, query head h reads with the keys and values of head ``h // group``.

Nothing is copied but the head that is asked for, in the wider of float32 and the model's dtype. Which classes of
attention are understood is the table ``_READERS``; any other is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.tensors.rotary import Rotary

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True, eq=False)
class HeadFactors:
    """One head, folded. ``query``, ``key``, ``value`` (d_h, d), their biases (d_h,), ``output`` (d, d_h)."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    query_bias: Tensor
    key_bias: Tensor
    value_bias: Tensor

    @property
    def ov(self) -> Tensor:
        """``W_OV`` (d, d). For looking and testing: nothing here needs the product."""
        return self.output @ self.value

    @property
    def qk(self) -> Tensor:
        """``W_QK`` (d, d) at distance 0."""
        return self.query.T @ self.key


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """One layer as transformers keeps it: views, (out, in), not folded."""

    query: Tensor
    key: Tensor
    value: Tensor
    output: Tensor
    biases: tuple[Tensor | None, Tensor | None, Tensor | None]
    norm: torch.nn.Module
    writer: torch.nn.Module


class Heads:
    """The heads of a model, read from its own weights whenever they are asked for.

    Raises ``InvalidInput`` for an attention class that is not understood, query heads that do not divide among the
    key-value heads, a norm without a gain, and quantised weights.
    """

    def __init__(self, lm: CausalLM) -> None:
        self.lm = lm
        config = lm.model.config
        self.layers = int(config.num_hidden_layers)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(getattr(config, "num_key_value_heads", None) or self.heads)
        self.width = int(config.hidden_size)
        self.head_dim = int(getattr(config, "head_dim", None) or self.width // self.heads)
        if self.heads % self.kv_heads:
            raise InvalidInput(
                f"{lm.name}: {self.heads} query heads do not divide among {self.kv_heads} key-value heads"
            )
        self._read = _reader(lm)
        for layer in range(self.layers):
            self._check(layer)
        self.centred = _norm(self._read(lm.model, 0).norm)[2]  # whether the norms take the mean away
        self.rotary = Rotary.of(lm.model) if hasattr(lm.model.base_model, "rotary_emb") else None

    @property
    def dtype(self) -> torch.dtype:
        """Of what is computed: float64 for a float64 model, else float32."""
        return torch.float64 if self.lm.model.dtype == torch.float64 else torch.float32

    def factors(self, layer: int, head: int) -> HeadFactors:
        """Head ``head`` of layer ``layer``, both from 0. Raises ``InvalidInput`` if there is none."""
        self.check(layer, head)
        block = self._read(self.lm.model, layer)
        gain, shift, _ = _norm(block.norm)
        gain, shift = gain.to(self.dtype), None if shift is None else shift.to(self.dtype)
        kv = head // (self.heads // self.kv_heads)
        folded = []
        for weight, bias, index in zip(
            (block.query, block.key, block.value), block.biases, (head, kv, kv), strict=True
        ):
            rows = slice(index * self.head_dim, (index + 1) * self.head_dim)
            plain = weight[rows].detach().to(self.dtype)
            added = plain.new_zeros(self.head_dim) if bias is None else bias[rows].detach().to(self.dtype)
            folded.append((plain * gain, added if shift is None else added + plain @ shift))
        written = self.output_slice(layer, head).detach().to(self.dtype)
        if self.centred:
            written = written - written.mean(0)
        (query, query_bias), (key, key_bias), (value, value_bias) = folded
        return HeadFactors(query, key, value, written, query_bias, key_bias, value_bias)

    def output_slice(self, layer: int, head: int) -> Tensor:
        """``W_O`` of one head as it is, (d, d_h): a view into the model, so that writing to it edits the model."""
        self.check(layer, head)
        columns = slice(head * self.head_dim, (head + 1) * self.head_dim)
        return self._read(self.lm.model, layer).output[:, columns]

    def writer(self, layer: int) -> torch.nn.Module:
        """The map from all heads' values, side by side, to the residual."""
        return self._read(self.lm.model, layer).writer

    def check(self, layer: int, head: int) -> None:
        if not (0 <= layer < self.layers and 0 <= head < self.heads):
            raise InvalidInput(
                f"layer={layer!r}, head={head!r}: {self.lm.name} has layers 0-{self.layers - 1} "
                f"and heads 0-{self.heads - 1}"
            )

    def _check(self, layer: int) -> None:
        block = self._read(self.lm.model, layer)
        for name, weight in {"W_Q": block.query, "W_K": block.key, "W_V": block.value, "W_O": block.output}.items():
            rows = (self.kv_heads if name in ("W_K", "W_V") else self.heads) * self.head_dim
            shape = (self.width, rows) if name == "W_O" else (rows, self.width)
            if weight.dtype not in _FLOATS or tuple(weight.shape) != shape:
                raise InvalidInput(
                    f"layer {layer} of {self.lm.name}: {name} is {tuple(weight.shape)} of {weight.dtype}, not {shape} "
                    "of floats; quantised weights can be neither read nor edited: load the model in float32 or bfloat16"
                )
        _norm(block.norm)

    def __len__(self) -> int:
        return self.layers * self.heads


def _norm(norm: torch.nn.Module) -> tuple[Tensor, Tensor | None, bool]:
    """Gain, shift, and whether the norm takes the mean away."""
    gain = getattr(norm, "weight", None)
    if gain is None:
        raise InvalidInput(f"{type(norm).__name__} before the heads has no gain, so there is nothing to fold into them")
    shift = getattr(norm, "bias", None)
    shift = None if shift is None else shift.detach()
    return gain.detach(), shift, isinstance(norm, torch.nn.LayerNorm)


def _llama(model: Any, layer: int) -> _Block:
    block = model.base_model.layers[layer]
    maps = block.self_attn
    readers = (maps.q_proj, maps.k_proj, maps.v_proj)
    query, key, value = (reader.weight for reader in readers)
    biases = tuple(reader.bias for reader in readers)
    return _Block(query, key, value, maps.o_proj.weight, biases, block.input_layernorm, maps.o_proj)


def _gpt2(model: Any, layer: int) -> _Block:
    """GPT-2 keeps ``x W + b`` (in, out), with queries, keys and values side by side."""
    block = model.base_model.h[layer]
    maps = block.attn
    query, key, value = maps.c_attn.weight.T.chunk(3)
    biases = tuple(maps.c_attn.bias.chunk(3))
    return _Block(query, key, value, maps.c_proj.weight.T, biases, block.ln_1, maps.c_proj)


# Attention class to how its weights are read. Classes that normalise queries and keys (Qwen3, Gemma 3) have no W_QK.
_READERS: Mapping[str, Callable[[Any, int], _Block]] = {
    "LlamaAttention": _llama,
    "MistralAttention": _llama,
    "Qwen2Attention": _llama,
    "GPT2Attention": _gpt2,
}


def _reader(lm: CausalLM) -> Callable[[Any, int], _Block]:
    if getattr(lm.model.config, "quantization_config", None) is not None:
        raise InvalidInput(f"{lm.name} is quantised: its heads can be neither read nor edited; load it in bfloat16")
    named = {type(module).__name__ for module in lm.model.modules() if type(module).__name__.endswith("Attention")}
    if len(named) == 1 and (found := _READERS.get(next(iter(named)))):
        return found
    raise InvalidInput(
        f"{lm.name} attends with {', '.join(sorted(named)) or 'no attention class'}; heads can be read of "
        f"{', '.join(_READERS)}"
    )
