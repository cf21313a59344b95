"""Card of Contextual Memory Reweaving: names and numbers that left a short window, said again from 32 slots.

The paper reports directions and no numbers that could be quoted, and has no code: what is measured here is the
mechanism of this library, on documents with planted facts (``planted_bindings`` in ``bench/experiments/recall``) and
against rivals of equal bytes (``reweaving_arms``). That answers come through the slots is checked by emptying them. Toy
scale: four layers, 128 wide.
"""

from __future__ import annotations

from lamina.bench.card import Card, at_least, at_most

RECALL = at_least("What left the window is recalled", "right answers beyond the window", 0.6)
UNSEEN = at_most("A model with the window alone cannot", "its right answers beyond the window", 0.1)
EMPTIED = at_most("Nor can the same model when its slots are emptied", "right answers beyond the window", 0.1)
EQUAL = at_least("A window widened by the same bytes recalls less", "right answers, ours less its", 0.2)
SALIENT = at_least("Slots given by salience beat slots given by lot", "right answers, ours less its", 0.2)
LAYERED = at_most(
    "Three layers a token do as well as one with three times the slots", "its right answers less ours", 0.02
)
TEXT = at_most("Ordinary text is predicted as well", "nats a token more than with the window alone", 0.01)
TIME = at_most("Reading takes little longer", "time a token more than without", 0.15)
BYTES = at_most("The state is the formula's bytes, however long the text", "bytes measured, less those of it", 0.0, "B")
UNTAUGHT = at_most("Before it is taught it changes nothing", "largest difference of logits", 0.0)
CONSISTENT = at_least("Asked twice it says the same number", "equal answers, less right ones the first time", 0.0)
CLAIMS = (RECALL, UNSEEN, EMPTIED, EQUAL, SALIENT, LAYERED, TEXT, TIME, BYTES, UNTAUGHT, CONSISTENT)


CARD = Card(
    name="memory-reweaving",
    paper="Contextual Memory Reweaving in Large Language Models Using Layered Latent State Reconstruction",
    arxiv="2502.02046",
    module="lamina.activation.state_reweaving",
    summary="A model with a short window keeps a few of its own states of what scrolled away, and weaves them back",
    claims=CLAIMS,
    run="lamina.bench.experiments.recall.woven_recall:run",
)
