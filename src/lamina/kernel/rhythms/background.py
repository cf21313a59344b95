"""Background: work that is done again and again in a thread of its own, until a block ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lamina.errors import LaminaError

logger = logging.getLogger("lamina.kernel")


@contextmanager
def repeated(work: Callable[[], object], interval: float) -> Iterator[None]:
    """Do ``work`` every ``interval`` seconds. What goes wrong with memories, the model (torch finds no room:
    ``RuntimeError``) or the machine is logged, since the next time may do better; any other fault ends the work."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(interval):
            try:
                work()
            except (LaminaError, RuntimeError, OSError, MemoryError) as error:
                logger.warning("a tick failed: %s", error)

    thread = threading.Thread(target=run, name="lamina-memos", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
