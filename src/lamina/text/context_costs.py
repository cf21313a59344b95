"""What it costs a reader to use its memory in one of three ways: tokens, money and seconds, before anything is called.

``full``    the whole history is in the prompt, most of it at the price of a cached prefix;
``hybrid``  retrieve generously, let a helper extract quotes block by block, read only those;
``rag``     retrieve k turns and read them.

ConvoMem (arXiv 2511.10523) measured all three and found that it depends on the reader, its prices and the budget
which one is right. With T tokens in n conversations, share h of a prompt found in the provider's cache, prices
p_i, p_c, p_o a token, o answer tokens, b conversations a block, e tokens an extract, a share r of extracts not empty:

    C_full   = T (h p_c + (1-h) p_i) + o p_o             L_full = t0 + T (1-h) / prefill + o / decode
    C_hybrid = T' p_i' + B e p_o' + r B e p_i + o p_o    over T' <= T retrieved tokens in B = ceil(n' / b) blocks
    C_rag    = C_index / q + k t_k p_i + o p_o           with q reads a write

Tokens are always the sum over every call. A model in this process has no prices; where its shape is known, prefill
is counted in FLOPs, 2NT + 2LdT^2 (causal), and with a KV cube only for the new tokens, plus the bytes of the cache.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Self

from lamina.errors import InvalidInput
from lamina.llm.base import ChatModel, Message

Strategy = Literal["full", "hybrid", "rag"]
STRATEGIES: tuple[Strategy, ...] = ("full", "hybrid", "rag")

RESERVE = 512  # tokens kept free for the instructions, the question and the answer
SURE = 10  # turns that hybrid reads in any case, if it has no helper
WIDER = 4  # times as many are retrieved where no word of the question was found
_FILL = 0.9  # of the window of a hosted reader
_LOCAL_FILL = 0.5  # of a local one: small models lose the far half of their window first
_PROBE = "The harbour of the small town was quiet that morning, and number {} was written on the door. "


@dataclass(frozen=True, slots=True)
class HistoryStats:
    """The size of a user's history, and how it is used.

    ``new_tokens`` are those after the KV cube ends (``None``: there is no cube); ``reads_per_write`` is how many
    questions are asked for each write, over which the cost of indexing is spread.
    """

    conversations: int
    turns: int
    tokens: int
    new_tokens: int | None = None
    reads_per_write: float = 1.0

    def __post_init__(self) -> None:
        if min(self.conversations, self.turns, self.tokens) < 0 or self.reads_per_write <= 0:
            raise InvalidInput(f"stats={self!r}: sizes are not negative, reads_per_write is above 0")

    def scaled(self, factor: float) -> HistoryStats:
        """The same history with ``factor`` times as much in it."""
        return replace(
            self,
            conversations=round(self.conversations * factor),
            turns=round(self.turns * factor),
            tokens=round(self.tokens * factor),
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Predicted (or metered) use of one question: tokens read over all calls, US dollars, seconds (median)."""

    tokens: int
    usd: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A local model's arithmetic. ``attention`` is layers x width; rates are what this machine reaches."""

    parameters: int
    layers: int
    width: int
    kv_heads: int
    head_size: int
    value_bytes: int = 2
    flops_per_s: float
    bytes_per_s: float

    @property
    def kv_bytes(self) -> int:
        """Bytes of keys and values a token: 23,040 for SmolLM2-135M in 16 bits."""
        return 2 * self.layers * self.kv_heads * self.head_size * self.value_bytes

    def prefill_flops(self, tokens: int, new: int | None = None) -> float:
        """FLOPs to read the last ``new`` (default: all) of ``tokens``: 2NT + 2LdT^2, less what a cache holds."""
        read = tokens if new is None else min(new, tokens)
        attention = 2.0 * self.layers * self.width
        return 2.0 * self.parameters * read + attention * (tokens**2 - (tokens - read) ** 2)

    def prefill_s(self, tokens: int, new: int | None = None) -> float:
        """Seconds for that, and for reading the cached keys and values once."""
        kept = 0 if new is None else tokens - min(new, tokens)
        return self.prefill_flops(tokens, new) / self.flops_per_s + kept * self.kv_bytes / self.bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """How ``hybrid`` and ``rag`` retrieve. ``workers``: blocks that are extracted at once, by default one."""

    k: int = 10
    generous: int = 50
    block_size: int = 10
    extract_tokens: int = 80  # e
    kept: float = 0.5  # rho: share of blocks with something in them
    index_usd: float = 0.0  # C_index, of one write
    workers: int = 1
    search_s: float = 0.0  # of the search itself
    unworded: float = 0.1  # share of questions that share no word with what is found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderProfile:
    """A reader: window in tokens, US dollars per million tokens, rates in tokens per second.

    ``trusted_tokens`` is the history at which its answers have become 5 points worse than with one conversation
    (``None``: not known). ``hit_rate`` is the share of a repeated prompt that the provider's cache serves.
    ``helper`` extracts for ``hybrid``; without one, turns are chosen by words and meaning. Raises ``InvalidInput``
    for impossible values.
    """

    name: str
    window: int
    usd_input: float = 0.0
    usd_output: float = 0.0
    usd_cached: float = 0.0
    hit_rate: float = 0.0
    start_s: float = 0.0
    prefill_tps: float = math.inf
    decode_tps: float = math.inf
    output_tokens: int = 40
    trusted_tokens: float | None = None
    local: bool = False
    shape: Shape | None = None
    helper: ReaderProfile | None = None
    recall: Recall = Recall()

    def __post_init__(self) -> None:
        prices = (self.usd_input, self.usd_output, self.usd_cached, self.start_s)
        if self.window <= RESERVE or min(prices) < 0 or not 0 <= self.hit_rate <= 1:
            raise InvalidInput(f"reader {self.name!r}: window over {RESERVE}, prices not negative, hit_rate in [0, 1]")
        if not (self.prefill_tps > 0 and self.decode_tps > 0):
            raise InvalidInput(f"reader {self.name!r}: prefill_tps and decode_tps are above 0")

    @property
    def profile(self) -> Self:
        """Itself: a meter that stands in for a profile carries one."""
        return self

    @property
    def full_limit(self) -> float:
        """The most history in tokens that it is given whole. For a local reader the number of chats is irrelevant."""
        if self.local:
            return min(_LOCAL_FILL * self.window, self.trusted_tokens or math.inf)
        return _FILL * self.window - RESERVE

    def fits(self, strategy: Strategy, stats: HistoryStats) -> bool:
        """Whether what the strategy puts into one prompt fits."""
        limit = self.full_limit if strategy == "full" else _FILL * self.window - RESERVE
        return self.answer_tokens(strategy, stats) <= limit

    def answer_tokens(self, strategy: Strategy, stats: HistoryStats) -> int:
        """Tokens of memory in the prompt of the answer."""
        if strategy == "full":
            return stats.tokens
        if strategy == "rag":
            return round(self._per_turn(stats) * min(self.recall.k, stats.turns))
        if self.helper is not None:
            return round(self.recall.kept * self._blocks(stats) * self.recall.extract_tokens)
        generous, kept, unworded = self.recall.generous, self.recall.kept, self.recall.unworded
        chosen = min(SURE + kept * max(0, generous - SURE), stats.turns)
        turns = (1 - unworded) * chosen + unworded * min(WIDER * generous, stats.turns)
        return round(self._per_turn(stats) * turns)

    def usage(self, strategy: Strategy, stats: HistoryStats) -> Usage:
        """Tokens, money and time of one question; the formulas are in the module's docstring."""
        read = self.answer_tokens(strategy, stats)
        if strategy == "full":
            return Usage(read, self._usd(read, self.hit_rate), self._seconds(read, self.hit_rate, stats.new_tokens))
        search = self.recall.search_s
        if strategy == "rag":
            index = self.recall.index_usd / stats.reads_per_write
            return Usage(read, index + self._usd(read), search + self._seconds(read))
        if self.helper is None:
            return Usage(read, self._usd(read), search + self._seconds(read))
        return self._hybrid(read, stats, self.helper)

    def _hybrid(self, read: int, stats: HistoryStats, helper: ReaderProfile) -> Usage:
        recall, blocks = self.recall, self._blocks(stats)
        retrieved = round(self._per_turn(stats) * self._retrieved(stats))
        extracted = blocks * recall.extract_tokens
        usd = self._usd(read) + (retrieved * helper.usd_input + extracted * helper.usd_output) / 1e6
        one = helper._seconds(math.ceil(retrieved / blocks), output=recall.extract_tokens) if blocks else 0.0
        waited = one * math.ceil(blocks / recall.workers)
        return Usage(retrieved + read, usd, recall.search_s + waited + self._seconds(read))

    def _per_turn(self, stats: HistoryStats) -> float:
        return stats.tokens / stats.turns if stats.turns else 0.0

    def _retrieved(self, stats: HistoryStats) -> float:
        """Turns that hybrid retrieves on average."""
        generous, unworded = self.recall.generous, self.recall.unworded
        return (1 - unworded) * min(generous, stats.turns) + unworded * min(WIDER * generous, stats.turns)

    def _blocks(self, stats: HistoryStats) -> int:
        return math.ceil(min(stats.conversations, self._retrieved(stats)) / self.recall.block_size)

    def _usd(self, read: int, hit: float = 0.0) -> float:
        price = hit * self.usd_cached + (1 - hit) * self.usd_input
        return (read * price + self.output_tokens * self.usd_output) / 1e6

    def _seconds(self, read: int, hit: float = 0.0, new: int | None = None, output: int | None = None) -> float:
        if self.shape is not None:
            prefill = self.shape.prefill_s(read, new)
        else:
            fresh = read * (1 - hit) if new is None else min(new, read)
            prefill = fresh / self.prefill_tps
        return self.start_s + prefill + (self.output_tokens if output is None else output) / self.decode_tps

    @classmethod
    def measure(
        cls,
        model: ChatModel,
        *,
        window: int,
        lengths: tuple[int, int] = (128, 640),
        decoded: int = 16,
        trusted_tokens: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Self:
        """The profile of a model on this machine, by timing it: two prompts of about ``lengths`` tokens and one reply.

        Prompts begin differently, so that no cache serves them. Prices are 0; ``dataclasses.replace`` sets them.
        """
        _timed(model, "warm", lengths[0], 1, clock)  # loads the model, warms the kernels
        short, short_s, _ = _timed(model, "a", lengths[0], 1, clock)
        long, long_s, _ = _timed(model, "b", lengths[1], 1, clock)
        _, reply_s, said = _timed(model, "c", lengths[0], 1 + decoded, clock)
        per_token = max(long_s - short_s, 1e-9) / (long - short)
        return cls(
            name=model.name,
            window=window,
            start_s=max(0.0, short_s - short * per_token),
            prefill_tps=1 / per_token,
            decode_tps=max(said - 1, 1) / max(reply_s - short_s, 1e-9),
            trusted_tokens=trusted_tokens,
            local=True,
        )


def _timed(
    model: ChatModel, first: str, length: int, decoded: int, clock: Callable[[], float]
) -> tuple[int, float, int]:
    """Tokens of a prompt of at least ``length``, seconds to answer it, tokens of the answer."""
    lines = [f"{first}: "]
    while (tokens := model.count_tokens("".join(lines))) < length:
        lines.append(_PROBE.format(len(lines)))
    start = clock()
    reply = model.chat([Message(role="user", content="".join(lines))], max_tokens=decoded)
    return tokens, clock() - start, model.count_tokens(reply)


# Prices in US dollars per million tokens as ConvoMem paid them; shares of the cache, answers and rates as
# ``context_fit`` finds them from its released costs and median times (a test repeats it). The rate of writing cannot
# be told apart from the start there and is assumed. Trusted tokens come from the released accuracies.
HOSTED: dict[str, ReaderProfile] = {
    profile.name: profile
    for profile in (
        ReaderProfile(
            name="gemini-2.5-flash",
            window=1_048_576,
            usd_input=0.30,
            usd_output=2.50,
            usd_cached=0.075,
            hit_rate=0.54,
            start_s=1.75,
            prefill_tps=14_500,
            decode_tps=200,
            output_tokens=342,
        ),
        ReaderProfile(
            name="gemini-2.5-flash-lite",
            window=1_048_576,
            usd_input=0.10,
            usd_output=0.40,
            usd_cached=0.025,
            hit_rate=0.88,
            start_s=0.0,
            prefill_tps=13_500,
            decode_tps=300,
            output_tokens=737,
        ),
    )
}
