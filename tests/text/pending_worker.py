"""A process of its own: ``python pending_worker.py DB URL add TEXT...`` or ``... retry``. Prints what came back."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prompted_world import World


def main(path: str, url: str, verb: str, *texts: str) -> None:
    world = World(Path(path), url)
    print("ready", flush=True)  # noqa: T201
    if verb == "retry":
        sys.stdin.readline()  # all start together
        print(json.dumps(world.retry()), flush=True)  # noqa: T201
    else:
        world.say(*texts)


if __name__ == "__main__":
    main(*sys.argv[1:])
