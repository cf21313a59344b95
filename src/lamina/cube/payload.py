"""What a memory contains: text, or named tensors with the fingerprint of the model they belong to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol


class Payload(Protocol):
    @property
    def nbytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    def as_text(self) -> str: ...


@dataclass(frozen=True, slots=True)
class TextPayload:
    text: str

    @property
    def nbytes(self) -> int:
        return len(self.text.encode())

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def as_text(self) -> str:
        return self.text
