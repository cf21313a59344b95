"""What is in ``deploy/`` and the two pages about it is true: commands, options, settings and metrics exist, and what
the page on backups says to do is done as it stands there."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from lamina import Memory
from lamina.cli import app
from lamina.llm.base import Embedder
from lamina.server.observing import Metrics
from lamina.settings import Settings

ROOT = Path(__file__).parent.parent
DEPLOY, HOW_TO = ROOT / "deploy", ROOT / "docs" / "how-to"
PAGES = [HOW_TO / "deploy.md", HOW_TO / "backup.md", HOW_TO / "serve.md"]
UNITS = sorted(DEPLOY.glob("*.service"))
SHELL = re.compile(r"^```(?:bash|text)\n(.*?)^```", re.M | re.S)


def parse(words: list[str]) -> str:
    """What the command line makes of these words, without doing it. Raises its own errors of usage."""
    context: Any = typer.main.get_command(app).make_context("lamina", list(words))
    while hasattr(context.command, "resolve_command"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return str(context.command_path)


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def in_dockerfile(instruction: str) -> list[list[str]]:
    text = (DEPLOY / "Dockerfile").read_text()
    return [json.loads(found) for found in re.findall(rf"^\s*{instruction} (\[.*\])$", text, re.M)]


def in_pages() -> list[list[str]]:
    """Every line of the pages that runs ``lamina``, wherever it is and whoever runs it."""
    lines = [line for page in PAGES for block in SHELL.findall(page.read_text()) for line in block.splitlines()]
    runs = re.compile(r"(?:^|/| )lamina (?=[a-z])(?!lamina )([^|&;#]*)")
    found = [runs.search(line) for line in lines]
    return [shlex.split(match[1]) for match in found if match]


def in_files() -> list[list[str]]:
    services = [service["command"] for service in compose()["services"].values() if "command" in service]
    starts = [shlex.split(unit(path)["Service"]["ExecStart"]) for path in UNITS]
    return [*services, *starts, *in_dockerfile("CMD")[-1:]]


def test_every_command_is_one() -> None:
    commands = in_files()
    assert len(commands) == 6 and all(Path(words[0]).name == "lamina" for words in commands)
    told = [parse(words[1:]) for words in commands] + [parse(words) for words in in_pages()]
    assert len(told) > 20 and {"lamina serve", "lamina backup create", "lamina backup journal"} <= set(told)


def test_a_command_that_is_none_would_be_found() -> None:
    for wrong in ("serve --hosts x", "backup make x", "backup create", "serve --workers 0"):
        with pytest.raises(Exception) as raised:
            parse(wrong.split())
        assert getattr(raised.value, "exit_code", None) == 2


def test_every_variable_is_a_setting() -> None:
    known = {f"LAMINA_{name.upper()}" for name in Settings.model_fields}
    texts = [path.read_text() for path in [*DEPLOY.iterdir(), *PAGES] if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bLAMINA_[A-Z_]+", text)}
    assert {"LAMINA_DATABASE", "LAMINA_HOME"} <= named <= known


def test_containers_have_no_more_than_they_need() -> None:
    services = compose()["services"]
    lamina, database, backup = (services[name] for name in ("lamina", "database", "backup"))
    for service in (lamina, backup):
        assert service["user"] == "10001" and service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert database["read_only"] and "ports" not in database and database["networks"] == ["inside"]
    assert database["cap_drop"] == ["ALL"] and database["security_opt"] == ["no-new-privileges:true"]
    # What the image's start needs as root to make the folder postgres's and become that user, and nothing else.
    assert set(database["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert not any(name in service for service in (lamina, backup) for name in ("cap_add", "privileged"))
    assert compose()["networks"]["inside"] == {"internal": True}
    assert all(port.startswith("127.0.0.1:") for port in lamina["ports"])
    assert lamina["depends_on"]["database"]["condition"] == "service_healthy"
    assert "/ready" in " ".join(lamina["healthcheck"]["test"]) and "/ready" in " ".join(in_dockerfile("CMD")[0])
    assert "USER 10001" in (DEPLOY / "Dockerfile").read_text()
    secrets = [service["environment"] for service in services.values()]
    for name, value in [pair for environment in secrets for pair in environment.items()]:
        if "PASSWORD" in name:
            assert value.startswith("${DATABASE_PASSWORD:?"), f"{name} is in the file, or may be empty"
    volumes = {mount.split(":")[0] for service in services.values() for mount in service["volumes"]}
    assert volumes == set(compose()["volumes"])


def test_workers_are_as_the_page_on_sizes_says() -> None:
    """One for each of its two cores, each computing with one: in the unit and in the containers."""
    page = (ROOT / "docs" / "explain" / "sizing.md").read_text()
    assert "One worker for each core" in page and "`OMP_NUM_THREADS=1`" in page and "2 workers on 2 cores" in page
    service, services = unit(DEPLOY / "lamina.service")["Service"], compose()["services"]
    assert service["Environment"] == "OMP_NUM_THREADS=1"
    assert (
        services["lamina"]["environment"]["OMP_NUM_THREADS"]
        == "1"
        == services["backup"]["environment"]["OMP_NUM_THREADS"]
    )
    assert re.search(r"^ENV .*\bOMP_NUM_THREADS=1\b", (DEPLOY / "Dockerfile").read_text(), re.M)
    for words in (shlex.split(service["ExecStart"]), services["lamina"]["command"]):
        assert words[words.index("--workers") + 1] == "2"
    assert "2 workers" in (HOW_TO / "deploy.md").read_text()


def test_the_settings_say_the_same_to_a_shell_and_to_systemd(tmp_path: Path) -> None:
    """Every line, also those that begin as comments: an address with & in it is one value and starts nothing."""
    text = re.sub(r"^# (?=[A-Z]+(_[A-Z]+)*=)", "", (DEPLOY / "lamina.env.example").read_text(), flags=re.M)
    (tmp_path / "lamina.env").write_text(text)
    script = f"cd {shlex.quote(str(tmp_path))}; set -a; . ./lamina.env; set +a; exec env -0"
    for shell in ("sh", "bash"):
        done = subprocess.run([shell, "-euc", script], env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == ""
        seen = dict(line.split("=", 1) for line in done.stdout.split("\0") if line)
        # systemd takes the last of a name; quotes around a value are not part of it, and nothing in it is expanded.
        told = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
        meant = {name: shlex.split(value)[0] if value else "" for name, value in told.items()}
        assert {name: seen[name] for name in meant} == meant
        assert not any("$" in value or "`" in value for value in told.values())
    assert "&" in meant["LAMINA_DATABASE"] and meant["LAMINA_DATABASE"].startswith("postgresql://")
    assert {"LAMINA_HOME", "BACKUPS", "PGPASSWORD"} <= set(meant)


def test_the_image_has_the_models_of_the_makefile() -> None:
    wanted = re.search(r"^WEIGHTS := --no-deps (.*)$", (ROOT / "Makefile").read_text(), re.M)
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert wanted is not None and f"--no-deps {wanted[1]}" in dockerfile
    assert wanted[1] in (HOW_TO / "deploy.md").read_text()
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = dockerfile + "".join(page.read_text() for page in PAGES)
    asked = {extra for found in re.findall(r"'(?:lamina|\.)\[([a-z,]+)\]'", texts) for extra in found.split(",")}
    assert {"server", "postgres", "models"} <= asked <= set(extras)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text()
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.M):
        assert all(f"!{name}" in ignored and (ROOT / name).exists() for name in source.split())


def test_units_are_understood_by_systemd(tmp_path: Path) -> None:
    assert {path.name for path in UNITS} == {"lamina.service", "lamina-backup.service", "lamina-journal.service"}
    for path in UNITS:
        service = unit(path)["Service"]
        assert service["User"] == "lamina" and service["NoNewPrivileges"] == "yes" and service["UMask"] == "0077"
        assert service["ProtectSystem"] == "strict" and "EnvironmentFile" in service
    for path in [*UNITS, *DEPLOY.glob("*.timer")]:
        text = path.read_text().replace("/opt/lamina/bin/lamina", str(Path(sys.executable).with_name("lamina")))
        (tmp_path / path.name).write_text(text)
    if analyze := shutil.which("systemd-analyze"):  # where there is none, what stands above is all that can be known
        files = [str(path) for path in tmp_path.iterdir() if path.suffix in (".service", ".timer")]
        told = subprocess.run([analyze, "verify", *files], capture_output=True, text=True)
        assert told.returncode == 0 and str(tmp_path) not in told.stderr, told.stderr


def test_every_metric_that_is_named_exists() -> None:
    page = (HOW_TO / "deploy.md").read_text()
    named = set(re.findall(r"`(lamina_[a-z_]+)", page))
    there = {
        f"{family.name}{end}"
        for family in Metrics().registry.collect()
        for end in {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
    }
    assert len(named) == 4 and named <= there


def test_the_page_on_backups_is_done_as_it_stands_there(tmp_path: Path, minilm: Embedder) -> None:
    """Made, something forgotten, the journal kept, the store destroyed, restored: by the blocks of the page alone."""
    make, restore = re.findall(r"^```bash\n(.*?)^```", (HOW_TO / "backup.md").read_text(), re.M | re.S)
    live, secret = tmp_path / "live" / "memory.db", b"zq4711canary"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "LAMINA_DATABASE": str(live), "BACKUPS": str(tmp_path / "my backups"), "PATH": path}

    def run(script: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", script], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with Memory(live, embedder=minilm) as memory:
        added = memory.add("My locker has the number zq4711canary.", user_id="ann")["results"]
        memory.add("My sister Ann plays the cello.", user_id="ann")
        run(make)
        memory.forget(added[0]["id"])
        run(make.splitlines()[1])
    shutil.rmtree(live.parent)
    assert "is whole" in run(restore)
    with Memory(live, embedder=minilm) as memory:
        (found, *_) = memory.search("Who plays an instrument?", filters={"user_id": "ann"})["results"]
        assert "cello" in found["memory"] and memory.store.verify() == []
    assert not [file for file in live.parent.rglob("*") if file.is_file() and secret in file.read_bytes()]
    assert [file for file in (tmp_path / "my backups").rglob("memory.db") if secret in file.read_bytes()]


def test_every_test_that_the_page_on_security_names_exists() -> None:
    page = (ROOT / "docs" / "explain" / "security.md").read_text()
    defended = page.split("## What is defended\n")[1].split("\n## ")[0]
    for threat in defended.strip().split("\n\n"):
        named = re.findall(r"`(tests/[\w/]+\.py)`", threat)
        assert named and all((ROOT / name).is_file() for name in named), threat
