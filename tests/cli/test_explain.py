"""``lamina explain``: where a memory is and why, without the model that would use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lamina.llm.causal import CausalLM


def test_a_memory_is_explained_with_its_words_and_without_a_model(
    value: Callable[..., Any], lamina: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> CausalLM:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(CausalLM, "load", load)
    id = value("add", "I row on Sundays.", "--no-infer")["results"][0]["id"]
    told = value("explain", id)
    assert (told["id"], told["tier"], told["text"], told["decisions"]) == (id, "text", "I row on Sundays.", [])
    assert "I row on Sundays." in lamina("explain", id).stdout
    assert lamina("explain", "nobody").exit_code == 1
