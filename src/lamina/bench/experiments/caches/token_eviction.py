"""How the claims of CAKE are measured; what is claimed, and on what, is said in ``bench.systems.cake``."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from lamina.activation.cascade_eviction import CAKE, CakeCache, pyramidkv, random_eviction, snapkv, streaming_llm
from lamina.bench import kvpress_peer
from lamina.bench.card import Measurement, Scale
from lamina.bench.experiments.caches.cache_costs import peak_share, step_times
from lamina.bench.experiments.caches.compressed_context import (
    Prefilled,
    Score,
    compared,
    compressed,
    passkeys,
    prefill,
    prose,
    replay,
    score,
    whole,
)
from lamina.bench.systems.cake import (
    BEST_PRESS,
    DIGITS,
    KEPT,
    LIKE_SNAP,
    NESTED,
    OVER_CHANCE,
    OVER_PYRAMID,
    OVER_SNAP,
    OVER_STREAM,
    PEAK,
    PRESS,
    SAME,
    STEP,
)
from lamina.llm.causal import CausalLM

_SIZES: Mapping[Scale, Mapping[str, int]] = {
    "smoke": {"texts": 1, "before": 272, "after": 8, "keys": 2, "length": 200, "dev": 1, "long": 256, "steps": 3},
    "laptop": {
        "texts": 12,
        "before": 900,
        "after": 64,
        "keys": 20,
        "length": 1000,
        "dev": 8,
        "long": 4096,
        "steps": 12,
    },
    "full": {"texts": 48, "before": 900, "after": 64, "keys": 60, "length": 1000, "dev": 8, "long": 4096, "steps": 24},
}
_TAUS = ((1.0, 1.0), (1.6, 0.4), (0.8, 1.0), (0.4, 0.8))
_PRESSES: Mapping[str, Mapping[str, Any]] = {
    "SnapKVPress": {"window_size": 32, "kernel_size": 5},
    "StreamingLLMPress": {"n_sink": 4},
    "ExpectedAttentionPress": {},
}


def run(seed: int, scale: Scale) -> list[Measurement]:
    """Every claim once. Without kvpress its claims are not measured, and so do not hold."""
    size = _SIZES[scale]
    lm = CausalLM.load()
    texts = prose(lm, size["texts"], size["before"], size["after"], seed=seed, dev=False)
    reads = [prefill(lm, text, hidden=kvpress_peer.installed()) for text in texts]
    return [
        *_on_prose(lm, reads, size["before"], seed),
        *_against_kvpress(lm, reads, size["before"], seed),
        _on_digits(lm, size, seed),
        _nested(lm, reads[0], size["before"] // 4),
        _peak(size["long"], seed),
        _step(lm, size["long"], size["steps"], seed),
    ]


# -- prose ----------------------------------------------------------------------------------------


def _policies(tokens: int) -> dict[str, CAKE]:
    return {
        "CAKE": CAKE(tokens=tokens),
        "SnapKV": snapkv(tokens=tokens),
        "PyramidKV": pyramidkv(tokens=tokens),
        "StreamingLLM": streaming_llm(tokens=tokens),
        "chance": random_eviction(tokens=tokens),
    }


def _on_prose(lm: CausalLM, reads: Sequence[Prefilled], length: int, seed: int) -> list[Measurement]:
    exact = [whole(lm, read).nll for read in reads]
    lost = {
        (name, kept): [compressed(policy, lm, read)[0].nll - nll for read, nll in zip(reads, exact, strict=True)]
        for kept in (0.5, 0.25)
        for name, policy in _policies(round(kept * length)).items()
        if kept == 0.25 or name in ("CAKE", "SnapKV")
    }
    rows = [(OVER_SNAP, "SnapKV", 0.5), (LIKE_SNAP, "SnapKV", 0.25), (OVER_PYRAMID, "PyramidKV", 0.25)]
    rows += [(OVER_STREAM, "StreamingLLM", 0.25), (OVER_CHANCE, "chance", 0.25)]
    return [compared(claim, lost["CAKE", kept], lost[name, kept], name, seed) for claim, name, kept in rows]


# -- kvpress --------------------------------------------------------------------------------------


def _against_kvpress(lm: CausalLM, reads: Sequence[Prefilled], length: int, seed: int) -> list[Measurement]:
    """At equal bytes: what a press leaves is CAKE's budget, positions and scores included."""
    if not kvpress_peer.installed():
        return [claim.measured(None, None, kvpress_peer.MISSING) for claim in (*PRESS, BEST_PRESS, SAME)]
    exact = [whole(lm, read).nll for read in reads]
    found: list[Measurement] = []
    for claim, kept in zip(PRESS, KEPT, strict=True):
        presses = _PRESSES if kept == KEPT[-1] else {"SnapKVPress": _PRESSES["SnapKVPress"]}
        theirs = {kind: [_pressed(lm, read, kind, 1 - kept, options) for read in reads]
                  for kind, options in presses.items()}  # fmt: skip
        size = min(one[1] for scores in theirs.values() for one in scores)
        ours = _lost(exact, [compressed(CAKE(size), lm, read)[0] for read in reads])
        lost = {kind: _lost(exact, [one[0] for one in scores]) for kind, scores in theirs.items()}
        found.append(compared(claim, ours, lost["SnapKVPress"], kvpress_peer.name("SnapKVPress"), seed))
        if kept == KEPT[-1]:
            best = min(lost, key=lambda kind: statistics.fmean(lost[kind]))
            found.append(compared(BEST_PRESS, ours, lost[best], kvpress_peer.name(best), seed))
    return [*found, SAME.measured(_differing(lm, reads[0], length // 4), None, kvpress_peer.name("SnapKVPress"))]


def _lost(exact: Sequence[float], scores: Sequence[Score]) -> list[float]:
    return [one.nll - nll for one, nll in zip(scores, exact, strict=True)]


def _pressed(lm: CausalLM, read: Prefilled, kind: str, ratio: float, options: Mapping[str, Any]) -> tuple[Score, int]:
    press = kvpress_peer.press(kind, compression_ratio=ratio, **options)
    left = kvpress_peer.compressed(lm.model, press, read)
    size = kvpress_peer.nbytes(left)
    return score(read.passage, kvpress_peer.answers(lm.model, left, read)), size


def _differing(lm: CausalLM, read: Prefilled, tokens: int) -> int:
    """Tokens that one SnapKV keeps and the other does not, over layers and heads."""
    length = len(read.passage.ids)
    press = kvpress_peer.press("SnapKVPress", compression_ratio=1 - tokens / length, window_size=32, kernel_size=5)
    kept: list[torch.Tensor] = []
    scoring = press.score

    def noted(*given: Any, **options: Any) -> torch.Tensor:
        scores: torch.Tensor = scoring(*given, **options)
        kept.append(scores.topk(int(length * (1 - press.compression_ratio)), -1).indices[0])
        return scores

    press.score = noted
    kvpress_peer.compressed(lm.model, press, read)
    cache = replay(snapkv(tokens=kept[0].shape[-1]), lm, read)
    return sum(
        len(set(theirs.tolist()) ^ set(ours.tolist()))
        for layer, heads in enumerate(kept)
        for theirs, ours in zip(heads, cache.kept(layer)[0], strict=True)
    )


# -- digits ---------------------------------------------------------------------------------------


def _on_digits(lm: CausalLM, size: Mapping[str, int], seed: int) -> Measurement:
    tokens = size["length"] // 4
    dev = _read(lm, size["dev"], size["length"], seed, dev=True)
    few = 1 if size["dev"] > 1 else 12
    shapes = itertools.product(_TAUS, (0.0, 200.0), (5, 9, 13))
    ours = [CAKE(tokens=tokens, tau=tau, gamma=gamma, pool=pool) for tau, gamma, pool in shapes]
    windows = itertools.product((8, 16, 20, 24, 32, 40), (5, 7, 9, 13))
    theirs = [snapkv(tokens=tokens, window=window, pool=pool) for window, pool in windows]
    best, rival = _best(lm, dev, ours[::few]), _best(lm, dev, theirs[::few])
    test = _read(lm, size["keys"], size["length"], seed + 3, dev=False)
    right = [100 * statistics.fmean(compressed(policy, lm, read)[0].right for read in test) for policy in (best, rival)]
    exact = 100 * statistics.fmean(whole(lm, read).right for read in test)
    told = (
        f"SnapKV window {rival.window}, pool {rival.pool}: {right[1]:.0f} %; "
        f"CAKE tau {best.tau}, gamma {best.gamma:g}, pool {best.pool}: {right[0]:.0f} %; whole cache: {exact:.0f} %"
    )
    return DIGITS.measured(max(right[1] - right[0], 0.0), None, told)


def _read(lm: CausalLM, count: int, length: int, seed: int, *, dev: bool) -> list[Prefilled]:
    return [prefill(lm, text) for text in passkeys(lm, count, length, seed=seed, dev=dev, asked_before=True)]


def _best(lm: CausalLM, dev: Sequence[Prefilled], policies: Sequence[CAKE]) -> CAKE:
    """The setting under which the digits of the development prompts are likeliest."""
    return min(policies, key=lambda policy: statistics.fmean(compressed(policy, lm, read)[0].nll for read in dev))


# -- bytes, speed ---------------------------------------------------------------------------------


def _nested(lm: CausalLM, read: Prefilled, tokens: int) -> Measurement:
    """Against the same layers cut once, when all have been seen."""
    stepwise = replay(CAKE(tokens=tokens), lm, read)
    at_once = replay(_AtOnce(tokens=tokens), lm, read)
    at_once.cut_now()
    differ = sum(
        len(set(one.tolist()) ^ set(two.tolist()))
        for layer in range(len(read.keys))
        for one, two in zip(stepwise.kept(layer)[0], at_once.kept(layer)[0], strict=True)
    )
    return NESTED.measured(differ)


class _AtOnce(CAKE):
    """No cascade: everything is held until the last layer has read."""

    def cache(self, model: Any) -> _AtOnceCache:
        return _AtOnceCache(self, int(model.config.num_hidden_layers))


class _AtOnceCache(CakeCache):
    def _cut(self, unread: int) -> None:
        """Not yet."""

    def cut_now(self) -> None:
        super()._cut(0)


def _peak(length: int, seed: int) -> Measurement:
    ours, whole_first = (peak_share(policy(tokens=length // 16, window=8), length, seed) for policy in (CAKE, _AtOnce))
    return PEAK.measured(ours, whole_first, "the same without the cascade")


def _step(lm: CausalLM, length: int, steps: int, seed: int) -> Measurement:
    ours, dense = step_times(lm, CAKE(tokens=max(length // 16, 64)), length, steps, seed)
    return STEP.measured(ours, dense, "the whole cache")
