"""Card of UltraMemV2: facts with a long tail, kept by a table of which a token reads 16 of 4,096 rows.

Four models of 32 channels and two layers learn 16,384 facts, each the same batches at the same rate (that of the table
is part of the method): a dense one, a dense one as wide as the memory's multiply-adds allow, a mixture of experts with
the memory's multiply-adds and its parameters, and UltraMemV2 beside the first one's feed-forward blocks. All facts are
asked; the tail is the half that was seen least. UltraMemV2 once more with a table that stays as it was drawn shows
whether it is the table that learned.

No rate is searched for. Bytes are counted where rows and experts are read. The published package of the first UltraMem
is not among those compared: it is no dependency of this one.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim, at_least, at_most

TAIL = at_least("The tail is known better than by a dense model of as many multiply-adds", "right answers more", 0.12)
EXPERTS = at_most("and no worse than by experts of as many parameters", "right answers less, in the tail", 0.03)
FROZEN = at_least("It is the table that learned", "share of the gain lost with a table that did not", 0.5)
BYTES = Claim("A batch touches fewer bytes than of experts", "bytes of tables and experts, 64 tokens", "B", 2.0, "less")
ROWS = at_most("A token reads the rows it says and no others", "bytes, relative difference", 0.0)
MACS = at_most("Multiply-adds of those compared are alike", "relative difference, at most", 0.05)
PARAMETERS = at_most("So are the parameters of memory and experts", "relative difference", 0.1)
CUT = at_least("The cut finds the best cells of those it is about", "share found, at first", 0.95)
SCORE = at_most("Selected scores begin near 1", "factor from 1, at most", 2.0)
BEGINNING = at_most("Its output begins as large as the feed-forward block's", "factor between, 2 to 24 layers", 2.0)
CLAIMS = (TAIL, EXPERTS, FROZEN, BYTES, ROWS, MACS, PARAMETERS, CUT, SCORE, BEGINNING)


CARD = Card(
    name="ultramem-v2",
    paper="UltraMemV2: Memory Networks Scaling to 120B Parameters with Superior Long-Context Learning",
    arxiv="2508.18756",
    module="lamina.nn.memory_layer",
    summary="A table of facts beside every feed-forward block, of which a token reads a few rows",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.long_tail:run",
)
