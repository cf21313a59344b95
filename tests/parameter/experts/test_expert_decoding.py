"""Batched decoding gives what one prompt alone gives; under a grammar, the best allowed token at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM
from lamina.parameter.experts.decoding import GreedyDecoder
from lamina.parameter.experts.grammar import Grammar
from lamina.parameter.experts.operations import Exchange
from lamina.parameter.experts.prompts import Facts, messages

TEXTS = ("I live in Oslo.", "Hi!", "My dog is called Rex, and he is the best dog there is.")


def _prompts(lm: CausalLM) -> list[list[int]]:
    return [lm.prompt(messages(Exchange((("Ada", text),)))) for text in TEXTS]


def test_a_batch_says_what_each_prompt_alone_does(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    alone = [list(lm.steps(prompt, 12)) for prompt in _prompts(lm)]
    assert GreedyDecoder(lm)(_prompts(lm), max_tokens=12) == alone
    assert [GreedyDecoder(lm)([prompt], max_tokens=12)[0] for prompt in _prompts(lm)] == alone


def test_prompts_that_are_equal_or_share_nothing_are_no_exception(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm(1)
    first, second, _ = _prompts(lm)
    expected = list(lm.steps(first, 6)), list(lm.steps(second[5:], 6))
    assert GreedyDecoder(lm)([first, first], max_tokens=6) == [expected[0], expected[0]]
    assert GreedyDecoder(lm)([first, second[5:]], max_tokens=6) == [*expected]


def test_each_constrained_token_is_the_argmax_of_all_that_are_allowed(tiny_lm: Callable[..., CausalLM]) -> None:
    lm, grammar = tiny_lm(2), Grammar(Facts)
    decoder = GreedyDecoder(lm)
    prompts = _prompts(lm)[:2]
    for prompt, reply in zip(prompts, decoder(prompts, max_tokens=10, grammar=grammar), strict=True):
        states, ids = grammar.start, list(prompt)
        for token in reply:
            with torch.inference_mode():
                logits = lm.model(torch.tensor([ids])).logits[0, -1]
            allowed = [i for i, piece in enumerate(decoder.pieces) if piece and grammar.advance(states, piece)]
            assert token == max(allowed, key=lambda i: float(logits[i]))
            states = grammar.advance(states, decoder.pieces[token])
            ids.append(token)


def test_a_grammar_makes_even_noise_write_its_form(tiny_lm: Callable[..., CausalLM]) -> None:
    lm, grammar = tiny_lm(3), Grammar(Facts)
    for reply in GreedyDecoder(lm)(_prompts(lm), max_tokens=40, grammar=grammar):
        assert grammar.advance(grammar.start, lm.decode(reply))  # a prefix of the form: noise never closes its string


def test_pieces_say_what_a_token_adds(tiny_lm: Callable[..., CausalLM]) -> None:
    lm = tiny_lm()
    pieces = GreedyDecoder(lm).pieces
    ids = lm.encode(' {"facts": ["Ada lives in Oslo."]}')
    assert "".join(pieces[token] for token in ids) == ' {"facts": ["Ada lives in Oslo."]}'
    assert all(pieces[token] == "" for token in lm.stops)


def test_what_does_not_fit_is_refused(tiny_lm: Callable[..., CausalLM]) -> None:
    decoder = GreedyDecoder(tiny_lm())
    assert decoder([], max_tokens=4) == []
    with pytest.raises(InvalidInput, match="max_tokens=600"):
        decoder([[1, 2]], max_tokens=600)
    with pytest.raises(InvalidInput, match="at least 1"):
        decoder([[]], max_tokens=4)
