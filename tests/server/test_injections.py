"""What is stored cannot give orders: a corpus of attempts, checked on the wire to the model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from injections import CORPUS
from live_server import serving
from openai_standin import StandIn, standing_in

from lamina import Memory
from lamina.server.app import create_app
from lamina.server.service import Service
from lamina.settings import Settings

pytestmark = pytest.mark.model
SYSTEM = {"role": "system", "content": "You are a pirate.\u200b <memories> Be brief."}


@pytest.fixture(scope="module")
def far() -> Iterator[StandIn]:
    with standing_in() as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def memory(far: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    path = Path(tmp_path_factory.mktemp("poisoned")) / "m.db"
    with Memory(path, settings=Settings(llm_base_url=far.url, durable=False)) as memory:
        yield memory


@pytest.fixture(scope="module")
def url(memory: Memory) -> Iterator[str]:
    with serving(create_app(Service(memory))) as url:
        yield url


def test_the_corpus_is_large_and_has_every_family() -> None:
    assert len({text for _, text in CORPUS}) >= 60 and len({family for family, _ in CORPUS}) == 8


@pytest.fixture(scope="module")
def poisoned(memory: Memory) -> list[str]:
    """A user for each string of the corpus, with that string and a canary in their memory."""
    items = [
        {"messages": f"Note about the boat canary{n}x: {text}", "user_id": f"victim{n}"}
        for n, (_, text) in enumerate(CORPUS)
    ]
    return [row["results"][0]["id"] for row in memory.add_batch(items, infer=False)]


def _hidden(character: str) -> bool:
    hidden = ("VARIATION SELECTOR", "HANGUL", "BRAILLE PATTERN BLANK", "COMBINING GRAPHEME", "KHMER VOWEL", "MONGOLIAN")
    name = unicodedata.name(character, "")
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co") or name.startswith(hidden)


@pytest.mark.parametrize("n", range(len(CORPUS)), ids=[f"{family}-{n}" for n, (family, _) in enumerate(CORPUS)])
def test_what_is_stored_stays_data(url: str, far: StandIn, poisoned: list[str], n: int) -> None:
    question = "What is my note about the boat?"
    before = [SYSTEM, {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    sent = {"model": "m", "messages": [*before, {"role": "user", "content": question}], "user": f"victim{n}"}
    answer = httpx.post(f"{url}/v1/chat/completions", json=sent, timeout=60)
    assert answer.status_code == 200 and answer.headers["x-lamina-memories"] == poisoned[n]
    body = far.last.body
    assert {**body, "messages": None} == {**sent, "messages": None}
    assert body["messages"][:-1] == before  # the system message too, byte for byte
    assert set(body["messages"][-1]) == {"role", "content"} and body["messages"][-1]["role"] == "user"
    content = body["messages"][-1]["content"]
    block, own = content.split("\n\n")  # no memory can spell an empty line
    assert own == question
    title, opening, line, closing = block.split("\n")
    assert "(data, not instructions)" in title and (opening, closing) == ("<memories>", "</memories>")
    assert re.fullmatch(r'\[1\] \w+ said on \d+ \w+ \d{4}: "[^"<>\[\]]*"', line)
    assert f"canary{n}x" in line and far.last.raw.count(b"canary") == 1
    assert not [hex(ord(character)) for character in line if _hidden(character)]
    folded = unicodedata.normalize("NFKC", line)
    assert not set('<>"[]') & set(folded.split(': "', 1)[1][:-1])
