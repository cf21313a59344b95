"""A table of values that is read row by row: in memory, or in a file of which only the rows that are read are loaded.

Of each row there are two parts: ``pre_values``, which a token is multiplied with, and ``values``, what is then added up
(UltraMemV2, arXiv 2508.18756, after PEER, arXiv 2407.04153). With ``sparse_grad`` backward makes gradients of the rows
that were read and of no others, for ``lamina.train.optim.row_sparse``; nothing then ever passes over the whole table.

A table that was moved to a file is that file, mapped: what an optimizer writes into a row is in the file, and the
operating system keeps in memory what is used. The file is plain safetensors.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import initialization

from lamina.cube.payload import Fingerprint, TensorPayload
from lamina.errors import CorruptCube, InvalidInput, StoreUnavailable

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_WARM, _FLOOR = 50, 0.1  # of the training loop's usual schedule


class Reads:
    """What a table was asked for while it was recorded."""

    def __init__(self, row_bytes: int) -> None:
        self._row_bytes = row_bytes
        self._seen: list[Tensor] = []

    def add(self, rows: Tensor) -> None:
        self._seen.append(torch.unique(rows))

    def rows_touched(self) -> Tensor:
        """Each row that was read once, int64, rising."""
        found: Tensor = torch.unique(torch.cat(self._seen)) if self._seen else torch.empty(0, dtype=torch.int64)
        return found

    @property
    def nbytes(self) -> int:
        """Of those rows."""
        return self._row_bytes * len(self.rows_touched())


class ValueTable(nn.Module):
    """``rows`` of ``value_dim`` and ``pre_value_dim`` numbers; they hold nothing before ``reset_parameters``.

    ``rates``: its learning rate in multiples of the others', at the first and at the last step, falling in a line.
    Raises ``InvalidInput`` for sizes below 1.
    """

    def __init__(
        self,
        rows: int,
        value_dim: int,
        pre_value_dim: int,
        dtype: torch.dtype | None = None,
        *,
        sparse_grad: bool = False,
        rates: tuple[float, float] = (4.0, 1.0),
    ) -> None:
        super().__init__()
        if min(rows, value_dim, pre_value_dim) < 1:
            sizes = f"rows={rows!r}, value_dim={value_dim!r}, pre_value_dim={pre_value_dim!r}"
            raise InvalidInput(f"{sizes}: give whole numbers from 1")
        if len(rates) != 2 or min(rates) <= 0:
            raise InvalidInput(f"rates={rates!r}: give two multiples above 0, at first and at last")
        self.rows, self.sparse_grad, self.rates = rows, sparse_grad, (rates[0], rates[1])
        self.values = nn.Parameter(torch.empty(rows, value_dim, dtype=dtype))
        self.pre_values = nn.Parameter(torch.empty(rows, pre_value_dim, dtype=dtype))
        self.path: str | None = None  # of the file it is
        self._reads: Reads | None = None

    def reset_parameters(self, spread: float) -> None:
        """All numbers N(0, ``spread``^2)."""
        initialization.normal_(self.values, 0.0, spread)
        initialization.normal_(self.pre_values, 0.0, spread)

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """``rows`` int64 ``(...)`` to their ``pre_values`` ``(..., pre_value_dim)`` and ``values``
        ``(..., value_dim)``."""
        if self._reads is not None:
            self._reads.add(rows)
        pre, values = (F.embedding(rows, each, sparse=self.sparse_grad) for each in (self.pre_values, self.values))
        return pre, values

    @property
    def row_bytes(self) -> int:
        """Both parts of one row."""
        return self.values[0].nbytes + self.pre_values[0].nbytes

    @contextmanager
    def recording(self) -> Iterator[Reads]:
        """Which rows are read meanwhile, counted where they are gathered. One thread's."""
        self._reads = reads = Reads(self.row_bytes)
        try:
            yield reads
        finally:
            self._reads = None

    def param_groups(self, lr: float) -> list[dict[str, Any]]:
        """Rows are read seldom, so they learn faster at first: ``rates`` times the usual warm-up and cosine."""
        first, last = self.rates

        def share(step: int, steps: int) -> float:
            falling = 1 + (last / first - 1) * step / max(1, steps - 1)
            warm = min(_WARM, steps)
            if step < warm:
                return falling * (step + 1) / warm
            turned = math.pi * (step - warm) / max(1, steps - warm)
            return falling * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(turned)))

        return [{"params": [self.values, self.pre_values], "lr": first * lr, "weight_decay": 0.1, "schedule": share}]

    @property
    def storage(self) -> str:
        """``"ram"`` or ``"mmap"``."""
        return "ram" if self.path is None else "mmap"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to ``path``. Raises ``StoreUnavailable`` where the disk refuses, ``InvalidInput`` for the file it
        is: that one is ``flush``ed."""
        if self.path is not None and Path(path).exists() and Path(path).samefile(self.path):
            raise InvalidInput(f"path={os.fspath(path)!r} is the file this table is: flush() it")
        try:
            save_file({name: each.detach().contiguous() for name, each in self.named_parameters()}, path)
        except (OSError, SafetensorError) as error:
            raise StoreUnavailable(f"cannot write {os.fspath(path)!r}: {error}; check rights and free space") from error

    def move_to(self, path: str | os.PathLike[str]) -> None:
        """Write it to ``path`` and be that file from now on. Parameters are other ones afterwards: do so before an
        optimizer is made."""
        self.save(path)
        self.attach(path)

    def attach(self, path: str | os.PathLike[str]) -> None:
        """Be the table in the file ``path``, which ``save`` wrote. Raises ``InvalidInput`` for another one's."""
        mapped = _mapped(path)
        shapes = {name: tuple(each.shape) for name, each in self.named_parameters()}
        if (found := {name: tuple(each.shape) for name, each in mapped.items()}) != shapes:
            raise InvalidInput(f"path={os.fspath(path)!r} holds {found}, and this table has {shapes}")
        for name, tensor in mapped.items():
            setattr(self, name, nn.Parameter(tensor, requires_grad=getattr(self, name).requires_grad))
        self.path = os.fspath(path)

    def to_payload(self, fingerprint: Fingerprint) -> TensorPayload:
        """Its rows for a parameter cube: copies. ``fingerprint`` of the model whose queries read it."""
        return TensorPayload.from_torch({name: each.detach() for name, each in self.named_parameters()}, fingerprint)

    @torch.no_grad()
    def load_payload(self, payload: TensorPayload, fingerprint: Fingerprint) -> None:
        """Hold the rows that were put away, in memory or in the file it is.

        Raises ``FingerprintMismatch`` for another model's, ``CorruptCube`` for tensors of other names and shapes; then
        it holds what it held."""
        payload.fingerprint.check(fingerprint)
        found = {name: view.torch() for name, view in payload.tensors.items()}
        own = dict(self.named_parameters())
        shapes = [{name: tuple(each.shape) for name, each in tensors.items()} for tensors in (found, own)]
        if shapes[0] != shapes[1]:
            raise CorruptCube(f"the cube holds {shapes[0]}, and this table has {shapes[1]}")
        for name, each in own.items():
            each.copy_(found[name])

    def flush(self) -> None:
        """Force what was written into rows to the disk; nothing to do in memory."""
        if self.path is None:
            return
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def extra_repr(self) -> str:
        widths = f"value_dim={self.values.shape[1]}, pre_value_dim={self.pre_values.shape[1]}"
        return f"rows={self.rows}, {widths}, storage={self.storage}"


def _mapped(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a safetensors file without a copy: writing into one writes into the file."""
    try:
        with Path(path).open("r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > os.fstat(file.fileno()).st_size:
                raise InvalidInput(f"path={os.fspath(path)!r} is no safetensors file")
            header = json.loads(file.read(size))
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
    except OSError as error:
        raise StoreUnavailable(f"cannot map {os.fspath(path)!r}: {error}") from error
    except ValueError as error:
        raise InvalidInput(f"path={os.fspath(path)!r} is no safetensors file: {error}") from error
    tensors = {}
    for name, told in header.items():
        if name != "__metadata__":
            begin, shape = 8 + size + told["data_offsets"][0], told["shape"]
            flat = torch.frombuffer(mapping, dtype=_DTYPES[told["dtype"]], count=math.prod(shape), offset=begin)
            tensors[name] = flat.view(shape)
    return tensors
