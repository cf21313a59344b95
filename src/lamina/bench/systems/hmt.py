"""Card of HMT: a small model read in segments of 32 tokens recalls a fact that any of 31 segments before stated.

A small Llama learns to answer within a segment. HMT around it learns in two stages: two segments with recall off, then
2, 4 and 8 with recall on; the Recurrent Memory Transformer goes on from the first stage with recall off, for as many
steps on the same streams. Then fresh streams of 8, 16 and 32 segments are asked about; 32 is four times what was
taught.

Learning is next-token loss on the words of facts, the named key and the answer; no label says which memory to recall.
(The summary has read the named key, so the memory that holds it helps to predict it: recall is learned from that, as
it can be from any text whose words come again.) The state has as many slots as the longest stream has facts; memory
is measured with 16, so that the state is full in both lengths compared.
"""

from __future__ import annotations

from lamina.bench.card import Card, at_least, at_most

LOCAL = at_least("The backbone answers within a segment", "right answers", 0.95)
WINDOW = at_most("Without memory it cannot answer over segments", "right answers from the last segment", 0.05)

RECALL_8 = at_least("HMT recalls over as many segments as it was taught", "right answers, 8 segments", 0.8)

RECALL_32 = at_least("and over four times as many", "right answers, 32 segments", 0.6)

OVER_RMT = at_least("Recall is what does it", "right answers less those of RMT, mean of 16 and 32 segments", 0.2)
SHUFFLED = at_most("The answer comes from memory", "right answers with the memories of another stream", 0.05)
PEAK = at_most("Reading takes memory for one segment", "peak live bytes, 256 segments over 16", 1.1)
STATE = at_most("The state takes width numbers a slot", "live bytes of 16 slots, less those of the formula", 0.0, "B")
CACHE = at_least(
    "A cache of the whole stream grows with it", "live bytes of keys and values, 256 segments over 16", 16.0
)
CLAIMS = (LOCAL, WINDOW, RECALL_8, RECALL_32, OVER_RMT, SHUFFLED, PEAK, STATE, CACHE)


CARD = Card(
    name="hmt",
    paper="HMT: Hierarchical Memory Transformer for Efficient Long Context Language Processing",
    arxiv="2405.06067",
    module="lamina.activation.segment_memory",
    summary="A causal model that reads in segments and recalls what earlier ones left in memory, in constant bytes",
    claims=CLAIMS,
    run="lamina.bench.experiments.recall.streamed_recall:run",
)
