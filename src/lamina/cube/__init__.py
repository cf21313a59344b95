"""What a memory is: the MemCube, its payloads, its file, and how cubes merge."""

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Provenance, Scope, Source, State, Usage, Utterance
from lamina.cube.payload import TextPayload

__all__ = [
    "Claim",
    "Header",
    "Lineage",
    "MemCube",
    "Provenance",
    "Scope",
    "Source",
    "State",
    "TextPayload",
    "Usage",
    "Utterance",
]
