"""What CMT optimises: answers that need the memory, keys that find it, and sparse aggregation of what was found.

CMT (arXiv 2412.07393) names a memory-aware objective, self-matching and top-k aggregation; the formulas are ours:

* ``memory_aware``: -sum a_t log p(y_t | y_<t, x, P) + weight relu(floor - [log p(y|x, P) - log p(y|x)]) with
  a_t = 1 + relu(log p(y_t | x, text) - log p(y_t | x)), at most 3. Tokens that the model cannot know without the
  document count more, and a memory that adds less than ``floor`` nats is punished; otherwise the model may answer
  from its weights and the memory learns nothing.
* ``match``: each query's cross-entropy over the keys of the batch. The temperature starts at 0.1 and is learned: scores
  within 10 nats of 0 cannot tell a document from all that share half its name and from one that shares all of it.
* ``choose``: the k best keys and a softmax over those alone, so that neither cost nor dilution grows with the bank.

Unusual: memories have an age. Of two that match a question equally well the newer one is right, and the softmax of
vectors cannot know; ``_superseded`` lowers each score by how well a newer memory matches. It only tells near ties
apart: a newer memory that matches 1 nat worse lowers the older one by a third as much, at 5 nats by nothing. Memories
of one document are of one age (``ages``): its end does not outdate its beginning.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

TEMPERATURE = 0.1  # at first
SUPERSEDED = 4.0  # nats that an older memory loses to a newer one that matches as well: it keeps 2 % of the weight
MOST_WEIGHT = 3.0


def memory_aware(
    memory: Tensor, closed: Tensor, text: Tensor, real: Tensor, *, weight: float, floor: float = 1.0
) -> Tensor:
    """The memory-aware loss, a scalar, from log-probabilities ``(n, t)`` of the answers' tokens.

    ``memory``: with the memory before the question; ``closed``: with nothing; ``text``: with the document itself.
    ``real`` ``(n, t)`` marks the tokens that count. A mean over tokens, and over answers for the second part.
    """
    need = (1 + (text - closed).relu()).clamp(max=MOST_WEIGHT)
    gain = ((memory - closed) * real).sum(1)
    return -(need * memory * real).sum() / real.sum() + weight * (floor - gain).relu().mean()


def match(scores: Tensor, gold: Tensor) -> Tensor:
    """Cross-entropy of ``scores`` ``(n, documents)`` at ``gold`` ``(n,)``, memories in order of age, oldest first."""
    ages = torch.arange(scores.shape[1], device=scores.device).expand(scores.shape)
    return F.cross_entropy(_superseded(scores, ages.contiguous()), gold)


def scores(queries: Tensor, keys: Tensor, temperature: Tensor) -> Tensor:
    """Cosines over the temperature ``(1,)``, ``(n, documents)``."""
    return queries @ keys.T / temperature


def choose(scores: Tensor, k: int, gold: Tensor | None = None, *, ages: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The ``k`` best of each row and their weights: places ``(n, k)`` oldest first, weights that sum to 1.

    Columns are in order of age, oldest first; ties go to the newer. ``ages`` ``(documents,)`` int64, rising, are equal
    for memories of one document; none: all differ. ``gold`` ``(n,)`` is put in for the weakest of the chosen where it
    is missing (training).
    """
    newest_first = scores.detach().flip(1).sort(dim=1, descending=True, stable=True).indices[:, :k]
    places = scores.shape[1] - 1 - newest_first
    if gold is not None:
        missing = (places != gold[:, None]).all(1)
        places = torch.cat([places[:, :-1], torch.where(missing, gold, places[:, -1])[:, None]], 1)
    places = places.sort(1).values
    chosen = places if ages is None else ages[places]
    return places, _superseded(scores.gather(1, places), chosen).softmax(1)


def spread(places: Tensor, weights: Tensor, size: int) -> Tensor:
    """Weights as rows ``(n, size)`` over all memories, 0 for those not chosen."""
    return weights.new_zeros(len(places), size).scatter(1, places, weights)


def _superseded(scores: Tensor, ages: Tensor) -> Tensor:
    """``scores`` ``(n, k)`` lowered by how near the best newer one comes; ``ages`` ``(n, k)`` rise in each row."""
    best_from = scores.flip(1).cummax(1).values.flip(1)
    best_from = torch.cat([best_from, scores.new_full((len(scores), 1), -torch.inf)], 1)
    newer = best_from.gather(1, torch.searchsorted(ages, ages, right=True))
    return scores - SUPERSEDED * (newer - scores).clamp(max=0).exp()
