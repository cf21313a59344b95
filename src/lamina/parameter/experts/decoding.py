"""Greedy decoding of many prompts at once, free or within a grammar.

Under a grammar each row takes the most probable token whose text may follow: tokens are tried in the order of their
logits, and the first that the automaton accepts is the argmax over all that are allowed. No mask over the
vocabulary is built; past the most probable few, only tokens whose first character may follow are looked at. What
all prompts have in common (system message, examples) is read once and its cache repeated: a few-shot prompt then
costs what a bare one does.

Prompts are padded on the left, with positions counted from the first real token. Caches live for one call: keys and
values made under one adapter mean nothing to another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from lamina._optional import require
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.grammar import Grammar, States

if TYPE_CHECKING:
    from torch import Tensor

_FEW = 64  # candidates tried before the whole vocabulary is sorted
# Decoding a vocabulary takes a second.
_PIECES: WeakKeyDictionary[CausalLM, tuple[list[str], dict[str, list[int]]]] = WeakKeyDictionary()


class GreedyDecoder:
    """Decodes with ``lm`` under whatever adapter is in use. Greedy, hence deterministic."""

    def __init__(self, lm: CausalLM) -> None:
        self._lm = lm

    def __call__(
        self, prompts: Sequence[Sequence[int]], *, max_tokens: int, grammar: Grammar | None = None
    ) -> list[list[int]]:
        """Token ids of each reply, up to and without the token that ends a turn.

        A reply that reaches ``max_tokens`` is cut there, also inside a grammar: then it is no whole value, and
        whoever reads it sees that. Raises ``InvalidInput`` for an empty prompt, or one beyond the model's context.
        """
        if not prompts:
            return []
        longest = max(map(len, prompts))
        if min(map(len, prompts)) == 0 or longest + max_tokens > self._lm.limit:
            raise InvalidInput(
                f"prompts of {min(map(len, prompts))} to {longest} tokens with max_tokens={max_tokens}: each must have "
                f"at least 1, and all must fit the {self._lm.limit} that {self._lm.name} reads"
            )
        torch = require("torch", "decoding")
        with self._lm.lock, torch.inference_mode():
            return self._decode(torch, prompts, max_tokens, grammar)

    def _decode(
        self, torch: Any, prompts: Sequence[Sequence[int]], max_tokens: int, grammar: Grammar | None
    ) -> list[list[int]]:
        model = self._lm.model
        logits, cache, mask = self._prefill(torch, prompts)
        rows = [_Row(self, grammar) for _ in prompts]
        stop = next(iter(self._lm.stops))
        for step in range(max_tokens):
            picked = [row.take(scores) for row, scores in zip(rows, self._ordered(torch, logits, grammar), strict=True)]
            if all(row.done for row in rows) or step == max_tokens - 1:
                break
            ids = torch.tensor([[stop if token is None else token] for token in picked], device=mask.device)
            places = mask.sum(1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            out = model(ids, attention_mask=mask, position_ids=places, past_key_values=cache, logits_to_keep=1)
            logits = out.logits[:, -1]
        return [row.ids for row in rows]

    def _prefill(self, torch: Any, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Any, Tensor]:
        """Last logits (n, vocabulary), the cache of all prompts, and their mask (n, longest)."""
        model, n = self._lm.model, len(prompts)
        common = _common(prompts)
        cache = None
        if common:
            head = torch.tensor([list(prompts[0][:common])], device=model.device)
            cache = model(head, use_cache=True, logits_to_keep=1).past_key_values
            cache.batch_repeat_interleave(n)
        width = max(map(len, prompts)) - common
        ids = torch.full((n, width), next(iter(self._lm.stops)))
        mask = torch.ones(n, common + width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            rest = torch.tensor(list(prompt[common:]))
            ids[row, width - len(rest) :] = rest
            mask[row, common : common + width - len(rest)] = 0
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, common:]
        ids, mask, places = (each.to(model.device) for each in (ids, mask, places))
        out = model(
            ids, attention_mask=mask, position_ids=places, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return out.logits[:, -1], out.past_key_values, mask

    def _ordered(self, torch: Any, logits: Tensor, grammar: Grammar | None) -> list[_Scores]:
        few = torch.topk(logits, 1 if grammar is None else min(_FEW, logits.shape[1]), dim=1).indices.tolist()
        return [_Scores(row, first) for row, first in zip(logits, few, strict=True)]

    @property
    def pieces(self) -> list[str]:
        """The text each token adds after a letter; half of a character reads as U+FFFD, which no grammar takes."""
        return self._vocabulary[0]

    @property
    def starts(self) -> dict[str, list[int]]:
        """Tokens by the first character of their piece; those that end a turn have none."""
        return self._vocabulary[1]

    @property
    def _vocabulary(self) -> tuple[list[str], dict[str, list[int]]]:
        if self._lm not in _PIECES:
            tokenizer = self._lm.tokenizer
            anchor = self._lm.encode("a")[-1]
            before = len(self._lm.decode([anchor]))
            pairs = [[anchor, token] for token in range(int(self._lm.model.config.vocab_size))]
            decoded = tokenizer.batch_decode(pairs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            starts: dict[str, list[int]] = {}
            for token, text in enumerate(decoded):
                starts.setdefault(text[before : before + 1], []).append(token)
            starts.pop("", None)
            _PIECES[self._lm] = [text[before:] for text in decoded], starts
        return _PIECES[self._lm]

    @property
    def stops(self) -> frozenset[int]:
        return self._lm.stops


@dataclass(frozen=True, slots=True)
class _Scores:
    """The logits of one row, and its most probable tokens, the best first."""

    logits: Tensor
    first: list[int]

    def sorted(self, tokens: Sequence[int]) -> list[int]:
        """``tokens``, the most probable first."""
        order: list[int] = self.logits[list(tokens)].argsort(descending=True).tolist()
        return [tokens[place] for place in order]


class _Row:
    """One reply as it grows."""

    def __init__(self, decoder: GreedyDecoder, grammar: Grammar | None) -> None:
        self.ids: list[int] = []
        self.done = False
        self._decoder = decoder
        self._grammar = grammar
        self._states: States = grammar.start if grammar is not None else frozenset()

    def take(self, scores: _Scores) -> int | None:
        """The next token, appended; ``None`` once the reply has ended."""
        if self.done:
            return None
        token = scores.first[0] if self._grammar is None else self._allowed(self._grammar, scores)
        if token is None or token in self._decoder.stops:
            self.done = True
            return None
        self.ids.append(token)
        return token

    def _allowed(self, grammar: Grammar, scores: _Scores) -> int | None:
        """The most probable token that may follow; ``None`` if none may."""
        for token in scores.first:
            if self._fits(grammar, token):
                return token
        may_start = [tokens for first, tokens in self._decoder.starts.items() if grammar.advance(self._states, first)]
        ends = self._decoder.stops if grammar.is_complete(self._states) else frozenset()
        rest = [*ends, *(token for tokens in may_start for token in tokens)]
        return next((token for token in scores.sorted(rest) if self._fits(grammar, token)), None)

    def _fits(self, grammar: Grammar, token: int) -> bool:
        """Whether ``token`` may follow; if so, it is read."""
        if token in self._decoder.stops:
            return grammar.is_complete(self._states)
        piece = self._decoder.pieces[token]
        states = grammar.advance(self._states, piece) if piece else frozenset()
        self._states = states or self._states
        return bool(states)


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Length of the longest prefix of all prompts that leaves each at least one token; 0 for a single prompt."""
    if len(prompts) == 1:
        return 0
    columns = zip(*prompts, strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    return min(shared, min(map(len, prompts)) - 1)
