"""all-MiniLM-L6-v2: a six-layer BERT encoder whose masked mean is a sentence vector.

BERT: arXiv 1810.04805; MiniLM: arXiv 2002.10957; the sentence tuning: arXiv 1908.10084. The network is
written out because importing transformers costs four seconds, which every command would pay; it
equals ``transformers.BertModel`` with mean pooling to 1e-5. Query, key and value share one matrix
product, and the segment embedding (always segment 0) is folded into the positions, both at load time.

On a CPU with bfloat16 instructions the matrix products and attention run in bfloat16, twice as fast;
residuals and norms stay in float32, which keeps the vectors within a cosine of 0.9999 of the exact
ones (all in bfloat16 does not), so that both may lie in one store.

This module imports torch; import it inside the function that needs it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from lamina.zoo.catalog import packaged

VOCABULARY, WIDTH, HEADS, LAYERS, INNER, POSITIONS = 30522, 384, 12, 6, 1536, 512
LIMIT = 256  # word pieces with [CLS] and [SEP]: the length the sentence model was trained for
EPSILON = 1e-12


class Layer(nn.Module):
    """Self-attention and a GELU feed-forward block, each with a residual and a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm_attention = nn.LayerNorm(WIDTH, EPSILON)
        self.up = nn.Linear(WIDTH, INNER)
        self.down = nn.Linear(INNER, WIDTH)
        self.norm_inner = nn.LayerNorm(WIDTH, EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, time, _ = x.shape
        dtype = self.qkv.weight.dtype
        q, k, v = self.qkv(x.to(dtype)).view(batch, time, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(batch, time, WIDTH)
        x = self.norm_attention(x + self.out(mixed))
        y: Tensor = self.norm_inner(x + self.down(F.gelu(self.up(x.to(dtype)))))
        return y


class MiniLM(nn.Module):
    """Token ids to sentence vectors (not normalised)."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """``ids`` int64 ``(batch, time)``, padded on the right; ``lengths`` int64 ``(batch,)`` counts real
        pieces. Returns float32 ``(batch, 384)``: the mean over the real pieces only."""
        time = ids.shape[1]
        real = torch.arange(time) < lengths[:, None]
        # Without padding no mask is passed: attention then takes its fastest kernel.
        mask = None if bool(real.all()) else real[:, None, None, :]
        x: Tensor = self.norm(self.words(ids) + self.positions.weight[:time])
        for layer in self.layers:
            x = layer(x, mask)
        return (x * real[:, :, None]).sum(1) / lengths[:, None]


def fast_dtype() -> torch.dtype:
    """bfloat16 where the CPU multiplies it in hardware (emulated it is slower), else float32."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 and later
    native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def load(dtype: torch.dtype | None = None) -> tuple[MiniLM, Tokenizer]:
    """The verified network and its tokenizer, which neither pads nor cuts.

    ``dtype`` is that of the matrix products (default ``fast_dtype()``); norms and results are float32.
    Raises what ``catalog.packaged`` raises.
    """
    folder = packaged("minilm")
    with torch.device("meta"):  # no time lost on random weights that are replaced
        network = MiniLM()
    network.load_state_dict(_renamed(load_file(folder / "model.safetensors")), assign=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    for module in network.layers.modules():
        if isinstance(module, nn.Linear):
            module.to(dtype or fast_dtype())
    return network.eval().requires_grad_(False), tokenizer


def _renamed(bert: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT's state dict under this file's names; the pooler is not used by the sentence model."""
    segment = bert["embeddings.token_type_embeddings.weight"][0]
    state = {
        "words.weight": bert["embeddings.word_embeddings.weight"],
        "positions.weight": bert["embeddings.position_embeddings.weight"] + segment,
    }
    for part in ("weight", "bias"):
        state[f"norm.{part}"] = bert[f"embeddings.LayerNorm.{part}"]
        for i in range(LAYERS):
            old, new = f"encoder.layer.{i}", f"layers.{i}"
            qkv = [bert[f"{old}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            state[f"{new}.qkv.{part}"] = torch.cat(qkv)
            state[f"{new}.out.{part}"] = bert[f"{old}.attention.output.dense.{part}"]
            state[f"{new}.norm_attention.{part}"] = bert[f"{old}.attention.output.LayerNorm.{part}"]
            state[f"{new}.up.{part}"] = bert[f"{old}.intermediate.dense.{part}"]
            state[f"{new}.down.{part}"] = bert[f"{old}.output.dense.{part}"]
            state[f"{new}.norm_inner.{part}"] = bert[f"{old}.output.LayerNorm.{part}"]
    return state
