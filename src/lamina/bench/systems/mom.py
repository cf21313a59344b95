"""Card of MoM: four memories and a shared one recall what one state of as many active floats overwrites.

Without any learning: random pairs, each sent to one of four memories, are read from them, from one memory of the same
size, and from one with four times the keys.

With learning: a small decoder with a single gated delta state learns recall of up to 16 pairs. Copies of that one
checkpoint become a mixture of memories, a state of three times the values (as many active floats), one of three times
the keys, or stay as they are; all go on for the same steps on the same batches of up to 31 pairs. Learning rates are
the same for all arms, and none was tried out on the seeds that are reported. A mixture that begins from nothing learns
recall more slowly than a single state in these minutes, so that is not compared.

The trained mixture is then read token by token, padded, and disturbed; its bytes and its time a token are measured
after short and long texts. Every figure is the mean of two seeds; parameters and bytes of the arms stand in the notes.
"""

from __future__ import annotations

from lamina.bench.card import Card, at_least, at_most

CAPACITY = at_least("Routed pairs survive where one state overwrites them", "cosine of 32 pairs, less one state", 0.3)
LARGE = at_most("as in one of four times the keys", "cosine of 32 pairs, difference", 0.03)
EXACT = at_most("Orthogonal keys are read exactly up to full memories", "largest error", 1e-3)
SOLVED = at_least("The task can be solved: by attention", "right answers, 31 pairs", 0.98)
OVER_SINGLE = at_least("MoM recalls more than the single state it began as", "right answers, 31 pairs, less", 0.08)
OVER_WIDE = at_least("and more than one of as many active floats", "right answers, 31 pairs, less", 0.03)
LEAST = at_least("Every memory is used", "least share of tokens", 0.15)
MOST = at_most("and none by nearly all", "largest share of tokens", 0.7)
STATE = at_most("The state takes the bytes of its formula at any length", "relative difference", 0.0)
FLAT = at_most("A token takes as long after 4,096 others as after 64", "ms over ms", 1.2)
STEPPED = at_most("A text read token by token says the same", "largest difference of logits", 1e-4)
PADDED = at_most("and so does a row that is padded", "largest difference of logits", 1e-4)
CAUSAL = at_most("No token changes what was said before it", "largest difference of logits", 0.0)
APART = at_most("No row changes another", "largest difference of logits in float64", 1e-12)
CLAIMS = (
    *(CAPACITY, LARGE, EXACT, SOLVED, OVER_SINGLE, OVER_WIDE, LEAST, MOST),
    *(STATE, FLAT, STEPPED, PADDED, CAUSAL, APART),
)


CARD = Card(
    name="mom",
    paper="MoM: Linear Sequence Modeling with Mixture-of-Memories",
    arxiv="2502.13685",
    module="lamina.nn.mixed_memories",
    summary="A few matrices keep the past in constant bytes; each token writes to those it belongs to",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.memory_mixtures:run",
)
