"""MemoryFormer: tables that are read by the signs of the input, in place of matrices (arXiv 2411.12992).

The channels are cut into chunks of ``bits``. Their signs are the number of a row in the chunk's table, how far they are
from zero is how much the row counts, and the output is the sum of one row from each table:

    y = sum_k s(z_k) T_k[c(z_k)] + b        c(z) = [z_1 >= 0] 2^(n-1) + ... + [z_n >= 0] 2^0
    p(z) = 1 / prod_i (1 + exp(-2 |z_i| / t))        s(z) = p(z), or p(z) sum_i |z_i|

That is ``width / bits`` rows read and added instead of a matrix, some sixteen times fewer multiply-adds, paid for with
some twenty times more bytes stored. The signs have no gradient: only the rows that were read learn, and through ``s``
what was read by. Once all are far from zero ``p`` is 1 and says nothing more; the second form, the default, then still
has a gradient. What is hashed must be centred, or the rows are read unevenly: a LayerNorm stands before every hash.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn.attention import CausalMixing
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext

Score = Literal["magnitude", "probability"]
Codes = tuple[Tensor, Tensor]  # rows int64 and scores, both (..., tables)

_MOST_BITS = 16  # 65,536 rows a table


class MemoryLayer(nn.Module):
    """``in_features`` channels in chunks of ``bits`` to ``out_features``; one table of ``2**bits`` rows a chunk.

    ``score``: "magnitude" or "probability", with ``temperature`` (t above). ``sparse_grad``: the tables get sparse
    gradients, of the rows that were read alone, for optimizers that know them (``torch.optim.SparseAdam``).

    The weights: ``tables`` ``(in_features / bits * 2**bits, out_features)``, all tables one below the other, and
    ``bias``; they hold nothing before ``reset_parameters``, which blocks of a model call. Raises ``InvalidInput`` for
    settings that do not fit each other.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int = 8,
        score: Score = "magnitude",
        temperature: float = 1.0,
        sparse_grad: bool = False,
    ) -> None:
        super().__init__()
        _whole("bits", bits, 1, _MOST_BITS)
        if in_features < 1 or in_features % bits:
            raise InvalidInput(f"bits={bits} does not divide the {in_features} channels: give a divisor")
        if out_features < 1:
            raise InvalidInput(f"out_features={out_features!r}: give a whole number from 1")
        if score not in ("magnitude", "probability"):
            raise InvalidInput(f'score={score!r}: give "magnitude" or "probability"')
        if not temperature > 0:
            raise InvalidInput(f"temperature={temperature!r}: give a number above 0")
        self.in_features, self.out_features, self.bits = in_features, out_features, bits
        self.score, self.temperature, self.sparse_grad = score, temperature, sparse_grad
        self.count, self.rows = in_features // bits, 2**bits
        self.tables = nn.Parameter(torch.empty(self.count * self.rows, out_features))
        self.bias = nn.Parameter(torch.empty(out_features))

    def reset_parameters(self, spread: float = 0.02) -> None:
        """Tables N(0, ``spread``^2) and the bias N(0, 0.001^2)."""
        initialization.normal_(self.tables, 0.0, spread)
        initialization.normal_(self.bias, 0.0, 0.001)

    def code(self, x: Tensor) -> Codes:
        """``x`` ``(..., in_features)`` to the row that each table is read at, int64 ``(..., tables)`` from 0 to
        ``2**bits - 1``, the first channel of a chunk being the highest bit, and its score, in float32 or float64."""
        chunks = (x if x.dtype == torch.float64 else x.float()).view(*x.shape[:-1], self.count, self.bits)
        places = torch.arange(self.bits - 1, -1, -1, device=x.device)
        rows = ((chunks >= 0).long() << places).sum(-1)
        far = chunks.abs()
        # The product of factors up to 2 is a sum of logarithms, which loses no digits.
        score = (-F.softplus(-2 / self.temperature * far).sum(-1)).exp()
        return rows, score * far.sum(-1) if self.score == "magnitude" else score

    def forward(self, x: Tensor, precomputed: Codes | None = None) -> Tensor:
        """``(..., in_features)`` to ``(..., out_features)`` in the dtype of ``x``; ``precomputed``: codes of ``x``
        that another layer with the same settings has made."""
        rows, score = self.code(x) if precomputed is None else precomputed
        first = self.rows * torch.arange(self.count, device=x.device)
        # One call sums the rows as it reads them: gathered, they would be (tokens, tables, out_features).
        y = F.embedding_bag(
            (rows + first).view(-1, self.count),
            self.tables,
            per_sample_weights=score.view(-1, self.count).to(self.tables.dtype),
            mode="sum",
            sparse=self.sparse_grad,
        )
        return (y + self.bias).view(*x.shape[:-1], self.out_features).to(x.dtype)

    def param_groups(self, lr: float) -> list[dict[str, object]]:
        """Three times the rate of matrices, and no weight decay: rows that nobody reads would shrink."""
        return [{"params": [self.tables, self.bias], "lr": 3 * lr, "weight_decay": 0.0}]

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002 - the same at any length
        """Each row that is read is multiplied by its score and added."""
        return self.count * self.out_features

    def hashing_per_token(self) -> int:
        """What reading costs beside multiply-adds: each channel compared and shifted into the row's number, its
        magnitude, softplus and two sums; an exponential and a product for each table."""
        return 6 * self.in_features + 2 * self.count

    def bytes_read_per_token(self) -> int:
        """One row of each table, and the bias."""
        return self.count * self.tables[0].nbytes + self.bias.nbytes

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, score={self.score}"


class TableAttention(CausalMixing):
    """Causal attention whose queries, keys and values are read from tables: three sets of them by the same codes,
    side by side in one ``MemoryLayer``. No projection follows, so heads must be as wide as the stream.

    Settings: ``bits``, ``score``, ``temperature`` and ``sparse_grad`` of its tables, ``window`` of the attention.
    """

    def __init__(
        self,
        config: LaminaConfig,
        *,
        bits: int = 8,
        score: Score = "magnitude",
        temperature: float = 1.0,
        sparse_grad: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__(config, window=window)
        width = config.hidden_size
        if self.heads * self.head_dim != width:
            raise InvalidInput(
                f"{self.heads} heads of head_dim={self.head_dim} are not hidden_size={width}: leave head_dim out, "
                "nothing projects them back"
            )
        shared = self.kv_heads * self.head_dim
        self.widths = (width, shared, shared)
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.tables = MemoryLayer(width, sum(self.widths), bits, score, temperature, sparse_grad)

    def init_weights(self, config: LaminaConfig) -> None:
        """Tables N(0, 2 / (5 width))."""
        self.tables.reset_parameters((2 / (5 * config.hidden_size)) ** 0.5)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""
        x = self.norm(x)
        codes = self.tables.code(x)
        ctx.tell("table_attention.rows", codes[0])
        query, key, value = self.tables(x, codes).split(self.widths, dim=-1)
        return self.mixed(query, key, value, ctx)

    def macs_per_token(self, time: int) -> int:
        """Multiply-adds of the mean token of ``time``: the rows, and the mixing as in any attention."""
        return self.tables.macs_per_token(time) + self.macs_of_mixing(time)


class MemoryBlock(nn.Module):
    """The feed-forward block: ``read(norm(write(norm(x))))`` of two ``MemoryLayer``s and nothing between.

    The first makes ``bits + expand_bits`` channels of every ``bits``, the second reads tables by as many: its rows, and
    not a wider inside, are the expansion. Hashing is the non-linearity.
    """

    def __init__(
        self,
        config: LaminaConfig,
        *,
        bits: int = 8,
        expand_bits: int = 2,
        score: Score = "magnitude",
        temperature: float = 1.0,
        sparse_grad: bool = False,
    ) -> None:
        super().__init__()
        _whole("bits", bits, 1, _MOST_BITS)
        _whole("expand_bits", expand_bits, 0, _MOST_BITS - bits)
        width, wider = config.hidden_size, bits + expand_bits
        self.norm = nn.LayerNorm(width, config.norm_eps)
        self.write = MemoryLayer(width, width // bits * wider, bits, score, temperature, sparse_grad)
        inner = self.write.out_features
        self.norm_inner = nn.LayerNorm(inner, config.norm_eps)
        self.read = MemoryLayer(inner, width, wider, score, temperature, sparse_grad)

    def init_weights(self, config: LaminaConfig) -> None:  # noqa: ARG002 - the protocol of blocks
        """Tables N(0, 0.02^2)."""
        self.write.reset_parameters(0.02)
        self.read.reset_parameters(0.02)

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same."""
        inner = self.norm_inner(self.write(self.norm(x)))
        codes = self.read.code(inner)
        ctx.tell("memory_block.rows", codes[0])
        y: Tensor = self.read(inner, codes)
        return y


def memory_former(
    *,
    bits: int = 8,
    expand_bits: int = 2,
    score: Score = "magnitude",
    temperature: float = 1.0,
    sparse_grad: bool = False,
    **sizes: Any,
) -> LaminaConfig:
    """The configuration of a MemoryFormer: every layer a ``TableAttention`` and a ``MemoryBlock``; ``sizes`` as
    ``LaminaConfig`` takes them. Embeddings and head stay matrices."""
    tables = {"bits": bits, "score": score, "temperature": temperature, "sparse_grad": sparse_grad}
    block = {"table_attention": tables, "memory_block": {**tables, "expand_bits": expand_bits}}
    return LaminaConfig(mixer="table_attention", ffn="memory_block", block=block, **sizes)


def usage_entropy(rows: Tensor, bits: int) -> Tensor:
    """How evenly the rows of each table are read, in bits ``(tables,)``: ``bits`` if all alike, 0 if always one.

    ``rows`` ``(..., tables)`` as ``MemoryLayer.code`` finds them; as few as ``n`` tokens show ``log2(n)`` bits at most.
    """
    tables = rows.shape[-1]
    first = 2**bits * torch.arange(tables, device=rows.device)
    counts = torch.bincount((rows.reshape(-1, tables) + first).flatten(), minlength=tables * 2**bits)
    shares = counts.view(tables, 2**bits).double() * tables / max(1, rows.numel())
    entropy: Tensor = -torch.special.xlogy(shares, shares).sum(-1)
    return entropy / math.log(2)


def _whole(name: str, value: int, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(
            f"{name}={value!r}: give a whole number from {least} to {most}; a table has 2**bits rows, 2**(bits + "
            "expand_bits) in the second layer of a feed-forward block"
        )
