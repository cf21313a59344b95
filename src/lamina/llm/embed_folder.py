"""Any sentence encoder in a folder of transformers' (and sentence-transformers') layout.

The folder says how to pool (``1_Pooling/config.json``: mean or first token, mean where it is silent) and
how much to read (``sentence_bert_config.json``). What this file does not do it refuses: other poolings,
and dense layers behind the pooling. Prefixes such as "query: " are the caller's to add.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput, LaminaError
from lamina.llm.embed import LocalEmbedder
from lamina.zoo.catalog import sha256
from lamina.zoo.models import folder, quiet

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

    from lamina.llm.embed import Network


class FolderEmbedder(LocalEmbedder):
    """An ``Embedder`` over ``transformers.AutoModel``; ``model`` is a path or ``hub:owner/name``.

    ``name`` carries a hash of the weights, so two models in folders of one name are told apart.
    """

    def __init__(self, model: str, *, cache_size: int = 16_384) -> None:
        """Raises ``NotFound``, or ``InvalidInput`` for an encoder that pools in a way not supported here."""
        path = folder(model)
        config = json.loads((path / "config.json").read_text("utf-8"))
        first_token = _pools_first_token(path)
        super().__init__(
            f"{path.name}@{_fingerprint(path)}",
            dimension=config["hidden_size"],
            limit=_limit(path, config),
            load=lambda: _load(path, first_token=first_token),
            cache_size=cache_size,
        )


def _load(path: Path, *, first_token: bool) -> tuple[Network, Tokenizer]:
    torch = require("torch", f"the embedder in {path}")
    transformers = require("transformers", f"the embedder in {path}")
    tokenizer = require("tokenizers", f"the embedder in {path}").Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with quiet():
        try:
            model = transformers.AutoModel.from_pretrained(path, local_files_only=True, dtype="float32").eval()
        except (OSError, ValueError, KeyError) as error:
            raise LaminaError(f"the embedder in {path} cannot be loaded: {error}") from error

    def network(ids: Tensor, lengths: Tensor) -> Tensor:
        real = torch.arange(ids.shape[1]) < lengths[:, None]
        hidden: Tensor = model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        if first_token:
            return hidden[:, 0]
        mean: Tensor = (hidden * real[:, :, None]).sum(1) / lengths[:, None]
        return mean

    return network, tokenizer


def _pools_first_token(path: Path) -> bool:
    if (path / "2_Dense").exists():
        raise InvalidInput(f"model={str(path)!r} has a dense layer behind its pooling, which is not supported here")
    try:
        pooling: dict[str, Any] = json.loads((path / "1_Pooling" / "config.json").read_text("utf-8"))
    except FileNotFoundError:
        return False
    modes = {key.removeprefix("pooling_mode_") for key, on in pooling.items() if key.startswith("pooling_mode_") and on}
    if modes == {"cls_token"}:
        return True
    if modes == {"mean_tokens"}:
        return False
    raise InvalidInput(f"model={str(path)!r} pools by {sorted(modes)}; supported are mean_tokens and cls_token")


def _limit(path: Path, config: dict[str, Any]) -> int:
    """Most tokens at once: what the sentence model says, else 512 or what the positions allow."""
    try:
        said = json.loads((path / "sentence_bert_config.json").read_text("utf-8")).get("max_seq_length")
    except FileNotFoundError:
        said = None
    # Two fewer than the positions: RoBERTa's begin at 2.
    return int(said or min(512, config.get("max_position_embeddings", 514) - 2))


def _fingerprint(path: Path) -> str:
    weights = sorted(path.glob("*.safetensors"))
    if not weights or not (path / "tokenizer.json").is_file():
        raise InvalidInput(
            f"model={str(path)!r} needs *.safetensors and tokenizer.json; convert it with save_pretrained"
        )
    digests = "".join(sha256(file) for file in [*weights, path / "tokenizer.json"])
    return hashlib.sha256(digests.encode()).hexdigest()[:8]
