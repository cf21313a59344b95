"""What the files beside HMT need to know of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from lamina.cube.payload import Fingerprint


class Owner(Protocol):
    """What a state belongs to: ``prompt (d,)`` has the width, dtype and device of memories."""

    @property
    def prompt(self) -> Tensor: ...
    @property
    def vocabulary(self) -> int: ...
    @property
    def fingerprint(self) -> Fingerprint: ...


class Sized(Protocol):
    """Weights and sizes, as ``HMT`` names them."""

    backbone: PreTrainedModel
    tokens: int
    sensory: int
    summarised: int
    recall: bool

    @property
    def prompt(self) -> Tensor: ...
    def state_dict(self) -> dict[str, Any]: ...
