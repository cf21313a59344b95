"""xKV: does one basis for neighbouring layers keep more of a text than one of each, at equal bytes?

arXiv 2503.18893. SmolLM2 reads 1,024 tokens of documentation once; every way to compress starts from those exact keys
and values, and bases, exact tokens and places are charged.

* Error of keys and values under one basis for five layers and under one a layer, and of keys factored with their
  positions left on.
* Prose: 96 tokens go on behind the text, under xKV with the group size it chooses itself, under one basis a layer,
  under MiniCache, which merges the deeper half, in MiniCache's bytes, and under what kvpress's SnapKV leaves in as
  many bytes.
* Digits hidden in 1,000 tokens and asked for after compression, when no eviction can know what matters. The largest
  ratio at which four of five are still found: xKV against one basis a layer.
* Bytes from live storage against the formula; the most that is ever held, of the cache and of all that torch allocates
  while a text is read; values that are never rebuilt; a step's time.
* Selective reconstruction, where a step rebuilds about 256 tokens' keys instead of all: its time, and what it finds.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim


def _less(claim: str, metric: str, unit: str, share: float) -> Claim:
    """Ours is at most ``share`` of the baseline."""
    return Claim(claim, metric, unit, 1 / share, "less")


ALIGNED = Claim("Neighbouring layers span like spaces of tokens, however unlike single tokens are",
                "centred kernel alignment, less of keys and values", "alignment", 0.5, "more", "ours")  # fmt: skip
ERRORS = {
    (kind, ratio): _less(f"One basis for five layers keeps more of {kind} than one a layer, {ratio:g} times smaller",
                         "relative squared error", "share", 0.65)
    for kind in ("keys", "values") for ratio in (2.0, 4.0)
}  # fmt: skip
TURNED = Claim("Keys are factored better with their positions off", "relative squared error, 4 times smaller",
               "share", 1.5, "less")  # fmt: skip
LOST = "likelihood lost per token of prose"
PROSE = {
    ratio: _less(f"Prose loses less than with one basis a layer, {ratio:g} times smaller", LOST, "nats", 0.85)
    for ratio in (2.0, 3.0)
}
MINI = _less("Prose loses less than under MiniCache, at its bytes", LOST, "nats", 1.0)
PRESS = {
    ratio: _less(f"Prose loses no more than under kvpress's SnapKV, {ratio:g} times smaller", LOST, "nats", 1.0)
    for ratio in (2.0, 4.0)
}
FOUND = Claim("Digits asked for afterwards are nearly all found, a third of the bytes", "digits found", "share", 0.9)
OVER_PRESS = Claim("Digits asked for afterwards are found where kvpress's SnapKV lost them, a third of the bytes",
                   "points more", "points", 40.0, "more", "ours")  # fmt: skip
FURTHEST = Claim("Four of five digits survive at a larger ratio than with one basis a layer", "largest such ratio",
                 "times smaller", 1.3)  # fmt: skip
BYTES = Claim("Live bytes are what the formula says", "bytes that differ", "bytes", 0.0, "less", "ours")
PEAK = Claim("Reading holds what is factored and one dense group", "peak bytes, as a share of the whole cache's",
             "share", 0.455, "less", "ours")  # fmt: skip
ALLOCATED = {
    length: _less(f"Reading {length:,} tokens takes less memory than with the whole cache",
                  "peak bytes allocated, as a share of the whole cache", "share", 1.0) for length in (1024, 4096)
}  # fmt: skip
VALUES = Claim("Values need not be rebuilt to be read", "milliseconds a layer for one query", "ms", 1.0, "less")
STEP = _less("A decoding step is not much slower than over the whole cache", "milliseconds a step at 4,096 tokens",
             "ms", 1.3)  # fmt: skip
SELECTED_STEP = _less("With selective reconstruction a decoding step is not much slower than over the whole cache",
                      "milliseconds a step at 4,096 tokens", "ms", 1.3)  # fmt: skip
SELECTED = Claim("Digits are nearly all found when only 256 tokens a head are rebuilt, a third of the bytes",
                 "digits found, read token by token", "share", 0.9)  # fmt: skip
CLAIMS = (ALIGNED, *ERRORS.values(), TURNED, *PROSE.values(), MINI, *PRESS.values(), FOUND, OVER_PRESS, FURTHEST,
          BYTES, PEAK, *ALLOCATED.values(), VALUES, STEP, SELECTED_STEP, SELECTED)  # fmt: skip

CARD = Card(
    name="xkv",
    paper="xKV: Cross-Layer SVD for KV-Cache Compression",
    arxiv="2503.18893",
    module="lamina.activation.cross_layer_svd",
    summary="A cache that keeps every token, its neighbouring layers in one shared low-rank basis",
    claims=CLAIMS,
    run="lamina.bench.experiments.caches.low_rank_caches:run",
)
