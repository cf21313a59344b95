"""Talking Heads: which attention heads talk to which, through which directions, and what happens if they do not.

Merullo, Eickhoff, Pavlick: Talking Heads: Understanding Inter-layer Communication in Transformer Language Models,
arXiv 2406.09519. Heads of different layers communicate through low-rank channels: components of what one head writes
that another reads. The tools, on a language model of transformers as it is:

    svd = HeadSVD(lm)                          # components of every head, from the weights
    table = composition_scores(svd, "q")       # who hears whom: scores, and z among random directions
    channel = find_channel(table, (21, 5))     # what a head listens to
    found = attribute(svd, batch, margin)      # which components a task needs: one backward pass
    with intervene(lm, channel, "remove"): ... # what if they were silent
    delta = edit(svd, [(17, 3, 0, 2.0)])       # the same in the weights, kept as a memory, reverted to the bit

The paper studies GPT-2 and Pythia. New here: grouped-query attention, rotary positions (a score for several distances)
and RMSNorm, in place, without a second copy of the weights (``lamina.parameter.channels``).
"""

from lamina.parameter.channels.attribution import AttributionTable, ablate, attention_margin, attribute, logit_margin
from lamina.parameter.channels.batches import Batch, massive
from lamina.parameter.channels.components import Component, Components, Head, HeadSVD
from lamina.parameter.channels.composition import DISTANCES, CompositionTable, Link, composition_scores
from lamina.parameter.channels.discovery import Channel, find_channel
from lamina.parameter.channels.edits import Scaled, WeightDelta, edit
from lamina.parameter.channels.heads import HeadFactors, Heads
from lamina.parameter.channels.intervention import intervene, read_channel

__all__ = [
    "DISTANCES",
    "AttributionTable",
    "Batch",
    "Channel",
    "Component",
    "Components",
    "CompositionTable",
    "Head",
    "HeadFactors",
    "HeadSVD",
    "Heads",
    "Link",
    "Scaled",
    "WeightDelta",
    "ablate",
    "attention_margin",
    "attribute",
    "composition_scores",
    "edit",
    "find_channel",
    "intervene",
    "logit_margin",
    "massive",
    "read_channel",
]
