"""HMT against the algorithm written out token by token, in float64 on a tiny random Llama; then on a real model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, GraniteConfig, GraniteForCausalLM, LlamaConfig, LlamaForCausalLM

from lamina.activation.segment_memory import HMT, MemoryState
from lamina.activation.segments.state import NO_TOKEN
from lamina.activation.segments.stream import Stream
from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TensorPayload, TextPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM

VOCABULARY, WIDTH = 50, 32
NEW, SENSORY = 8, 3  # tokens of a segment, and of the one before


def llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,  # large, so that memories matter
        eos_token_id=None,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    for block in model.model.layers:  # transformers' own go through float32, too coarse for slopes
        block.input_layernorm, block.post_attention_layernorm = torch.nn.RMSNorm(WIDTH), torch.nn.RMSNorm(WIDTH)
    model.model.norm = torch.nn.RMSNorm(WIDTH)
    return model.double().eval()


def hmt(**settings: object) -> HMT:
    made = HMT(llama(), **({"segment": NEW + SENSORY + 2, "sensory": SENSORY, "slots": 4} | settings))
    with torch.no_grad():  # sharp recall, so that the wrong memory would be noticed
        made.query.weight.mul_(3)
    return made


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def run(model: HMT, *embedded: Tensor) -> Tensor:
    """Last states of one row of embeddings, each (positions, width) or (width,)."""
    whole = torch.cat([each.reshape(-1, WIDTH) for each in embedded])[None]
    return model.backbone.base_model(inputs_embeds=whole, use_cache=False).last_hidden_state[0]


class Naive:
    """One row, as the paper's steps say; everything in lists."""

    def __init__(self, model: HMT) -> None:
        self.model, self.memories, self.sensory = model, [], []
        self.table = model.backbone.get_input_embeddings().weight

    def recalled(self, ids: list[int]) -> Tensor:
        model = self.model
        if not self.memories:
            return model.first
        if not model.recall:
            return model.log_scale.exp() * self.memories[-1]
        summary = run(model, model.prompt, self.table[ids[: NEW // 2]], model.prompt)[-1]
        query = model.query.weight @ summary
        scores = [float(query @ (model.key.weight @ m)) / math.sqrt(len(query)) for m in self.memories]
        largest = max(scores)
        shares = [math.exp(score - largest) for score in scores]
        found = sum(share * m for share, m in zip(shares, self.memories, strict=True)) / sum(shares)
        return model.log_scale.exp() * found

    def segment(self, ids: list[int]) -> Tensor:
        """Logits of the segment's positions; its memory is kept."""
        recalled = self.recalled(ids)
        states = run(self.model, recalled, self.table[self.sensory], self.table[ids], recalled)
        self.memories = [*self.memories, states[-1]][-self.model.slots :]
        states = states[1 + len(self.sensory) : -1]
        self.sensory = ids[-SENSORY:]
        return self.model.backbone.lm_head(states)

    def stream(self, ids: list[int]) -> Tensor:
        """Logits of all positions."""
        return torch.cat([self.segment(ids[start : start + NEW]) for start in range(0, len(ids), NEW)])


@torch.no_grad()
@pytest.mark.parametrize("recall", [True, False])
@pytest.mark.parametrize("length", [1, NEW, NEW + 1, 5 * NEW + 3, 7 * NEW])
def test_a_stream_is_read_as_the_algorithm_says(recall: bool, length: int) -> None:
    model = hmt(recall=recall)
    ids = tokens(2, length)
    read = model(ids, labels=ids)
    last = (length - 1) % NEW + 1
    losses = []
    for row in range(2):
        naive = Naive(model)
        logits = naive.stream(ids[row].tolist())
        torch.testing.assert_close(read.logits[row], logits[-last:])
        kept = naive.memories if recall else naive.memories[-1:]
        torch.testing.assert_close(read.state.memory[row], torch.stack(kept))
        assert read.state.sensory[row].tolist() == naive.sensory
        losses.append(F.cross_entropy(logits[:-1], ids[row, 1:], reduction="none"))
    assert read.state.seen.tolist() == [length, length]
    if length == 1:
        assert read.loss is None
    else:
        torch.testing.assert_close(read.loss, torch.cat(losses).mean())


@torch.no_grad()
def test_reading_in_pieces_is_reading_at_once() -> None:
    model, ids = hmt(), tokens(2, 5 * NEW)
    at_once = model.read(ids)
    state = model.read(ids[:, : 2 * NEW])
    pieces = model(ids[:, 2 * NEW :], state=state)
    for name in ("memory", "held", "sensory", "seen"):
        torch.testing.assert_close(getattr(pieces.state, name), getattr(at_once, name))
    torch.testing.assert_close(pieces.logits, model(ids).logits)


def test_the_first_segment_is_taught_through_memory_and_only_so() -> None:
    model = hmt()
    embedded = model.backbone.get_input_embeddings().weight
    ids = torch.arange(4 * NEW)[None] % VOCABULARY  # every token once
    labels = torch.full_like(ids, -100)
    labels[:, -2:] = ids[:, -2:]
    (gradient,) = torch.autograd.grad(model(ids, labels=labels).loss, embedded)
    assert bool((gradient[ids[0, :NEW]].abs().sum(1) > 0).all())
    state = model(ids[:, : 3 * NEW]).state
    cut = replace(state, memory=state.memory.detach())
    (gradient,) = torch.autograd.grad(model(ids[:, 3 * NEW :], labels[:, 3 * NEW :], cut).loss, embedded)
    # what is left is the last segment and the sensory tokens before it, through the table of embeddings
    assert bool((gradient[ids[0, : 3 * NEW - SENSORY]] == 0).all())


@pytest.mark.parametrize("name", ["query.weight", "key.weight", "prompt", "first", "log_scale"])
def test_gradients_are_the_slopes(name: str) -> None:
    model, ids = hmt(), tokens(1, 4 * NEW)
    labels = ids.clone()
    labels[:, : 3 * NEW] = -100
    parameter = model.get_parameter(name)

    def loss() -> Tensor:
        return model(ids, labels=labels).loss

    (gradient,) = torch.autograd.grad(loss(), parameter)
    direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    start, step = parameter.detach().clone(), 1e-5
    found = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.copy_(start + sign * step * direction)
            found.append(float(loss()))
    slope = (found[0] - found[1]) / (2 * step)
    assert abs(slope) > 1e-7
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_the_oldest_memory_goes_first_and_bytes_stop_growing() -> None:
    model, ids = hmt(slots=2), tokens(1, 60 * NEW)
    long = model.read(ids[:, : 5 * NEW])
    torch.testing.assert_close(long.memory, torch.stack(memories_of(model, ids[0, : 5 * NEW].tolist()))[None])
    sizes = {model.read(ids[:, : n * NEW]).nbytes for n in (2, 3, 20, 60)}
    assert sizes == {2 * WIDTH * 8 + 2 + SENSORY * 8 + 8}
    assert model.read(ids[:, :NEW]).nbytes < sizes.pop()


def memories_of(model: HMT, ids: list[int]) -> list[Tensor]:
    naive = Naive(model)
    with torch.no_grad():
        naive.stream(ids)
    return naive.memories


@torch.no_grad()
@pytest.mark.parametrize("recall", [True, False])
def test_padded_rows_read_as_they_do_alone(recall: bool) -> None:
    model = hmt(recall=recall)
    lengths = [5, 2 * NEW, 3 * NEW + 1, 5 * NEW + 2]
    rows = [tokens(1, length, seed=length) for length in lengths]
    width = max(lengths) + 1  # a column of padding alone
    ids = torch.cat([F.pad(row, (width - row.shape[1], 0), value=7) for row in rows])
    mask = torch.cat([F.pad(torch.ones_like(row), (width - row.shape[1], 0)) for row in rows])
    batch = model(ids, labels=ids, attention_mask=mask)
    alone = [model(row, labels=row) for row in rows]
    for number, one in enumerate(alone):
        torch.testing.assert_close(batch.logits[number, -one.logits.shape[1] :], one.logits[0])
        kept = batch.state.held[number]
        torch.testing.assert_close(batch.state.memory[number, kept], one.state.memory[0])
        sensory = batch.state.sensory[number]
        assert sensory[sensory != NO_TOKEN].tolist() == one.state.sensory[0].tolist()
    assert batch.state.seen.tolist() == lengths
    counts = torch.tensor(lengths) - 1
    total = sum(float(one.loss) * int(count) for one, count in zip(alone, counts, strict=True))
    assert float(batch.loss) == pytest.approx(total / int(counts.sum()), rel=1e-5)
    more = tokens(4, NEW, seed=9)
    together = model(more, state=batch.state)
    for number, one in enumerate(alone):
        torch.testing.assert_close(together.logits[number], model(more[number : number + 1], state=one.state).logits[0])


@torch.no_grad()
def test_generation_is_the_forward_pass_step_by_step() -> None:
    """From half a segment on, what a segment recalls is settled, so greedy writing is the forward pass of what is
    there; and a closed segment leaves the memory it would leave if it were read."""
    model, ids = hmt(), tokens(2, 2 * NEW + NEW // 2)
    grown = ids
    for _ in range(NEW // 2 + 1):
        grown = torch.cat([grown, model(grown).logits[:, -1].argmax(-1, keepdim=True)], 1)
    made = model.generate(ids, max_new_tokens=NEW // 2 + 1)
    assert torch.equal(made, grown[:, ids.shape[1] :])
    assert len(made.unique()) > 2


@torch.no_grad()
def test_generation_goes_on_over_closed_segments() -> None:
    model, ids = hmt(), tokens(1, NEW + 3)
    count = 3 * NEW
    naive, made = Naive(model), []
    naive.segment(ids[0, :NEW].tolist())
    open_ = ids[0, NEW:].tolist()
    while len(made) < count:
        recalled = naive.recalled(open_)  # when the segment is entered
        while True:
            states = run(model, recalled, naive.table[naive.sensory], naive.table[open_])
            made.append(int(model.backbone.lm_head(states[-1]).argmax()))
            if len(open_) == NEW or len(made) == count:
                break
            open_.append(made[-1])
        naive.segment(open_)
        open_ = [made[-1]]
    assert model.generate(ids, max_new_tokens=count)[0].tolist() == made
    state = model.read(ids[:, :NEW])
    assert model.generate(ids[:, NEW:], state, max_new_tokens=count)[0].tolist() == made


@torch.no_grad()
def test_rows_are_written_alone_and_stop_at_their_end() -> None:
    model = hmt()
    rows = [tokens(1, 4, seed=1), tokens(1, 2 * NEW + 5, seed=2)]
    alone = [model.generate(row, max_new_tokens=2 * NEW)[0] for row in rows]
    ids = torch.cat([F.pad(rows[0], (rows[1].shape[1] - 4, 0)), rows[1]])
    mask = torch.ones_like(ids)
    mask[0, :-4] = 0
    assert torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=2 * NEW), torch.stack(alone))
    end = int(alone[1][NEW])
    cut = alone[1].tolist().index(end) + 1
    stopped = model.generate(rows[1], max_new_tokens=2 * NEW, eos_token_id=end)
    assert torch.equal(stopped[0], alone[1][:cut])
    both = model.generate(ids, attention_mask=mask, max_new_tokens=2 * NEW, eos_token_id=end)
    assert bool((both[1, cut:] == end).all())


@torch.no_grad()
def test_a_saved_state_goes_on_where_it_was(tmp_path: Path) -> None:
    model, ids = hmt(), tokens(2, 6 * NEW)
    state = model.read(ids[:, : 4 * NEW])
    state.save(tmp_path / "state.cube", model)
    cube = file.read(tmp_path / "state.cube")
    assert (cube.header.kind, cube.header.semantic_type) == ("activation", "segment_memory")
    loaded = MemoryState.load(tmp_path / "state.cube", hmt())  # made again from the same seeds
    rest = ids[:, 4 * NEW :]
    assert torch.equal(model(rest, state=loaded).logits, model(rest, state=state).logits)
    assert repr(loaded) == "MemoryState(2 rows, 4 slots, [32, 32] tokens read)"


@torch.no_grad()
def test_a_state_of_other_weights_or_sizes_is_refused(tmp_path: Path) -> None:
    model = hmt()
    payload = model.read(tokens(1, NEW)).to_payload(model)
    others = [hmt(recall=False), hmt(sum_fraction=0.75), hmt(segment=NEW + SENSORY + 3), hmt(seed=1)]
    tuned = hmt()
    tuned.backbone.lm_head.weight[0, 0] += 1
    for other in [*others, tuned]:
        with pytest.raises(FingerprintMismatch):
            MemoryState.from_payload(payload, other)
    assert MemoryState.from_payload(payload, hmt(slots=9)).slots == 1  # how many are kept is no matter of meaning
    broken = {name: view.torch() for name, view in payload.tensors.items()}
    for name, tensor in (
        ("memory", broken["memory"][..., :-1]),
        ("held", broken["held"][:, :0]),
        ("seen", broken["seen"][:0]),
        ("sensory", broken["sensory"] + VOCABULARY),
    ):
        with pytest.raises(CorruptCube):
            MemoryState.from_payload(TensorPayload.from_torch(broken | {name: tensor}, model.fingerprint), model)
    del broken["seen"]
    with pytest.raises(CorruptCube, match="seen"):
        MemoryState.from_payload(TensorPayload.from_torch(broken, model.fingerprint), model)
    file.write(MemCube(Header(), TextPayload("a text")), tmp_path / "text.cube")
    with pytest.raises(InvalidInput, match="holds a memory of text"):
        MemoryState.load(tmp_path / "text.cube", model)


@torch.no_grad()
def test_states_put_together_are_recalled_in_any_order_and_dropped_by_age() -> None:
    model, query = hmt(), tokens(1, NEW, seed=5)
    one, two = (model.read(tokens(1, 2 * NEW, seed=seed)) for seed in (1, 2))
    both, turned = MemoryState.concatenate([one, two]), MemoryState.concatenate([two, one])
    turned = replace(turned, sensory=both.sensory)
    torch.testing.assert_close(model(query, state=both).logits, model(query, state=turned).logits)
    assert not torch.allclose(model(query, state=both).logits, model(query, state=two).logits)
    assert (both.slots, both.seen.tolist()) == (4, [4 * NEW])
    more = MemoryState.concatenate([both, one])  # 6 in a model of 4
    pushed = model.read(query, more)
    kept = model.read(query, MemoryState.concatenate([two, one]))
    torch.testing.assert_close(pushed.memory, kept.memory)
    for states in ([], [one, model.read(tokens(2, NEW))]):
        with pytest.raises(InvalidInput):
            MemoryState.concatenate(states)


def test_memories_start_as_large_as_embeddings() -> None:
    model = hmt()
    with torch.no_grad():
        memory = model.read(tokens(8, NEW)).memory * model.log_scale.exp()
    spread = float(model.backbone.get_input_embeddings().weight.detach().std())
    assert float(memory.std()) == pytest.approx(spread, rel=0.2)
    names = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    assert names == {"prompt", "first", "query.weight", "key.weight", "log_scale"}
    assert sum(p.numel() for p in model.learned()) == 2 * WIDTH * 64 + 2 * WIDTH + 1


def test_a_stream_is_never_copied_whole() -> None:
    ids = tokens(2, 100 * NEW)
    segments = Stream.of(ids, None, None, VOCABULARY).segments(NEW)
    assert next(segments).ids.untyped_storage().nbytes() == 2 * NEW * 8


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"segment": SENSORY + 2}, "segment=5"),
        ({"segment": 2049}, "segment=2049"),
        ({"sensory": -1}, "sensory=-1"),
        ({"slots": 0}, "slots=0"),
        ({"recall_dim": 0}, "recall_dim=0"),
        ({"sum_fraction": 0.0}, "sum_fraction=0.0"),
        ({"sum_fraction": 1.5}, "sum_fraction=1.5"),
    ],
)
def test_sizes_out_of_range_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        hmt(**settings)


def test_backbones_that_do_not_fit_are_refused() -> None:
    config = GraniteConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    config.logits_scaling = 8.0
    with pytest.raises(InvalidInput, match="GraniteForCausalLM"):
        HMT(GraniteForCausalLM(config), segment=16, sensory=2)
    with pytest.raises(InvalidInput, match="Linear"):
        HMT(torch.nn.Linear(2, 2), segment=16, sensory=2)  # type: ignore[arg-type]


@torch.no_grad()
def test_input_that_does_not_fit_is_refused() -> None:
    model, ids = hmt(), tokens(2, NEW)
    bad: list[tuple[str, dict[str, Tensor | MemoryState]]] = [
        ("input_ids of shape", {"input_ids": ids[0]}),
        ("input_ids of shape", {"input_ids": ids[:, :0]}),
        ("input_ids of shape", {"input_ids": ids.double()}),
        ("input_ids reach", {"input_ids": ids + VOCABULARY}),
        ("input_ids reach", {"input_ids": ids - VOCABULARY}),
        ("attention_mask has shape", {"input_ids": ids, "attention_mask": ids[:1]}),
        ("attention_mask must be", {"input_ids": ids, "attention_mask": torch.zeros_like(ids)}),
        ("attention_mask must be", {"input_ids": ids, "attention_mask": torch.ones_like(ids).tril(-1)}),
        ("state has 1 rows", {"input_ids": ids, "state": model.read(ids[:1])}),
    ]
    for said, given in bad:
        with pytest.raises(InvalidInput, match=said):
            model(**given)
    with pytest.raises(InvalidInput, match="labels has shape"):
        model(ids, labels=ids[:, 1:])
    with pytest.raises(InvalidInput, match="max_new_tokens=0"):
        model.generate(ids, max_new_tokens=0)


@torch.no_grad()
def test_a_model_with_learned_positions_and_dropout_is_wrapped_too() -> None:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=NEW + SENSORY + 2, n_embd=WIDTH, n_layer=2, n_head=2)
    model = HMT(GPT2LMHeadModel(config).double().train(), segment=NEW + SENSORY + 2, sensory=SENSORY)
    assert model.backbone.training
    model.eval()
    ids = tokens(2, 3 * NEW)
    mask = torch.ones_like(ids)
    mask[0, : NEW + 3] = 0
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[:1, 3:], model(ids[:1, NEW + 3 :]).logits)


@torch.no_grad()
def test_new_parameters_have_the_backbones_dtype() -> None:
    model = HMT(llama().bfloat16(), segment=16, sensory=2)
    read = model(tokens(2, 40), labels=tokens(2, 40))
    assert {read.logits.dtype, read.state.memory.dtype} == {torch.bfloat16}
    assert read.loss is not None
    assert read.loss.dtype == torch.float32
    assert bool(read.loss.isfinite())


def test_a_real_model_reads_and_writes() -> None:
    lm = CausalLM.load()
    model = HMT(lm.model, segment=64, sensory=8)
    ids = torch.tensor([lm.encode("The bridge was opened in the spring of that year. " * 16)])
    assert ids.shape[1] > 2 * model.tokens
    state = model.read(ids)
    width = lm.model.config.hidden_size
    assert (state.slots, state.memory.shape[2]) == (-(-ids.shape[1] // model.tokens), width)
    assert bool(state.memory.isfinite().all())
    made = model.generate(ids, max_new_tokens=model.tokens + 2)
    assert 1 <= made.shape[1] <= model.tokens + 2
    assert sum(p.numel() for p in model.learned()) == 2 * width * 2 * width + 2 * width + 1
