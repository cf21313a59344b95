"""SmolLM2-135M-Instruct, unpacked once from its GGUF wheel into a folder that transformers loads in a second.

SmolLM2: arXiv 2502.02737; the file format: the GGUF specification, version 3. transformers can read
GGUF itself, but takes 15 seconds each time, needs accelerate, refuses to save the result, and drops
the rule that splits digits; so the few steps are done here: dequantise, rename, undo the row order
that GGUF gives to rotary projections, rebuild the byte-level BPE tokenizer.

The folder is written beside its final place and renamed, so it is whole or absent and two processes
at once do no harm. Its own checksums are kept in ``checksums.json``; a damaged folder is rebuilt.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamina._optional import require
from lamina.errors import LaminaError
from lamina.zoo.catalog import CATALOG, cache_dir, packaged, sha256

if TYPE_CHECKING:
    from gguf import GGUFReader

_GGUF = next(iter(CATALOG["smollm2"].sha256))
_FORMAT = 1  # of the unpacked folder; raise it when what is written changes

_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def folder() -> Path:
    """The unpacked model: ``model.safetensors`` (float32), ``config.json`` and the tokenizer's files.

    The first call takes some seconds and 540 MB of the cache folder. Raises what ``catalog.packaged``
    raises, ``MissingDependency`` without gguf, and ``LaminaError`` if the cache folder cannot be written.
    """
    stamp = CATALOG["smollm2"].sha256[_GGUF][:12]
    target = cache_dir() / "models" / f"smollm2-{stamp}-{_FORMAT}"
    if is_whole(target):
        return target
    source = packaged("smollm2") / _GGUF
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as temporary:
            made = Path(temporary) / "model"
            unpack(source, made)
            _move(made, target)
    except OSError as error:
        raise LaminaError(
            f"SmolLM2 cannot be unpacked into {target}: {error}. "
            "Free 600 MB there, or set LAMINA_CACHE to another folder"
        ) from error
    return target


def is_whole(target: Path) -> bool:
    """Whether an unpacked folder holds exactly the files it was written with."""
    try:
        checksums = json.loads((target / "checksums.json").read_text("utf-8"))
        return bool(checksums) and all(sha256(target / file) == digest for file, digest in checksums.items())
    except (OSError, ValueError):
        return False


def _move(made: Path, target: Path) -> None:
    """Put ``made`` at ``target``, unless another process has just put a whole one there."""
    if target.exists() and not is_whole(target):
        shutil.rmtree(target)
    try:
        made.rename(target)
    except OSError:
        if not is_whole(target):
            raise


def unpack(source: Path, target: Path) -> None:
    """Write the weights, configuration and tokenizer of the GGUF file ``source`` into the new folder ``target``."""
    reader = require("gguf", "unpacking SmolLM2").GGUFReader(source)
    target.mkdir()
    require("safetensors.numpy", "unpacking SmolLM2").save_file(
        tensors(reader), target / "model.safetensors", metadata={"format": "pt"}
    )
    _write(target / "config.json", config(reader))
    ids = _special_ids(reader)
    _write(target / "generation_config.json", {f"{name}_token_id": ids[name] for name in ("bos", "eos", "pad")})
    _write_tokenizer(reader, target)
    _write(target / "checksums.json", {path.name: sha256(path) for path in sorted(target.iterdir())})


def tensors(reader: GGUFReader) -> dict[str, NDArray[np.float32]]:
    """float32 weights under the names of transformers' Llama. The output layer is tied to the embedding."""
    dequantize = require("gguf.quants", "unpacking SmolLM2").dequantize
    heads = {"attn_q": _field(reader, "attention.head_count"), "attn_k": _field(reader, "attention.head_count_kv")}
    state = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        match tensor.name.split("."):
            case ["token_embd", "weight"]:
                name = "model.embed_tokens.weight"
            case ["output_norm", "weight"]:
                name = "model.norm.weight"
            case ["blk", layer, part, "weight"]:
                name = f"model.layers.{layer}.{_NAMES[part]}.weight"
                if part in heads:
                    values = _halves(values, heads[part])
            case _:
                raise LaminaError(f"the GGUF file holds an unknown tensor {tensor.name!r}")
        state[name] = values
    return state


def _halves(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """From GGUF's rotary order (pairs side by side) to transformers' (first half, second half), per head."""
    paired = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.ascontiguousarray(paired.swapaxes(1, 2)).reshape(rows.shape)


def config(reader: GGUFReader) -> dict[str, Any]:
    """The ``config.json`` of the same model as a transformers Llama."""
    ids = _special_ids(reader)
    width, heads = _field(reader, "embedding_length"), _field(reader, "attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": width,
        "intermediate_size": _field(reader, "feed_forward_length"),
        "num_hidden_layers": _field(reader, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": _field(reader, "attention.head_count_kv"),
        "head_dim": width // heads,
        "max_position_embeddings": _field(reader, "context_length"),
        "rms_norm_eps": round(_field(reader, "attention.layer_norm_rms_epsilon"), 12),  # stored as float32
        "rope_theta": _field(reader, "rope.freq_base"),
        "tie_word_embeddings": True,
        "vocab_size": _field(reader, "vocab_size"),
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
        "dtype": "float32",
    }


def _write_tokenizer(reader: GGUFReader, target: Path) -> None:
    tk = require("tokenizers", "unpacking SmolLM2")
    words: list[str] = _tokenizer_field(reader, "tokens")
    merges = [tuple(merge.split(" ")) for merge in _tokenizer_field(reader, "merges")]
    control = 3  # GGUF's token type for markers that no text may spell
    special = [
        word for word, kind in zip(words, _tokenizer_field(reader, "token_type"), strict=True) if kind == control
    ]
    tokenizer = tk.Tokenizer(tk.models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    # "smollm" in GGUF: every digit by itself, then the byte-level rule of GPT-2.
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Sequence(
        [tk.pre_tokenizers.Digits(individual_digits=True), tk.pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = tk.decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    tokenizer.save(str(target / "tokenizer.json"))
    ids = {**_special_ids(reader), "unk": _tokenizer_field(reader, "unknown_token_id")}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": _field(reader, "context_length"),
        "clean_up_tokenization_spaces": False,
        "chat_template": reader.fields["tokenizer.chat_template"].contents(),
        **{f"{name}_token": words[id] for name, id in ids.items()},
    }
    _write(target / "tokenizer_config.json", settings)


def _special_ids(reader: GGUFReader) -> dict[str, int]:
    names = {"bos": "bos", "eos": "eos", "pad": "padding"}
    return {short: _tokenizer_field(reader, f"{name}_token_id") for short, name in names.items()}


def _field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[f"llama.{name}"].contents()


def _tokenizer_field(reader: GGUFReader, name: str) -> Any:
    return reader.fields[f"tokenizer.ggml.{name}"].contents()


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False), "utf-8")
