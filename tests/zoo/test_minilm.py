"""The written-out encoder against transformers' BertModel on the same weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from lamina.zoo import minilm
from lamina.zoo.catalog import packaged

pytestmark = pytest.mark.model

TEXTS = [
    "I adopted a dog called Bruno last spring.",
    "ok",
    "",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich! 你好 🙂",
    "The meeting moved from Tuesday to Thursday because the room was taken, and Ana will bring the slides.",
]


def padded(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = torch.tensor(row)
    return ids, lengths


@pytest.fixture(scope="module")
def exact():
    return minilm.load(torch.float32)


@pytest.fixture(scope="module")
def reference():
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    folder = packaged("minilm")
    model = BertModel(BertConfig(**json.loads((folder / "config.json").read_text())))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    return model.eval()


def test_equals_transformers_bert_with_mean_pooling(exact, reference):
    network, tokenizer = exact
    ids, lengths = padded([tokenizer.encode(text).ids for text in TEXTS])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    with torch.inference_mode():
        hidden = reference(input_ids=ids, attention_mask=mask).last_hidden_state
        ours = network(ids, lengths)
    expected = torch.stack([row[:n].mean(0) for row, n in zip(hidden, lengths.tolist(), strict=True)])
    assert torch.allclose(ours, expected, atol=1e-5)


def test_padding_does_not_change_a_vector(exact):
    network, tokenizer = exact
    rows = [tokenizer.encode(text).ids for text in TEXTS]
    with torch.inference_mode():
        together = network(*padded(rows))
        alone = torch.cat([network(*padded([row])) for row in rows])
    assert torch.allclose(together, alone, atol=1e-5)


def test_fast_dtype_agrees_with_float32(exact):
    network, tokenizer = exact
    fast, _ = minilm.load(torch.bfloat16)
    batch = padded([tokenizer.encode(text).ids for text in TEXTS])
    with torch.inference_mode():
        cosine = torch.cosine_similarity(network(*batch), fast(*batch))
    assert cosine.min() > 0.9999


def test_tokenizer_neither_pads_nor_cuts(exact):
    _, tokenizer = exact
    assert [len(e.ids) for e in tokenizer.encode_batch(["a", "a " * 1000])] == [3, 1002]
    assert tokenizer.encode("hello").ids[0] == 101


def test_meaning_is_near(exact):
    network, tokenizer = exact
    query, near, far = (
        "Where does she live?",
        "She moved to an apartment in Lisbon.",
        "The recipe needs two eggs and butter.",
    )
    with torch.inference_mode():
        v = network(*padded([tokenizer.encode(text).ids for text in (query, near, far)])).numpy()
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    assert v[0] @ v[1] > v[0] @ v[2] + 0.2
