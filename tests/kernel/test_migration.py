"""Each move says what it cost and how much arrived; what arrives broken or too late leaves a row in the log only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from memos_systems import BYTES_PER_TOKEN, system, tell, tiny

from lamina import MemOS
from lamina.activation.cache import KVCube
from lamina.activation.prefix import render
from lamina.cube.cube import Header, MemCube, Scope
from lamina.cube.payload import TensorPayload
from lamina.errors import FingerprintMismatch, InvalidInput, NotFound
from lamina.kernel.migration import Migrator
from lamina.parameter.recall import Gate
from lamina.store.base import Write
from lamina.text.decisions import QUARANTINED

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
FACTS = ["Marta Quillfeather lives in Brindlemouth.", "Pavel Drost is allergic to hazelnuts."]


@pytest.fixture
def os(tmp_path: Path) -> Iterator[MemOS]:
    with system(tmp_path / "m.db", tiny()) as made:
        yield made


@pytest.fixture
def ids(os: MemOS) -> list[str]:
    return [tell(os, fact) for fact in FACTS]


def derived(os: MemOS) -> list[str]:
    return [cube.header.kind for cube in os.store.query(ANN).cubes if cube.header.kind != "text"]


def test_text_becomes_a_cache_with_lineage_and_figures(os: MemOS, ids: list[str]) -> None:
    migrator = os.tiers.migrator
    sizes = {"float32": 1.0, "bfloat16": 0.5, "int8": (16 + 8) / 64}
    for form in ("float32", "bfloat16", "int8"):
        moved = migrator.to_activation(ids, form=form)  # type: ignore[arg-type]
        assert moved.cube is not None and moved.cube.header.lineage.derived_from == tuple((id, 1) for id in ids)
        prefix = render(os.tiers.lm, FACTS)
        assert moved.tokens == len(prefix) and moved.reason == "" and moved.fidelity >= 0.99
        beside = 4 * len(prefix) + 4 * 49152  # ids, logits
        assert moved.nbytes - beside == pytest.approx(sizes[form] * BYTES_PER_TOKEN * len(prefix))
        loaded = migrator.cache(moved.cube.id)
        exact = KVCube.build(os.tiers.lm, prefix)
        if form == "float32":
            assert moved.fidelity == pytest.approx(1, abs=1e-6)
            for kept, true in zip((*loaded.keys, *loaded.values), (*exact.keys, *exact.values), strict=True):
                torch.testing.assert_close(kept, true, rtol=0, atol=1e-5)
    rows = [event for event in os.log(ids[0]) if event.action == "promote"]
    assert len(rows) == 3 and rows[0].details["tokens"] == moved.tokens and FACTS[0] not in str(rows)
    assert migrator.sources(moved.cube.id) == [os.store.get(id) for id in ids]


def test_low_fidelity_leaves_only_a_row_of_the_log(os: MemOS, ids: list[str]) -> None:
    moved = os.tiers.migrator.to_activation(ids, form="int8", threshold=1.01)
    assert moved.cube is None and "under 1.01" in moved.reason and derived(os) == []
    assert [event.action for event in os.log(ids[0])][-1] == "refuse"
    assert "was refused as prefill" in os.explain(ids[0]).decisions[0]


def test_an_adapter_that_knows_too_little_is_not_kept(os: MemOS, ids: list[str]) -> None:
    moved = os.tiers.migrator.to_parameter(ids, steps=1)
    assert moved.cube is None and moved.reason and derived(os) == []
    assert [event.action for event in os.log(ids[0])][-1] == "refuse"
    assert os.tiers.migrator.adapters.names == []


def test_a_text_that_changes_meanwhile_is_not_what_was_moved(
    os: MemOS, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    anything = Migrator(os.store, os.tiers.lm, gate=Gate(fidelity=-1e9, guard=1e9, spoken=0.0))

    towns = iter(("Dunsmoor", "Ostrava"))

    def meanwhile(*_: object) -> None:
        os.update(ids[0], f"Marta Quillfeather lives in {next(towns)}.")

    with pytest.raises(InvalidInput, match="changed while it was moved") as stale:
        anything.to_parameter(ids, steps=1, progress=meanwhile)
    assert stale.value.code == "STALE" and derived(os) == [] and anything.adapters.names == []
    agreement = Migrator._agreement
    monkeypatch.setattr(Migrator, "_agreement", lambda *args: (meanwhile(), agreement(*args))[1])
    with pytest.raises(InvalidInput, match="changed while it was moved"):
        anything.to_activation(ids)
    assert derived(os) == []


def test_a_form_of_an_old_version_is_not_loaded(os: MemOS, ids: list[str]) -> None:
    migrator = os.tiers.migrator
    moved = migrator.to_activation(ids)
    assert moved.cube is not None
    os.update(ids[1], "Pavel Drost is allergic to cashews.")
    with pytest.raises(InvalidInput, match=r"no longer current|no open activation"):
        migrator.cache(moved.cube.id)
    assert [one.text for one in migrator.sources(moved.cube.id)] == FACTS
    os.forget(ids[1])
    with pytest.raises(NotFound):
        migrator.cache(moved.cube.id)
    with pytest.raises(NotFound):
        migrator.sources(moved.cube.id)


def test_another_model_refuses_the_form(os: MemOS, ids: list[str]) -> None:
    moved = os.tiers.migrator.to_activation(ids)
    assert moved.cube is not None
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        Migrator(os.store, tiny(seed=1)).cache(moved.cube.id)


def test_memories_of_two_people_never_share_a_form(os: MemOS, ids: list[str]) -> None:
    other = tell(os, FACTS[0], "bob")
    for move in (os.tiers.migrator.to_activation, os.tiers.migrator.to_parameter):
        with pytest.raises(InvalidInput, match="one scope"):
            move([ids[0], other])
        with pytest.raises(InvalidInput):
            move([])
        with pytest.raises(NotFound):
            move(["none"])
    runs = [tell(os, fact, run_id=run) for fact, run in zip(FACTS, ("one", "two"), strict=True)]
    moved = os.tiers.migrator.to_activation(runs)
    assert moved.cube is not None and moved.cube.header.scope == ANN, "a person's runs may"


def test_a_form_takes_the_strictest_rules_of_its_texts(os: MemOS, ids: list[str]) -> None:
    dated = tell(os, "The meeting with Marta is at noon.", expiration_date="2090-01-01")
    moved = os.tiers.migrator.to_activation([*ids, dated])
    assert moved.cube is not None and moved.cube.header.access == ("activation",)
    assert moved.cube.header.expires == os.store.get(dated).header.expires is not None  # type: ignore[union-attr]


def test_what_an_adapter_says_by_itself_waits_for_acceptance(os: MemOS) -> None:
    from lamina.parameter.distillation import fresh

    lora = fresh(os.tiers.lm, ("q_proj",), 2, 4.0, torch.Generator().manual_seed(0))
    payload: TensorPayload = lora.to_payload(os.tiers.lm.fingerprint)
    adapter = MemCube(Header(scope=ANN, kind="parameter", access=("parameter",)), payload)
    with os.store.transaction() as tx:
        tx.insert([Write(adapter)])
    read = os.tiers.migrator.to_text(adapter.id, ["Where does Marta live?"], threshold=0.0)
    for cube in read:
        assert QUARANTINED in cube.header.tags and cube.header.trust == "import"
        assert cube.header.lineage.derived_from == ((adapter.id, 1),) and cube.header.metadata["confidence"] <= 1
    assert os.recall("Where does Marta live?", user_id="ann") == []
    with pytest.raises(NotFound):
        os.tiers.migrator.to_text(tell(os, FACTS[0]), ["?"])
