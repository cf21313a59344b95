"""The generic encoder on MiniLM's own folder must agree with the written-out one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from lamina.errors import InvalidInput
from lamina.llm.embed import MiniLM
from lamina.llm.embed_folder import FolderEmbedder
from lamina.zoo.catalog import packaged

pytestmark = pytest.mark.model

TEXTS = ["Ana moved to Porto.", "", "ok", "one sentence of many. " * 120]


def copied(target, **changes):
    shutil.copytree(packaged("minilm"), target, ignore=shutil.ignore_patterns("model.safetensors"))
    (target / "model.safetensors").symlink_to(packaged("minilm") / "model.safetensors")
    if changes:
        (target / "1_Pooling" / "config.json").write_text(json.dumps(changes))
    return target


def test_agrees_with_minilm():
    generic = FolderEmbedder(str(packaged("minilm")))
    assert generic.dimension == 384 and generic.name.startswith("model@")
    np.testing.assert_allclose(generic.encode(TEXTS), MiniLM(exact=True).encode(TEXTS), atol=1e-5)


def test_first_token_pooling(tmp_path):
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = copied(tmp_path / "cls", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.inference_mode():
        first = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0, 0].numpy()
    ours = FolderEmbedder(str(folder)).encode(TEXTS[:1])[0]
    np.testing.assert_allclose(ours, first / np.linalg.norm(first), atol=1e-5)


def test_what_is_not_supported_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"pools by \['max_tokens'\]"):
        FolderEmbedder(str(copied(tmp_path / "max", pooling_mode_max_tokens=True)))
    dense = copied(tmp_path / "dense")
    (dense / "2_Dense").mkdir()
    with pytest.raises(InvalidInput, match="dense layer"):
        FolderEmbedder(str(dense))
    bare = copied(tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match="safetensors"):
        FolderEmbedder(str(bare))
