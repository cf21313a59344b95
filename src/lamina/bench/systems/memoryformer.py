"""Card of MemoryFormer: a byte model of source code whose projections are read from tables, beside one of matrices.

Both are two layers of 128 channels, taught the same batches of Python's own library and asked about its last part. The
dense one has a gated feed-forward block of the multiply-adds of a usual one. They are equal in width, not in bytes: the
tables take some twenty times as many, which is said with every figure. Of the rates 1e-3 and 3e-3 the second was better
for both at half the width, with another seed and another held-out part (dense 2.54 nats against 2.85, tables 2.53
against 2.88); tables learn three times as fast as the rest, whatever the rate. The dense model is taught at the other
rate too, which is what the paper has, and the better of the two on what is reported counts.

Costs are counted from what the modules do when they run, against the formulas. Time is one block's projections for a
single token, and for more: what is quicker at one token is slower at many, and to teach.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim, at_least, at_most

MAGNITUDE = at_least("Tables learn more than matrices of the same width", "nats a byte, dense less tables", 0.1)
PROBABILITY = at_least("and with the paper's own score", "nats a byte, dense less tables", 0.05)
GRADIENT = Claim("The scores' gradient is part of it", "nats a byte, against scores without", "nats", 1.0, "less")
LOCALITY = at_least("So are the rows: drawn at random they say nothing", "nats a byte, less those of biases alone", 0.0)
MACS = at_most("Multiply-adds are the formula's share of dense ones", "share, less that of the formula", 0.0)
STORED = at_most("Tables store the bytes of the formula", "bytes, less those of the formula", 0.0, "B")
READ = at_most("A token reads the bytes of the formula", "bytes, less those of the formula", 0.0, "B")
DECODING = Claim("A single token takes less time on a CPU", "CPU time of a block's projections", "us", 2.5, "less")
CLAIMS = (MAGNITUDE, PROBABILITY, GRADIENT, LOCALITY, MACS, STORED, READ, DECODING)


CARD = Card(
    name="memoryformer",
    paper="MemoryFormer: Minimize Transformer Computation by Removing Fully-Connected Layers",
    arxiv="2411.12992",
    module="lamina.nn.table_linear",
    summary="Tables that are read by the signs of the input, in place of every matrix of a block",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.table_layers:run",
)
