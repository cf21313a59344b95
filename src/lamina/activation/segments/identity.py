"""What a memory state belongs to: the backbone, and the parameters and sizes of the HMT around it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lamina.cube.payload import Fingerprint

if TYPE_CHECKING:
    from lamina.activation.segments.wrapper import Sized


def fingerprint(hmt: Sized) -> Fingerprint:
    """Of the weights as they are now, all of which it reads. How many slots are kept is no matter of meaning."""
    own = {name: tensor for name, tensor in hmt.state_dict().items() if not name.startswith("backbone.")}
    sizes = "-".join(map(str, (hmt.tokens, hmt.sensory, hmt.summarised, "recall" if hmt.recall else "last")))
    return Fingerprint(
        architecture=f"HMT({type(hmt.backbone).__name__})",
        weights=f"{_digest(hmt.backbone.state_dict())}+hmt-{_digest(own)[:16]}-{sizes}",
        tokenizer="",
        dtype=str(hmt.prompt.dtype).removeprefix("torch."),
        rope=json.dumps(getattr(hmt.backbone.config, "rope_parameters", None), sort_keys=True, default=str),
    )


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
