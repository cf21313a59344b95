"""Card of Synaptic Resonance: a gate that asks for the context recalls where a gate on tokens cannot.

Texts state 64 pairs of a key and a value, a quarter of them about the text's topic, and ask for six of those; every key
is wanted in some texts and noise in the others (``experiments.architectures.contextual_recall``). One layer with one
head of 24 x 32 numbers cannot keep all 64. Six such layers learn on the same fresh texts with the same rate and steps:
two rules of writing, each with the gate of Synaptic Resonance, a gate on the token alone (as Gated DeltaNet has) and
none (DeltaNet; linear attention). No arm has fewer parameters by 2 % or a smaller state than Synaptic Resonance: what
lacks the trace has wider values, what lacks the gate's matrix a small feed-forward block. Attention over a window of
as many bytes is measured beside them, and over everything, which says whether the task can be solved at all.

A pair is one input, the sum of its two embeddings: this measures the gate and the rule, not how tokens are bound to
pairs (the convolution before the layer does that, and is out of play). The first third of the lessons is short texts,
of half the pairs in the same proportion, for every arm alike. This is toy scale; nothing is claimed about language.

Rate, lessons and how embeddings begin were chosen on seeds 100 and 101 in some forty-five trainings, nearly all of arms
with the full gate; the others learn by the same settings and were hardly tried on them. Seen there, one training each,
with the settings of this card: delta rule .74 and .85 with the gate (two draws), .67 with a gate on tokens, .49 with
none; attention .997. Without short lessons or with shorter ones it had .40 and .67. Under Hebb's rule the gate opened
for everything (.92 at pairs of the topic and at the others) in every try: .64 right, .70 at half the rate.
"""

from __future__ import annotations

from lamina.bench.card import Card, Claim, at_least, at_most

SOLVABLE = at_least("Attention over the whole text solves the task", "right answers", 0.98)
RECALL = at_least("Synaptic Resonance recalls what belongs to the topic", "right answers, the better rule", 0.85)
OVER_DELTA = at_least("Under the delta rule its gate is better than none", "right answers more", 0.12)
OVER_HEBB = at_least("and under Hebb's rule", "right answers more", 0.12)
OVER_TOKEN = at_least("and better than a gate on the token alone", "right answers more, delta rule", 0.2)
SELECTS = at_least("The gate opens for the topic, by no label", "gate at pairs of the topic less others", 0.2)
REBOUND = at_least(
    "Where keys are bound anew, the delta rule is no worse than Hebb's", "right answers more, with the gate", 0.0
)
NOISE = Claim(
    "Three times the distractors and 10% wrong values cost it half of what they cost DeltaNet",
    "right answers lost",
    "",
    2.0,
    "less",
)
FROZEN = at_most("With plasticity stopped halfway, later pairs are not known", "right answers about them", 0.03)
BYTES = at_most("Its state takes the bytes of its formula", "bytes more or less", 0.0, "B")
FLAT = at_most(
    "A token takes as long after 8192 others as after 128", "time of a token, after 8192 over after 128", 1.15
)
CLAIMS = (SOLVABLE, RECALL, OVER_DELTA, OVER_HEBB, OVER_TOKEN, SELECTS, REBOUND, NOISE, FROZEN, BYTES, FLAT)


CARD = Card(
    name="synaptic-resonance",
    paper="Exploring Synaptic Resonance in Large Language Models: A Novel Approach to Contextual Memory Integration",
    arxiv="2502.10699",
    module="lamina.nn.synaptic_resonance",
    summary="Fast weights of constant size, rewritten while a text is read as far as a token belongs to its context",
    claims=CLAIMS,
    run="lamina.bench.experiments.architectures.resonant_recall:run",
)
