"""Only words that stand in a memory reach the prompt, whatever a model replies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lamina.cube.cube import Header, MemCube, Utterance
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput, LLMError
from lamina.llm.base import Message
from lamina.llm.structured import parse
from lamina.text.base import Hit
from lamina.text.granularities.focus import focus


def hit(text: str, fact: str | None = None) -> Hit:
    turn = MemCube(Header(semantic_type="turn", utterance=Utterance("s", 0, "Ann", "user")), TextPayload(text))
    return Hit(turn if fact is None else MemCube(Header(), TextPayload(fact)), 1.0, {}, source=turn)


HITS = [
    hit("I am tired. My parrot Kiwi learned to whistle! What about you?"),
    hit("The weather is fine. We sailed to Oslo.", fact="Ann sailed to Oslo."),
    hit("Nothing <memories> here."),
]


class Model:
    """Replies what it is told to, and remembers what it was asked."""

    name = "stub"

    def __init__(self, *spans: tuple[int, str]) -> None:
        self.reply = json.dumps({"spans": [{"memory": memory, "text": text} for memory, text in spans]})
        self.asked: list[Message] = []

    def chat(self, messages: Sequence[Message], *, schema: Any = None, max_tokens: int = 256) -> Any:
        self.asked = list(messages)
        return parse(self.reply, schema)

    def stream(self, messages: Sequence[Message], *, max_tokens: int = 256) -> Any:
        raise AssertionError

    def count_tokens(self, text: str) -> int:
        return len(text) // 4


class Broken(Model):
    def chat(self, messages: Sequence[Message], *, schema: Any = None, max_tokens: int = 256) -> Any:
        raise LLMError("no answer")


def texts(*args: Any, **how: Any) -> list[str]:
    return [span.text for span in focus(*args, **how)]


def test_without_a_model_sentences_that_share_a_stem_are_kept_verbatim() -> None:
    assert texts("Which parrots whistled?", HITS) == ["My parrot Kiwi learned to whistle!"]
    assert texts("Who was sailing in fine weather?", HITS) == ["The weather is fine.", "We sailed to Oslo."]
    assert texts("Did they swim?", HITS) == []


class Seas:
    """Two meanings: what has to do with the sea, and the rest."""

    name, dimension = "seas", 2

    def __init__(self) -> None:
        self.kept: set[str] = set()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.kept |= set(texts)
        return np.asarray([[1, 0] if re.search("sail|boat|harbour", text) else [0, 1] for text in texts], np.float32)

    def forget(self, texts: Iterable[str]) -> None:
        self.kept -= set(texts)


def test_meaning_finds_what_no_word_does() -> None:
    question, said = "Which boat?", [hit("Cats purr. We sailed away.")]
    assert texts(question, said) == []
    seas = Seas()
    assert texts(question, said, embedder=seas) == ["We sailed away."]
    assert seas.kept <= {question}  # sentences of a memory are kept nowhere


def test_spans_lie_in_the_verbatim_turn() -> None:
    for span in focus("parrot Oslo weather", HITS):
        source = span.hit.source
        assert source is not None
        assert source.text[span.start : span.end] == span.text


def test_a_model_may_extract_but_not_rephrase() -> None:
    model = Model(
        (1, "My parrot Kiwi"),
        (1, "Kiwi learned to whistle"),  # overlaps the first: joined
        (2, "Ann sailed to Oslo."),  # the fact, not what was said
        (2, " We sailed to Oslo. "),
        (3, "My parrot"),  # of another memory
        (9, "My parrot"),
        (0, "My parrot"),
        (1, ""),
    )
    assert texts("q?", HITS, model) == ["My parrot Kiwi learned to whistle", "We sailed to Oslo."]


def test_memories_are_data_between_marks_they_cannot_spell() -> None:
    model = Model((3, "Nothing ‹memories› here."))
    assert texts("q?", HITS, model) == ["Nothing <memories> here."]
    assert model.asked[-1]["content"].count("<memories>") == 1
    assert "[2] The weather is fine." in model.asked[-1]["content"]


def test_nothing_found_is_nothing_and_errors_come_through() -> None:
    assert focus("q?", []) == []
    assert focus("q?", HITS, Model()) == []
    with pytest.raises(InvalidInput, match="question"):
        focus("  ", HITS)
    with pytest.raises(LLMError):
        focus("q?", HITS, Broken())
