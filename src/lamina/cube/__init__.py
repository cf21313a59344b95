"""What a memory is: the MemCube, its payloads, its file, and how cubes merge."""

from lamina.cube.cube import Claim, Header, Lineage, MemCube, Policy, Provenance, Scope, Source, State, Usage, Utterance
from lamina.cube.file import dumps, loads, read, write
from lamina.cube.merge import CubeDiff, diff, fuse, split
from lamina.cube.payload import Fingerprint, Payload, TensorPayload, TextPayload
from lamina.cube.tensor import TensorView

__all__ = [
    "Claim",
    "CubeDiff",
    "Fingerprint",
    "Header",
    "Lineage",
    "MemCube",
    "Payload",
    "Policy",
    "Provenance",
    "Scope",
    "Source",
    "State",
    "TensorPayload",
    "TensorView",
    "TextPayload",
    "Usage",
    "Utterance",
    "diff",
    "dumps",
    "fuse",
    "loads",
    "read",
    "split",
    "write",
]
