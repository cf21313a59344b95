"""A training run on disk, exact to the bit: killed at any moment, it goes on as if it had never stopped.

``FOLDER/step-00000100/`` holds

- ``model.safetensors``: the tensors of the model, tied ones once, and ``config.json`` where the model has one, so that
  ``from_pretrained`` of transformers reads the folder;
- ``optim.safetensors``: every tensor of the optimizer's state, named ``optimizer.PARAMETER.STATE``;
- ``trainer.json``: losses so far, the state of every random generator as hex, the settings of the run, and whatever
  says where in the data it stands.

It is written beside its place, forced to the disk and renamed, and only then is the one before it removed: a kill or a
power cut leaves the old one or the new one. Nothing is pickled. The optimizer's state is put back as it was:
``Optimizer.load_state_dict`` would cast it to the type of its parameter, and quantized or wider states would change.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lamina._optional import require
from lamina.errors import InvalidInput, StoreUnavailable
from lamina.train.state_tree import packed, unpacked

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module, Parameter
    from torch.optim import Optimizer

_FORMAT = 1
_DONE, _UNFINISHED = "step-", ".unfinished-"
_MODEL, _OPTIMIZER, _TRAINER = "model.safetensors", "optim.safetensors", "trainer.json"


class Cursor(Protocol):
    """Where the data stands, as torchdata's loaders say it: plain values and tensors."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The last state of a run in ``folder`` (made if missing; one run's alone), written after every ``every`` steps.

    ``model`` must hold every parameter that is learned. ``generators``: whatever the data is drawn from, by name, of
    torch or numpy; torch's own global generators are kept without being named. Raises ``InvalidInput`` for
    ``every < 1``.
    """

    folder: str | os.PathLike[str]
    model: Module
    every: int = 100
    generators: Mapping[str, torch.Generator | np.random.Generator] = field(default_factory=dict)
    cursor: Cursor | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise InvalidInput(f"every={self.every!r}: give a number of steps from 1")

    @property
    def newest(self) -> Path | None:
        """The folder of the last whole checkpoint."""
        return max(Path(self.folder).glob(f"{_DONE}*"), key=lambda path: path.name, default=None)

    def save(self, optimizer: Optimizer, run: Mapping[str, Any], losses: Sequence[float], *, ended: bool) -> Path:
        """Write the state after ``len(losses)`` steps, and remove the one before it.

        Raises ``InvalidInput`` if the model does not hold all that is learned, or a state is neither tensor nor plain;
        ``StoreUnavailable`` if the disk refuses. What was there before is kept then.
        """
        write = require("safetensors.torch", "writing checkpoints").save_file
        tensors: dict[str, Tensor] = {}
        state = {name: optimizer.state.get(parameter, {}) for name, parameter in self._learned(optimizer).items()}
        told = {
            "format": _FORMAT,
            "step": len(losses),
            "ended": ended,
            "run": packed(dict(run), "run", tensors),
            "optimizer": packed(state, "optimizer", tensors),
            "groups": packed(_groups(optimizer), "groups", tensors),
            "random": self._random(),
            "cursor": packed(self.cursor.state_dict() if self.cursor else None, "cursor", tensors),
            "losses": list(losses),
        }
        kept, _ = _tensors(self.model)
        config: Any = getattr(self.model, "config", None)
        with self._disk(), self._replacing(len(losses)) as work:
            write({name: tensor.contiguous() for name, tensor in kept.items()}, work / _MODEL, {"format": "pt"})
            write(tensors, work / _OPTIMIZER)
            (work / _TRAINER).write_text(json.dumps(told), "utf-8")
            if hasattr(config, "save_pretrained"):
                config.save_pretrained(work)
        return Path(self.folder) / f"{_DONE}{len(losses):08d}"

    def resume(self, optimizer: Optimizer, run: Mapping[str, Any]) -> tuple[list[float], bool]:
        """Put model, optimizer, generators and cursor back; the losses so far, and whether the run had ended.

        Without a checkpoint nothing changes, and there are none. Raises ``InvalidInput``, before anything is changed,
        for the checkpoint of another model (with names and shapes of both), of other settings, or one that is damaged.
        """
        if (folder := self.newest) is None:
            return [], False
        load = require("safetensors.torch", "reading checkpoints").load_file
        safetensors_error = require("safetensors", "reading checkpoints").SafetensorError
        try:
            kept, tensors = load(folder / _MODEL), load(folder / _OPTIMIZER)
            told = json.loads((folder / _TRAINER).read_text("utf-8"))
            if told["format"] != _FORMAT:
                raise InvalidInput(f"folder={str(folder)!r} has format {told['format']!r}, not {_FORMAT}: begin anew")
            before, state, groups, cursor = (
                unpacked(told[part], tensors) for part in ("run", "optimizer", "groups", "cursor")
            )
        except (OSError, KeyError, json.JSONDecodeError, safetensors_error) as error:
            raise InvalidInput(f"folder={str(folder)!r} cannot be read ({error}): remove it to begin anew") from error
        _same("setting", before, dict(run))
        own, first = _tensors(self.model)
        _same("tensor", _shapes(kept), _shapes(own))
        learned = self._learned(optimizer)
        _same("learned parameter", dict.fromkeys(state, "learned"), dict.fromkeys(learned, "learned"))
        _same("generator", dict.fromkeys(told["random"]["own"], "kept"), dict.fromkeys(self.generators, "kept"))

        self.model.load_state_dict({name: kept[one] for name, one in first.items()})
        for name, parameter in learned.items():
            optimizer.state[parameter] = state[name]
        for group, options in zip(optimizer.param_groups, groups, strict=True):
            group.update(options)
        if self.cursor is not None:
            self.cursor.load_state_dict(cursor)
        self._restore_random(told["random"])
        return told["losses"], told["ended"]

    def _learned(self, optimizer: Optimizer) -> dict[str, Parameter]:
        """What the optimizer learns, by its name in the model."""
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if strange := [tuple(parameter.shape) for parameter in learned if id(parameter) not in names]:
            raise InvalidInput(f"model lacks learned parameters of shapes {strange[:4]}: give one that holds them all")
        return {names[id(parameter)]: parameter for parameter in learned}

    def _random(self) -> dict[str, Any]:
        torch = require("torch", "training")
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        return {
            "torch": _hex(torch.get_rng_state()),
            "cuda": [_hex(state) for state in cuda],
            "own": {
                name: packed(generator.bit_generator.state, name, {})
                if isinstance(generator, np.random.Generator)
                else _hex(generator.get_state())
                for name, generator in self.generators.items()
            },
        }

    def _restore_random(self, states: Mapping[str, Any]) -> None:
        torch = require("torch", "training")
        torch.set_rng_state(_bytes(states["torch"]))
        if states["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([_bytes(state) for state in states["cuda"]])
        for name, generator in self.generators.items():
            if isinstance(generator, np.random.Generator):
                generator.bit_generator.state = unpacked(states["own"][name], {})
            else:
                generator.set_state(_bytes(states["own"][name]))

    @contextmanager
    def _replacing(self, step: int) -> Iterator[Path]:
        """A new folder to write into, which then becomes the checkpoint of ``step``, and the only one."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_UNFINISHED}*"):  # of a run that was killed while it wrote or removed
            shutil.rmtree(left)
        older = list(folder.glob(f"{_DONE}*"))
        work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        try:
            yield work
            for path in (*work.iterdir(), work):
                _sync(path)
            work.rename(folder / f"{_DONE}{step:08d}")
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        _sync(folder)
        for path in older:
            hidden = path.rename(folder / f"{_UNFINISHED}{path.name}")  # half of a checkpoint must not look like one
            shutil.rmtree(hidden)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except (OSError, require("safetensors", "writing checkpoints").SafetensorError) as error:
            raise StoreUnavailable(
                f"cannot write the checkpoint {os.fspath(self.folder)!r}: {error}; check rights and free space"
            ) from error


def _tensors(model: Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to keep by name, each once, and for every name of the model the one its tensor is kept by."""
    torch = require("torch", "training")
    kept: dict[str, Tensor] = {}
    first: dict[str, str] = {}
    seen: dict[int, str] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            raise InvalidInput(f"model keeps {name!r}, a {type(tensor).__name__}: only tensors can be written")
        first[name] = seen.setdefault(id(tensor), name)
        kept[first[name]] = tensor.detach()
    return kept, first


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{tuple(tensor.shape)} {tensor.dtype}" for name, tensor in tensors.items()}


def _same(what: str, kept: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ``InvalidInput`` naming the first entries that differ, with both values."""
    names = dict.fromkeys((*given, *kept))
    wrong = [
        f"{name} was {kept.get(name, 'absent')}, is {given.get(name, 'absent')}"
        for name in names
        if name not in kept or name not in given or kept[name] != given[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise InvalidInput(
            f"the checkpoint is of another run: {what} {'; '.join(wrong[:4])}{more}. Give what it was written with, "
            "or another folder"
        )


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of each group, which some optimizers count their steps in."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def _hex(state: Tensor) -> str:
    return bytes(state.tolist()).hex()


def _bytes(state: str) -> Tensor:
    torch = require("torch", "training")
    found: Tensor = torch.tensor(list(bytes.fromhex(state)), dtype=torch.uint8)
    return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
