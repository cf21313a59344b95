"""Names and paths to folders, the hub's local cache included."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lamina.errors import LaminaError, NotFound
from lamina.zoo.models import folder, load_causal, quiet


def test_a_folder_with_a_config_is_taken(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("spec", ["smollm3", "", "/no/such/path"])
def test_unknown_names_list_what_is_known(spec):
    with pytest.raises(NotFound, match="give smollm2, minilm, hub:owner/name"):
        folder(spec)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(LaminaError, match="cannot be loaded"):
        load_causal(str(tmp_path))


def test_quiet_restores_the_verbosity():
    from transformers.utils import logging

    logging.set_verbosity_info()
    with pytest.raises(KeyError), quiet():
        assert logging.get_verbosity() == logging.ERROR
        raise KeyError
    assert logging.get_verbosity() == logging.INFO
    logging.set_verbosity_warning()


def test_the_hub_offline_uses_its_cache_alone(tmp_path):
    """In a process of its own: the hub reads its environment at import."""
    snapshot = tmp_path / "models--me--mine" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    code = (
        "from lamina.zoo.models import folder\n"
        "from lamina.errors import LaminaError\n"
        "print(folder('hub:me/mine'))\n"
        "for name in ('me/other', 'bad//name'):\n"
        "    try: folder('hub:' + name)\n"
        "    except LaminaError as e: print(e)\n"
    )
    env = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    found, other, bad = run.stdout.strip().splitlines()
    assert found == str(snapshot)
    assert "hub:me/other cannot be fetched" in other and "path of a downloaded folder" in other
    assert "hub:bad//name cannot be fetched" in bad
