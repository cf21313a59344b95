"""The two factories, and what importing the room costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lamina.errors import InvalidInput, NotFound
from lamina.llm import chat_model, embedder


def test_specs_name_their_models():
    assert chat_model("local:smollm2").name == "local:smollm2"
    assert chat_model("openai:m", base_url="http://127.0.0.1:1/v1").name == "openai:m"
    assert embedder("minilm").name == embedder("local:minilm").name == embedder().name == "all-MiniLM-L6-v2"
    assert embedder("openai:m", base_url="http://127.0.0.1:1/v1").name == "openai:m"


@pytest.mark.parametrize("spec", ["", "smollm2", "local:", "ollama:llama3", ":x"])
def test_unknown_specs_list_what_is_allowed(spec):
    with pytest.raises(InvalidInput, match=r"local:smollm2.*openai:MODEL"):
        chat_model(spec)
    with pytest.raises(InvalidInput, match="minilm, local:PATH"):
        embedder(spec)


def test_wrong_combinations():
    with pytest.raises(InvalidInput, match="runs in this process"):
        chat_model("local:smollm2", base_url="http://127.0.0.1:1/v1")
    chat_model("local:smollm2", api_key="for another model")
    with pytest.raises(NotFound):
        embedder("local:/no/such/folder")


@pytest.mark.parametrize("module", ["lamina.llm", "lamina.zoo", "lamina.zoo.models"])
def test_importing_loads_no_heavy_package(module):
    heavy = {"torch", "transformers", "openai", "tokenizers"}
    code = f"import {module}, sys; print(sorted(sys.modules.keys() & {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
