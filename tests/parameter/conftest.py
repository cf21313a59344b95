"""Models of these tests: SmolLM2 is loaded once, and no test may leave a trace on it."""

from __future__ import annotations

import parameter_models
import pytest

from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters


@pytest.fixture(scope="session")
def smollm2() -> CausalLM:
    return CausalLM.load()


@pytest.fixture
def lm(smollm2: CausalLM) -> CausalLM:
    return parameter_models.tiny(smollm2.tokenizer)


@pytest.fixture
def adapters(lm: CausalLM) -> Adapters:
    return Adapters(lm)
