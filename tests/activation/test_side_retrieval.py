"""LongMem against the algorithm written out position by position, in float64 on a tiny random Llama; then SmolLM2."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from lamina.activation.retrieval_memory import frozen
from lamina.activation.retrieval_memory.side_network import retrieved_attention
from lamina.activation.side_retrieval import LongMem, MemoryBank
from lamina.errors import FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM

VOCABULARY, LAYERS, HEADS, KV_HEADS, WIDTH = 50, 4, 4, 2, 32
DIM = WIDTH // HEADS
SEGMENT, CHUNK, TOPK = 12, 2, 4
SIZES = {"chunk": CHUNK, "topk": TOPK, "capacity": 40, "segment": SEGMENT}


def llama(seed: int = 0, layers: int = LAYERS) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        initializer_range=0.3,  # large, so that attention is not flat
        eos_token_id=None,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():  # so that no norm is like another
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.uniform_(0.5, 1.5)
    return model


@pytest.fixture
def memory() -> LongMem:
    return LongMem(llama(), **SIZES)


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def filled(memory: LongMem, rows: int, length: int, seed: int = 1) -> list[MemoryBank]:
    banks = memory.banks(rows, torch.float64)
    if length:
        memory.ingest(tokens(rows, length, seed), banks)
    return banks


def turned(x: Tensor, position: int) -> Tensor:
    """One head's ``x`` (DIM,) at ``position``; angles in float32, as transformers has them."""
    out = x.clone()
    for pair in range(DIM // 2):
        angle = position * (1 / 10_000 ** (torch.tensor(2.0 * pair) / DIM))
        a, b = x[pair], x[pair + DIM // 2]
        out[pair] = a * float(angle.cos()) - b * float(angle.sin())
        out[pair + DIM // 2] = b * float(angle.cos()) + a * float(angle.sin())
    return out


def naive(memory: LongMem, ids: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Logits (T, V) of one row whose bank holds ``keys`` and ``values`` (KV_HEADS, M, DIM), loop by loop."""
    model = memory.backbone
    states = model(ids[None], output_hidden_states=True).hidden_states
    last: list[Tensor] = []
    hook = model.model.norm.register_forward_pre_hook(lambda _, given: last.append(given[0]))
    model(ids[None])
    hook.remove()
    frozen = [*(state[0] for state in states[:-1]), last[0][0]]
    x = frozen[0]
    for number, layer in enumerate(memory.side.layers):
        own, u = layer.self_attn, layer.input_layernorm(x)
        q, k, v = (p(u).view(len(ids), -1, DIM) for p in (own.q_proj, own.k_proj, own.v_proj))
        rows = []
        for t in range(len(ids)):
            mixed = []
            for head in range(HEADS):
                kv = head // (HEADS // KV_HEADS)
                scores = torch.stack([turned(q[t, head], t) @ turned(k[s, kv], s) for s in range(t + 1)])
                out = (scores / math.sqrt(DIM)).softmax(0) @ v[: t + 1, kv]
                if own.gate is not None and keys.shape[1] >= CHUNK:
                    chunks = [range(start, start + CHUNK) for start in range(0, keys.shape[1], CHUNK)]
                    chunks.sort(key=lambda c, q=q[t, head], kv=kv: -float(q @ keys[kv, [*c]].mean(0)))
                    found = [place for chunk in chunks[: TOPK // CHUNK] for place in chunk]
                    weights = (keys[kv, found] @ q[t, head] / math.sqrt(DIM)).softmax(0)
                    share = own.gate[head].sigmoid()
                    out = (1 - share) * out + share * (weights @ values[kv, found])
                mixed.append(out)
            rows.append(torch.cat(mixed))
        update = frozen[2 * number + 2] - frozen[2 * number]
        x = x + own.o_proj(torch.stack(rows)) + layer.mlp(layer.post_attention_layernorm(x)) + update
    return model.lm_head(memory.side.norm(x))


def plain(memory: LongMem, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Keys without positions and values (KV_HEADS, T, DIM) of one row, from the states before the memory layer."""
    block = memory.backbone.model.layers[memory.memory_layer]
    before = memory.backbone(ids[None], output_hidden_states=True).hidden_states[memory.memory_layer]
    u = block.input_layernorm(before)[0]
    keys, values = (
        p(u).view(len(ids), KV_HEADS, DIM).transpose(0, 1) for p in (block.self_attn.k_proj, block.self_attn.v_proj)
    )
    return keys, values


def test_a_segment_is_read_as_written_out_position_by_position(memory: LongMem) -> None:
    with torch.no_grad():
        memory.side.joint.gate.copy_(torch.tensor([0.3, -1.0, 2.0, 0.0]))
        banks = memory.banks(2, torch.float64)
        before = [tokens(2, SEGMENT, 1), tokens(2, 7, 2)]  # 7 is no whole number of chunks
        for part in before:
            memory(part, banks)
        ids = tokens(2, 9, 3)
        read = memory(ids, banks, labels=ids)
        for row in range(2):
            kept = [plain(memory, part[row]) for part in before]
            keys, values = (torch.cat(column, 1)[:, :18] for column in zip(*kept, strict=True))
            expected = naive(memory, ids[row], keys, values)
            assert torch.allclose(read.logits[row], expected, atol=1e-10)
        loss = torch.nn.functional.cross_entropy(read.logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        assert read.loss is not None
        assert torch.allclose(read.loss, loss)
        alone = memory(ids, memory.banks(2, torch.float64)).logits  # nothing read: the segment alone
        assert torch.allclose(alone[0], naive(memory, ids[0], keys[:, :0], values[:, :0]), atol=1e-10)
        assert torch.equal(alone, memory(ids).logits)
        assert not torch.allclose(alone, read.logits, atol=1e-3)


@pytest.mark.parametrize("side_layers", [1, 2, 4])
def test_without_a_correction_it_is_the_backbone(side_layers: int) -> None:
    memory = LongMem(llama(), side_layers=side_layers, **SIZES)
    with torch.no_grad():
        for layer in memory.side.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    ids = tokens(2, SEGMENT)
    read = memory(ids, filled(memory, 2, 30))
    assert torch.allclose(read.logits, memory.backbone(ids).logits, atol=1e-12)


def test_the_side_network_starts_as_every_other_layer_and_the_memory_layer_is_one_of_them(memory: LongMem) -> None:
    assert memory.memory_layer == 3
    layers = memory.backbone.model.layers
    for number, layer in enumerate(memory.side.layers):
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            mine, theirs = (getattr(part.self_attn, name).weight for part in (layer, layers[2 * number + 1]))
            assert torch.equal(mine, theirs)
            assert mine.data_ptr() != theirs.data_ptr()
    assert [layer.self_attn.gate is not None for layer in memory.side.layers] == [False, True]
    between = LongMem(llama(), memory_layer=2, **SIZES).side  # queries begin as those of the layer whose keys they find
    assert [layer.self_attn.gate is not None for layer in between.layers] == [False, True]
    for layer, block in zip(between.layers, (layers[1], layers[2]), strict=True):
        assert torch.equal(layer.self_attn.q_proj.weight, block.self_attn.q_proj.weight)
        assert torch.equal(layer.mlp.down_proj.weight, block.mlp.down_proj.weight)
    deeper = {depth: LongMem(llama(layers=depth), **SIZES).memory_layer for depth in (24, 30)}
    assert deeper == {24: 17, 30: 21}


def test_no_position_finds_itself_or_what_comes_after_it(memory: LongMem) -> None:
    """Whatever comes after a position, in its segment or later, changes nothing at it, though its bank does change."""
    ids = tokens(1, SEGMENT)
    other = ids.clone()
    other[:, 6:] = (ids[:, 6:] + 1) % VOCABULARY
    read, changed = (memory(each, filled(memory, 1, 10)).logits for each in (ids, other))
    assert torch.equal(read[:, :6], changed[:, :6])
    assert not torch.allclose(read[:, 6:], changed[:, 6:], atol=1e-3)
    banks = filled(memory, 1, 10)
    before = copy.deepcopy(banks)
    unwritten = memory(ids, banks, write=False).logits
    assert (banks[0].seen, torch.equal(unwritten, read)) == (10, True)
    memory(ids, banks)
    assert (banks[0].seen, before[0].seen) == (22, 10)
    assert not torch.allclose(memory(ids, banks).logits, read, atol=1e-3)  # now it does find them


def test_the_ring_holds_the_newest_and_ingest_writes_what_forward_writes(memory: LongMem) -> None:
    ids = tokens(2, 5 * SEGMENT + 3)
    ingested, read = filled(memory, 2, 0), filled(memory, 2, 0)
    memory.ingest(ids, ingested)
    for part in torch.split(ids, SEGMENT, 1):
        memory(part, read)
    queries = torch.randn(KV_HEADS, 5, DIM, dtype=torch.float64)
    for row in range(2):
        mine, other = ingested[row].search(queries, 40), read[row].search(queries, 40)
        assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(mine, other, strict=True))
        assert int(mine[2].min()) * CHUNK == 62 - 40
        kept = [plain(memory, part) for part in torch.split(ids[row], SEGMENT)]
        keys = torch.cat([keys for keys, _ in kept], 1)
        places = read[row].source(other[2]).flatten(2)
        for head in range(KV_HEADS):
            assert torch.allclose(other[0][head], keys[head, places[head]], atol=1e-12)


def test_rows_know_nothing_of_each_other(memory: LongMem) -> None:
    ids = tokens(2, SEGMENT)
    banks = filled(memory, 2, 20)
    both = memory(ids, banks, write=False).logits
    banks[1].reset()
    memory.ingest(tokens(1, 30, 9), banks[1:])
    changed = memory(ids, banks, write=False).logits
    assert torch.equal(both[0], changed[0])
    assert not torch.allclose(both[1], changed[1], atol=1e-3)
    banks[1].reset()  # an empty bank beside a full one
    mixed = memory(ids, banks, write=False).logits
    assert torch.allclose(mixed[0], both[0], atol=1e-12)
    assert torch.allclose(mixed[1], memory(ids[1:]).logits[0], atol=1e-12)


def test_blocks_of_positions_change_nothing_and_gradients_of_the_attention_are_right(memory: LongMem) -> None:
    bank = filled(memory, 1, 31)[0]
    queries = torch.randn(HEADS, 10, DIM, dtype=torch.float64)
    whole = retrieved_attention(queries, bank, TOPK, block=10)
    for block in (1, 3, 128):
        assert torch.allclose(retrieved_attention(queries, bank, TOPK, block=block), whole, atol=1e-14)
    joint = memory.side.joint
    turns = memory.backbone.model.rotary_emb(queries, torch.arange(5)[None])

    def attend(x: Tensor, gate: Tensor) -> Tensor:
        own = {"gate": gate}
        made: Tensor = torch.func.functional_call(joint, own, (x, turns, None, [bank]))[0]
        return made

    x = torch.randn(1, 5, WIDTH, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(attend, (x, torch.randn(HEADS, dtype=torch.float64, requires_grad=True)))


def test_only_the_side_network_learns(memory: LongMem) -> None:
    memory.train()
    assert memory.side.training
    assert not memory.backbone.training
    ids = tokens(2, SEGMENT)
    loss = memory(ids, filled(memory, 2, 20), labels=ids).loss
    assert loss is not None
    loss.backward()
    assert all(parameter.grad is None for parameter in memory.backbone.parameters())
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in memory.side.parameters() if parameter is not None)
    before = memory.backbone(ids).logits
    torch.optim.SGD(memory.side.parameters(), lr=1.0).step()
    assert torch.equal(memory.backbone(ids).logits, before)
    banks, again = filled(memory, 2, 20), filled(LongMem(llama(), **SIZES), 2, 20)
    assert all(torch.equal(mine._keys, other._keys) for mine, other in zip(banks, again, strict=True))


@pytest.mark.parametrize("length", [5, SEGMENT, 2 * SEGMENT + 1])
def test_token_by_token_is_one_forward(memory: LongMem, length: int) -> None:
    """Each token of a reply is the best one of a forward over its segment so far, and the bank ends up the same."""
    ids = tokens(1, length)
    banks = filled(memory, 1, 10)
    expected = filled(memory, 1, 10)
    reply = memory.generate(ids, banks, max_tokens=10)
    text = ids[0].tolist()
    start = (length - 1) // SEGMENT * SEGMENT
    if start:
        memory.ingest(ids[:, :start], expected)
    for token in reply:
        if len(text) - start > SEGMENT:
            memory(torch.tensor([text[start : start + SEGMENT]]), expected)
            start += SEGMENT
        open_ = torch.tensor([text[start:]])
        assert token == int(memory(open_, expected, write=False).logits[0, -1].argmax())
        text.append(token)
    memory(torch.tensor([text[start:-1]]), expected)
    assert banks[0].seen == expected[0].seen == 10 + length + 9
    queries = torch.randn(KV_HEADS, 3, DIM, dtype=torch.float64)
    for mine, other in zip(banks[0].search(queries, 20), expected[0].search(queries, 20), strict=True):
        assert torch.allclose(mine, other, atol=1e-10)


def test_a_reply_ends_where_the_model_ends_it(memory: LongMem) -> None:
    ids = tokens(1, 5)
    reply = memory.generate(ids, max_tokens=4)
    memory.backbone.generation_config.eos_token_id = [reply[2]]
    assert memory.generate(ids, max_tokens=4) == reply[: reply.index(reply[2])]


def test_a_bank_outlives_the_side_network_but_not_the_weights_that_made_it(tmp_path: Path, memory: LongMem) -> None:
    bank = filled(memory, 1, 31)[0]
    bank.save(tmp_path / "bank.cube")
    other = LongMem(llama(), **SIZES)
    with torch.no_grad():
        other.side.norm.weight.add_(1)  # learned since
    again = MemoryBank.load(tmp_path / "bank.cube", other.fingerprint)
    ids = tokens(1, SEGMENT)
    assert torch.equal(other(ids, [again], write=False).logits, other(ids, [bank], write=False).logits)
    for stranger in (LongMem(llama(1), **SIZES), LongMem(llama(), memory_layer=1, **SIZES)):
        with pytest.raises(FingerprintMismatch, match="weights differ"):
            stranger(ids, [bank])
        with pytest.raises(FingerprintMismatch, match="weights differ"):
            MemoryBank.load(tmp_path / "bank.cube", stranger.fingerprint)


def test_a_backbone_that_was_taught_since_disowns_its_banks(memory: LongMem, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, banks = tokens(2, SEGMENT), filled(memory, 2, 20)
    digests: list[int] = []
    read_all = frozen.fingerprint
    monkeypatch.setattr(frozen, "fingerprint", lambda *args: digests.append(1) or read_all(*args))
    before = memory.fingerprint
    memory(ids, banks)
    with torch.no_grad():
        memory.side.norm.weight.add_(1)
    assert (memory.fingerprint, digests) == (before, [])  # weights are not read again while none was written to
    model = memory.backbone.requires_grad_(True)
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.requires_grad_(False)
    for use in (memory.forward, memory.ingest):
        with pytest.raises(FingerprintMismatch, match="weights differ"):
            use(ids, banks)
    assert [bank.seen for bank in banks] == [20 + SEGMENT] * 2
    memory(ids, filled(memory, 2, 20))
    assert memory.fingerprint == LongMem(model, **SIZES).fingerprint != before
    model.load_state_dict(llama().state_dict())
    assert memory.fingerprint == before
    memory(ids, banks)  # as it was, so they are good again
    memory.backbone.model.norm.weight = torch.nn.Parameter(torch.ones(WIDTH).double(), requires_grad=False)
    assert memory.fingerprint != before


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"topk": 5}, "topk=5"),
        ({"topk": 0}, "topk=0"),
        ({"chunk": 3}, "chunk=3"),
        ({"capacity": 41}, "capacity=41"),
        ({"side_layers": 3}, "side_layers=3"),
        ({"side_layers": 0}, "side_layers=0"),
        ({"memory_layer": 4}, "memory_layer=4"),
        ({"segment": 0}, "segment=0"),
        ({"segment": 4096}, "2048 positions"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        LongMem(llama(), **(SIZES | settings))


def test_backbones_that_are_built_otherwise_are_refused() -> None:
    with pytest.raises(InvalidInput, match="its layers are not found"):
        LongMem(GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2)), **SIZES)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    sliding = MistralForCausalLM(MistralConfig(**sizes, vocab_size=9, num_key_value_heads=2, sliding_window=4))
    with pytest.raises(InvalidInput, match="sliding windows"):
        LongMem(sliding, **SIZES)
    granite = GraniteForCausalLM(GraniteConfig(**sizes, vocab_size=9, logits_scaling=8.0, initializer_range=1.0))
    with pytest.raises(InvalidInput, match="scales or caps"):
        LongMem(granite, **SIZES)
    unturned = SmolLM3Config(**sizes, vocab_size=9, num_key_value_heads=2, no_rope_layers=[1, 0], pad_token_id=0)
    with pytest.raises(InvalidInput, match="know no positions"):
        LongMem(SmolLM3ForCausalLM(unturned), **SIZES)
    with pytest.raises(InvalidInput, match="side_layers=None"):
        LongMem(llama(layers=3), **SIZES)


def test_wrong_calls_are_refused_and_write_nothing(memory: LongMem) -> None:
    ids, banks = tokens(2, 5), filled(memory, 2, 0)
    odd = LongMem(llama(), **(SIZES | {"chunk": 5, "topk": 5})).banks(2, torch.float64)
    for wrong, named in (
        (lambda: memory(tokens(2, SEGMENT + 1), banks), "segment=12"),
        (lambda: memory(ids, banks[:1]), "1 banks for 2 rows"),
        (lambda: memory(ids, [banks[0], banks[0]]), "several times"),
        (lambda: memory.ingest(ids, banks[:1]), "1 banks for 2 rows"),
        (lambda: memory(ids[0], banks), "rows, tokens"),
        (lambda: memory(ids, banks, labels=ids[:, 1:]), "labels"),
        (lambda: memory.generate(ids, banks), "2 rows"),
        (lambda: memory.generate(ids[:1], banks[:1], max_tokens=0), "max_tokens=0"),
        (lambda: memory(ids, odd), "chunk=5"),
    ):
        with pytest.raises(InvalidInput, match=named):
            wrong()
    memory.backbone.requires_grad_(True)
    with pytest.raises(InvalidInput, match="made trainable"):
        memory(ids, banks)
    assert [bank.seen for bank in banks] == [0, 0]


def test_a_bank_beside_smollm2_takes_a_27th_of_its_cache() -> None:
    """Structure and bytes on a real model with grouped heads; its side network has learned nothing yet."""
    lm = CausalLM.load()
    config = lm.model.config
    memory = LongMem(lm.model, capacity=2048, segment=64)
    assert (memory.memory_layer, len(memory.side.layers), memory.side.joint.topk) == (21, 15, 64)
    banks = memory.banks()
    text = "The lighthouse keeper wrote every evening what the sea had brought him. " * 16
    ids = torch.tensor([lm.encode(text)[:160]])
    memory.ingest(ids[:, :128], banks)
    with torch.no_grad():
        read = memory(ids[:, 128:], banks)
        for layer in memory.side.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        again = memory(ids[:, 128:], banks, write=False).logits
        assert torch.allclose(again, lm.model(ids[:, 128:]).logits, atol=1e-2)
    assert read.logits.shape == (1, 32, config.vocab_size)
    assert banks[0].seen == 160
    width = config.num_key_value_heads * config.head_dim
    assert banks[0].nbytes == 2 * width * (2 * 2048 + 2048 // 4)
    cache = 2 * 2 * width * config.num_hidden_layers * 2048
    assert cache / banks[0].nbytes == pytest.approx(30 / (1 + 1 / 8))
