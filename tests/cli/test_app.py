"""The frame around the verbs: help, exit codes, errors, JSON, pipes and Ctrl-C, in real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.main import get_command

from lamina import __version__
from lamina.cli import app

Process = Callable[..., "subprocess.CompletedProcess[str]"]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
VERBS = sorted(COMMANDS)
# A verb that is a group ("policy train") is asked about each of its own.
CALLS = [call for verb in VERBS for call in ([verb, one] for one in getattr(COMMANDS[verb], "commands", [""]))]


def test_the_verbs() -> None:
    assert {
        "add", "bench", "chat", "delete", "demo", "doctor", "export", "forget", "history", "import", "list", "search",
        "show", "systems", "update",
    } <= set(VERBS)  # fmt: skip


def test_help_names_every_verb_and_says_where_to_start(process: Process) -> None:
    result = process("--help")
    assert result.returncode == 0 and "lamina demo" in result.stdout
    assert all(verb in result.stdout for verb in VERBS)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_verb_explains_itself_and_speaks_json(call: list[str], lamina: Callable[..., object]) -> None:
    result = lamina(*filter(None, call), "--help", db=None)
    first = result.stdout.split("─ Options")[0]  # type: ignore[attr-defined]
    assert result.exit_code == 0 and "--json" in result.stdout  # type: ignore[attr-defined]
    assert len(first.split()) > 8, "a verb needs a sentence of help"


def test_version(process: Process) -> None:
    assert process("--version").stdout == f"lamina {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["add"], ["search", "x", "-k", "none"], ["list", "--what"], ["forget"]]
)
def test_wrong_usage_exits_2_and_prints_nothing_on_stdout(process: Process, arguments: list[str]) -> None:
    result = process(*arguments)
    assert result.returncode == 2 and result.stdout == "" and "Traceback" not in result.stderr


def test_an_error_is_one_clear_line_and_exit_1(process: Process, tmp_path: Path) -> None:
    db = str(tmp_path / "m.db")
    process("add", "I live in Porto.", "--db", db)
    result = process("show", "no-such-id", "--db", db)
    assert result.returncode == 1 and result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ") and "no-such-id" in line and "lamina list" in line


def test_with_json_an_error_is_json_on_stdout(process: Process, tmp_path: Path) -> None:
    db = str(tmp_path / "m.db")
    process("add", "I live in Porto.", "--db", db)
    result = process("show", "no-such-id", "--json", "--db", db)
    assert result.returncode == 1
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "NOT_FOUND" and "no-such-id" in error["message"]


def test_settings_that_cannot_be_read_are_an_error(process: Process, tmp_path: Path) -> None:
    Path("lamina.toml").write_text("database = [")
    result = process("list")
    assert result.returncode == 1 and "lamina.toml" in result.stderr and "Traceback" not in result.stderr


def test_a_database_that_is_none_is_an_error(process: Process, tmp_path: Path) -> None:
    (tmp_path / "m.db").write_text("not a database, but long enough to be taken for one" * 100)
    result = process("list", "--db", str(tmp_path / "m.db"))
    assert result.returncode == 1 and result.stderr.startswith("Error: ") and "Traceback" not in result.stderr


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    log = [{"role": "user", "content": f"I bought lamp number {n} in Porto."} for n in range(300)]
    (tmp_path / "log.json").write_text(json.dumps(log))
    lamina = f"{sys.executable} -c 'from lamina.cli import main; main()'"
    database = f"--db {tmp_path / 'm.db'}"
    script = (
        f"{lamina} import {tmp_path / 'log.json'} {database} >/dev/null || exit 9\n"
        f"{lamina} list -n 1000 --json {database} | head -c 10 >/dev/null\n"
        f"{lamina} list -n 1000 {database} | head -n 1 >/dev/null\n"
        f"{lamina} --version | true\n"
    )
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")


def test_ctrl_c_exits_130(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from lamina.cli import main; main()", "add", "-", "--db", str(tmp_path / "m.db")]
    program = "import sys; sys.argv = sys.argv[1:]; print('up', file=sys.stderr, flush=True); " + command[2]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "lamina", *command[3:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None and process.stderr.readline() == "up\n"
    _wait_until_it_reads(process.pid)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors


def _wait_until_it_reads(pid: int) -> None:
    """Until the process sleeps in a read of its standard input, as Linux tells it."""
    import time

    for _ in range(600):
        call = Path(f"/proc/{pid}/syscall").read_text().split()
        if call[:2] == ["0", "0x0"]:
            return
        time.sleep(0.05)
    raise AssertionError("the command never waited for its input")
