"""Card of Fast & Slow Learning: what a memory must keep is learned over boundaries that no gradient crosses.

Of the paper the abstract alone is public: what is measured is this library's design of it, on a task where one flagged
value must be kept over one or two boundaries (``credit_windows`` in ``bench/experiments/architectures``), beside
backpropagation through the whole stream and beside plain truncation, with the same rows and updates. Three boundaries
are reported and not claimed: there the method ends today.
"""

from __future__ import annotations

from lamina.bench.card import Card, at_least, at_most

WHOLE = at_least("The whole stream's gradient learns the task", "right answers, the least of 8 and 12 steps", 0.97)
TRUNCATED = at_most("Truncation does not", "its right answers, the most of all seeds", 0.55)
ONE = at_least("Over one boundary the guessed gradient learns it", "right answers, 8 steps, the worst seed", 0.9)
TWO = at_least("and over two", "right answers, 12 steps, the second best seed", 0.9)
BYTES_8 = at_most("It holds the activations of a window", "bytes saved, of the whole stream's, 8 steps", 0.6)
BYTES_16 = at_most("and no more of a longer stream", "bytes saved, of the whole stream's, 16 steps", 0.35)
FLAT = at_most("They do not grow with the stream", "relative difference, 16 steps against 8", 0.05)
RARE = at_most("Fast weights take up rare events sooner", "rare rows until 0.9 right, of those without them", 0.7)
COMMON = at_most("and the others are answered as before", "right answers of the others lost", 0.03)
CLAIMS = (WHOLE, TRUNCATED, ONE, TWO, BYTES_8, BYTES_16, FLAT, RARE, COMMON)


CARD = Card(
    name="fast-slow-nmn",
    paper="Fast & Slow Learning: Incorporating Synthetic Gradients in Neural Memory Controllers",
    arxiv="2011.05438",
    module="lamina.nn.fast_slow",
    summary="A memory's controllers are taught online, window by window, with guessed gradients of the future",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.credit_windows:run",
)
