"""The bank against plain lists and brute force: what is found and evicted, what it takes, what a file gives back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lamina.activation.retrieval_memory.bank import MemoryBank
from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import Fingerprint, TensorPayload, TextPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput

OWNER = Fingerprint(architecture="Llama", weights="abc+layer-3", tokenizer="", dtype="float64")
HEADS, WIDTH = 2, 3


def bank(capacity: int = 12, chunk: int = 2, dtype: torch.dtype = torch.float64) -> MemoryBank:
    return MemoryBank(OWNER, capacity=capacity, kv_heads=HEADS, head_dim=WIDTH, chunk=chunk, dtype=dtype)


def noise(tokens: int, seed: int = 0) -> Tensor:
    return torch.randn(HEADS, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    st.sampled_from([1, 2, 3]),
    st.integers(1, 5),
    st.integers(1, 4),
)
def test_search_finds_what_brute_force_finds_in_what_a_list_would_hold(
    writes: list[int], chunk: int, slots: int, wanted: int
) -> None:
    made = bank(slots * chunk, chunk)
    keys, values = noise(sum(writes)), noise(sum(writes), 1)
    start = 0
    for count in writes:  # in pieces of any length: the tail waits for the next
        made.append(keys[:, start : start + count], values[:, start : start + count])
        start += count
    whole = start // chunk
    held = range(max(0, whole - slots), whole)
    assert (made.seen, len(made)) == (start, len(held) * chunk)
    if not held:
        return
    queries = noise(4, 2)
    found_keys, found_values, ids = made.search(queries, wanted * chunk)
    for head in range(HEADS):
        for n in range(4):
            means = {number: keys[head, number * chunk : (number + 1) * chunk].mean(0) for number in held}
            best = sorted(held, key=lambda number: float(-(means[number] @ queries[head, n])))[:wanted]
            assert ids[head, n].tolist() == best
            places = [number * chunk + offset for number in best for offset in range(chunk)]
            assert made.source(ids[head, n]).flatten().tolist() == places
            assert torch.equal(found_keys[head, n], keys[head, places])
            assert torch.equal(found_values[head, n], values[head, places])


def test_bytes_are_those_of_the_formula_from_the_beginning_and_do_not_grow() -> None:
    made = bank(1024, 4, torch.float16)
    formula = 2 * (2 * 1024 + 1024 // 4) * HEADS * WIDTH
    assert made.nbytes == formula
    for n in range(30):
        made.append(noise(101, n), noise(101, n))
    waiting = 2 * 2 * HEADS * WIDTH * (30 * 101 % 4)
    assert made.nbytes == formula + waiting
    assert "1024 of 1024 tokens, 3030 seen" in repr(made)


def test_reset_forgets_and_overwrites() -> None:
    made = bank()
    made.append(noise(7), noise(7))
    made.reset()
    assert (len(made), made.seen, made.nbytes) == (0, 0, bank().nbytes)
    assert not any(bool(tensor.any()) for tensor in (made._keys, made._values, made._chunk_keys))
    with pytest.raises(InvalidInput, match="empty"):
        made.search(noise(1), 2)


@pytest.mark.parametrize("tokens", [0, 1, 7, 12, 13, 31])
def test_a_bank_comes_back_from_its_file_and_goes_on_alike(tmp_path: Path, tokens: int) -> None:
    made = bank(dtype=torch.float16)
    made.append(noise(tokens), noise(tokens, 1))
    made.save(tmp_path / "bank.cube")
    again = MemoryBank.load(tmp_path / "bank.cube", OWNER)
    for each in (made, again):
        each.append(noise(3, 5), noise(3, 6))
    assert (again.seen, again.capacity, again.dtype) == (tokens + 3, 12, torch.float16)
    queries = noise(5, 7)
    for mine, other in zip(made.search(queries, 4), again.search(queries, 4), strict=True):
        assert torch.equal(mine, other)


def test_another_models_bank_and_broken_tensors_are_refused(tmp_path: Path) -> None:
    made = bank()
    made.append(noise(7), noise(7))
    payload = made.to_payload()
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        MemoryBank.from_payload(payload, replace(OWNER, weights="abc+layer-1"))
    tensors = {name: view.torch() for name, view in payload.tensors.items()}
    for name, broken in (
        ("values", tensors["values"][:, 1:]),
        ("keys", tensors["keys"].half()),
        ("tail_keys", tensors["tail_keys"][:, :0]),
        ("sizes", torch.tensor([12, 70])),
        ("sizes", torch.tensor([13, 7])),
        ("sizes", torch.tensor([0, 0])),
        ("keys", tensors["keys"][0]),
    ):
        with pytest.raises(CorruptCube, match="do not fit together"):
            MemoryBank.from_payload(TensorPayload.from_torch(tensors | {name: broken}, OWNER), OWNER)
    with pytest.raises(CorruptCube, match="has the tensors"):
        MemoryBank.from_payload(TensorPayload.from_torch({"keys": tensors["keys"]}, OWNER), OWNER)
    file.write(MemCube(Header(), TextPayload("a note")), tmp_path / "note.cube")
    with pytest.raises(InvalidInput, match="memory of text"):
        MemoryBank.load(tmp_path / "note.cube", OWNER)


def test_wrong_arguments_are_named_and_write_nothing() -> None:
    for capacity, chunk in ((7, 2), (0, 2), (4, 0), (2, 4)):
        with pytest.raises(InvalidInput, match="capacity"):
            bank(capacity, chunk)
    made = bank(dtype=torch.float16)
    made.append(noise(4), noise(4))
    for keys, values in ((noise(4), noise(3)), (noise(4)[:1], noise(4)[:1]), (noise(2), 1e6 * noise(2))):
        with pytest.raises(InvalidInput, match=r"must both be|not finite in torch.float16"):
            made.append(keys, values)
    assert made.seen == 4
    for tokens in (0, 3):
        with pytest.raises(InvalidInput, match="tokens"):
            made.search(noise(1), tokens)
    made.append(noise(12), noise(12))
    for gone in (1, 8):
        with pytest.raises(InvalidInput, match="the bank holds 2 to 7"):
            made.source(torch.tensor([gone]))
