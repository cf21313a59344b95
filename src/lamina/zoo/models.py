"""From a short name or a path to a model: the one place that decides which folder is meant.

A name is "smollm2" (packaged), a path to a folder in transformers' layout, or "hub:owner/name" (the
Hugging Face hub, the only form that may use the network; with HF_HUB_OFFLINE=1 its local cache alone).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lamina._optional import require
from lamina.errors import LaminaError, NotFound
from lamina.zoo import smollm2
from lamina.zoo.catalog import packaged

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_loading = threading.Lock()  # transformers' verbosity is global to the process


def folder(spec: str) -> Path:
    """The folder ``spec`` stands for. Raises ``NotFound`` or ``LaminaError`` with the remedy."""
    if spec == "smollm2":
        return smollm2.folder()
    if spec == "minilm":
        return packaged("minilm")
    if spec.startswith("hub:"):
        return _from_hub(spec.removeprefix("hub:"))
    path = Path(spec).expanduser()
    if not (path / "config.json").is_file():
        raise NotFound(
            f"model={spec!r} is not known: give smollm2, minilm, hub:owner/name, "
            "or the path of a folder with config.json, *.safetensors and a tokenizer"
        )
    return path


def load_causal(
    spec: str, *, dtype: Literal["float32", "bfloat16", "float16"] = "float32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model in eval mode, and its tokenizer. Quiet; only local files are read."""
    path = folder(spec)
    transformers = require("transformers", f"the model {spec!r}")
    with quiet():
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
            model = transformers.AutoModelForCausalLM.from_pretrained(path, local_files_only=True, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise LaminaError(f"model={spec!r} in {path} cannot be loaded: {error}") from error
    return model.eval(), tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings while something loads; restores both."""
    logging = require("transformers.utils.logging", "loading a model")
    with _loading:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()


def _from_hub(repository: str) -> Path:
    hub = require("huggingface_hub", f"the model hub:{repository}")
    errors = require("huggingface_hub.errors", f"the model hub:{repository}")
    try:
        return Path(hub.snapshot_download(repository, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.jinja"]))
    except (errors.HFValidationError, errors.HfHubHTTPError, errors.LocalEntryNotFoundError, OSError) as error:
        raise LaminaError(
            f"hub:{repository} cannot be fetched ({type(error).__name__}). "
            "Check the name and the network, or give the path of a downloaded folder"
        ) from error
