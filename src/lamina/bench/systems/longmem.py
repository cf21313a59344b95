"""Card of LongMem: facts of segments read long ago, answered by a frozen model and a side network that learned to look.

A small Llama, whose copying heads are laid out by hand to begin with, learns to say the value of a fact stated in the
same segment of 128 tokens and is frozen. A probe finds the layer whose keys tell tokens apart best; the bank keeps
those. The side network learns on consecutive segments of texts, most of whose questions are about facts 2 to 40
segments back. All is measured on texts that were never taught: the bank holds their first segments, and the questions
of the rest are asked, to the memory, to the backbone, with banks of other rows, with the gate closed, and with chunks
of another length.

The rival that keeps the side network's own keys (Memorizing Transformers) is taught on the same lessons with the same
rates. Then both are taught on for some steps, at the full rate, and asked again, with banks written before, what those
hold; the notes also tell what each answers with a new bank: a rival that loses as much with that has not been betrayed
by its old one, but has unlearned. Rates, mixture and layers were chosen on another seed than the one reported, by as
many tries for the rival.
``lamina.bench.experiments.recall.segment_facts`` says how texts are made: this is toy scale.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim, at_most


def _share(claim: str, target: float, metric: str = "right answers") -> Claim:
    return Claim(claim, metric, "", target, of="ours")


LOCAL = _share("The frozen model answers from its own segment", 0.95)
BLIND = at_most("but knows nothing of earlier segments", "right answers", 0.05)
EARLIER = _share("LongMem answers from 2 to 40 segments back", 0.75)
SHUFFLED = at_most("It does so from its own bank: not from another row's", "right answers", 0.05)
CLOSED = at_most("and not with the gate closed", "right answers", 0.05)
KEPT = at_most("It answers from its own segment as the frozen model does", "right answers lost", 0.01)
PROSE = at_most("It reads prose as the frozen model does", "loss added", 0.02, "nats")
DISTANCE = at_most("How long ago makes no difference", "right answers, 2-10 segments back against 30-40", 0.1)
STALE = at_most("A bank stays good while the side network learns on", "right answers lost with the old bank", 0.03)
COUPLED = Claim(
    "A bank of the side network's own keys does not", "right answers lost with the old bank", "", 3.0, "less"
)
COARSER = Claim("Chunks of four answer nearly as well as single tokens", "right answers", "", 0.9)
EXACT = _share("Search finds what brute force finds", 1.0, "lists of chunks that are as good")
BYTES = at_most("The bank takes the bytes of its formula", "bytes of the bank, relative difference", 0.02)
CLAIMS = (LOCAL, BLIND, EARLIER, SHUFFLED, CLOSED, KEPT, PROSE, DISTANCE, STALE, COUPLED, COARSER, EXACT, BYTES)


CARD = Card(
    name="longmem",
    paper="Augmenting Language Models with Long-Term Memory",
    arxiv="2306.07174",
    module="lamina.activation.side_retrieval",
    summary="A frozen model consults keys and values of all it has read, through a side network that learned to look",
    claims=CLAIMS,
    run="lamina.bench.experiments.recall.segment_recall:run",
)
