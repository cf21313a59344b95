"""Experts at work: each request goes to the adapter of its operation; a reply that is none fails in the open.

A reply is decoded freely first. If it is not the asked JSON, or names a memory that was not shown, it is decoded once
more within the grammar of what the request allows; if that is no answer either (it is cut off), the operation has
failed: the caller gets ``OperationFailed`` with the prompt and both replies, and the journal keeps them verbatim. No
rule answers in the expert's stead.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from lamina.errors import LLMError
from lamina.llm.causal import CausalLM
from lamina.parameter.adapters import Adapters
from lamina.parameter.experts.decoding import GreedyDecoder
from lamina.parameter.experts.grammar import Grammar
from lamina.parameter.experts.operations import (
    OPS,
    Exchange,
    Inquiry,
    MemoryOp,
    Op,
    Output,
    Request,
    Revision,
    op_of,
)
from lamina.parameter.experts.prompts import messages, read, schema

MAX_TOKENS: dict[Op, int] = {"extract": 160, "update": 160, "generate": 32}
BATCH = 32  # prompts decoded together


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked, every reply verbatim (the constrained one second), and the answer if there is one."""

    request: Request
    replies: tuple[str, ...]
    output: Output | None
    problem: str = ""

    @property
    def valid_at_once(self) -> bool:
        """Whether the free reply was an answer."""
        return self.output is not None and len(self.replies) == 1


class OperationFailed(LLMError):
    """An expert gave no answer in the asked form, also not within its grammar. ``attempt`` is the raw exchange."""

    code = "OPERATION_FAILED"

    def __init__(self, attempt: Attempt) -> None:
        super().__init__(
            f"the expert for {op_of(attempt.request)!r} gave no valid answer in {len(attempt.replies)} replies "
            f"({attempt.problem}); the last began {attempt.replies[-1][:120]!r}. Train it longer, or on such requests"
        )
        self.attempt = attempt


class OperationExperts:
    """A ``MemoryTeacher`` made of one base model and an adapter an operation (``names``; without one, the bare base).

    ``shots`` are examples shown in every prompt of an operation. Thread-safe: the model's lock orders the calls.
    """

    def __init__(
        self,
        lm: CausalLM,
        adapters: Adapters,
        names: Mapping[Op, str],
        *,
        shots: Mapping[Op, Sequence[tuple[Request, Output]]] | None = None,
        max_tokens: Mapping[Op, int] | None = None,
        journal: Path | None = None,
    ) -> None:
        """``max_tokens`` of a reply, by operation (default 160, 160, 32); ``journal`` gets failures as JSON lines."""
        self.name = f"memlora:{lm.name}"
        self.lm = lm
        self.adapters = adapters
        self.names = dict(names)
        self._shots = shots or {}
        self._max_tokens = MAX_TOKENS | dict(max_tokens or {})
        self._journal = journal
        self._journal_lock = threading.Lock()
        self._decoder = GreedyDecoder(lm)
        self._grammars: dict[str, Grammar] = {}  # by schema: one, and one a number of memories and facts

    @property
    def model(self) -> str:
        """The base."""
        return self.lm.name

    def use(self, op: Op) -> AbstractContextManager[None]:
        """The model with the expert of ``op`` on; other threads wait, and find the base afterwards."""
        return self.adapters.using([self.names[op]] if op in self.names else [])

    def extract(self, exchange: Exchange) -> tuple[str, ...]:
        """Facts of ``exchange``. Raises ``OperationFailed``."""
        return tuple(item for item in self.answer([exchange])[0] if isinstance(item, str))

    def update(self, revision: Revision) -> tuple[MemoryOp, ...]:
        """Operations for ``revision``. Raises ``OperationFailed``."""
        return tuple(item for item in self.answer([revision])[0] if isinstance(item, MemoryOp))

    def generate(self, inquiry: Inquiry) -> str:
        """The answer to ``inquiry``. Raises ``OperationFailed``."""
        return str(self.answer([inquiry])[0])

    def answer(self, requests: Sequence[Request]) -> list[Output]:
        """One answer a request, in order. Raises ``OperationFailed`` for the first that has none."""
        outputs: list[Output] = []
        for attempt in self.attempt(requests):
            if attempt.output is None:
                raise OperationFailed(attempt)
            outputs.append(attempt.output)
        return outputs

    def attempt(self, requests: Sequence[Request]) -> list[Attempt]:
        """What became of each request, in order; failures are journalled and do not raise."""
        done: dict[int, Attempt] = {}
        for op in OPS:
            asked = [place for place, request in enumerate(requests) if op_of(request) == op]
            with self.use(op):
                done |= self._attempt(op, {place: requests[place] for place in asked})
        attempts = [done[place] for place in range(len(requests))]
        self._write([each for each in attempts if each.output is None])
        return attempts

    def _attempt(self, op: Op, requests: Mapping[int, Request]) -> dict[int, Attempt]:
        free = self._replies(op, requests, None)
        done = {place: _judged(request, (free[place],)) for place, request in requests.items()}
        again: dict[str, dict[int, Request]] = {}
        for place, request in requests.items():
            if done[place].output is None and (form := schema(request)):
                again.setdefault(json.dumps(form), {})[place] = request
        for form_json, group in again.items():
            for place, reply in self._replies(op, group, self._grammar(form_json)).items():
                done[place] = _judged(group[place], (free[place], reply))
        return done

    def _replies(self, op: Op, requests: Mapping[int, Request], grammar: Grammar | None) -> dict[int, str]:
        lm = self.lm
        prompts = {place: lm.prompt(messages(each, self._shots.get(op, ()))) for place, each in requests.items()}
        order = sorted(prompts, key=lambda place: len(prompts[place]))
        said: dict[int, str] = {}
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            ids = self._decoder([prompts[row] for row in rows], max_tokens=self._max_tokens[op], grammar=grammar)
            said |= {row: lm.decode(reply) for row, reply in zip(rows, ids, strict=True)}
        return said

    def _grammar(self, form_json: str) -> Grammar:
        if form_json not in self._grammars:
            self._grammars[form_json] = Grammar(json.loads(form_json))
        return self._grammars[form_json]

    def _write(self, failed: Sequence[Attempt]) -> None:
        if self._journal is None or not failed:
            return
        with self._journal_lock, self._journal.open("a", encoding="utf-8") as file:
            for each in failed:
                prompt = messages(each.request, self._shots.get(op_of(each.request), ()))
                row = {"prompt": prompt, "replies": each.replies, "problem": each.problem}
                file.write(json.dumps({"op": op_of(each.request), **row}, ensure_ascii=False) + "\n")


def _judged(request: Request, replies: tuple[str, ...]) -> Attempt:
    try:
        return Attempt(request, replies, read(request, replies[-1]))
    except ValueError as error:
        return Attempt(request, replies, None, str(error))
