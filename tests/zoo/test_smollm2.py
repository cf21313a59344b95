"""The unpacked SmolLM2: its weights, its tokenizer, and the folder's life."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

from lamina.errors import LaminaError
from lamina.zoo import smollm2
from lamina.zoo.catalog import packaged
from lamina.zoo.models import load_causal

pytestmark = pytest.mark.model

SOURCE = packaged("smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def loaded():
    return load_causal("smollm2")


@pytest.fixture
def small(monkeypatch):
    """Unpacking writes two small files instead of half a gigabyte: these tests are about the folder."""

    def unpack(source, target):
        target.mkdir()
        for name in ("model.safetensors", "config.json"):
            (target / name).write_text(name)
        sums = {path.name: smollm2.sha256(path) for path in target.iterdir()}
        (target / "checksums.json").write_text(json.dumps(sums))

    monkeypatch.setattr(smollm2, "unpack", unpack)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAMINA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_weights_equal_a_naive_dequantisation(loaded):
    """Q4_1 by its definition: 20 bytes hold a float16 scale, a float16 minimum, and 32 nibbles, low half first."""
    from gguf import GGUFReader

    tensor = next(t for t in GGUFReader(SOURCE).tensors if t.name == "blk.3.attn_k.weight")
    assert tensor.tensor_type.name == "Q4_1"
    raw = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1, 20)
    scale, least = (raw[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    nibbles = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
    rows = (scale * nibbles + least).reshape(192, 576)
    # Row 2j of a head is dimension j, row 2j + 1 is dimension j + 32.
    order = [64 * head + 2 * (d % 32) + d // 32 for head in range(3) for d in range(64)]
    ours = loaded[0].model.layers[3].self_attn.k_proj.weight.numpy(force=True)
    np.testing.assert_array_equal(ours, rows[order])


def test_it_models_english(loaded):
    """With the rotary rows left in GGUF's order the loss of this text is 2.9; guessing costs ln 49152 = 10.8."""
    import torch

    model, tokenizer = loaded
    text = (
        "Paris is the capital of France, and Rome is the capital of Italy. The Earth goes around the Sun once a year."
    )
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        loss = model(ids, labels=ids).loss.item()
    assert loss < 2.5


def test_embeddings_are_tied(loaded):
    model, _ = loaded
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008


def test_markers_and_template(loaded):
    _, tokenizer = loaded
    assert tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)
    told = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    text = tokenizer.apply_chat_template(told, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    default = tokenizer.apply_chat_template(told[1:], tokenize=False)
    own = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert default.startswith(f"<|im_start|>system\n{own}<|im_end|>\n<|im_start|>user\nU")
    assert tokenizer("<|im_start|>a<|im_end|>")["input_ids"] == [1, 81, 2]


def test_tokenizer_round_trips_and_splits_digits(loaded):
    _, tokenizer = loaded
    for text in ("Hello world  12 345", "naïve 🙂 你好\n\n\tx", "I'm   here."):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.tokenize("in 2026") == ["in", "Ġ", "2", "0", "2", "6"]
    assert tokenizer.tokenize("a  1") == ["a", "ĠĠ", "1"]  # the digit is split off before the spaces are shared out


def test_a_whole_folder_is_used_and_a_damaged_one_rebuilt(own_cache, small):
    folder = smollm2.folder()
    assert folder.parent == own_cache / "models"
    stamp = folder.stat().st_ino
    assert smollm2.folder().stat().st_ino == stamp
    (folder / "model.safetensors").write_text("altered")
    assert smollm2.folder() == folder
    assert folder.stat().st_ino != stamp and (folder / "model.safetensors").read_text() == "model.safetensors"
    (folder / "checksums.json").unlink()
    assert smollm2.is_whole(smollm2.folder())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing temporary is left


def test_two_at_once_leave_one_whole_folder(own_cache, small, monkeypatch):
    real, barrier = smollm2.unpack, threading.Barrier(2)

    def together(source, target):
        real(source, target)
        barrier.wait(timeout=10)

    monkeypatch.setattr(smollm2, "unpack", together)
    found = []
    threads = [threading.Thread(target=lambda: found.append(smollm2.folder())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and found[0] == found[1]
    assert smollm2.is_whole(found[0])
    assert [path.name for path in found[0].parent.iterdir()] == [found[0].name]


def test_a_failed_unpacking_leaves_nothing(own_cache, monkeypatch):
    def full(source, target):
        target.mkdir()
        (target / "model.safetensors").write_text("half")
        raise OSError("No space left on device")

    monkeypatch.setattr(smollm2, "unpack", full)
    with pytest.raises(LaminaError, match=r"No space left.*LAMINA_CACHE"):
        smollm2.folder()
    assert list((own_cache / "models").iterdir()) == []


def test_loading_asks_no_network(tmp_path):
    """Every socket is refused, and the hub is not told to be offline."""
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from lamina.zoo.models import load_causal\n"
        "print(load_causal('smollm2')[0].config.model_type)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "llama", run.stderr
    assert "it/s" not in run.stderr and "Warn" not in run.stderr


def test_unpack_writes_what_is_loaded(tmp_path):
    """The real unpacking once more, beside the cached one: same bytes."""
    smollm2.unpack(SOURCE, tmp_path / "again")
    ours = json.loads((tmp_path / "again" / "checksums.json").read_text())
    assert ours == json.loads((smollm2.folder() / "checksums.json").read_text())
    shutil.rmtree(tmp_path / "again")
