"""The ``.cube`` file: round trips, atomic replacement, and errors that name the path."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from cube_strategies import cubes
from hypothesis import given

from lamina.cube import Fingerprint, Header, MemCube, TensorPayload, TextPayload, dumps, loads, read, write
from lamina.cube import file as cube_file
from lamina.errors import CorruptCube, InvalidInput, LaminaError, NotFound, StoreUnavailable

MODEL = Fingerprint("LlamaForCausalLM", "w", "t", "float32")
OLD, NEW = MemCube(Header(), TextPayload("old")), MemCube(Header(), TextPayload("new and longer"))


KEYS = np.random.default_rng(0).standard_normal((4, 200, 400)).astype(np.float32)
LARGE = MemCube(
    Header(kind="activation"),
    TensorPayload.from_numpy({"keys": KEYS, "ids": np.arange(200), "scalar": np.array(True)}, MODEL),
)


@given(cubes())
def test_bytes_round_trip(cube: MemCube) -> None:
    data = dumps(cube)
    back = loads(data)
    assert back == cube and back.sha256 == cube.sha256
    assert dumps(back) == data


@pytest.mark.parametrize(
    "cube", [OLD, LARGE, MemCube(Header(), TextPayload("x" * (2 << 20)))], ids=["text", "tensors", "long"]
)
def test_path_round_trip(cube: MemCube, tmp_path: Path) -> None:
    path = tmp_path / "memory.cube"
    write(cube, path)
    assert read(path) == read(str(path)) == cube
    assert path.read_bytes() == dumps(cube)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = safetensors.numpy.load_file(path)
    if cube.header.kind == "text":
        assert loaded["text"].tobytes().decode() == cube.text
    else:
        assert np.array_equal(loaded["keys"], cube.payload.tensors["keys"].numpy())


@pytest.mark.parametrize("excess", [-1, 0, 1, cube_file.BLOCK_BYTES])
def test_the_checksum_is_that_of_all_blocks(excess: int) -> None:
    def made(size: int) -> bytes:
        empty = np.zeros((0,), np.float32)  # how a file comes in pieces must not show
        tensors = {"empty": empty, "large": np.arange(size, dtype=np.uint8), "other": empty}
        return dumps(
            MemCube(
                Header(kind="activation", id="x", created=OLD.header.created), TensorPayload.from_numpy(tensors, MODEL)
            )
        )

    frame = len(made(cube_file.BLOCK_BYTES)) - cube_file.BLOCK_BYTES
    data = made(2 * cube_file.BLOCK_BYTES - frame + excess)
    at = data.index(b'"sha256":"') + len(b'"sha256":"')
    bare = data[:at] + b"0" * 64 + data[at + 64 :]
    starts = range(0, len(bare), cube_file.BLOCK_BYTES)
    leaves = [hashlib.sha256(bare[start : start + cube_file.BLOCK_BYTES]).digest() for start in starts]
    assert data[at : at + 64].decode() == hashlib.sha256(b"".join(leaves)).hexdigest()
    assert loads(data).payload.tensors["large"].nbytes == 2 * cube_file.BLOCK_BYTES - frame + excess


def test_large_tensors_are_mapped_and_the_file_cannot_be_reached(tmp_path: Path) -> None:
    path = tmp_path / "kv.cube"
    write(LARGE, path)
    cube = read(path)
    view = cube.payload.tensors["keys"]
    assert LARGE.nbytes > cube_file.MAP_BYTES and isinstance(view.data.obj, mmap.mmap)
    tensor = view.torch()
    assert tensor.data_ptr() == view.numpy().ctypes.data
    tensor.zero_()
    assert read(path) == LARGE
    path.unlink()
    assert not view.numpy().any()  # the mapping outlives the file's name


def test_tensors_are_read_without_torch(tmp_path: Path) -> None:
    write(LARGE, tmp_path / "kv.cube")
    program = (
        "import sys; from lamina.cube import read; cube = read(sys.argv[1])\n"
        "print(cube.payload.tensors['ids'].numpy().sum(), 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "kv.cube")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.split() == ["19900", "False"]


def test_loads_keeps_its_own_copy_of_a_buffer_that_may_change() -> None:
    buffer = bytearray(dumps(LARGE))
    cube = loads(buffer)
    buffer[-64:] = bytes(64)
    assert cube == LARGE


def test_many_reads_hold_no_file_descriptors(tmp_path: Path) -> None:
    write(OLD, tmp_path / "a.cube")
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    kept = [read(tmp_path / "a.cube") for _ in range(50)]
    assert len(kept) == 50 and len(list(descriptors.iterdir())) == before


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (MemCube(Header(kind="activation"), TextPayload("x")), "header.kind is 'activation'"),
        (MemCube(Header(), TensorPayload({}, MODEL)), "header.kind is 'text'"),
        (MemCube(Header(), TextPayload("\ud800")), "text holds the lone surrogate"),
        (MemCube(Header(tags=("\ud800",)), TextPayload("")), r"Header\.tags\.0"),
        (MemCube(Header(kind="parameter"), TensorPayload({}, Fingerprint("a", "b", "c", 3))), r"Fingerprint\.dtype"),
        (MemCube(Header(), TextPayload("x" * ((64 << 20) + 1))), "split the cube"),
    ],
    ids=range(6),
)
def test_what_cannot_be_written_leaves_no_file(cube: MemCube, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=message):
        write(cube, tmp_path / "a.cube")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_before_the_rename_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    write(OLD, path)
    program = (
        "import os, signal, sys; from lamina.cube import Header, MemCube, TextPayload, write\n"
        "os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write(MemCube(Header(), TextPayload('new')), sys.argv[1])"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert read(path) == OLD
    write(NEW, path)
    assert read(path) == NEW


@pytest.mark.parametrize(("step", "failure"), [("fsync", errno.EIO), ("replace", errno.EPERM), ("fsync", errno.ENOSPC)])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(
    step: str, failure: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cubes"
    folder.mkdir()
    write(OLD, folder / "a.cube")

    def fail(*_: object) -> None:
        raise OSError(failure, os.strerror(failure))

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StoreUnavailable, match=r"cubes/a\.cube.*" + os.strerror(failure)):
        write(NEW, folder / "a.cube")
    assert [p.name for p in folder.iterdir()] == ["a.cube"] and read(folder / "a.cube") == OLD


def test_a_full_disk_leaves_no_temporary_file(tmp_path: Path) -> None:
    """A real one: the child may write files of at most 64 KiB, the cube takes more."""
    program = (
        "import resource, signal, sys, numpy; from lamina.cube import *; from lamina.errors import StoreUnavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try: write(MemCube(Header(), TextPayload('x' * 100_000)), sys.argv[1])\n"
        "except StoreUnavailable as error: print(error)"
    )
    folder = tmp_path / "cubes"
    folder.mkdir()
    run = subprocess.run(
        [sys.executable, "-c", program, str(folder / "a.cube")], capture_output=True, text=True, check=True, timeout=60
    )
    assert "File too large" in run.stdout and list(folder.iterdir()) == []


def test_readers_see_one_of_the_two_while_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    write(OLD, path)
    seen: set[str] = set()

    def replace_often() -> None:
        for turn in range(60):
            write(NEW if turn % 2 == 0 else OLD, path)

    writer = threading.Thread(target=replace_often)
    writer.start()
    while writer.is_alive():
        seen.add(read(path).text)
    writer.join()
    assert seen <= {OLD.text, NEW.text} and seen


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing.cube", NotFound),
        ("no/such/folder.cube", NotFound),
        ("plain/child.cube", NotFound),
        ("folder", InvalidInput),
        ("pipe", InvalidInput),
        ("/dev/zero", InvalidInput),
        ("nul\0byte", InvalidInput),
        ("surrogate\ud800", InvalidInput),
        ("n" * 300, StoreUnavailable),
    ],
)
def test_read_errors_name_the_path(path: str, error: type[LaminaError], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("a file, not a folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(error) as caught:
        read(os.path.join(tmp_path, path))  # noqa: PTH118
    assert type(caught.value) is error and repr(path)[1:-1] in str(caught.value)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("no/such/folder.cube", NotFound),
        ("plain/child.cube", NotFound),
        ("folder", InvalidInput),
        ("/", InvalidInput),
        ("nul\0byte", InvalidInput),
        ("n" * 300, StoreUnavailable),
        ("/proc/a.cube", LaminaError),
        ("/sys/a.cube", LaminaError),
    ],
)
def test_write_errors_name_the_path(path: str, error: type[LaminaError], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("a file, not a folder")
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(error) as caught:
        write(OLD, os.path.join(tmp_path, path))  # noqa: PTH118
    assert repr(path)[1:-1] in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == before and not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("data", [5, "text", None, [1]])
def test_loads_wants_bytes(data: object) -> None:
    with pytest.raises(InvalidInput, match="must be the bytes"):
        loads(data)  # type: ignore[arg-type]


def test_limits_of_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.cube"
    write(NEW, path)
    size = path.stat().st_size
    assert read(path, max_bytes=size) == NEW
    with pytest.raises(CorruptCube, match=rf"a\.cube: {size} bytes, over the limit of {size - 1}"):
        read(path, max_bytes=size - 1)
    with pytest.raises(CorruptCube, match=r"a\.cube: the file declares a header of \d+ bytes, over the limit of 100"):
        read(path, max_header_bytes=100)
