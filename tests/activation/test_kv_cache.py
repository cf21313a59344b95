"""A key-value cube stands for its text exactly, never changes, and is never handed to another model."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from kv_models import contents, logits, numbers, prose, smollm2, tiny

from lamina.activation.cache import KVCube
from lamina.cube import Header, MemCube, TextPayload, write
from lamina.errors import FingerprintMismatch, InvalidInput

pytestmark = pytest.mark.model


def test_what_follows_a_cube_is_what_follows_its_text() -> None:
    lm, ids = tiny(), numbers(60)
    cube = KVCube.build(lm, ids[:40])
    torch.testing.assert_close(logits(lm, ids[40:], cube), logits(lm, ids)[40:], atol=1e-10, rtol=0)
    torch.testing.assert_close(cube.logits, logits(lm, ids)[39].float())


def test_greedy_replies_are_those_of_the_whole_prompt() -> None:
    lm, ids, rest = smollm2(), prose(300), prose(20, skip=300)
    cube = KVCube.build(lm, ids)
    whole = list(lm.steps(ids + rest, 12))
    assert list(lm.steps(rest, 12, cache=cube.attach(lm))) == whole
    again = KVCube.from_payload(cube.to_payload(), lm)
    assert list(lm.steps(rest, 12, cache=again.attach(lm))) == whole


def test_extending_and_cutting_read_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    lm, ids = tiny(), numbers(50)
    first = KVCube.build(lm, ids[:30])
    read, forward = [], lm.model.forward
    monkeypatch.setattr(lm.model, "forward", lambda ids, **rest: (read.append(ids.shape[1]), forward(ids, **rest))[1])
    longer = first.extend(lm, ids[30:])
    other = longer.become(lm, ids[:20] + numbers(9, seed=1))
    shorter = longer.become(lm, ids[:20])
    assert longer.become(lm, ids) is longer
    assert read == [20, 9, 1]
    for cube in (longer, other, shorter):
        whole = KVCube.build(lm, cube.ids)
        for mine, theirs in zip((*cube.keys, *cube.values), (*whole.keys, *whole.values), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=0)
        torch.testing.assert_close(cube.logits, whole.logits)
        assert cube.nbytes == whole.nbytes


def test_keys_without_positions_are_the_same_wherever_the_text_stands() -> None:
    lm, ids = tiny(num_hidden_layers=1), numbers(8)
    alone, behind = KVCube.build(lm, ids), KVCube.build(lm, numbers(30, seed=1) + ids)
    torch.testing.assert_close(behind.unrotated(0)[:, 30:], alone.unrotated(0), atol=1e-6, rtol=0)
    assert (behind.keys[0][:, 30:] - alone.keys[0]).abs().max() > 0.1


@pytest.mark.parametrize("rope", [{"rope_type": "linear", "factor": 3.0}, {"rope_type": "yarn", "factor": 4.0}])
def test_scaled_positions_too(rope: dict[str, object]) -> None:
    lm, ids = tiny(rope_parameters={"rope_theta": 1e4, **rope}), numbers(60)
    cube = KVCube.from_payload(KVCube.build(lm, ids[:50]).to_payload(), lm)
    torch.testing.assert_close(logits(lm, ids[50:], cube), logits(lm, ids)[50:], atol=1e-4, rtol=0)


def test_a_text_that_an_adapter_is_trained_on_may_follow() -> None:
    lm = tiny()
    lm.model.requires_grad_(True)
    cube = KVCube.build(lm, numbers(10))
    out = lm.model(torch.tensor([numbers(5, seed=1)]), past_key_values=cube.attach(lm)).logits.sum()
    out.backward()
    assert lm.model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0


def test_bytes_of_a_token_are_those_of_its_keys_and_values() -> None:
    cube = KVCube.build(smollm2(), prose(24))
    config = smollm2().model.config
    assert cube.nbytes == 24 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
    assert cube.nbytes == 24 * 46_080
    cube.attach(smollm2())
    assert cube.nbytes == 24 * 46_080


def test_bug_of_peers_stored_cache_grows_each_turn() -> None:
    lm = smollm2()
    cube = KVCube.build(lm, prose(24))
    before = contents(cube)
    for turn in range(10):
        cache = cube.attach(lm)
        assert len(list(lm.steps(prose(4, skip=24 + turn), 3, cache=cache))) == 3
        assert cache.get_seq_length() > 24
        if turn == 9:
            cache.crop(-5)
            cache.reset()
    assert contents(cube) == before and cube.nbytes == 24 * 46_080


def test_threads_share_a_cube_and_disturb_neither_it_nor_each_other() -> None:
    lm = smollm2()
    cube = KVCube.build(lm, prose(40))
    before = contents(cube)
    rests = [prose(6, skip=40), prose(6, skip=60)]
    alone = [list(lm.steps(rest, 5, cache=cube.attach(lm))) for rest in rests]
    heard: list[list[list[int]]] = [[], []]

    def talk(who: int) -> None:
        for _ in range(3):
            heard[who].append(list(lm.steps(rests[who], 5, cache=cube.attach(lm))))

    threads = [threading.Thread(target=talk, args=(who,)) for who in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [[alone[0]] * 3, [alone[1]] * 3]
    assert contents(cube) == before


def test_bug_of_peers_caches_silently_empty() -> None:
    lm = tiny()
    cube = KVCube.build(lm, numbers(12))
    cache = cube.attach(lm)
    assert cache.get_seq_length() == 12 and all(layer.is_initialized for layer in cache.layers)
    logits_in_memory = logits(lm, [5], cube)
    assert (logits_in_memory - logits(lm, [5])).abs().max() > 0.1  # what it holds is heard
    lm.model(torch.tensor([[5]]), past_key_values=cache)
    assert cache.get_seq_length() == 13


def test_bug_of_peers_wrong_model_loads_silently() -> None:
    lm = tiny()
    cube = KVCube.build(lm, numbers(12))
    payload, other = cube.to_payload(), tiny(seed=1)
    for refused in (
        lambda: KVCube.from_payload(payload, other),
        lambda: cube.attach(other),
        lambda: cube.extend(other, [1]),
        lambda: cube.become(other, cube.ids),
    ):
        with pytest.raises(FingerprintMismatch, match="weights differ"):
            refused()


def test_an_adapter_makes_it_another_model() -> None:
    lm = tiny()
    cube = KVCube.build(lm, numbers(12))
    lm.overlay = "adapter"
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        cube.attach(lm)
    under = KVCube.build(lm, numbers(12))
    assert under.attach(lm).get_seq_length() == 12
    lm.overlay = ""
    assert cube.attach(lm).get_seq_length() == 12
    with pytest.raises(FingerprintMismatch):
        under.attach(lm)


def test_a_cube_stands_for_a_prompt_only_if_the_prompt_begins_with_all_of_it() -> None:
    cube = KVCube.build(tiny(), [1, 2, 3])
    assert cube.matches([1, 2, 3]) and cube.matches([1, 2, 3, 4])
    assert not cube.matches([1, 2]) and not cube.matches([1, 2, 4]) and not cube.matches([])
    assert [cube.shared(ids) for ids in ([], [1, 2], [1, 5, 3], [2], [1, 2, 3, 9])] == [0, 2, 1, 0, 3]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([], "ids are empty"),
        ([[1, 2], [3, 4]], "one text, not of a batch"),
        (torch.ones(2, 3, dtype=torch.int64), "one text, not of a batch"),
        ([1, 97], "97, which is no token of tiny"),
        ([1, -1], "-1, which is no token"),
        ([1] * 257, "257 tokens, over the 256"),
    ],
)
def test_what_is_no_prefix_is_refused(ids: list[int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        KVCube.build(tiny(), ids)


def test_a_cube_does_not_grow_over_the_context() -> None:
    lm = tiny()
    cube = KVCube.build(lm, numbers(200))
    with pytest.raises(InvalidInput, match="257 tokens, over the 256"):
        cube.extend(lm, numbers(57))
    assert len(cube.extend(lm, numbers(56)).ids) == 256


def test_a_file_is_mapped_and_loads_as_what_was_written(tmp_path: Path) -> None:
    lm, path = smollm2(), tmp_path / "prefix.cube"
    cube = KVCube.build(lm, prose(60))
    write(MemCube(Header(kind="activation"), cube.to_payload()), path)
    size = path.stat().st_size
    loaded = KVCube.load(path, lm)
    before = contents(loaded)
    list(lm.steps(prose(4, skip=60), 3, cache=loaded.attach(lm)))
    assert loaded.ids == cube.ids and path.stat().st_size == size and contents(loaded) == before
    for mine, theirs in zip(loaded.values, cube.values, strict=True):
        assert torch.equal(mine, theirs)
    if Path("/proc/self/maps").exists():
        assert str(path) in Path("/proc/self/maps").read_text()


def test_a_file_of_text_is_no_cache(tmp_path: Path) -> None:
    write(MemCube(Header(), TextPayload("tea")), tmp_path / "text.cube")
    with pytest.raises(InvalidInput, match="a memory of text"):
        KVCube.load(tmp_path / "text.cube", tiny())
