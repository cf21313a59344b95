"""Does a loaded KV cube still mean to the model what it meant when it was made?

A cube carries its own test: its last 8 tokens and the logits after them. They are read again over the stored keys and
values of what comes before, and must give the stored logits, and the keys and values stored for themselves. That
notices what no checksum can: another rotation, another order of heads, another arithmetic, ids that belong to another
text. It costs one forward of 8 tokens, and 4 bytes a word of the vocabulary.

Errors are relative: logits to their standard deviation, keys and values to the largest of their layer. The tolerances
are some five to ten times what SmolLM2-135M shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamina.activation.prefill import attached, read, taken
from lamina.errors import CorruptCube

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.activation.prefill import Prefix
    from lamina.activation.storage import Form
    from lamina.llm.causal import CausalLM

TAIL = 8
"""Tokens that are read again; all, if there are fewer."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Largest differences: of ``logits`` in their standard deviations, of ``state`` (keys and values of the tail)
    in the largest element of their layer."""

    logits: float
    state: float


TOLERANCE: dict[Form, Deviation] = {
    "float32": Deviation(1e-3, 1e-3),
    "bfloat16": Deviation(0.1, 0.04),
    "int8": Deviation(0.3, 0.1),
}


def deviation(lm: CausalLM, cube: Prefix) -> Deviation:
    """One forward of the cube's last tokens. Raises ``FingerprintMismatch`` for another model."""
    cube.fingerprint.check(lm.fingerprint)
    start = max(0, len(cube.ids) - TAIL)
    cache = attached(lm, cube.keys, cube.values, slice(start))
    grown, logits = read(lm, cache, cube.ids[start:])
    keys, values = taken(grown)
    pairs = [*zip(cube.keys, keys, strict=True), *zip(cube.values, values, strict=True)]
    state = max(_relative(stored[:, start:], again[:, start:]) for stored, again in pairs)
    return Deviation(float((logits - cube.logits).abs().max() / cube.logits.std()), state)


def check(lm: CausalLM, cube: Prefix, form: Form) -> None:
    """Raise ``CorruptCube``, with what was measured, if ``cube`` deviates by more than ``TOLERANCE[form]``; what a
    model of 16 bits computes is held to no less than what 16 bits hold."""
    sixteen = lm.model.dtype.itemsize == 2
    found, allowed = deviation(lm, cube), TOLERANCE["bfloat16" if sixteen and form == "float32" else form]
    if not (found.logits <= allowed.logits and found.state <= allowed.state):  # NaN fails
        raise CorruptCube(
            f"the self-test of the cube failed: its last tokens, read again, deviate by {found.logits:.2g} in logits "
            f"and {found.state:.2g} in keys and values; {allowed.logits:g} and {allowed.state:g} are allowed for "
            f"{form}. Build the cube again from its text"
        )


def _relative(stored: Tensor, again: Tensor) -> float:
    return float((stored - again).abs().max() / again.abs().max())
