"""UltraMemV2: a table of facts beside the feed-forward block, of which each token reads a few rows.

UltraMemV2: Memory Networks Scaling to 120B Parameters with Superior Long-Context Learning, arXiv 2508.18756. The rows
are an ``n x n`` grid. A token has a query for each side of it and each Tucker rank, which gives factor scores
``S_row, S_col`` ``(n, rank)``, and the score of a cell is ``sum_c S_row[i] C_c S_col[j]``:

1. both sides are cut to their best by the leading singular vectors ``u, t`` of ``sum_c C_c``: ``S_row u``, ``S_col t``,
2. the cells of the small grid that is left are scored exactly, and the best ``top_m`` are read,
3. ``out = W_v concat_c sum_k s_kc <pre_k, W_p z> value_k[slice c]``: the raw scores are the weights, without softmax.

So ``2 n`` keys find one of ``n^2`` rows, and what a token costs does not grow with the table. ``u`` and ``t`` have no
gradient; they are state like the permutation that scatters the grid over the table, and their common sign must not
turn from one step to the next: cells where both projections are negative score high too, and are left out on purpose.

With ``share`` all layers read one table of ``layers * n^2`` rows, each through a window that begins ``n^2`` rows after
the one before, in a ring. What was wider here would be a wider ``n`` there.

Unlike the published code, exact per-core scores are computed for the winners alone, which is the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import initialization

from lamina.errors import InvalidInput
from lamina.nn import memory_beginning as beginning
from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.tucker_scores import leading, scored, selected
from lamina.nn.value_table import ValueTable

_MOST = 128  # candidates of each side, where none are named
_RELEASED = 0.02  # spread of the tables in the published code
_LEAST_SINGULAR = 0.15  # below which the penalty leaves the lesser singular values alone


class UltraMemV2(nn.Module):
    """``top_m`` of ``num_keys^2`` rows a token, ``candidates`` of each side looked at (default: ``top_m``).

    ``key_dim`` (default: half the width), ``value_dim`` and ``pre_value_dim`` (default: 3/16 and 1/16 of it);
    ``tucker_rank`` factors and ``cores`` slices of the value. ``expand``: so many times more keys a side for the same
    rows (virtual tables, summed). ``share``: of a table that all layers have in common, the part that each reads; 0
    for a table of its own. ``init``: as large as the ``"paper"`` derives, or as in its ``"release"``.
    ``rates``: of the table's learning rate, see ``ValueTable``. ``penalty`` of lesser singular values and ``balance``
    of keys join the loss; neither helped those who published them. ``seed`` of the permutation. ``sparse_grad``: see
    ``ValueTable``. ``budget``: bytes that scoring and reading may take at a time, beyond which tokens go in turns.
    ``table`` and ``offset``: another's, instead of one of its own.

    Raises ``InvalidInput`` for settings that do not fit each other.
    """

    u: Tensor
    t: Tensor
    permutation: Tensor

    def __init__(
        self,
        config: LaminaConfig,
        *,
        num_keys: int = 64,
        key_dim: int | None = None,
        value_dim: int | None = None,
        pre_value_dim: int | None = None,
        top_m: int = 16,
        candidates: int | None = None,
        tucker_rank: int = 2,
        cores: int = 2,
        expand: int = 1,
        share: float = 0.0,
        init: Literal["paper", "release"] = "paper",
        rates: Sequence[float] = (4.0, 1.0),
        penalty: float = 0.0,
        balance: float = 0.0,
        seed: int = 0,
        sparse_grad: bool = False,
        budget: int = 1 << 26,
        table: ValueTable | None = None,
        offset: int = 0,
    ) -> None:
        super().__init__()
        width, layers = config.hidden_size, config.num_hidden_layers
        self.key_dim = max(1, width // 2) if key_dim is None else key_dim
        self.pre_value_dim = max(1, width // 16) if pre_value_dim is None else pre_value_dim
        self.value_dim = cores * max(1, round(3 * width / 16 / max(1, cores))) if value_dim is None else value_dim
        self.num_keys, self.top_m, self.rank, self.cores = num_keys, top_m, tucker_rank, cores
        self.share, self.init, self.penalty, self.balance = share, init, penalty, balance
        self.seed, self.budget, self.offset = seed, budget, offset
        self._check(expand, candidates)
        self.window = math.isqrt(round(share * layers * num_keys**2)) ** 2 if share else num_keys**2
        self.keys_a_side = math.isqrt(self.window) * expand
        self.candidates = top_m if candidates is None else candidates
        self._check_selection()
        rows = num_keys**2 * (layers if share else 1)
        sizes = (self.value_dim, self.pre_value_dim)
        self.own_table: ValueTable | None = None
        if table is None:
            first, *_, last = rates
            self.own_table = ValueTable(rows, *sizes, sparse_grad=sparse_grad, rates=(first, last))
        self._lent: tuple[ValueTable, ...] = (
            () if table is None else (table,)
        )  # in a tuple, so that its parameters are not ours too
        if table is not None and (table.rows < self.window or not 0 <= offset < table.rows):
            raise InvalidInput(f"a table of {table.rows} rows, offset={offset!r}: the window has {self.window}")
        self._build(width, config.norm_eps)

    def _build(self, width: int, eps: float) -> None:
        self.query = nn.Linear(width, 2 * self.rank * self.key_dim, bias=False)
        self.query_norm, self.key_norm = (nn.RMSNorm(self.key_dim, eps) for _ in range(2))
        self.keys = nn.Parameter(torch.empty(2, self.rank, self.keys_a_side, self.key_dim))
        self.core = nn.Parameter(torch.empty(self.cores, self.rank, self.rank))
        self.pre_query = nn.Linear(width, self.pre_value_dim, bias=False)
        self.out = nn.Linear(self.value_dim, width, bias=False)
        self.register_buffer("u", torch.zeros(self.rank))
        self.register_buffer("t", torch.zeros(self.rank))
        self.register_buffer("permutation", torch.zeros(self.keys_a_side**2, dtype=torch.int32))
        self.register_load_state_dict_post_hook(_loaded)  # type: ignore[no-untyped-call]

    def _check(self, expand: int, candidates: int | None) -> None:
        counts = {"tucker_rank": self.rank, "cores": self.cores, "expand": expand, "budget": self.budget}
        counts |= {name: getattr(self, name) for name in ("num_keys", "key_dim", "value_dim", "pre_value_dim", "top_m")}
        for name, count in (counts | ({} if candidates is None else {"candidates": candidates})).items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InvalidInput(f"{name}={count!r}: give a whole number from 1")
        if self.value_dim % self.cores:
            raise InvalidInput(f"value_dim={self.value_dim} is no multiple of cores={self.cores}: each has its slice")
        if not 0 <= self.share <= 1 or min(self.penalty, self.balance) < 0:
            told = f"share={self.share!r}, penalty={self.penalty!r}, balance={self.balance!r}"
            raise InvalidInput(f"{told}: give a share from 0 to 1, and weights from 0")
        if self.penalty and self.rank < 2:
            raise InvalidInput(f"penalty={self.penalty!r} is about lesser singular values: give tucker_rank from 2")
        if self.init not in ("paper", "release"):
            raise InvalidInput(f'init={self.init!r}: give "paper" or "release"')
        if self.top_m > _MOST and candidates is None:
            raise InvalidInput(f"top_m={self.top_m} is over {_MOST}: give candidates, how many of each side to look at")

    def _check_selection(self) -> None:
        if self.candidates > self.keys_a_side or self.candidates**2 < self.top_m:
            least = math.isqrt(self.top_m - 1) + 1
            raise InvalidInput(
                f"candidates={self.candidates}, top_m={self.top_m}: there are {self.keys_a_side} keys a side; look at "
                f"{least} to {self.keys_a_side} of each, or give more num_keys"
            )

    @property
    def table(self) -> ValueTable:
        """Its own, or the one it was lent."""
        return self._lent[0] if self.own_table is None else self.own_table

    def join(self, layer: int, blocks: Sequence[object]) -> None:
        """Take its place among the ``blocks`` of all layers: with ``share``, read the first one's table."""
        if not self.share:
            return
        first = next(block for block in blocks if isinstance(block, UltraMemV2))
        self.offset = layer * self.num_keys**2
        if first is not self:
            self.own_table, self._lent = None, (first.table,)

    def init_weights(self, config: LaminaConfig) -> None:
        width = config.hidden_size
        begun = beginning.Scores.simulated(self.keys_a_side, self.top_m, self.candidates, self.rank, self.cores)
        matrix = pre = out = beginning.matrix_spread(width)
        gain = begun.gain(self.key_dim)
        if released := self.init == "release":
            pre, out, gain = width**-0.5, self.value_dim**-0.5, self.key_dim**-0.4
        for linear, spread in ((self.query, matrix), (self.pre_query, pre), (self.out, out)):
            initialization.normal_(linear.weight, 0.0, spread)
        initialization.normal_(self.keys, 0.0, self.key_dim**-0.5)
        for norm in (self.query_norm, self.key_norm):
            initialization.constant_(norm.weight, gain)
        initialization.uniform_(self.core, 0.0, 1.0)
        drawn = torch.Generator("cpu").manual_seed(self.seed)
        order = torch.randperm(self.keys_a_side**2, generator=drawn, device="cpu")
        initialization.copy_(self.permutation, order.to(self.permutation.dtype))
        if not self.core.is_meta:
            for vector, found in zip((self.u, self.t), leading(self.core.detach()), strict=True):
                initialization.copy_(vector, found)
        if self.own_table is not None:
            sizes = (width, self.top_m, self.value_dim, self.pre_value_dim, begun.squares_at_gain)
            target = beginning.feed_forward_variance(config)
            self.own_table.reset_parameters(_RELEASED if released else beginning.value_spread(target, *sizes))

    @torch.no_grad()
    def refresh_core(self) -> None:
        """Find ``u`` and ``t`` of the cores as they are. Done at each training step, on leaving training and after
        loading; the same cores give the same vectors."""
        if not self.core.is_meta:
            u, t = leading(self.core.detach(), (self.u, self.t))
            self.u.copy_(u)
            self.t.copy_(t)

    def train(self, mode: bool = True) -> UltraMemV2:
        if self.training and not mode:
            self.refresh_core()
        super().train(mode)
        return self

    def forward(self, x: Tensor, ctx: BlockContext) -> Tensor:
        """``(batch, time, width)`` to the same; padded tokens read nothing and get nothing. Tells ``ultramem_v2.rows``
        int64 ``(tokens, top_m)`` of the table, and the mean selected ``ultramem_v2.score``."""
        if self.training:
            self.refresh_core()
        tokens = x[ctx.mask]
        factors = self._factors(tokens)
        turn = max(1, self.budget // (factors.element_size() * self._numbers_per_token()))
        read, rows, cells, means = [], [], [], []
        for z, part in zip(torch.split(tokens, turn), torch.split(factors, turn), strict=True):
            cell = selected(part, self.core, self.u, self.t, self.top_m, self.candidates)
            score = scored(part, self.core, *cell)
            rows.append(self._rows(*cell))
            read.append(self._read(z, score, rows[-1]))
            cells.append(torch.stack(cell, 1))
            means.append(score.detach().sum())
        ctx.tell("ultramem_v2.rows", torch.cat(rows))
        count = max(1, len(tokens) * self.top_m * self.cores)
        ctx.tell("ultramem_v2.score", torch.stack(means).sum() / count)
        if self.training and len(tokens):
            ctx.aux.extend(self._asked_of_training(factors, torch.cat(cells)))
        return torch.zeros_like(x).masked_scatter(ctx.mask[..., None], torch.cat(read).to(x.dtype))

    def _factors(self, z: Tensor) -> Tensor:
        """Scores of each key of both sides in each rank, ``(tokens, 2, keys, rank)``."""
        query = self.query_norm(self.query(z).view(-1, 2, self.rank, self.key_dim))
        return torch.einsum("tsrd,srnd->tsnr", query, self.key_norm(self.keys))

    def _rows(self, row: Tensor, column: Tensor) -> Tensor:
        """Where in the table the cells are: scattered, folded into the window, in the ring."""
        scattered = self.permutation[row * self.keys_a_side + column].long()
        return (scattered % self.window + self.offset) % self.table.rows

    def _read(self, z: Tensor, score: Tensor, rows: Tensor) -> Tensor:
        """``(tokens, width)`` from the ``score`` ``(tokens, top_m, cores)`` of ``rows``."""
        pre, values = self.table.gather(rows)
        weight = score * torch.einsum("tkp,tp->tk", pre, self.pre_query(z))[..., None]
        pooled = torch.einsum("tkc,tkcv->tcv", weight, values.view(*rows.shape, self.cores, -1))
        y: Tensor = self.out(pooled.flatten(1))
        return y

    def _asked_of_training(self, factors: Tensor, cells: Tensor) -> list[Tensor]:
        """Auxiliary losses, where they have a weight. ``cells`` int64 ``(tokens, 2, top_m)``."""
        asked = []
        if self.penalty:
            over = (torch.linalg.svdvals(self.core.sum(0).float())[1:] - _LEAST_SINGULAR).clamp(min=0)
            asked.append(self.penalty / (self.rank - 1) * over.square().sum())
        if self.balance:
            for side, vector in enumerate((self.u, self.t)):
                chances = (factors[:, side] @ vector).softmax(-1).mean(0)
                share = torch.bincount(cells[:, side].flatten(), minlength=self.keys_a_side) / cells[:, side].numel()
                asked.append(self.balance * self.keys_a_side * (share.to(chances.dtype) * chances).sum())
        return asked

    def _numbers_per_token(self) -> int:
        return self.candidates**2 + self.top_m * (self.value_dim + self.pre_value_dim + self.rank + self.cores)

    def macs_per_token(self, time: int) -> int:  # noqa: ARG002 - the same at any length
        """Matrices, keys, the cut, the small grid, the winners' scores, and the rows that are read."""
        m, r, cut = self.top_m, self.rank, self.candidates
        matrices = sum(each.weight.numel() for each in (self.query, self.pre_query, self.out))
        finding = self.keys.numel() + 2 * self.keys_a_side * r + cut * r * (r + cut) + m * self.cores * r * (r + 1)
        return matrices + finding + m * (self.pre_value_dim + self.value_dim)

    def bytes_read_per_token(self) -> int:
        """All but the tables, of which ``top_m`` rows and as many places of the permutation are read."""
        others = sum(each.nbytes for name, each in self.named_parameters() if not name.startswith("own_table"))
        return others + self.top_m * (self.table.row_bytes + self.permutation.element_size())

    def extra_repr(self) -> str:
        return f"num_keys={self.num_keys}, top_m={self.top_m}, window={self.window}, offset={self.offset}"


def _loaded(module: nn.Module, _: Any) -> None:
    assert isinstance(module, UltraMemV2)
    module.refresh_core()
