"""Card of Talking Heads: components that forget list items are found by one gradient and mended by rank-1 edits.

SmolLM2-135M-Instruct is asked the Laundry List (``lamina.bench.experiments.channels.laundry_list``). Sixteen training
prompts for each length choose ten components to double and ten to silence; other prompts, about other objects, are
asked before the edit, with it, and with as many random components of the same layers scaled alike. Every place of the
missing item is equally frequent, and an answer counts among the listed items only, so no preference for a place or a
word can pass for memory. The paper's claim about weights is measured too: the chosen components are those which the
heads that name the item hear through their queries, by composition scores that have seen no prompt at all. What the
edit costs elsewhere is its effect on documentation text; what it leaves behind after ``revert`` is nothing.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim


def _points(claim: str, metric: str, target: float, *, less: bool = False) -> Claim:
    return Claim(claim, metric, "points", target, "less" if less else "more", "ours")


_LISTS = "accuracy of the edited model, less that of the model as it is"
GAIN = _points("Rank-1 edits mend the recall of lists", f"{_LISTS}, mean of 3, 4 and 5 items", 15.0)
EACH = _points("at every length", f"{_LISTS}, the least of three", 5.0)
PLACES = _points("and not by preferring a place", "accuracy lost at any place of three items", 5.0, less=True)
RANDOM = _points("Random components of the same layers do nothing", "size of their mean gain", 5.0, less=True)
TEXT = Claim("Other text hardly changes", "rise of the loss on documentation", "nats a token", 0.06, "less", "ours")
HEARD = Claim(
    "The weights alone show who listens", "median percentile of their Q-composition, least of three movers", "%", 80.0,
    of="ours",
)  # fmt: skip
UNHEARD = _points(
    "Movers hear other components of those layers like any",
    "median percentile less 50, largest of three",
    10.0,
    less=True,
)
REVERT = Claim("Reverting leaves nothing behind", "largest difference of logits", "", 0.0, "less", "ours")
CLAIMS = (GAIN, EACH, PLACES, RANDOM, TEXT, HEARD, UNHEARD, REVERT)


CARD = Card(
    name="talking-heads",
    paper="Talking Heads: Understanding Inter-layer Communication in Transformer Language Models",
    arxiv="2406.09519",
    module="lamina.parameter.head_channels",
    summary="Which heads talk to which, found in the weights, tested by a gradient, edited and reverted to the bit",
    claims=CLAIMS,
    run="lamina.bench.experiments.channels.channel_edits:run",
)
