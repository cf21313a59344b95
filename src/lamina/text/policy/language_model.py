"""``MemAlphaLM``: Mem-alpha as published, a causal language model that learns to construct memory by calling tools.

Wang et al., arXiv 2509.25911: GRPO over whole histories, each response a sample, all responses to a history one group;
token-mean clipped loss (0.2), one inner epoch, temperature 1, gradient norm 1, linear warm-up. Trained are LoRA weights
(``peft``), or with ``lora_rank=None`` whatever of the model requires gradients. KL: none.

This needs a GPU for any model that can follow the call format: 8 rollouts of 12 chunks are some 6000 new tokens a
history. Here it is proved on random weights that gradients, masks and advantages are right, not that it pays off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lamina._optional import require
from lamina.text.policy.features import count_tokens
from lamina.text.policy.grpo import Recipe, RewardParts, advantages
from lamina.text.policy.prompting import Tokenizer, parse, prompt_ids
from lamina.text.policy.tools import ToolCall, ToolResult, TypedMemory, valid_form

if TYPE_CHECKING:
    from torch import Tensor

CLIP = 0.2  # of the ratio between the policy that learns and the one that acted
NORM = 1.0  # of the gradient


class TextHistory(Protocol):
    """A history to read and to be asked about."""

    @property
    def texts(self) -> Sequence[str]:
        """The chunks, in order."""

    def score(self, memory: TypedMemory) -> float:
        """Share of the questions that a frozen reader answers from the memory, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Response:
    """What was generated for one chunk of one rollout."""

    prompt: list[int]
    reply: list[int]


class MemAlphaLM:
    """A ``WritePolicy`` over a transformers causal model and its tokenizer.

    ``recipe`` gives histories, rollouts, beta, gamma and baseline (its entropy term is not used). ``limit`` bounds the
    prompt, ``max_new_tokens`` a reply. Raises ``MissingDependency`` without torch, and without peft for a LoRA.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        lora_rank: int | None = 8,
        recipe: Recipe | None = None,
        lr: float = 1e-6,
        warmup: int = 10,
        limit: int = 6144,
        max_new_tokens: int = 2048,
        core_limit: int = 512,
        micro_batch: int = 8,
        seed: int = 0,
    ) -> None:
        torch = require("torch", "Mem-alpha's language model")
        if lora_rank is not None:
            peft = require("peft", "a LoRA on Mem-alpha's language model")
            config = peft.LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear")
            model = peft.get_peft_model(model, config)
        self.model = model.eval()  # without dropout: the policy that learns is the one that acted
        self.tokenizer = tokenizer
        self.recipe = recipe or Recipe()
        self._limits = limit, max_new_tokens, core_limit
        self._micro_batch = micro_batch
        self._seed = seed
        self._updates = 0
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._optimizer = torch.optim.AdamW(self._weights, lr=lr, weight_decay=0.0)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, lambda step: min(1.0, (step + 1) / warmup))

    def act(self, memory: TypedMemory, chunk: str) -> list[ToolCall]:
        """The most probable reply, read as calls."""
        return parse(self._text(self._respond(memory, chunk, sample=False)))

    def update(self, histories: Sequence[TextHistory]) -> RewardParts:
        """One GRPO update on ``histories`` of equal length, each played ``recipe.rollouts`` times."""
        torch = require("torch", "Mem-alpha's language model")
        with torch.random.fork_rng():
            torch.manual_seed(self._seed * 1_000_003 + self._updates)
            plays = [[self.play(history) for _ in range(self.recipe.rollouts)] for history in histories]
        parts = RewardParts(
            *(np.asarray([[getattr(play, name) for _, play in row] for row in plays]) for name in _PARTS)
        )
        advantage = advantages(parts.total(self.recipe.beta, self.recipe.gamma), self.recipe.baseline)
        responses = [response for row in plays for play, _ in row for response in play]
        self.learn(responses, advantage.ravel().tolist())
        return parts

    def play(self, history: TextHistory) -> tuple[list[Response], _Played]:
        """Read a history once, with sampled replies; the responses and the parts of their reward."""
        memory = TypedMemory(self._limits[2])
        responses, worked, form = [], [], []
        for chunk in history.texts:
            responses.append(self._respond(memory, chunk, sample=True))
            results = [memory.call(call) for call in parse(self._text(responses[-1]))]
            worked.append(sum(result.ok for result in results) / len(results) if results else 0.0)
            form.append(_form(results))
        read = sum(count_tokens(chunk) for chunk in history.texts)
        return responses, _Played(history.score(memory), worked, 1.0 - memory.tokens / max(1, read), form)

    def learn(self, responses: Sequence[Response], advantage: Sequence[float]) -> float:
        """One step of the optimizer on one sample per response; the loss. Responses without a token count nothing."""
        torch = require("torch", "Mem-alpha's language model")
        total = sum(len(response.reply) for response in responses)
        if total == 0:
            return 0.0
        self._optimizer.zero_grad()
        loss = 0.0
        for start in range(0, len(responses), self._micro_batch):
            part = slice(start, start + self._micro_batch)
            ids, attention, mask = batch(responses[part], self._device())
            logp = token_log_probabilities(self.model, ids, attention)
            factors = torch.tensor(advantage[part], dtype=logp.dtype, device=logp.device)
            piece = clipped_loss(logp, logp.detach(), factors, mask) / total  # one inner epoch: old equals new
            piece.backward()  # type: ignore[no-untyped-call]
            loss += float(piece.detach())
        torch.nn.utils.clip_grad_norm_(self._weights, NORM)
        self._optimizer.step()
        self._schedule.step()
        self._updates += 1
        return loss

    def _respond(self, memory: TypedMemory, chunk: str, *, sample: bool) -> Response:
        torch = require("torch", "Mem-alpha's language model")
        limit, max_new_tokens, _ = self._limits
        prompt = prompt_ids(self.tokenizer, memory, chunk, limit)
        ids = torch.tensor([prompt], device=self._device())
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}
        end = self.tokenizer.eos_token_id
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                pad_token_id=end,
                **options,
            )
        return Response(prompt, out[0, len(prompt) :].tolist())

    def _text(self, response: Response) -> str:
        return self.tokenizer.decode(response.reply, skip_special_tokens=True)

    def _device(self) -> Any:
        return next(iter(self.model.parameters())).device


@dataclass(frozen=True, slots=True)
class _Played:
    """The parts of the reward of one rollout."""

    r1: float
    r2: list[float]
    r3: float
    r4: list[float]


_PARTS = ("r1", "r2", "r3", "r4")


def batch(responses: Sequence[Response], device: Any = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Ids, attention and reply mask of responses, padded on the right: int64, int64, bool, each ``(n, longest)``."""
    torch = require("torch", "Mem-alpha's language model")
    longest = max(len(response.prompt) + len(response.reply) for response in responses)
    ids = torch.zeros((len(responses), longest), dtype=torch.int64)
    attention, mask = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    for row, response in enumerate(responses):
        begin, end = len(response.prompt), len(response.prompt) + len(response.reply)
        ids[row, :end] = torch.tensor(response.prompt + response.reply)
        attention[row, :end] = 1
        mask[row, begin:end] = True
    return ids.to(device), attention.to(device), mask.to(device)


def token_log_probabilities(model: Any, ids: Tensor, attention: Tensor) -> Tensor:
    """Log probability of each token given those before it, ``(n, t)``; 0 for the first."""
    torch = require("torch", "Mem-alpha's language model")
    logits = model(input_ids=ids, attention_mask=attention).logits[:, :-1]
    logp = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, dim=-1)
    picked = logp.gather(2, ids[:, 1:, None])[..., 0]
    found: Tensor = torch.nn.functional.pad(picked, (1, 0))
    return found


def clipped_loss(logp: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Sum over reply tokens of ``-min(ratio A, clip(ratio, 0.8, 1.2) A)``; ``logp``, ``old``, ``mask`` ``(n, t)``,
    ``advantage`` ``(n,)`` is that of the response. Divide by the number of reply tokens for the token mean."""
    torch = require("torch", "Mem-alpha's language model")
    ratio = torch.exp(logp - old)
    gain = advantage[:, None]
    loss: Tensor = (-torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain) * mask).sum()
    return loss


def _form(results: Sequence[ToolResult]) -> float:
    """Share of the writing calls whose text has the form of its store; 1 when nothing was written."""
    verdicts = []
    for result in results:
        arguments = result.call.arguments
        text = arguments.get("content", arguments.get("new_content"))
        if result.call.name in ("memory_insert", "memory_update") and isinstance(text, str):
            verdicts.append(valid_form(arguments.get("memory_type", "semantic"), text))
    return sum(verdicts) / len(verdicts) if verdicts else 1.0
