"""MoM written out from its equations, row by row and token by token; and small layers to compare with it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lamina.nn.config import LaminaConfig
from lamina.nn.context import BlockContext
from lamina.nn.mixed_memories import MoM, Projections

SIZES: dict[str, Any] = {"heads": 2, "key_dim": 5, "value_dim": 3, "chunk": 4}
KINDS: list[dict[str, Any]] = [
    {},
    {"scope": "stream"},
    {"shared": False, "memories": 3, "top_k": 1},
    {"taps": 0, "top_k": 4},
    {"one_projection": True, "taps": 2},
    {"one_projection": True, "scope": "stream"},
]


def mom_config(**more: Any) -> LaminaConfig:
    return LaminaConfig(**{"vocab_size": 30, "hidden_size": 12, "num_hidden_layers": 2, "num_heads": 2} | more)


def drawn_mom(seed: int = 0, **settings: Any) -> MoM:
    torch.manual_seed(seed)
    layer = MoM(mom_config(), **SIZES | settings).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, 0.6)
    return layer


def given_rows(rows: int = 3, time: int = 11, seed: int = 1) -> tuple[Tensor, BlockContext]:
    x = torch.randn(rows, time, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(rows, time, dtype=torch.bool)
    mask[1:2, :4] = False
    return x, BlockContext(mask, (mask.long().cumsum(1) - 1).clamp(min=0))


class _Memory:
    """One matrix a head, and what the convolution has been given of this memory."""

    def __init__(self, layer: MoM, part: Projections, number: int) -> None:
        self.layer, self.number = layer, number
        index = number if len(part.weight) > 1 else 0
        self.weight, self.bias = part.weight[index], part.write_bias.view(-1, layer.heads)[index]
        self.given: list[Tensor] = []
        self.states = [torch.zeros(layer.key_dim, layer.value_dim, dtype=torch.float64) for _ in range(layer.heads)]

    def hear(self, x: Tensor) -> None:
        keys_and_values = self.weight[: self.weight.shape[0] - 2 * self.layer.heads] @ x
        self.given.append(torch.cat([self.layer.query.weight @ x, keys_and_values]))

    def _mixed(self) -> Tensor:
        if self.layer.conv is None:
            return self.given[-1]
        taps = self.layer.conv.conv.weight[:, 0]
        back = range(min(len(self.given), self.layer.conv.taps))
        return F.silu(sum((taps[:, -1 - j] * self.given[-1 - j] for j in back), torch.zeros(())))

    def write_and_read(self, x: Tensor) -> Tensor:
        layer, mixed, outputs = self.layer, self._mixed(), []
        gates = self.weight[-2 * layer.heads :] @ x
        keys = layer.heads * layer.key_dim
        for head in range(layer.heads):
            q, k = (mixed[start + head * layer.key_dim : start + (head + 1) * layer.key_dim] for start in (0, keys))
            v = mixed[2 * keys + head * layer.value_dim : 2 * keys + (head + 1) * layer.value_dim]
            q, k = q / q.norm() / layer.key_dim**0.5, k / k.norm()
            b = torch.sigmoid(gates[head] + self.bias[head])
            rate = F.softplus(gates[layer.heads + head] + layer.fade_bias[head])
            alpha = torch.exp(-layer.log_decay[head].exp() * rate)
            u = b * (v - alpha * self.states[head].T @ k)
            self.states[head] = alpha * self.states[head] + torch.outer(k, u)
            outputs.append(self.states[head].T @ q)
        return torch.cat(outputs)


def written_out(layer: MoM, x: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for row, real in zip(x, mask, strict=True):
        memories = [_Memory(layer, layer.routed, m) for m in range(layer.memories)]
        common = None if layer.common is None else _Memory(layer, layer.common, 0)
        out = []
        for token, is_real in zip(row, real, strict=True):
            if not is_real:
                out.append(torch.zeros(12, dtype=torch.float64))
                continue
            p = (layer.router.weight @ token).softmax(0)
            chosen = p.topk(layer.top_k).indices.tolist()
            for m in range(layer.memories):
                if m in chosen or layer.scope == "stream":
                    memories[m].hear(token)
            o = sum(p[m] / p[chosen].sum() * memories[m].write_and_read(token) for m in chosen)
            if common is not None:
                common.hear(token)
                o = o + common.write_and_read(token)
            o = torch.stack([h / (h.square().mean() + 1e-6).sqrt() * layer.norm.weight for h in o.chunk(layer.heads)])
            out.append(layer.out.weight @ (o.flatten() * F.silu(layer.gate.weight @ token)))
        rows.append(torch.stack(out))
    return torch.stack(rows)
