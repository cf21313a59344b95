"""CMT: documents compressed to a few soft tokens each, so that a frozen model answers from them later.

Li, Sun, Hu, Hu, Zhang: CMT: A Memory Compression Method for Continual Knowledge Learning of Large Language Models,
arXiv 2412.07393. A document is read once, without gradient, by the model with a low-rank branch; what learned tokens
behind it hold in the end is its memory. A question finds the best keys, the weighted sum of their memories stands
before it as embeddings, and the model, its branch off, answers. New knowledge costs one forward and some KB; old
knowledge cannot be forgotten by it, because nothing that was there changes.

Unusual: every memory is a MemCube with its source, model and compressor, so an answer says which documents it came
from, deleting works, and a memory of another model or compressor is refused. Of two memories that match equally well
the newer one counts (``lamina.activation.documents.objective``). Compression loses detail: ``gain`` says how much of
an answer a memory carries; where it is under 1 nat, retrieve the text instead.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar, cast, get_args

import torch
from torch import Tensor

from lamina.activation.documents import objective
from lamina.activation.documents.bank import SoftBank, compressed_by, source_id
from lamina.activation.documents.compressor import Aggregate, Compressor
from lamina.activation.documents.reader import answer_logprobs, prefix_cache
from lamina.activation.documents.training import Example, Objective, TrainLog, train
from lamina.cube.cube import Header, Lineage, MemCube, Provenance, Scope, Source, new_id
from lamina.cube.payload import TensorPayload
from lamina.errors import InvalidInput
from lamina.llm.causal import CausalLM

EXTRACTOR = "cmt"
T = TypeVar("T")
_AT_ONCE = 32  # texts in one forward


@dataclass(frozen=True, slots=True, eq=False)
class Recollection:
    """What questions found: ``prefix`` (n, tokens, width) float32 to stand before each as embeddings.

    ``memories`` and ``sources`` are, per question, the ids of the chosen cubes and of the texts they were made from,
    strongest first; ``weights`` (n, k) theirs in the same order.
    """

    prefix: Tensor
    memories: tuple[tuple[str, ...], ...]
    sources: tuple[tuple[str, ...], ...]
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` with the ids of the texts it was answered from and their weights, strongest first."""

    text: str
    sources: tuple[str, ...]
    weights: tuple[float, ...]


class CMT:
    """Soft memories of documents for ``lm``, which is never changed.

    ``tokens`` soft tokens a document, ``rank`` of the branches, ``key_dim`` of the keys, ``top_k`` memories read for a
    question, combined as ``aggregate`` says: ``weighted`` sums them, ``cross_attention`` lets the question look through
    them. A document over ``max_document`` tokens is cut into several memories of one source. Threads may share one, but
    for ``fit``; the model's ``lock`` is held while it runs.
    """

    def __init__(
        self,
        lm: CausalLM,
        *,
        tokens: int = 16,
        rank: int = 16,
        key_dim: int = 64,
        top_k: int = 4,
        aggregate: Aggregate = "weighted",
        max_document: int = 512,
        seed: int = 0,
    ) -> None:
        if top_k < 1:
            raise InvalidInput(f"top_k={top_k!r} must be a positive number")
        if not 1 <= max_document <= lm.limit - tokens - 1:
            raise InvalidInput(
                f"max_document={max_document!r} must leave the model ({lm.limit}) room for {tokens} more"
            )
        self.lm = lm
        if aggregate not in get_args(Aggregate):
            raise InvalidInput(f"aggregate={aggregate!r} must be one of {get_args(Aggregate)}")
        self.top_k, self.aggregate, self.max_document = top_k, aggregate, max_document
        with lm.lock:
            self.compressor = Compressor(lm, tokens=tokens, rank=rank, key_dim=key_dim, aggregate=aggregate, seed=seed)
        self.bank = self._empty_bank()

    @property
    def version(self) -> str:
        """Hash of the compressor's weights: memories of another version mean nothing to this one."""
        digest = hashlib.sha256()
        for name, tensor in self.compressor.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def write(self, documents: Sequence[str | MemCube], *, scope: Scope | None = None) -> list[MemCube]:
        """Compress ``documents`` into the bank, oldest first; the new cubes, several for a long document.

        A text cube passes on its id, version and scope; plain text gets a new source id and ``scope``. All or none.
        Raises ``InvalidInput`` for an empty document, saying which.
        """
        pieces = [
            piece for n, document in enumerate(documents) for piece in self._pieces(n, document, scope or Scope())
        ]
        with self.lm.lock:
            made = [self._compress([ids for _, ids in part]) for part in _parts(pieces)]
            if made:
                memories, keys = (torch.cat(column) for column in zip(*made, strict=True))
                self.bank.append([header for header, _ in pieces], memories, keys)
            return [self.bank.cube(header.id) for header, _ in pieces]

    def read(self, question: str | Sequence[str], *, k: int | None = None) -> Recollection:
        """The aggregate of the ``k`` (default ``top_k``) memories that match each question best.

        Raises ``InvalidInput`` for an empty bank or question; warns if ``k`` is more than there are.
        """
        questions = [question] if isinstance(question, str) else question
        if not questions:
            raise InvalidInput("question=[] must not be empty: ask at least one")
        with self.lm.lock:
            k = self._checked(self.top_k if k is None else k)
            found = [self._recall([self.lm.encode(text) for text in part], k) for part in _parts(questions)]
            headers = self.bank.headers
        prefix, places, weights = (torch.cat(column) for column in zip(*found, strict=True))
        return Recollection(
            prefix,
            tuple(tuple(headers[place].id for place in row) for row in places.tolist()),
            tuple(tuple(source_id(headers[place]) for place in row) for row in places.tolist()),
            weights,
        )

    def generate(self, question: str, *, k: int | None = None, max_tokens: int = 64) -> Answer:
        """The frozen model's greedy answer to ``question`` from what it recalls, and what that was."""
        recalled = self.read(question, k=k)
        cache = prefix_cache(self.lm, recalled.prefix[0])
        ids = list(self.lm.steps(self.lm.encode(question), max_tokens, cache=cache))
        return Answer(self.lm.decode(ids), recalled.sources[0], tuple(recalled.weights[0].tolist()))

    def remove(self, id: str) -> list[str]:
        """Forget a memory, or all memories of a source text; the ids that went. Raises ``NotFound``."""
        with self.lm.lock:
            return self.bank.remove(id)

    def fit(
        self,
        examples: Iterable[Example],
        *,
        steps: int,
        batch: int = 32,
        lr: float = 1e-4,
        weights: Objective | None = None,
        grad_fraction: float = 1.0,
        seed: int = 0,
    ) -> TrainLog:
        """Train the compressor (``lamina.activation.documents.training``); the model stays bit for bit as it was.

        Needs (document, question, answer) by the thousand, of the kind to be remembered later, and far more steps than
        a laptop has for a real model. No thread may write or read meanwhile. Raises ``InvalidInput`` for a bank with
        memories, which the new compressor could not read, and for an example that is too long.
        """
        if len(self.bank):
            raise InvalidInput(
                f"the bank holds {len(self.bank)} memories, which would lose their meaning with a new compressor; "
                "fit first, then write the documents"
            )
        try:
            return train(
                self.compressor,
                map(self._fitting, examples),
                steps=steps,
                batch=batch,
                lr=lr,
                weights=weights or Objective(),
                grad_fraction=grad_fraction,
                seed=seed,
            )
        finally:  # steps were made even if a later one failed: what is written now is another compressor's
            self.bank = self._empty_bank()

    @torch.no_grad()
    def gain(self, examples: Sequence[Example]) -> float:
        """Nats by which a document's own memory raises the log-probability of an answer, mean over ``examples``.

        Raises ``InvalidInput`` for no examples or one that is too long.
        """
        if not examples:
            raise InvalidInput("examples is empty: give at least one (document, question, answer)")
        total = 0.0
        for part in _parts([self._fitting(example) for example in examples]):
            questions, answers = [self.lm.encode(e.question) for e in part], [self.lm.encode(e.answer) for e in part]
            with self.lm.lock:
                memories, _ = self._compress([self.lm.encode(e.document) for e in part])
                asked = self.compressor.ask(questions)
                own = self.compressor.own(asked, memories, torch.arange(len(part), device=memories.device))
                given, _ = answer_logprobs(self.lm, own, questions, answers)
                closed, _ = answer_logprobs(self.lm, None, questions, answers)
            total += float((given - closed).sum())
        return total / len(examples)

    def cube(self) -> MemCube:
        """The compressor as a parameter cube; ``from_cube`` makes it again."""
        sizes = {"tokens": self.compressor.tokens, "rank": self.compressor.rank, "key_dim": self.compressor.key_dim}
        settings = {**sizes, "top_k": self.top_k, "aggregate": self.aggregate, "max_document": self.max_document}
        header = Header(kind="parameter", semantic_type="compressor", metadata={EXTRACTOR: settings})
        return MemCube(header, TensorPayload.from_torch(self.compressor.state_dict(), self.lm.fingerprint))

    @classmethod
    def from_cube(cls, lm: CausalLM, cube: MemCube) -> Self:
        """Raises ``FingerprintMismatch`` for another model's compressor, ``InvalidInput`` for any other cube."""
        payload, settings = cube.payload, cube.header.metadata.get(EXTRACTOR)
        if not isinstance(payload, TensorPayload) or not isinstance(settings, dict):
            raise InvalidInput(f"cube {cube.id!r} is no compressor; give one made by CMT.cube()")
        payload.fingerprint.check(lm.fingerprint)
        memory = cls(lm, **settings)
        memory.compressor.load_state_dict({name: view.torch() for name, view in payload.tensors.items()})
        memory.bank = memory._empty_bank()
        return memory

    def _empty_bank(self) -> SoftBank:
        width = self.compressor.memory_tokens.shape[1]
        made = compressed_by(self.lm.fingerprint, self.version)
        return SoftBank(made, tokens=self.compressor.tokens, width=width, key_dim=self.compressor.key_dim)

    @torch.no_grad()
    def _compress(self, ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        with self.lm.lock:
            made = self.compressor(ids)
        return made.memories, made.keys

    @torch.no_grad()
    def _recall(self, questions: Sequence[Sequence[int]], k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prefix, places and weights of the chosen, strongest first. The caller holds the lock."""
        asked = self.compressor.ask(questions)
        scores = objective.scores(asked.queries.cpu(), self.bank.keys, self.compressor.temperature.cpu())
        places, weights = objective.choose(scores, k, ages=self.bank.ages)
        used, local = torch.unique(places, return_inverse=True)
        held = (self.bank.memories(used.tolist()), local, weights)
        prefix = self.compressor.combine(asked, *(each.to(asked.queries.device) for each in held))
        order = weights.argsort(dim=1, descending=True, stable=True)
        return prefix, places.gather(1, order), weights.gather(1, order)

    def _fitting(self, example: Example) -> Example:
        """``example``, unless its document is over ``max_document`` or all of it over what the model reads."""
        document, question, answer = (
            len(self.lm.encode(text)) for text in (example.document, example.question, example.answer)
        )
        if document > self.max_document or document + question + answer > self.lm.limit:
            raise InvalidInput(
                f"document={example.document[:40]!r} has {document} tokens, over max_document={self.max_document}, or "
                f"more than {self.lm.limit} with its question and answer; cut it and ask about the pieces"
            )
        return example

    def _checked(self, k: int) -> int:
        if not len(self.bank):
            raise InvalidInput("the bank is empty: write documents before reading")
        if k < 1:
            raise InvalidInput(f"k={k!r} must be a positive number")
        if k > len(self.bank):
            warnings.warn(f"k={k} is more than the {len(self.bank)} memories of the bank; all are read", stacklevel=3)
        return min(k, len(self.bank))

    def _pieces(self, number: int, document: str | MemCube, scope: Scope) -> Iterator[tuple[Header, list[int]]]:
        """Header and token ids of each stretch of a document that fits."""
        parent = document if isinstance(document, MemCube) else None
        text = document.text if isinstance(document, MemCube) else document
        read = self.lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, spans = cast("list[int]", read["input_ids"]), cast("list[tuple[int, int]]", read["offset_mapping"])
        if not text.strip() or not ids:
            raise InvalidInput(f"documents[{number}]={text[:40]!r} holds no text to remember")
        source, version = (parent.id, parent.header.version) if parent else (new_id(), 1)
        for start in range(0, len(ids), self.max_document):
            end = min(start + self.max_document, len(ids))
            yield (
                Header(
                    kind="activation",
                    semantic_type="document",
                    scope=parent.header.scope if parent else scope,
                    provenance=Provenance(
                        (Source(source, spans[start][0], spans[end - 1][1]),), EXTRACTOR, self.lm.name
                    ),
                    lineage=Lineage(((source, version),) if parent else (), EXTRACTOR),
                ),
                ids[start:end],
            )


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
