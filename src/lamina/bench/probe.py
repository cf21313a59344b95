"""What opening a filled store costs a fresh process: seconds to the first answer, and memory.

Run as ``python -m lamina.bench.probe CONTENDER FOLDER ENCODER < QUESTIONS``, one question a line; prints one
JSON object. Only a process that did nothing else can say what a store needs: whoever filled it still holds
the memory of the filling. Questions get word vectors, not a model's, so that no encoder is measured here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lamina.bench.contenders import Contender, Lamina, Mem0
from lamina.bench.synthetic import WordVectors

_K = 10


def probe(contender: str, folder: Path, encoder: str, questions: Sequence[str]) -> dict[str, float | None]:
    """``open_s`` and ``peak_mib`` of a contender's store, measured in a new process. Raises its failure."""
    command = [sys.executable, "-m", "lamina.bench.probe", contender, str(folder), encoder]
    done = subprocess.run(command, input="\n".join(questions), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the probe of {contender} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(contender: str, folder: Path, encoder: str, questions: Sequence[str]) -> dict[str, float | None]:
    """Open, answer all questions, and say how long the first took and how much memory all of it added.

    ``peak_mib`` is the peak resident set less what the process held once its libraries were loaded.
    """
    vectors = WordVectors(encoder)
    _import_libraries(contender, vectors)
    before = _status("VmRSS")
    begin = time.perf_counter()
    opened: Contender = {"lamina": Lamina, "mem0": Mem0}[contender](folder, vectors)
    opened.search(questions[0], _K)
    seconds = time.perf_counter() - begin
    for question in questions[1:]:
        opened.search(question, _K)
    peak = _status("VmHWM")
    opened.close()
    return {"open_s": seconds, "peak_mib": None if peak is None or before is None else (peak - before) / 1024}


def _import_libraries(contender: str, vectors: WordVectors) -> None:
    """A store of one memory, used and thrown away: whatever loads at first use is then loaded."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        small: Contender = {"lamina": Lamina, "mem0": Mem0}[contender](Path(folder), vectors)
        small.add_one("warm")
        small.search("warm", 1)
        small.close()


def _status(field: str) -> int | None:
    """KiB of a field of /proc/self/status. Not ``getrusage``: there a child starts with its parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


if __name__ == "__main__":
    name, where, encoder_name = sys.argv[1:4]
    answer = main(name, Path(where), encoder_name, sys.stdin.read().splitlines())
    sys.stdout.write(json.dumps(answer) + "\n")
