"""mem0 on ConvoMem's histories: the package with ``infer=False``, every message stored as said, the nearest read.

It quotes what it finds as Lamina's contexts do, in order of time. A history is stored once, message by message, and
asked under both settings: the ``TOP_K`` nearest, or as many as fit into the tokens that another answerer reads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from lamina.bench.conversations.convomem import START, Answerer, Ask, Read, Reply, TestCase, role
from lamina.bench.mem0_peer import open_mem0
from lamina.llm.base import Embedder, Message
from lamina.text.answering import day
from lamina.text.context_strategies import CountTokens, estimate_tokens, shown

TOP_K = 10  # turns for retrieval, Lamina's and mem0's, where no tokens are given
MOST = 200  # turns that are ranked where tokens decide how many are read


class Peers:
    """mem0 memories, one a case, each filled at its first use."""

    def __init__(self, folder: Path, stack: ExitStack, embedder: Embedder, count_tokens: CountTokens) -> None:
        self.count = count_tokens
        self._folder = folder
        self._stack = stack
        self._embedder = embedder
        self._filled: dict[int, tuple[TestCase, Any, list[str]]] = {}

    def of(self, case: TestCase) -> tuple[Any, list[str]]:
        """The memory of a case, and the line that quotes each of its messages, in order."""
        if id(case) not in self._filled:
            folder = self._folder / str(len(self._filled))
            folder.mkdir()
            peer = self._stack.enter_context(open_mem0(folder, self._embedder))
            # The case is kept beside its memory, because an id is only unique while its object lives.
            self._filled[id(case)] = case, peer, _fill(peer, case)
        return self._filled[id(case)][1:]


@contextmanager
def open_peers(embedder: Embedder, count_tokens: CountTokens = estimate_tokens) -> Iterator[Peers]:
    """Memories in a temporary folder, closed at the end."""
    with tempfile.TemporaryDirectory(prefix="lamina-mem0-") as folder, ExitStack() as stack:
        yield Peers(Path(folder), stack, embedder, count_tokens)


def mem0(peers: Peers, read: Read | None = None, *, like: Answerer | None = None) -> Answerer:
    """The ``TOP_K`` nearest are read, or with ``like`` the nearest that fit into as many tokens as it reads."""

    @contextmanager
    def opened(case: TestCase) -> Iterator[Ask]:
        peer, lines = peers.of(case)
        with like(case) if like else nullcontext() as other:

            def ask(question: str) -> Reply:
                rows = peer.search(question, filters={"user_id": "u"}, top_k=MOST if other else TOP_K)["results"]
                places = [row["metadata"]["place"] for row in rows]
                if other:
                    left = other(question).tokens - peers.count(_prompt("", question))
                    places = _fitting(places, lines, left, peers.count)
                text = _prompt("\n".join(lines[place] for place in sorted(set(places))), question)
                messages = (Message(role="user", content=text),)
                return Reply(text, peers.count(text), read(messages) if read else None, "mem0")

            yield ask

    return opened


def _prompt(body: str, question: str) -> str:
    return f"<memories>\n{body}\n</memories>\n\nQuestion: {question}"


def _fitting(places: Sequence[int], lines: Sequence[str], left: int, count_tokens: CountTokens) -> list[int]:
    """The best places whose lines fit."""
    kept = []
    for place in places:
        tokens = count_tokens(lines[place]) + 1
        if tokens <= left:
            kept.append(place)
            left -= tokens
    return kept


def _fill(peer: Any, case: TestCase) -> list[str]:
    """Add every message; its line, in order, is what a context quotes."""
    lines: list[str] = []
    for place, talk in enumerate(case.conversations):
        date = day(START + timedelta(days=place))
        for message in talk.messages:
            said = {"role": role(message.speaker), "content": message.text}
            peer.add([said], user_id="u", metadata={"place": len(lines)}, infer=False)
            lines.append(f'{message.speaker}, {date}: "{shown(message.text)}"')
    return lines
