"""Card of B'MOJO: what was bound to a key at the beginning of a text, asked far beyond the window.

Texts of 48 tokens state four pairs of a key and a value and then say nothing but the four questions, at places drawn
uniformly, so most answers lie beyond a window of 8. Seven models of the same trunk with as many parameters learn on the
same stream of texts, at the same rate, for at most as many steps: full attention, which shows that the task can be
learned; a window alone; the gated delta rule alone; B'MOJO-F, a window over tokens and one over summaries; and B'MOJO,
which keeps 8 tokens besides, those the state did not predict, or as controls random ones or the most recent ones.

Nothing but the answers is taught: the filler is in no loss, and what the selection learns from is the prediction of a
token's own input. The state inside B'MOJO has two heads; the gated delta rule alone has four for as many parameters,
which can hold four pairs, in fewer bytes, and is told beside the result. So what is claimed is what the kept tokens add
to a small state, not that no state could do. Figures are means over three beginnings, on texts never taught.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim, at_least, at_most

SOLVABLE = at_least("Full attention learns the task", "right answers", 0.98)
RECALLED = at_least("B'MOJO answers from beyond its window", "right answers", 0.9)
OVER_FADING = at_least("It is what was kept that answers", "right answers less those of B'MOJO-F", 0.3)
OVER_RANDOM = at_least("and not that something was kept", "right answers less those with random tokens kept", 0.2)
OVER_RECENT = at_least("nor a wider window", "right answers less those with the most recent tokens kept", 0.4)
PRECISION = Claim("It keeps what was stated, not filler", "share of stated tokens among those kept", "", 1.8)
SEEN = at_most("No query sees more keys than two windows and what is kept", "keys seen by a query, at most", 24.0)
CONSTANT = at_most("What is kept does not grow with the text", "bytes after 192 tokens over those after 48", 1.0)
CLAIMS = (SOLVABLE, RECALLED, OVER_FADING, OVER_RANDOM, OVER_RECENT, PRECISION, SEEN, CONSTANT)


CARD = Card(
    name="b-mojo",
    paper="B'MOJO: Hybrid State Space Realizations of Foundation Models with Eidetic and Fading Memory",
    arxiv="2407.06324",
    module="lamina.nn.eidetic_fading",
    summary="One softmax over a window, summaries of what left it, and the few tokens that the state did not predict",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.eidetic_recall:run",
)
