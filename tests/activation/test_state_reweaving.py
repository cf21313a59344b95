"""Contextual Memory Reweaving against a loop over tokens with a heap; what it reads, what it costs, who may load it."""

from __future__ import annotations

import copy
import heapq
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from lamina.activation.reweaving.buffer import EMPTY, Kept
from lamina.activation.reweaving.training import fit, language_loss, rare_tokens, text_loss
from lamina.activation.state_reweaving import LatentState, MemoryReweaver, read, reweave
from lamina.cube import file
from lamina.cube.cube import Header, MemCube
from lamina.cube.payload import TensorPayload, TextPayload
from lamina.errors import CorruptCube, FingerprintMismatch, InvalidInput
from lamina.llm.causal import CausalLM

WINDOW, SLOTS, VOCABULARY = 6, 4, 61
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}


def sliding(seed: int = 0, window: int | None = WINDOW, **changes: object) -> MistralForCausalLM:
    torch.manual_seed(seed)
    sizes = SIZES | {"vocab_size": VOCABULARY, "num_key_value_heads": 1, "initializer_range": 0.4} | changes
    config = MistralConfig(**sizes, sliding_window=window, bos_token_id=None, eos_token_id=None)
    return MistralForCausalLM(config).double().eval()


def taught(seed: int = 1, **changes: object) -> MemoryReweaver:
    """Random everywhere, so that every part of it matters."""
    settings = {"window": WINDOW, "capture": (1, 2, 3), "inject": (2, 4), "slots": SLOTS, "code_dim": 8} | changes
    reweaver = MemoryReweaver(16, **settings).double()
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in reweaver.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return reweaver.eval()


def tokens(rows: int, count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, count), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def woven(model: MistralForCausalLM, reweaver: MemoryReweaver, ids: Tensor, chunk: int) -> tuple[Tensor, LatentState]:
    with reweave(model, reweaver, reweaver.empty(len(ids))) as session:
        logits, _ = read(model, ids, chunk)
    return logits, session.state


class Naive:
    """One text, one token at a time, with lists and a heap."""

    def __init__(self, model: MistralForCausalLM, reweaver: MemoryReweaver) -> None:
        self.model, self.reweaver = model, reweaver
        self.heap: list[tuple[float, int, dict]] = []  # salience as it is now, minus the position, the token
        self.waiting: list[dict] = []
        self.raw: list[float] = []
        self.now = 0

    def hook(self, layer: int, hidden: Tensor) -> Tensor:
        """Capture and reweave for a single position; ``hidden`` ``(1, 1, d)``."""
        rw, h = self.reweaver, hidden[0, 0]
        normal = h / torch.sqrt((h * h).mean() + torch.finfo(h.dtype).eps)
        if layer in rw.capture:
            self.token["codes"].append(rw.encoder[rw.capture.index(layer)].T @ normal)
            self.token["deepest"] = normal
        if layer not in rw.inject:
            return hidden
        weave = rw.places[rw.inject.index(layer)]
        query, gate = weave.query.weight @ normal, torch.softmax(weave.gate(normal), 0)
        total, size = torch.zeros_like(h), rw.code_dim // rw.heads
        for c in range(len(rw.capture)):
            gathered = []
            for head in range(rw.heads):
                part = slice(head * size, (head + 1) * size)
                scores = []
                for _, _, slot in self.heap:
                    age = self.now - slot["position"]
                    score = query[part] @ (slot["codes"][c] @ weave.key[c])[part] / math.sqrt(size)
                    score = score - math.log1p(math.exp(float(weave.age))) * math.log(1 + age)
                    scores.append(
                        score + math.log1p(math.exp(float(weave.salience[head]))) * slot["salience"] * 0.999**age
                    )
                scores.append(query[part] @ weave.null[c][part] / math.sqrt(size))
                weights = torch.softmax(torch.stack(scores), 0)
                mix = torch.zeros(size, dtype=h.dtype)
                for weight, (_, _, slot) in zip(weights, self.heap, strict=False):
                    mix = mix + weight * slot["codes"][c][part]
                    slot["attended"] += float(weight * gate[c]) / rw.heads
                gathered.append(mix)
            total = total + gate[c] * (weave.decoder[c].T @ torch.cat(gathered))
        return hidden + weave.out.weight @ total

    @torch.no_grad()
    def read(self, ids: Tensor) -> Tensor:
        handles = [
            layer.register_forward_hook(lambda _m, _i, out, n=n: self.hook(n + 1, out))
            for n, layer in enumerate(self.model.model.layers)
        ]
        logits, cache, before = [], None, None
        for position, token in enumerate(ids.tolist()):
            self.now = position
            self.heap = [(salience * 0.999, place, slot) for salience, place, slot in self.heap]
            while self.waiting and self.waiting[0]["position"] < position - self.reweaver.window:
                slot = self.waiting.pop(0)
                entry = (slot["salience"], -slot["position"], slot)
                heapq.heapify(self.heap)
                if len(self.heap) < self.reweaver.slots:
                    heapq.heappush(self.heap, entry)
                elif entry[0] > self.heap[0][0]:
                    heapq.heapreplace(self.heap, entry)
            self.token = {"position": position, "id": token, "codes": [], "attended": 0.0}
            out = self.model(torch.tensor([[token]]), past_key_values=cache, use_cache=True)
            surprise = 0.0 if before is None else -float(torch.log_softmax(before, 0)[token])
            self.raw.append(surprise + float(self.token["deepest"] @ self.reweaver.learned))
            values = torch.tensor(self.raw, dtype=torch.float64)
            deviation = torch.sqrt(values.var(correction=0) + 1e-6)
            self.token["salience"] = float((values[-1] - values.mean()) / deviation)
            self.waiting.append(self.token)
            cache, before = out.past_key_values, out.logits[0, -1]
            logits.append(before)
        for handle in handles:
            handle.remove()
        return torch.stack(logits)


def test_it_is_a_loop_over_tokens_with_a_heap() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(2, 40)
    logits, state = woven(model, reweaver, ids, WINDOW)
    plain, _ = read(model, ids, WINDOW)
    assert (logits - plain).abs().max() > 0.1
    for row in range(2):
        naive = Naive(model, reweaver)
        expected = naive.read(ids[row])
        torch.testing.assert_close(logits[row], expected, rtol=1e-9, atol=1e-9)
        # The heap holds what was retained when the last token was read, the state what will be for the next.
        naive.now = 40
        left = [slot for slot in naive.waiting if slot["position"] < 40 - WINDOW]
        held = sorted(
            [(s * 0.999, p, slot) for s, p, slot in naive.heap] + [(t["salience"], -t["position"], t) for t in left]
        )
        slots = sorted((slot for _, _, slot in held[-SLOTS:]), key=lambda slot: slot["position"])
        kept = state.buffer
        assert kept.positions[row].tolist() == [slot["position"] for slot in slots]
        assert kept.ids[row].tolist() == [slot["id"] for slot in slots] == ids[row, kept.positions[row].long()].tolist()
        assert kept.salience[row].tolist() == pytest.approx([slot["salience"] for slot in slots])
        assert kept.attended[row].tolist() == pytest.approx([slot["attended"] for slot in slots], abs=1e-5)
        codes = torch.stack([torch.stack(slot["codes"]) for slot in slots])
        torch.testing.assert_close(kept.codes[row], codes, rtol=1e-9, atol=1e-9)
        assert state.ring.positions[row].tolist() == list(range(40 - WINDOW, 40))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, WINDOW), st.integers(1, 30), st.integers(0, 10_000))
def test_pieces_of_any_size_are_read_as_token_by_token(chunk: int, count: int, seed: int) -> None:
    model, reweaver, ids = sliding(), taught(), tokens(1, count, seed)
    (one, expected), (pieces, state) = woven(model, reweaver, ids, 1), woven(model, reweaver, ids, chunk)
    torch.testing.assert_close(pieces, one, rtol=1e-9, atol=1e-9)
    for name, tensor in expected.tensors.items():
        torch.testing.assert_close(state.tensors[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_retained_and_readable_are_those_of_a_heap_that_fades(data: st.DataObject) -> None:
    slots, window, chunk = (data.draw(st.integers(1, 5)) for _ in range(3))
    salience = data.draw(st.lists(st.floats(-3, 3).map(lambda s: round(s, 1)), min_size=1, max_size=30))
    heap: list[tuple[float, int]] = []
    per_step = []
    for now in range(len(salience) + 1):
        heap = [(s * 0.999, p) for s, p in heap]
        if (new := now - window - 1) >= 0:
            if len(heap) < slots:
                heap.append((salience[new], -new))
            elif salience[new] > min(heap)[0] + 1e-12:
                heap[heap.index(min(heap))] = (salience[new], -new)
        per_step.append({-p for _, p in heap})
    chunk = min(chunk, window)
    buffer, ring = _kept([], [], slots), _kept([], [], window)
    for first in range(0, len(salience), chunk):
        count = min(chunk, len(salience) - first)
        places = buffer.joined(ring.part(slice(count - 1)))
        readable = places.readable(slots, window, first, count)
        for step in range(count):
            found = places.positions[readable[:, step]].tolist()
            assert set(found) == per_step[first + step]
        new = _kept(list(range(first, first + count)), salience[first : first + count], count)
        buffer = places.joined(ring.part(slice(count - 1, count))).strongest(slots, first + count)
        ring = ring.part(slice(count, None)).joined(new)
    assert {p for p in buffer.positions[0].tolist() if p != EMPTY} == per_step[-1]


def _kept(positions: list[int], salience: list[float], places: int) -> Kept:
    empty = Kept.empty(torch.zeros(1, places, 1, 1, dtype=torch.float64))
    for place, (position, score) in enumerate(zip(positions, salience, strict=True)):
        empty.positions[0, place], empty.salience[0, place] = position, score
    return empty


def test_nothing_untaught_changes_a_bit_of_smollm2() -> None:
    lm = CausalLM.load()
    ids = torch.tensor([lm.encode("The capital of France is Paris, and the number of the house is 4711. " * 3)[:48]])
    reweaver = MemoryReweaver(576, window=16, capture=(8, 15, 23), inject=(9, 24), slots=8)
    with (
        torch.no_grad(),
        pytest.warns(UserWarning, match="idle"),
        reweave(lm.model, reweaver, reweaver.empty()) as session,
    ):
        logits, cache = read(lm.model, ids, 16)
        last = lm.model(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits
    with torch.no_grad():
        plain, cache = read(lm.model, ids, 16)
        assert torch.equal(last, lm.model(ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1).logits)
    assert torch.equal(logits, plain)
    assert session.state.nbytes == session.state.expected_bytes == 24 * (3 * 64 * 4 + 16) + 576 * 4 + 20
    told = reweaver.report(session.state, lm.tokenizer)[0]
    assert len(told) == 8
    assert all(slot.token == lm.decode([int(ids[0, slot.position])]) for slot in told)
    assert told == sorted(told, key=lambda slot: -slot.salience)


@torch.no_grad()
def test_an_empty_buffer_is_the_model_alone() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(2, 30)
    plain, cache, logits = model(ids).logits, None, []
    with reweave(model, reweaver, reweaver.empty(2)) as session:
        for piece in ids.split(1, 1):
            out, cache = read(model, piece, 1, cache)
            logits.append(out)
            session.state = session.state.forgotten()
    torch.testing.assert_close(torch.cat(logits, 1), plain)
    within, _ = woven(model, reweaver, ids, WINDOW)
    torch.testing.assert_close(within[:, : WINDOW + 1], plain[:, : WINDOW + 1])


def test_rows_know_nothing_of_each_other() -> None:
    model, reweaver = sliding(), taught()
    ids = tokens(3, 30)
    other = torch.cat([tokens(1, 30, 7), ids[1:2], tokens(1, 30, 8)])
    (one, state), (two, changed) = woven(model, reweaver, ids, 5), woven(model, reweaver, other, 5)
    torch.testing.assert_close(one[1], two[1], rtol=1e-12, atol=1e-12)
    assert state.buffer.positions[1].tolist() == changed.buffer.positions[1].tolist()
    assert (one[0] - two[0]).abs().max() > 0.1


def test_nothing_later_reaches_a_position() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(1, 30)
    before, _ = woven(model, reweaver, ids, WINDOW)
    for place in (3, 12, 20):
        changed = ids.clone()
        changed[0, place] = (changed[0, place] + 1) % VOCABULARY
        after, _ = woven(model, reweaver, changed, WINDOW)
        torch.testing.assert_close(after[0, :place], before[0, :place], rtol=1e-12, atol=1e-12)


def test_what_the_window_sees_is_not_read_from_slots() -> None:
    """With one layer of attention, a token reaches far positions through its slot alone."""
    model = sliding(num_hidden_layers=2)
    reweaver = taught(capture=(1,), inject=(2,), slots=30, heads=1)
    ids = tokens(1, 30)
    seen: list[Tensor] = []
    place = reweaver.places[0]
    place.register_forward_hook(lambda _m, given, out: seen.append(given[2].readable))
    held: list[Tensor] = []
    place.register_forward_hook(lambda _m, given, out: held.append(given[1].positions))
    woven(model, reweaver, ids, WINDOW)
    for chunk, (readable, positions) in enumerate(zip(seen, held, strict=True), 1):  # the first has nothing to read
        for step in range(readable.shape[1]):
            now = chunk * WINDOW + step
            assert set(positions[readable[:, step]].tolist()) == set(range(max(0, now - WINDOW)))


def test_bytes_are_the_formula_and_do_not_grow() -> None:
    model, reweaver = sliding(window=64), taught(window=64)
    sizes = []
    for count in (256, 4096):
        _, state = woven(model, reweaver, tokens(1, count), 64)
        sizes.append(state.nbytes)
        assert state.expected_bytes == state.nbytes == (SLOTS + 64) * (3 * 8 * 8 + 20) + 16 * 8 + 24
    assert sizes[0] == sizes[1]


def test_gradients_reach_every_part_through_the_buffer() -> None:
    model, reweaver, ids = sliding(), taught().train(), tokens(2, 20)
    text_loss(model, reweaver, ids).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in reweaver.parameters())
    reweaver.zero_grad()
    with torch.no_grad():
        for place in reweaver.places:  # surprisal and running means have no gradient on purpose
            place.salience.fill_(-50)

    def loss() -> Tensor:
        with reweave(model, reweaver, reweaver.empty(2)):
            return language_loss(read(model, ids, WINDOW)[0], ids)

    loss().backward()
    for name, parameter in reweaver.named_parameters():
        if name == "learned" or name.endswith(".salience"):
            continue
        assert parameter.grad is not None
        place = int(parameter.grad.abs().argmax())
        slope = _slope(loss, parameter, place)
        assert float(parameter.grad.view(-1)[place]) == pytest.approx(slope, rel=5e-3, abs=2e-5), name


def test_the_reconstruction_loss_has_the_gradient_of_code_and_decoder() -> None:
    model, reweaver, ids = sliding(), taught(inject=(2,)).train(), tokens(2, WINDOW)

    def loss() -> Tensor:
        with reweave(model, reweaver, reweaver.empty(2)) as session:
            read(model, ids, WINDOW)
        return session.auxiliary()

    loss().backward()
    for parameter in (reweaver.encoder, reweaver.places[0].decoder, reweaver.places[0].gate.weight):
        assert parameter.grad is not None
        place = int(parameter.grad.abs().argmax())
        assert float(parameter.grad.view(-1)[place]) == pytest.approx(_slope(loss, parameter, place), rel=5e-3)


def _slope(loss: Callable[[], Tensor], parameter: Tensor, place: int) -> float:
    """By differences; coarse steps, because the model's norms are taken in float32 whatever its dtype."""
    flat = parameter.data.view(-1)
    was, found = float(flat[place]), []
    for step in (1e-3, -1e-3):
        flat[place] = was + step
        found.append(float(loss().detach()))
    flat[place] = was
    return (found[0] - found[1]) / 2e-3


def test_losses_are_what_they_are_called() -> None:
    model, reweaver, ids = sliding(), taught(inject=(2,)).train(), tokens(1, 5)
    with reweave(model, reweaver, reweaver.empty()) as session:
        logits, _ = read(model, ids, WINDOW)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        normal = [h / (h.square().mean(-1, keepdim=True) + torch.finfo(h.dtype).eps).sqrt() for h in states]
        place = reweaver.places[0]
        apart = [
            (normal[c] @ reweaver.encoder[n] @ place.decoder[n] - normal[2]).square().mean()
            for n, c in enumerate(reweaver.capture)
        ]
        used = 1 - place.gate(normal[2]).softmax(-1)[..., -1].mean()
    assert float(session.auxiliary().detach()) == pytest.approx(
        float((0.1 * torch.stack(apart).mean() + 0.01 * used).detach())
    )
    rare = torch.zeros(VOCABULARY, dtype=torch.bool)
    rare[ids[0, 1]] = True
    each = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
    weights = torch.where(rare[ids[0, 1:]], 2.0, 1.0).double()
    assert float(language_loss(logits, ids, rare)) == pytest.approx(float((each * weights).sum() / weights.sum()))
    assert rare_tokens(torch.tensor([50, 5, 30, 15, 0])).tolist() == [False, True, False, True, True]


def test_a_call_that_would_read_all_again_is_refused_and_a_loss_without_gradient_is_told() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(1, 6)
    with torch.no_grad(), reweave(model, reweaver, reweaver.empty(1)) as session:
        model(ids, use_cache=False)
        assert float(session.auxiliary()) == 0.0  # nothing was made with a gradient
        with pytest.raises(InvalidInput, match="use_cache=False"):
            model(ids, use_cache=False)
        assert session.state.seen == 6


def test_fit_teaches_the_reweaver_and_not_the_model() -> None:
    model, reweaver = (
        sliding(),
        MemoryReweaver(16, window=WINDOW, capture=(1, 2), inject=(2,), slots=SLOTS, code_dim=8).double(),
    )
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = fit(model, reweaver, (tokens(4, 24, 3) for _ in range(30)), steps=30, lr=1e-2)
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.warns(UserWarning, match="reweaver idle"):
        fit(model, reweaver, [tokens(1, WINDOW)], steps=1)
    with pytest.raises(InvalidInput, match="ran out in step 1"):
        fit(model, reweaver, [tokens(1, 12)], steps=2)
    joint = [tokens(2, 20, seed) for seed in range(2)]
    fit(model, reweaver, joint, steps=2, freeze_base=False)
    assert not torch.equal(model.model.embed_tokens.weight, before["model.embed_tokens.weight"])


@pytest.fixture(scope="module")
def lm() -> CausalLM:
    return CausalLM(sliding(), CausalLM.load().tokenizer, "sliding")


def test_a_state_goes_on_after_a_file(lm: CausalLM, tmp_path: Path) -> None:
    reweaver, ids = taught(), tokens(2, 30)
    with torch.no_grad(), reweave(lm.model, reweaver, reweaver.empty(2)) as session:
        _, cache = read(lm.model, ids[:, :20], WINDOW)
        then = copy.deepcopy(cache)
        file.write(session.state.cube(reweaver.fingerprint(lm)), tmp_path / "state.cube")
        file.write(reweaver.cube(lm), tmp_path / "reweaver.cube")
        expected, _ = read(lm.model, ids[:, 20:], WINDOW, cache)
    loaded = MemoryReweaver.from_cube(lm, file.read(tmp_path / "reweaver.cube")).eval()
    state = LatentState.from_cube(file.read(tmp_path / "state.cube"), loaded.fingerprint(lm))
    with torch.no_grad(), reweave(lm.model, loaded, state):
        logits, _ = read(lm.model, ids[:, 20:], WINDOW, then)
    assert torch.equal(logits, expected)
    assert state.seen == 20
    assert "20 tokens" in repr(state)


def test_a_state_is_refused_by_others(lm: CausalLM) -> None:
    reweaver = taught()
    cube = reweaver.empty().cube(reweaver.fingerprint(lm))
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        LatentState.from_cube(cube, taught(seed=2).fingerprint(lm))
    other = CausalLM(sliding(seed=5), lm.tokenizer, "other")
    with pytest.raises(FingerprintMismatch):
        LatentState.from_cube(cube, reweaver.fingerprint(other))
    with pytest.raises(FingerprintMismatch):
        MemoryReweaver.from_cube(other, reweaver.cube(lm))
    with pytest.raises(InvalidInput, match="no latent state"):
        LatentState.from_cube(MemCube(Header(), TextPayload("no tensors")), lm.fingerprint)
    with pytest.raises(InvalidInput, match="no reweaver"):
        MemoryReweaver.from_cube(lm, cube)
    with pytest.raises(CorruptCube, match="lacks"):
        LatentState.from_cube(reweaver.cube(lm), lm.fingerprint)
    assert isinstance(cube.payload, TensorPayload)
    tensors = {name: view.torch() for name, view in cube.payload.tensors.items()}
    for broken in ({n: t for n, t in tensors.items() if n != "sums"}, tensors | {"sums": tensors["sums"][:, :1]}):
        damaged = MemCube(cube.header, TensorPayload.from_torch(broken, cube.payload.fingerprint))
        with pytest.raises(CorruptCube):
            LatentState.from_cube(damaged, reweaver.fingerprint(lm))


@pytest.mark.parametrize("teach", ["the model alone", "both"])
def test_a_model_taught_since_is_another_model(teach: str) -> None:
    lm, reweaver = CausalLM(sliding(), CausalLM.load().tokenizer, "sliding"), taught()
    state, made = reweaver.empty().cube(reweaver.fingerprint(lm)), reweaver.cube(lm)
    assert LatentState.from_cube(state, reweaver.fingerprint(lm)).seen == 0
    if teach == "both":
        fit(lm.model, reweaver, [tokens(1, 20)], steps=1, freeze_base=False)
    else:
        with torch.no_grad():
            lm.model.lm_head.weight.add_(1)
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        LatentState.from_cube(state, reweaver.fingerprint(lm))
    with pytest.raises(FingerprintMismatch, match="weights differ"):
        MemoryReweaver.from_cube(lm, made)
    assert MemoryReweaver.from_cube(lm, reweaver.cube(lm)).version == reweaver.version


def test_merging_keeps_the_most_salient_of_both() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(2, 40)
    (_, early), (_, late) = woven(model, reweaver, ids[:, :25], 5), woven(model, reweaver, ids, 5)
    merged = early.merge(late)
    assert (merged.seen, merged.ring) == (40, late.ring)
    for row in range(2):
        held = {}
        for state in (early, late):
            kept = state.buffer
            for position, salience in zip(kept.positions[row].tolist(), kept.salience[row].tolist(), strict=True):
                held[position] = salience * 0.999 ** (40 - position)
        best = sorted(sorted(held, key=lambda position: -held[position])[:SLOTS])
        assert merged.buffer.positions[row].tolist() == best
        assert merged.buffer.ids[row].tolist() == ids[row, best].tolist()
    again = late.merge(late)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in late.tensors.items())
    with pytest.raises(InvalidInput, match="equally many texts"):
        late.merge(reweaver.empty(1))


def test_generate_reads_the_prompt_in_pieces() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(1, 20).clamp_min(1)  # 0 would be taken for padding
    settings = {"do_sample": False, "max_new_tokens": 8, "pad_token_id": 0}
    with torch.no_grad(), reweave(model, reweaver, reweaver.empty()) as session:
        out = model.generate(ids, prefill_chunk_size=WINDOW, **settings)
    assert session.state.seen == 27
    logits, _ = woven(model, reweaver, out[:, :-1], WINDOW)
    assert logits[0, 19:].argmax(-1).tolist() == out[0, 20:].tolist()


def test_hooks_go_and_a_failed_call_changes_nothing() -> None:
    model, reweaver, ids = sliding(), taught(), tokens(1, 10)
    with torch.no_grad():
        plain = model(ids).logits
        with reweave(model, reweaver, reweaver.empty()) as session:
            before = session.state
            for given, message in (
                ({"input_ids": ids}, "10 tokens: one call reads 1 to window=6"),
                ({"input_ids": tokens(2, 3)}, "2 rows: the state holds 1 texts"),
                ({"inputs_embeds": torch.zeros(1, 2, 16).double()}, "needs the tokens themselves"),
                ({"input_ids": ids[:, :2], "attention_mask": torch.tensor([[0, 1]])}, "hides tokens"),
            ):
                with pytest.raises(InvalidInput, match=message):
                    model(**given)
            assert session.state is before
        assert torch.equal(model(ids).logits, plain)


def test_bad_input() -> None:
    for changes, message in (
        ({"inject": (1,)}, r"inject=\(1,\) begins at or below"),
        ({"capture": ()}, r"capture=\(\)"),
        ({"capture": (3, 2)}, "rising order"),
        ({"slots": 0}, "slots=0 must be"),
        ({"slots": 3}, "no more than slots=3"),
        ({"heads": 3}, "heads=3 must divide code_dim=8"),
        ({"window": 0}, "window=0 must be"),
        ({"salience": ("fact",)}, "salience="),
    ):
        with pytest.raises(InvalidInput, match=message):
            taught(**changes)
    reweaver = taught()
    with pytest.raises(InvalidInput, match="batch=0"):
        reweaver.empty(0)
    for model, message in (
        (sliding(window=5), "its window is 5"),
        (sliding(num_hidden_layers=3), "has 3 layers; the reweaver wants layer 4"),
        (sliding(hidden_size=32), "32 wide"),
        (sliding().float(), "torch.float32"),
        (torch.nn.Linear(2, 2), "no model.model.layers"),
    ):
        with pytest.raises(InvalidInput, match=message), reweave(model, reweaver, reweaver.empty()):
            pass


def test_a_model_without_a_window_of_its_own_and_signals_one_by_one() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, **SIZES)).double().eval()
    ids = tokens(1, 20)
    kept = {}
    for signals in (("surprisal",), ("learned",)):
        with pytest.warns(UserWarning, match="reweaver idle: model=LlamaForCausalLM attends to all"):
            _, state = woven(model, taught(salience=signals), ids, WINDOW)
        kept[signals] = state.buffer.salience
    assert not torch.equal(kept["surprisal",], kept["learned",])
