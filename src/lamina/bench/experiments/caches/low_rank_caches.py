"""How the claims of xKV are measured; what is claimed, and on what, is said in ``bench.systems.xkv``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lamina.activation.cross_layer_svd import XKV, XKVCache
from lamina.bench import kvpress_peer
from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.caches.cache_costs import allocated_share, peak_share, steps_behind
from lamina.bench.experiments.caches.compressed_context import (
    Prefilled,
    asked,
    asked_by_steps,
    behind,
    compared,
    compressed,
    passkeys,
    prefill,
    prose,
    replay,
    score,
    whole,
)
from lamina.bench.experiments.caches.shared_bases import error, minicache, premise, truncated, turned_error
from lamina.bench.systems.xkv import (
    ALIGNED,
    ALLOCATED,
    BYTES,
    ERRORS,
    FOUND,
    FURTHEST,
    MINI,
    OVER_PRESS,
    PEAK,
    PRESS,
    PROSE,
    SELECTED,
    SELECTED_STEP,
    STEP,
    TURNED,
    VALUES,
)
from lamina.llm.causal import CausalLM

_SIZES: Mapping[Scale, Mapping[str, int]] = {
    "smoke": {"texts": 1, "before": 200, "after": 4, "keys": 1, "length": 200, "long": 256, "steps": 2, "layers": 3,
              "select": 32},
    "laptop": {"texts": 12, "before": 1024, "after": 96, "keys": 20, "length": 1000, "long": 4096, "steps": 12,
               "layers": 5, "select": 256},
    "full": {"texts": 48, "before": 1024, "after": 96, "keys": 60, "length": 1000, "long": 4096, "steps": 24,
             "layers": 5, "select": 256},
}  # fmt: skip
_READ = 4  # texts of prose that are read on token by token
RATIOS = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once. Without kvpress its claims are not measured, and so do not hold."""
    size = _SIZES[scale]
    lm = CausalLM.load()
    texts = prose(lm, size["texts"], size["before"], size["after"], seed=seed, dev=False)
    reads = [prefill(lm, text, hidden=kvpress_peer.installed()) for text in texts]
    digits, selected, exact = _on_digits(lm, size, seed)
    return [
        *_errors(lm, reads, size["layers"]),
        *_on_prose(lm, reads, seed),
        *digits,
        _bytes(lm, reads[0], size["layers"]),
        PEAK.measured(peak_share(XKV(3.0, group=5), size["long"], seed)),
        *_allocated(lm, size, seed),
        _values(lm, reads[0]),
        *_steps(lm, size, seed),
        _selected(lm, reads, size["select"], selected, exact),
    ]


# -- error ----------------------------------------------------------------------------------------


def _errors(lm: CausalLM, reads: Sequence[Prefilled], layers: int) -> list[Measurement]:
    """Of the first three texts: the factors are the same code for all."""
    few = reads[:3]
    found: list[Measurement] = []
    turned, plain = [], []
    for ratio in (2.0, 4.0):
        ours = [replay(XKV(ratio, group=layers), lm, read) for read in few]
        single = [error(replay(XKV(ratio, group=1), lm, read)) for read in few]
        for place, kind in enumerate(("keys", "values")):
            mean = statistics.fmean(error(cache)[place] for cache in ours)
            other = statistics.fmean(one[place] for one in single)
            found.append(ERRORS[kind, ratio].measured(mean, other, "one basis a layer"))
        if ratio == 4.0:
            plain = [error(cache)[0] for cache in ours]
            turned = [turned_error(cache, read) for cache, read in zip(ours, few, strict=True)]
    alike = premise(few[0], replay(XKV(2.0), lm, few[0]).rotary)
    told = f"cosine of single tokens: keys {alike['cosine of keys']:.2f}, values {alike['cosine of values']:.2f}"
    worst = min(alike["alignment of keys"], alike["alignment of values"])
    found.append(TURNED.measured(statistics.fmean(plain), statistics.fmean(turned), "positions left on"))
    return [ALIGNED.measured(worst, None, told), *found]


# -- prose ----------------------------------------------------------------------------------------


def _on_prose(lm: CausalLM, reads: Sequence[Prefilled], seed: int) -> list[Measurement]:
    exact = [whole(lm, read).nll for read in reads]
    ours: dict[float, list[float]] = {}
    sizes: dict[float, int] = {}
    found: list[Measurement] = []
    for ratio in (2.0, 3.0, 4.0):
        scores = [compressed(XKV(ratio), lm, read) for read in reads]
        ours[ratio] = [one.nll - nll for (one, _), nll in zip(scores, exact, strict=True)]
        sizes[ratio] = max(size for _, size in scores)
        if ratio in PROSE:
            single = [compressed(XKV(ratio, group=1), lm, read)[0].nll for read in reads]
            lost = [one - nll for one, nll in zip(single, exact, strict=True)]
            found.append(compared(PROSE[ratio], ours[ratio], lost, "one basis a layer", seed))
    return [*found, _mini(lm, reads, exact, seed), *_pressed(lm, reads, exact, ours, sizes, seed)]


def _mini(lm: CausalLM, reads: Sequence[Prefilled], exact: Sequence[float], seed: int) -> Measurement:
    """MiniCache as it merges, and xKV in no more bytes."""
    lost: tuple[list[float], list[float]] = ([], [])
    sizes: tuple[list[int], list[int]] = ([], [])
    for read, nll in zip(reads, exact, strict=True):
        keys, values, size = minicache(read)
        policy = XKV(_whole_bytes(read) / (0.98 * size))  # sinks and places stand beside the ratio
        ours, held = compressed(policy, lm, read)
        lost[0].append(ours.nll - nll)
        lost[1].append(behind(lm, read.passage, keys, values).nll - nll)
        sizes[0].append(held)
        sizes[1].append(size)
    times, share = sum(map(_whole_bytes, reads)) / sum(sizes[1]), sum(sizes[0]) / sum(sizes[1])
    return compared(MINI, *lost, f"MiniCache, {times:.2f} times smaller; xKV takes {share:.2f} of its bytes", seed)


def _whole_bytes(read: Prefilled) -> int:
    return sum(part.untyped_storage().nbytes() for part in (*read.keys, *read.values))


def _pressed(
    lm: CausalLM,
    reads: Sequence[Prefilled],
    exact: Sequence[float],
    ours: Mapping[float, Sequence[float]],
    sizes: Mapping[float, int],
    seed: int,
) -> list[Measurement]:
    """kvpress's SnapKV, which may keep as many tokens as fit in xKV's bytes."""
    if not kvpress_peer.installed():
        return [claim.measured(None, None, kvpress_peer.MISSING) for claim in PRESS.values()]
    found = []
    for ratio, claim in PRESS.items():
        lost = [_snapkv(lm, read, sizes[ratio])[0] - nll for read, nll in zip(reads, exact, strict=True)]
        found.append(compared(claim, ours[ratio], lost, kvpress_peer.name("SnapKVPress"), seed))
    return found


def _snapkv(lm: CausalLM, read: Prefilled, size: int) -> tuple[float, float]:
    """Likelihood lost and share found, with kvpress's SnapKV in ``size`` bytes."""
    kept = size / _whole_bytes(read)
    press = kvpress_peer.press("SnapKVPress", compression_ratio=1 - kept, window_size=32, kernel_size=5)
    left = kvpress_peer.compressed(lm.model, press, read)
    found = score(read.passage, kvpress_peer.answers(lm.model, left, read))
    return found.nll, found.right


# -- digits ---------------------------------------------------------------------------------------


def _on_digits(
    lm: CausalLM, size: Mapping[str, int], seed: int
) -> tuple[list[Measurement], Sequence[float], Sequence[float]]:
    """And what is found of each text by selective reconstruction, and with the whole cache."""
    texts = passkeys(lm, size["keys"], size["length"], seed=seed, dev=False, asked_before=False)
    right: dict[tuple[str, float], list[float]] = {}
    exact, pressed, selected = [], [], []
    for text in texts:
        read = prefill(lm, text, hidden=kvpress_peer.installed())
        exact.append(whole(lm, read).right)
        for name, policy in (("ours", XKV(RATIOS[0])), ("single", XKV(RATIOS[0], group=1))):
            first: XKVCache = replay(policy, lm, read)
            if name == "ours":
                some = truncated(first, RATIOS[0])
                some.policy = replace(some.policy, select=size["select"])
                selected.append(asked_by_steps(lm, text, some.policy, some).right)
            if name == "ours" and kvpress_peer.installed():
                pressed.append(_snapkv(lm, read, first.nbytes)[1])
            for ratio in RATIOS:
                cache = truncated(first, ratio)
                right.setdefault((name, ratio), []).append(asked(lm, text, cache.policy, cache).right)
    share = {key: statistics.fmean(found) for key, found in right.items()}
    furthest = {name: _furthest(share, name) for name in ("ours", "single")}
    told = "one basis a layer; found at " + ", ".join(
        f"{ratio:g}x {share['ours', ratio]:.2f} against {share['single', ratio]:.2f}" for ratio in RATIOS
    )
    at_third = share["ours", RATIOS[0]]
    more = 100 * (at_third - statistics.fmean(pressed)) if pressed else None
    found = [
        FOUND.measured(at_third, statistics.fmean(exact), "the whole cache"),
        OVER_PRESS.measured(more, None, kvpress_peer.name("SnapKVPress") if pressed else kvpress_peer.MISSING),
        FURTHEST.measured(furthest["ours"], furthest["single"], told),
    ]
    return found, selected, exact


def _furthest(share: Mapping[tuple[str, float], float], name: str) -> float:
    """The largest ratio up to which four of five are found; 1, the whole cache, if there is none."""
    found = 1.0
    for ratio in RATIOS:
        if share[name, ratio] < 0.8:
            break
        found = ratio
    return found


# -- bytes, speed ---------------------------------------------------------------------------------


def _bytes(lm: CausalLM, read: Prefilled, layers: int) -> Measurement:
    policy = XKV(3.0, group=layers)
    cache: XKVCache = replay(policy, lm, read)
    heads, tokens, width = read.keys[0].shape[1:]
    folded, wide = tokens - policy.sinks, heads * width * layers
    ranks = policy.ranks(folded, wide, wide)
    assert ranks is not None and len(read.keys) % layers == 0
    formula = len(cache.groups) * sum(4 * rank * (folded + wide) for rank in ranks)
    formula += len(read.keys) * policy.sinks * (2 * heads * width + 1) * 4 + len(cache.groups) * folded * 4
    return BYTES.measured(abs(cache.nbytes - formula), None, f"{formula} bytes")


def _values(lm: CausalLM, read: Prefilled) -> Measurement:
    """``(p A) B`` against ``p (A B)``, in turns, after both were seen to agree."""
    cache: XKVCache = replay(XKV(3.0), lm, read)
    coefficients, basis = cache.factors[0][1].coefficients, cache.factors[0][1].basis[..., :64]
    weights = torch.rand((1, 9, coefficients.shape[1]), generator=torch.Generator().manual_seed(0)).softmax(-1)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(30):
        begin = time.perf_counter()
        ours = (weights @ coefficients) @ basis
        between = time.perf_counter()
        theirs = weights @ (coefficients @ basis)
        times[1].append(1e3 * (time.perf_counter() - between))
        times[0].append(1e3 * (between - begin))
    if not torch.allclose(ours, theirs, atol=1e-5):
        return VALUES.measured(None, None, "the two disagree")
    return VALUES.measured(statistics.median(times[0]), statistics.median(times[1]), "values rebuilt first")


def _allocated(lm: CausalLM, size: Mapping[str, int], seed: int) -> list[Measurement]:
    """Of the same texts, one after the other; the first reading, which loads what torch needs, does not count."""
    found = []
    allocated_share(lm, None, 64, seed)
    for length, claim in ALLOCATED.items():
        tokens = min(length, size["long"])
        ours, whole = (allocated_share(lm, policy, tokens, seed) for policy in (XKV(3.0), None))
        found.append(claim.measured(ours, whole, f"the whole cache, {tokens} tokens"))
    return found


def _steps(lm: CausalLM, size: Mapping[str, int], seed: int) -> list[Measurement]:
    """Every key rebuilt, or rebuilt once and held, or only those that are looked at."""
    length, steps = size["long"], size["steps"]
    ours, whole, share = steps_behind(lm, XKV(3.0), length, steps, seed)
    held = steps_behind(lm, XKV(3.0, rebuilt=2**40), length, steps, seed)
    told = (
        f"the whole cache; in {share:.2f} of its bytes, and with rebuilt keys held {held[0]:.0f} ms (the whole cache "
    )
    told += f"{held[1]:.0f} ms) in {held[2]:.2f}"
    some = steps_behind(lm, XKV(3.0, select=size["select"]), length, steps, seed)
    return [
        STEP.measured(ours, whole, told),
        SELECTED_STEP.measured(some[0], some[1], f"the whole cache; in {some[2]:.2f} of its bytes"),
    ]


def _selected(
    lm: CausalLM, reads: Sequence[Prefilled], select: int, right: Sequence[float], exact: Sequence[float]
) -> Measurement:
    """Digits, and a little prose, read token by token."""
    lost = []
    for policy in (XKV(RATIOS[0]), XKV(RATIOS[0], select=select)):
        scores = [asked_by_steps(lm, read.passage, policy, replay(policy, lm, read)).nll for read in reads[:_READ]]
        lost.append(statistics.fmean(nll - whole(lm, read).nll for nll, read in zip(scores, reads, strict=False)))
    told = f"the whole cache; {len(reads[:_READ])} texts of prose lose {lost[1]:.3f} nats, {lost[0]:.3f} with every key"
    return SELECTED.measured(statistics.fmean(right), statistics.fmean(exact), told)
