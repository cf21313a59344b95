"""What one process kept, the next one serves with the same tokens; a kill in the middle loses and leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from memos_systems import ask, system, tell, tiny

from lamina.cube.cube import Scope
from lamina.kernel.tiering.decisions import Tier
from lamina.store.blobs import BlobStore

pytestmark = pytest.mark.model
ANN = Scope(user="ann")
FACTS = [
    "Ann is allergic to walnuts and to every other kind of nut.",
    "The boat of Ann is called Thistle and has red sails.",
    "Ann rows on Sundays with her brother from the old harbour.",
]
QUESTION = "What is Ann allergic to?"

# Tells what it did, line by line; hangs with the second bundle's tensors on the disk and its row not committed.
CHILD = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
from memos_systems import ask, system, tell, tiny
from test_saved import ANN, FACTS, QUESTION
from lamina.store.blobs import BlobStore

def hang(self, data, write=BlobStore.write):
    print(json.dumps({"blob": write(self, data)}), flush=True)
    time.sleep(60)

os = system(sys.argv[1], tiny())
ids = [tell(os, fact) for fact in FACTS]
os.promote(ids[:2], "activation")
first = os.tiers.save(ANN)
reply = ask(os, QUESTION, max_tokens=8)
print(json.dumps({"ids": ids, "saved": first.id, "text": reply.text, "reused": reply.reused}), flush=True)
BlobStore.write = hang
if sys.argv[3] == "save":
    os.promote(ids[2], "activation")
    os.tiers.save(ANN)
else:
    os.tiers.migrator.to_activation(ids)
"""


@pytest.mark.parametrize("during", ["save", "build"])
def test_killed_before_the_commit_and_served_by_the_next_process(tmp_path: Path, during: str) -> None:
    path, here = tmp_path / "m.db", str(Path(__file__).parent)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), here, during], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    told = json.loads(child.stdout.readline())
    orphan = json.loads(child.stdout.readline())["blob"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    blobs = BlobStore(path.with_name(f"{path.name}.blobs"))
    with system(path, tiny()) as os:
        assert os.store.verify() == []
        assert [os.store.get(id).text for id in told["ids"]] == FACTS  # type: ignore[union-attr]
        assert [cube.id for cube in os.store.query(ANN, {"kind": "activation"}).cubes] == [told["saved"]]
        reply = ask(os, QUESTION, max_tokens=8)
        assert (reply.text, reply.reused) == (told["text"], told["reused"]), "not read again, and the same tokens"
        assert os.tiers.residents.prefilled == 0
        assert [os.explain(id).tier for id in told["ids"]] == [Tier.ACTIVATION, Tier.ACTIVATION, Tier.TEXT]
        assert all(os.explain(id).pinned for id in told["ids"][:2]) and os.explain(told["ids"][0]).decisions
        assert orphan in set(blobs.addresses())
        os.demote(told["ids"][1])
        kept = os.tiers.save(ANN)
        assert kept is not None and len(set(blobs.addresses())) == 1 and orphan not in set(blobs.addresses())


def test_of_a_bundle_only_what_changed_and_what_stands_behind_it_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        ids = [tell(os, fact) for fact in FACTS]
        os.promote(ids, "activation")
        os.tiers.save(ANN)
        read = os.tiers.residents.prefilled
        os.update(ids[1], "The boat of Ann is called Nettle.")
    with system(path, tiny()) as os:
        used = {one.id: one.tier for one in ask(os, QUESTION).used}
        assert used[ids[0]] is used[ids[2]] is Tier.ACTIVATION and used.get(ids[1]) is not Tier.ACTIVATION
        assert 0 < os.tiers.residents.prefilled < read / 2, "what stands before it was not read again"
        assert "STALE_PARENT" in os.explain(ids[1]).decisions[0]
        assert all(os.explain(id).pinned for id in ids) and [one.cube for one in os.tick()] == [ids[1]]
        kept = os.tiers.save(ANN)
        assert kept is not None and dict(kept.header.lineage.derived_from) == {ids[0]: 1, ids[1]: 2, ids[2]: 1}


def test_forgetting_one_memory_leaves_the_others_wanted_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        ids = [tell(os, fact) for fact in FACTS]
        os.promote(ids, "activation")
        os.tiers.save(ANN)
        os.forget(ids[0])
    with system(path, tiny()) as os:
        assert [os.explain(id).pinned for id in ids[1:]] == [True, True]
        ask(os, QUESTION)
        assert {one.cube for one in os.tick()} == set(ids[1:]) and ask(os, QUESTION).reused > 0
        os.demote(ids[1])
    with system(path, tiny()) as os:
        assert [os.explain(id).pinned for id in ids[1:]] == [False, True]
        os.promote(ids[1], "activation")
        assert {one.id for one in ask(os, QUESTION).used} >= set(ids[1:]), "who waited for a place came along"


def test_promoting_in_a_second_process_keeps_what_the_first_one_promoted(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        ids = [tell(os, fact) for fact in FACTS]
        os.promote(ids[0], "activation")
        os.tiers.save(ANN)
    with system(path, tiny()) as os:
        os.promote(ids[1], "activation")
        os.tiers.save(ANN)
    with system(path, tiny()) as os:
        assert [os.explain(id).tier for id in ids] == [Tier.ACTIVATION, Tier.ACTIVATION, Tier.TEXT]
        assert ask(os, QUESTION).reused > 0 and os.tiers.residents.prefilled == 0
        assert [os.explain(id).tier for id in ids] == [Tier.ACTIVATION, Tier.ACTIVATION, Tier.TEXT]


def test_a_change_of_state_alone_leaves_a_saved_bundle_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        id = tell(os, FACTS[0])
        os.promote(id, "activation")
        os.tiers.save(ANN)
        os.freeze(id)
    with system(path, tiny()) as os:
        assert os.explain(id).tier is Tier.ACTIVATION and ask(os, QUESTION).tiers == (Tier.ACTIVATION,)
        assert os.tiers.residents.prefilled == 0 and os.tiers.save(ANN) is not None


def test_a_damaged_bundle_is_read_again_from_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        id = tell(os, FACTS[0])
        os.promote(id, "activation")
        os.tiers.save(ANN)
    (blob,) = [one for one in path.with_name(f"{path.name}.blobs").rglob("*") if one.is_file()]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 0xFF
    blob.chmod(0o600)
    blob.write_bytes(data)
    with system(path, tiny()) as os:
        assert ask(os, QUESTION).tiers == (Tier.TEXT,)
        os.promote(id, "activation")
        assert ask(os, QUESTION).tiers == (Tier.ACTIVATION,)


def test_saving_keeps_one_bundle_a_scope_and_forgetting_takes_it(tmp_path: Path) -> None:
    with system(tmp_path / "m.db", tiny()) as os:
        ids = [tell(os, fact) for fact in FACTS]
        other = tell(os, FACTS[0], "bob")
        os.promote([ids[0], other], "activation")
        kept = [os.tiers.save(Scope(user=user)) for user in ("ann", "bob")]
        os.promote(ids[1], "activation")
        again = os.tiers.save(ANN)
        assert None not in (*kept, again) and os.store.get(kept[0].id) is None  # type: ignore[union-attr]
        assert again.header.lineage.derived_from == ((ids[0], 1), (ids[1], 1))  # type: ignore[union-attr]
        assert again.id in os.forget(ids[1]).ids  # type: ignore[union-attr]
        assert [cube.id for cube in os.store.query(Scope(), {"kind": "activation"}).cubes] == [kept[1].id]  # type: ignore[union-attr]
        assert os.tiers.save(Scope(user="nobody")) is None


def test_there_is_no_room_for_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    with system(path, tiny()) as os:
        os.promote(tell(os, FACTS[0]), "activation")
        os.tiers.save(ANN)
    with system(path, tiny(), budget=1000) as os:
        assert ask(os, QUESTION).reused == 0 and os.tiers.residents.nbytes == 0
