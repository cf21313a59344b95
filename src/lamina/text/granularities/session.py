"""What MemGAS remembers: a session, and the texts its granularities are made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Session:
    """Utterances in order, each as ``[speaker]: text``.

    ``summary`` and ``keywords`` are written by whoever can, else extracted. ``turns`` (t, d) are vectors of its turns
    where they are known already, else those of ``pairs`` are computed. Raises ``InvalidInput`` for a string where
    strings belong.
    """

    id: str
    utterances: tuple[str, ...]
    summary: str | None = None
    keywords: tuple[str, ...] | None = None
    turns: NDArray[np.float32] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, value in (("utterances", self.utterances), ("keywords", self.keywords)):
            if isinstance(value, str):
                raise InvalidInput(f"{name}={value!r:.60} is one string: pass a tuple of them")

    @property
    def text(self) -> str:
        """The whole session, one utterance a line."""
        return "\n".join(self.utterances)

    @property
    def pairs(self) -> list[str]:
        """Turns as MemGAS has them: two consecutive utterances together; the last may be alone."""
        return ["\n".join(self.utterances[at : at + 2]) for at in range(0, len(self.utterances), 2)]
