"""Imports a long chat through a pipeline, as ``lamina import`` does. Run by test_pipelines.py, which may kill it.

Usage: import_chat.py DATABASE PIPELINE MESSAGES. Prints one line a chunk: messages stored, peak memory in KiB.
"""

from __future__ import annotations

import json
import resource
import sys
from datetime import UTC, datetime, timedelta

from lamina.bench.synthetic import Chatter, WordVectors
from lamina.cube.cube import Scope
from lamina.memory import Memory
from lamina.settings import Settings
from lamina.text import chat_logs

START = datetime(2024, 1, 1, tzinfo=UTC)
CHUNK = 50
SCOPE = Scope("default", user="mira")


def chat(count: int) -> str:
    """Messages of two named people, forty a session, one session a day."""
    texts = Chatter(7, names=60, things=400, places=40).messages(count)
    messages = [
        {
            "role": "user",
            "name": ("Mira", "Jon")[number % 2],
            "content": text,
            "timestamp": (START + timedelta(days=number // 40, minutes=number % 40)).isoformat(),
        }
        for number, text in enumerate(texts)
    ]
    return json.dumps(messages)


def main(database: str, pipeline: str, count: int) -> None:
    settings = Settings(tenant="default", pipeline=pipeline)
    with Memory(database, embedder=WordVectors(), settings=settings) as memory:
        said = chat_logs.read_chat(chat(count), default=START, user="mira")
        known = chat_logs.known_turns(memory.store, SCOPE)
        new = [item for item in said if item.fingerprint not in known]
        stored = len(said) - len(new)
        for group in chat_logs.sessions(new, longest=CHUNK):
            memory.add_batch([{"messages": [item.message() for item in group], "user_id": "mira"}])
            stored += len(group)
            print(stored, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)  # noqa: T201 - read by the test


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
