"""The bank: what comes back is what went in, in every form; deletion; refusals; bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lamina.activation.documents.bank import SoftBank, compressed_by, source_id
from lamina.cube import Header, MemCube, file
from lamina.cube.cube import Lineage, Provenance, Source
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.errors import Conflict, FingerprintMismatch, InvalidInput, NotFound, StoreUnavailable
from lamina.store.base import Write
from lamina.store.sqlite import SqliteStore

MODEL = Fingerprint("LlamaForCausalLM", "weights", "tokenizer", "float32")
MADE = compressed_by(MODEL, "v1")


def _bank(fingerprint: Fingerprint = MADE) -> SoftBank:
    return SoftBank(fingerprint, tokens=2, width=3, key_dim=4)


def _header(source: str) -> Header:
    return Header(kind="activation", provenance=Provenance((Source(source, 0, 1),), "cmt"))


def _filled(count: int, seed: int = 0) -> SoftBank:
    generator = torch.Generator().manual_seed(seed)
    bank = _bank()
    memories, keys = torch.randn(count, 2, 3, generator=generator), torch.randn(count, 4, generator=generator)
    bank.append([_header(f"text{n // 2}") for n in range(count)], memories, keys)
    return bank


def _same(one: SoftBank, two: SoftBank) -> bool:
    places = range(len(one))
    return (
        one.headers == two.headers
        and torch.equal(one.keys, two.keys)
        and torch.equal(one.memories(places), two.memories(places))
    )


@given(st.integers(1, 6), st.integers(0, 99))
def test_cubes_make_the_same_bank_again(count: int, seed: int) -> None:
    bank, again = _filled(count, seed), _bank()
    again.extend(bank.cubes())
    assert _same(bank, again)
    assert [cube.id for cube in again.cubes()] == [header.id for header in bank.headers]


def test_numbers_are_kept_as_halves_and_bytes_are_two_a_number() -> None:
    bank = _bank()
    memories, keys = torch.randn(5, 2, 3), torch.randn(5, 4)
    bank.append([_header(str(n)) for n in range(5)], memories, keys)
    assert torch.equal(bank.memories([4, 0]), memories[[4, 0]].half().float())
    assert torch.equal(bank.keys, keys.half().float())
    assert bank.nbytes == 5 * 2 * (2 * 3 + 4)
    assert sum(cube.nbytes for cube in bank.cubes()) == bank.nbytes
    payload = bank.cubes()[0].payload
    assert isinstance(payload, TensorPayload)
    assert {view.dtype for view in payload.tensors.values()} == {"F16"}
    bank.remove("0")
    assert bank.nbytes == 4 * 2 * (2 * 3 + 4)


def test_removing_a_source_takes_all_its_memories_and_only_those() -> None:
    bank = _filled(6)
    ids = [header.id for header in bank.headers]
    kept = bank.memories([0, 1, 4, 5])
    assert bank.remove("text1") == ids[2:4]
    assert [header.id for header in bank.headers] == ids[:2] + ids[4:]
    assert torch.equal(bank.memories(range(4)), kept)
    assert bank.remove(ids[5]) == [ids[5]]
    for gone in ("text1", ids[5]):
        with pytest.raises(NotFound, match="neither a memory of this bank nor a text"):
            bank.remove(gone)
    with pytest.raises(NotFound):
        bank.cube(ids[2])


def test_it_is_saved_and_loaded_in_order_and_saving_again_drops_what_was_removed(tmp_path: Path) -> None:
    bank = _filled(5)
    bank.save(tmp_path / "bank")
    bank.remove("text0")
    bank.save(tmp_path / "bank")
    again = _bank()
    again.load(tmp_path / "bank")
    assert _same(bank, again)
    assert len(list((tmp_path / "bank").iterdir())) == 3 + 1
    for empty in (tmp_path / "elsewhere", tmp_path):
        with pytest.raises(NotFound, match=r"holds no bank\.cube"):
            again.load(empty)


@pytest.mark.parametrize("coded", [False, True])
def test_saving_that_is_interrupted_leaves_what_was_saved_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coded: bool
) -> None:
    old = _filled(5)
    old.save(tmp_path)
    new = _filled(5).compress(2) if coded else _filled(5)
    new.extend([] if coded else old.cubes()[2:])
    write, left = file.write, iter(range(4))

    def failing(cube: MemCube, path: Path) -> None:
        if next(left, None) is None:
            raise StoreUnavailable("the disk is full")
        write(cube, path)

    monkeypatch.setattr(file, "write", failing)
    with pytest.raises(StoreUnavailable):
        new.save(tmp_path)
    again = _bank()
    again.load(tmp_path)
    assert _same(again, old)
    monkeypatch.undo()
    new.save(tmp_path)
    again = _bank()
    again.load(tmp_path)
    assert _same(again, new)
    assert len(list(tmp_path.iterdir())) == len(new) + 1 + coded


def test_a_store_keeps_it_and_forgets_with_it(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "memory.db")
    bank, again = _filled(3), _bank()
    with store.transaction() as transaction:
        transaction.insert([Write(cube) for cube in bank.cubes()])
    read = [store.get(header.id) for header in bank.headers]
    again.extend(cube for cube in read if cube is not None)
    assert _same(bank, again)
    with store.transaction() as transaction:
        transaction.forget([bank.headers[0].id])
    assert store.get(bank.headers[0].id) is None
    store.close()


def test_memories_of_another_model_or_compressor_are_refused_saying_which() -> None:
    bank = _filled(2)
    other_compressor = _bank(compressed_by(MODEL, "v2"))
    with pytest.raises(FingerprintMismatch, match=r"written by compressor v1, this is v2.*from their text"):
        other_compressor.extend(bank.cubes())
    other_model = _bank(compressed_by(replace(MODEL, weights="others"), "v1"))
    with pytest.raises(FingerprintMismatch, match="belongs to another model: weights differ"):
        other_model.extend(bank.cubes())
    with pytest.raises(FingerprintMismatch, match="tokenizer differ"):
        _bank(replace(MADE, tokenizer="other")).extend(bank.cubes())
    assert len(other_compressor) == len(other_model) == 0


def test_what_is_no_memory_is_refused_and_nothing_is_taken() -> None:
    bank = _filled(2)
    with pytest.raises(InvalidInput, match="holds no soft memory"):
        bank.extend([bank.cubes()[0], MemCube(Header(), TextPayload("hello"))])
    with pytest.raises(Conflict, match="in the bank already"):
        bank.extend(bank.cubes())
    header = _header("x")
    with pytest.raises(Conflict, match="in the bank already"):
        bank.append([header, header], torch.zeros(2, 2, 3), torch.zeros(2, 4))
    with pytest.raises(InvalidInput, match="shapes"):
        bank.append([header], torch.zeros(1, 2, 4), torch.zeros(1, 4))
    for memories, keys in ((torch.full((1, 2, 3), 1e6), torch.zeros(1, 4)), (torch.zeros(1, 2, 3), torch.nan)):
        with pytest.raises(InvalidInput, match="not finite in float16"):
            bank.append([header], memories, torch.zeros(1, 4) + keys)
    assert len(bank) == 2


def test_a_memory_names_its_source_or_itself() -> None:
    header = Header(kind="activation")
    assert source_id(_header("text7")) == "text7"
    assert source_id(header) == header.id


def _coded(count: int = 9, codes: int = 4) -> tuple[SoftBank, SoftBank]:
    plain = _filled(count)
    return plain, plain.compress(codes)


def test_a_compressed_bank_holds_the_nearest_codes_and_counts_their_bytes_and_the_codebooks() -> None:
    plain, coded = _coded()
    assert coded.headers == plain.headers
    assert torch.equal(coded.keys, plain.keys)
    assert torch.equal(coded.ages, plain.ages)
    book = coded.codebook
    assert book is not None
    for place in range(9):
        for token, found in zip(plain.memories([place])[0], coded.memories([place])[0], strict=True):
            distances = [float((token.double() - code.double()).pow(2).sum()) for code in book.codes]
            assert torch.equal(found, book.codes[distances.index(min(distances))].float())
    assert coded.nbytes == 9 * 2 * (2 + 4) + 2 * 4 * 3
    assert sum(cube.nbytes for cube in coded.cubes()) == coded.nbytes - book.nbytes


def test_a_compressed_bank_still_deletes_and_takes_more() -> None:
    plain, coded = _coded()
    ids, kept = [header.id for header in plain.headers], coded.memories([0, 1, 4, 5, 6, 7, 8])
    assert coded.remove("text1") == ids[2:4]
    assert torch.equal(coded.memories(range(7)), kept)
    assert coded.nbytes == 7 * 2 * (2 + 4) + 2 * 4 * 3
    assert len(plain) == 9
    with pytest.raises(NotFound):
        coded.cube(ids[2])
    book = coded.codebook
    assert book is not None
    coded.append([_header("new")], book.codes[[3, 1]][None].float() + 1e-4, torch.zeros(1, 4))
    assert torch.equal(coded.memories([7])[0], book.codes[[3, 1]].float())


def test_a_compressed_bank_is_saved_with_its_codes_and_only_they_read_it(tmp_path: Path) -> None:
    plain, coded = _coded()
    coded.remove("text0")
    plain.save(tmp_path / "bank")
    coded.save(tmp_path / "bank")
    assert len(list((tmp_path / "bank").iterdir())) == 7 + 2
    again = _bank()
    again.load(tmp_path / "bank")
    assert _same(coded, again)
    assert again.nbytes == coded.nbytes
    for other in (plain.compress(3), _bank()):
        with pytest.raises(FingerprintMismatch, match=r"written by compressor v1\+codes-"):
            other.extend(coded.cubes())
    with pytest.raises(FingerprintMismatch, match="written by compressor v1, this"):
        again.extend(plain.cubes())
    elsewhere = _bank(compressed_by(MODEL, "v2"))
    with pytest.raises(FingerprintMismatch):
        elsewhere.load(tmp_path / "bank")
    assert elsewhere.codebook is None
    plain.save(tmp_path / "bank")  # no codes are left behind
    third = _bank()
    third.load(tmp_path / "bank")
    assert _same(third, plain)


def test_an_empty_or_a_compressed_bank_is_not_compressed() -> None:
    with pytest.raises(InvalidInput, match="write documents first"):
        _bank().compress()
    with pytest.raises(InvalidInput, match="compressed already"):
        _coded()[1].compress()


def test_stretches_of_one_document_are_of_one_age_and_a_new_version_is_newer() -> None:
    bank = _filled(6)  # two memories a text
    assert bank.ages.tolist() == [0, 0, 1, 1, 2, 2]
    bank.remove("text1")
    assert bank.ages.tolist() == [0, 0, 2, 2]
    assert bank.compress(2).ages.tolist() == [0, 0, 2, 2]
    again = replace(_header("text2"), lineage=Lineage((("text2", 2),), "cmt"))
    bank.append([again, _header("text2")], torch.zeros(2, 2, 3), torch.zeros(2, 4))
    assert bank.ages.tolist() == [0, 0, 2, 2, 3, 4]
