"""Every endpoint, asked for what is another tenant's: the answer of what never was, at the same work; both stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from foreign import CASES, RESOURCES, SECRET, TOOLS, USER, Case, Tenants, Work
from live_server import serving
from transformers import LlamaConfig, LlamaForCausalLM

from lamina import Memory
from lamina.llm.base import Embedder
from lamina.llm.causal import CausalLM
from lamina.server import mcp_tools
from lamina.server.app import create_app
from lamina.server.service import Service

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, minilm: Embedder
) -> Iterator[tuple[FastAPI, Tenants]]:
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    place = server.new_database() if server else tmp_path_factory.mktemp("every") / "m.db"
    tokenizer = CausalLM.load().tokenizer
    shape = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2
    )
    model = CausalLM(LlamaForCausalLM(shape).eval(), tokenizer, "tiny")  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patched:
        work = Work(patched)
        patched.setattr(Service, "_upkeep", lambda _: None)  # what others write changes what a request has to read
        with Memory(place, embedder=minilm) as memory:
            service = Service(memory, model=model)
            app = create_app(service)
            with serving(app) as url:
                yield app, Tenants(url, service, memory, work)


@pytest.fixture
def app(house: tuple[FastAPI, Tenants]) -> FastAPI:
    return house[0]


@pytest.fixture
def tenants(house: tuple[FastAPI, Tenants]) -> Iterator[Tenants]:
    yield house[1]
    assert house[1].state() == house[1].before  # whatever was asked, acme has what it had


def _hold(tenants: Tenants, case: Case) -> None:
    """``case`` about all that acme has answers as about what never was."""
    client = tenants.newcomer() if case.writes else tenants.umbrella
    nobody = tenants.made_up()
    for names in (nobody, *([] if case.writes else [tenants.real(tenants.ids["open"])])):
        tenants.ask(client, case, names)  # the first opens what later ones find open: an index of each user's memories
    for state, id in tenants.ids.items() if case.names("id") else [("open", tenants.ids["open"])]:
        real, work = tenants.ask(client, case, tenants.real(id))
        known = {} if case.writes else {"user": nobody["user"]}
        never, same = tenants.ask(client, case, tenants.made_up() | known)
        assert real == never, state
        assert real[0] == (case.there or 404), real  # type: ignore[index]
        assert case.writes or work == same, (state, len(work), len(same))
        assert SECRET[20:40] not in str(real) and (case.writes or "Words of acme" not in str(real))
        assert USER not in str(real)


OPERATIONS = [pytest.param(case, id=f"{verb} {path} {n}") for (verb, path), cases in CASES.items()
              for n, case in enumerate(cases)]  # fmt: skip


def test_no_endpoint_and_no_tool_is_left_out(app: FastAPI) -> None:
    there = {(verb.upper(), path) for path, verbs in app.openapi()["paths"].items() for verb in verbs}
    assert there == set(CASES) and all(CASES.values())
    assert set(mcp_tools.TOOLS) == set(TOOLS)


@pytest.mark.parametrize("case", OPERATIONS)
def test_what_is_anothers_is_what_never_was(tenants: Tenants, case: Case) -> None:
    _hold(tenants, case)


@pytest.mark.parametrize("case", [case for cases in TOOLS.values() for case in cases] + RESOURCES)
def test_over_mcp_too(tenants: Tenants, case: Case) -> None:
    _hold(tenants, case)


def test_the_same_key_and_words_are_written_by_each(tenants: Tenants) -> None:
    """An idempotency key of another tenant neither finds its memory nor stands in the way."""
    body = {"messages": "Words of acme.", "user_id": USER, "infer": False}
    headers = {"Idempotency-Key": tenants.once}
    newcomer = tenants.newcomer()
    theirs, ours, again = (
        client.post("/memories", json=body, headers=headers).json()["results"][0]["id"]
        for client in (tenants.acme, newcomer, newcomer)
    )
    assert theirs != ours == again
    other = newcomer.post("/memories", json=body | {"messages": "Ours."}, headers=headers)
    assert other.status_code == 409


def test_a_tenant_sees_its_own_keys_alone(tenants: Tenants) -> None:
    assert tenants.key.id not in tenants.umbrella.get("/keys").text
    assert tenants.key.id in tenants.acme.get("/keys").text
