"""What the API says of itself, held against it: random requests of its own schema, with keys and without, over a file
and over a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from transformers import LlamaConfig, LlamaForCausalLM

from lamina import Memory
from lamina.llm.base import Embedder
from lamina.llm.causal import CausalLM
from lamina.server.app import create_app
from lamina.server.failures import RESPONSES
from lamina.server.service import Service

pytestmark = pytest.mark.model
SLOW = "/v1/"  # asks another server: tests/server/test_completions.py
ENDLESS = "/jobs/{job_id}/events"
UNGUARDED = {"/health", "/ready"}


def _app(memory: Memory) -> FastAPI:
    tokenizer = CausalLM.load().tokenizer
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(shape).eval()  # type: ignore[no-untyped-call]
    return create_app(Service(memory, model=CausalLM(model, tokenizer, "tiny")))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def app(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, minilm: Embedder
) -> Iterator[FastAPI]:
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    place = server.new_database() if server else Path(tmp_path_factory.mktemp("openapi")) / "m.db"
    with Memory(place, embedder=minilm) as memory:
        yield _app(memory)


@pytest.fixture(scope="module")
def token(app: FastAPI) -> str:
    return str(app.state.service.keys.create("fuzz", "acme", ["admin"])[1])


CHECKS = [not_a_server_error, response_schema_conformance, content_type_conformance]


def _each(app: FastAPI, count: int, hold: Callable[[Case[Any]], None]) -> int:
    """``hold`` for ``count`` random requests of every operation; how many operations there are."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "localhost"})
    bounded = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    found = schema.exclude(path_regex=SLOW).exclude(path=ENDLESS).get_all_operations()
    operations = [one.ok() for one in found]  # type: ignore[union-attr]
    for operation in operations:
        bounded(given(operation.as_strategy())(hold))()
    return len(operations)


def test_no_request_breaks_it(app: FastAPI, token: str) -> None:
    def hold(case: Case[Any]) -> None:
        case.call_and_validate(headers={"Host": "localhost", "Authorization": f"Bearer {token}"}, checks=CHECKS)

    assert _each(app, 12, hold) > 20


def test_without_a_key_nothing_is_answered(app: FastAPI, token: str) -> None:
    assert token  # once there is a key, each request needs one

    def hold(case: Case[Any]) -> None:
        answer = case.call(headers={"Host": "localhost", "Authorization": "Bearer lk_wrong"})
        assert answer.status_code in ({200} if case.operation.path in UNGUARDED else {401, 422}), answer.text
        case.validate_response(answer, checks=CHECKS)

    _each(app, 2, hold)


def test_every_answer_and_body_is_described(app: FastAPI) -> None:
    told = app.openapi()
    for path, verbs in told["paths"].items():
        for verb in verbs.values():
            described = set(verb["responses"])
            assert path == "/health" or {str(status) for status in RESPONSES} <= described, path
    for name, model in told["components"]["schemas"].items():
        if name.endswith("Body"):
            wanted = [field for field in model.get("required", ()) if "const" not in model["properties"][field]]
            assert all("examples" in model["properties"][field] for field in wanted), name
