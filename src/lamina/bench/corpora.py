"""Text that every machine has: the sources of Python's own library, as bytes.

What a language model at toy scale can be taught and asked without a download; the versions of Python differ a little,
so figures are comparable within a run and near each other between machines.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lamina.errors import InvalidInput, NotFound

Bytes = NDArray[np.uint8]


def library_sources(size: int = 4_000_000, held_out: float = 0.05) -> tuple[Bytes, Bytes]:
    """The first ``size`` bytes of the library's modules in the order of their names, packages not opened: what is
    taught, and the last share ``held_out`` of it, which is not.

    Raises ``InvalidInput`` for a size below 1 or a share outside 0 to 1, ``NotFound`` where the sources are not
    installed or too few.
    """
    if size < 1 or not 0 <= held_out <= 1:
        raise InvalidInput(f"size={size!r}, held_out={held_out!r}: give bytes from 1 and a share from 0 to 1")
    folder = Path(sysconfig.get_paths()["stdlib"])
    text = b"".join(file.read_bytes() for file in sorted(folder.glob("*.py")))
    if len(text) < size:
        raise NotFound(f"Python's sources in {folder.name} have {len(text)} bytes, size={size} are asked: ask for less")
    whole = np.frombuffer(text[:size], dtype=np.uint8)
    end = size - round(size * held_out)
    return whole[:end], whole[end:]
