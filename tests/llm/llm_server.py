"""The scripted server, under the name the tests of this room import it by."""

from __future__ import annotations

from lamina.bench.scripted_llm import Server, Step, failed, said, scripted, streamed

__all__ = ["Server", "Step", "failed", "said", "scripted", "streamed"]
