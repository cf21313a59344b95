"""What ``bench memos`` measures with a model: a memory read as text against the same one attached as a cache.

Both sides answer the *same* token ids: the cut is checked, logits are kept for the last token on both, and greedy
replies are compared as ids. The text side is transformers' own forward over the whole prompt. Times are taken in pairs,
in turns, and the median of the pairs' ratios is reported; process CPU seconds beside wall-clock ones, since a busy
machine disturbs the latter.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, get_args

from lamina._optional import require
from lamina.activation.cache import KVCube
from lamina.activation.prefix import continuation
from lamina.activation.storage import Form
from lamina.cube import file as cube_file
from lamina.cube.cube import Header, MemCube
from lamina.llm.base import Message
from lamina.llm.causal import CausalLM

if TYPE_CHECKING:
    from torch import Tensor

_NAMES = ("Ilvane", "Corrik", "Maren", "Tobit", "Yselle", "Dorran", "Philene", "Castor", "Wenna", "Ruvik")
_PLACES = ("Brindlemouth", "Oskarsund", "Tarn Hollow", "Vellmere", "Quay Street", "the mill at Dunsmoor")
_THINGS = ("a red kayak", "two beehives", "a brass telescope", "an old piano", "a grey parrot", "eleven chess boards")
_ASIDE = (
    " Please take your time, since there is no hurry at all, and answer in one plain sentence that I can read aloud "
    "to my aunt, who is hard of hearing."
)


def facts(seed: int, count: int) -> list[str]:
    """Sentences about nobody."""
    rng = random.Random(seed)
    return [
        f"{rng.choice(_NAMES)} {rng.randrange(100, 1000)} keeps {rng.choice(_THINGS)} in {rng.choice(_PLACES)} and "
        f"comes back every {rng.randrange(2, 30)} days."
        for _ in range(count)
    ]


def memory_of(lm: CausalLM, seed: int, tokens: int) -> list[str]:
    """Facts that make a prefix of about ``tokens`` tokens, not fewer."""
    texts: list[str] = []
    for text in facts(seed, tokens):
        texts.append(text)
        if sum(len(lm.encode(f"- {one}\n")) for one in texts) + 40 >= tokens:
            break
    return texts


def question(texts: Sequence[str], tokens: int, lm: CausalLM) -> list[Message]:
    """One about the middle of ``texts``; ``tokens`` long or a little more."""
    words = texts[len(texts) // 2].split()
    text = f"What does {words[0]} {words[1]} keep, and where?"
    while len(lm.encode(text)) < tokens - 16:
        text += _ASIDE
    return [{"role": "user", "content": text}]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds to the first token, text and cache, of each pair; ``wall`` and ``cpu`` are medians of their ratios."""

    text: tuple[float, ...]
    cached: tuple[float, ...]
    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Cell:
    """A memory and a query. ``changed``: whether the stored cube is longer, or another, after the replies."""

    prefix: int
    query: int
    timing: Timing
    same: float  # share of greedy tokens that are equal
    logits: float  # largest difference after the query
    changed: int
    build: float  # seconds
    bytes_per_token: float

    @property
    def break_even(self) -> float:
        """Uses after which building has paid."""
        saved = median(self.timing.text) - median(self.timing.cached)
        return self.build / saved if saved > 0 else float("inf")


def measure_cell(lm: CausalLM, seed: int, memory: int, query: int, repeats: int, replies: int, tokens: int) -> Cell:
    """Time to the first token and equality of ``replies``, of ``tokens`` tokens, ``memory`` tokens
    remembered, ``query`` asked."""
    texts = memory_of(lm, seed, memory)
    prefix, rest = continuation(lm, texts, question(texts, query, lm))
    start = time.perf_counter()
    cube = KVCube.build(lm, prefix)
    build = time.perf_counter() - start
    stored = digest(cube)

    def as_text() -> Tensor:
        return _first(lm, [*prefix, *rest], None)

    def as_cache() -> Tensor:
        return _first(lm, rest, cube)

    far, near = as_text(), as_cache()  # warm, both
    timing = interleaved(as_text, as_cache, repeats)
    whole = list(lm.steps([*prefix, *rest], tokens))
    same = min(agreement(whole, list(lm.steps(rest, tokens, cache=cube.attach(lm)))) for _ in range(replies))
    return Cell(
        prefix=len(prefix),
        query=len(rest),
        timing=timing,
        same=same,
        logits=float((far - near).abs().max()),
        changed=int(digest(cube) != stored) + int(len(cube.ids) != len(prefix)),
        build=build,
        bytes_per_token=cube.nbytes / len(cube.ids),
    )


def interleaved(one: Callable[[], object], other: Callable[[], object], repeats: int) -> Timing:
    """Both in turns, the first of each pair alternating."""
    walls: list[tuple[float, float]] = []
    cpus: list[float] = []
    for turn in range(repeats):
        times: dict[int, tuple[float, float]] = {}
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            wall, cpu = time.perf_counter(), time.process_time()
            (one, other)[side]()
            times[side] = time.perf_counter() - wall, time.process_time() - cpu
        walls.append((times[0][0], times[1][0]))
        cpus.append(times[0][1] / times[1][1])
    ratios = [text / cached for text, cached in walls]
    return Timing(tuple(a for a, _ in walls), tuple(b for _, b in walls), median(ratios), median(cpus))


def agreement(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of places with equal ids; a reply that ends earlier differs where the other goes on."""
    equal = sum(a == b for a, b in zip(one, other, strict=False))
    return equal / max(len(one), len(other), 1)


def digest(cube: KVCube) -> str:
    """sha256 over every tensor of the cube and its shape."""
    torch = require("torch", "bench memos")
    found = hashlib.sha256()
    for tensor in (*cube.keys, *cube.values, cube.logits):
        found.update(str(tuple(tensor.shape)).encode())
        found.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


@dataclass(frozen=True, slots=True)
class FormResult:
    """A cube kept in a form and loaded again."""

    form: Form
    same: float  # share of greedy tokens as with the exact cube
    load_ms: float  # from a ``.cube`` file, warm, self-test included
    nbytes: int


def measure_forms(lm: CausalLM, seed: int, memory: int, folder: Path, tokens: int) -> list[FormResult]:
    """Keep the cube of ``memory`` tokens as a ``.cube`` file in each form, load it, answer with ``tokens`` tokens."""
    texts = memory_of(lm, seed, memory)
    prefix, rest = continuation(lm, texts, question(texts, 20, lm))
    cube = KVCube.build(lm, prefix)
    exact = list(lm.steps(rest, tokens, cache=cube.attach(lm)))
    found = []
    for form in get_args(Form):
        payload = cube.to_payload(form)
        path = folder / f"{form}.cube"
        cube_file.write(MemCube(Header(kind="activation", access=("activation",)), payload), path)
        times = []
        for _ in range(4):  # the first one warms
            start = time.perf_counter()
            loaded = KVCube.load(path, lm)
            times.append(time.perf_counter() - start)
        kept = list(lm.steps(rest, tokens, cache=loaded.attach(lm)))
        found.append(FormResult(form, agreement(exact, kept), 1e3 * median(times[1:]), payload.nbytes))
    return found


_CHILD = """
import json, sys
from lamina.activation.cache import KVCube
from lamina.llm.causal import CausalLM
path, rest, count = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
lm = CausalLM.load()
cube = KVCube.load(path, lm)
print(json.dumps(list(lm.steps(rest, count, cache=cube.attach(lm)))))
"""


def in_a_new_process(path: Path, rest: Sequence[int], count: int) -> list[int]:
    """The greedy reply after ``rest`` of a process that knows the memory from its ``.cube`` file alone."""
    command: list[Any] = [sys.executable, "-c", _CHILD, str(path), json.dumps(list(rest)), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    found: list[int] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def logits(lm: CausalLM, text: str) -> Tensor:
    """After every token of ``text``, ``(n, V)``."""
    torch = require("torch", "bench memos")
    with lm.lock, torch.inference_mode():
        found: Tensor = lm.model(torch.tensor([lm.encode(text)])).logits[0]
    return found


def _first(lm: CausalLM, ids: Sequence[int], cube: KVCube | None) -> Tensor:
    """Logits ``(V,)`` after ``ids``: what the first token of the reply is chosen by."""
    torch = require("torch", "bench memos")
    with lm.lock, torch.inference_mode():
        past = cube.attach(lm) if cube is not None else None
        found: Tensor = lm.model(
            torch.tensor([list(ids)]), past_key_values=past, use_cache=True, logits_to_keep=1
        ).logits[0, -1]
    return found
