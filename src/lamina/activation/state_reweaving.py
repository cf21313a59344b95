"""Contextual Memory Reweaving: a model with a short window gets its own earlier states back.

Dillon, Halvorsen, Tattershall, Rowntree, Vanderpool: Contextual Memory Reweaving in Large Language Models Using Layered
Latent State Reconstruction, arXiv 2502.02046. The abstract fixes the idea: states of several layers are captured,
reconstructed, and put back into later tokens, without an external memory. There is no code and no formula to follow;
the mechanism is this library's: the tokens that surprised the model most keep a slot each after they left its window
(``reweaving.buffer``, ``reweaving.salience``), as low-rank codes of their states at the layers ``capture``; at the
layers ``inject`` every later position attends to the slots and adds what it reads (``reweaving.weaving``).

    reweaver = MemoryReweaver(576, window=1024, capture=(8, 15, 23), inject=(9,))
    with reweave(model, reweaver, reweaver.empty()) as woven:
        logits, cache = read(model, ids, reweaver.window)
    print(reweaver.report(woven.state, tokenizer))

The model stays as it is: everything happens in forward hooks that go at the end of the block. An untaught reweaver
changes no bit of what the model says; ``reweaving.training.fit`` teaches it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from lamina.activation.reweaving.buffer import Kept
from lamina.activation.reweaving.reweaver import MemoryReweaver, Remembered
from lamina.activation.reweaving.salience import normalizer, standardised, surprisal
from lamina.activation.reweaving.state import LatentState
from lamina.activation.reweaving.weaving import View
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["LatentState", "MemoryReweaver", "Remembered", "Reweaving", "read", "reweave"]


@contextmanager
def reweave(model: PreTrainedModel, reweaver: MemoryReweaver, state: LatentState) -> Iterator[Reweaving]:
    """Within the block whatever ``model`` reads goes on from ``state``, ``reweaver.empty(texts)`` at the beginning of
    texts; the newest state is ``Reweaving.state``.

    One call reads at most ``reweaver.window`` tokens, all rows equally many, without padding: ``read`` does a text in
    pieces, ``generate`` does so with ``prefill_chunk_size``. Rows must keep their order (no beam search). Raises
    ``InvalidInput`` for a model without ``model.model.layers``, another width or dtype, another window than the
    model's own, or a layer it does not have. Warns if layers of the model attend to everything: then
    nothing is forgotten, unless the cache has a budget.
    """
    layers = _layers(model, reweaver)
    session = Reweaving(reweaver, state)
    with ExitStack() as stack:
        enter, leave = partial(_begin, session), partial(_end, session)
        handles = [model.register_forward_pre_hook(enter, with_kwargs=True), model.register_forward_hook(leave)]
        handles.append(_output(model).register_forward_hook(partial(_head, session)))
        for number in sorted({*reweaver.capture, *reweaver.inject}):
            handles.append(layers[number - 1].register_forward_hook(partial(_layer, session, number)))
        for handle in handles:
            stack.callback(handle.remove)
        yield session


def read(model: PreTrainedModel, ids: Tensor, chunk: int, cache: Cache | None = None) -> tuple[Tensor, Cache]:
    """Logits ``(B, T, V)`` of ``ids`` ``(B, T)``, read in pieces of ``chunk``, and the cache to go on from."""
    logits = []
    for piece in torch.split(ids, chunk, 1):
        output: Any = model(piece, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, 1), cast("Cache", cache)


@dataclass(slots=True)
class _Chunk:
    """What one call of the model has shown so far. ``keep``: which logits its caller asked for."""

    ids: Tensor
    before: LatentState
    places: Kept
    view: View
    positions: Tensor
    keep: int | Tensor
    codes: list[Tensor] = field(default_factory=list)
    asked: list[Tensor] = field(default_factory=list)  # states at the inject layers, before anything is added
    unused: list[Tensor] = field(default_factory=list)
    deepest: Tensor | None = None
    last: tuple[Tensor, Tensor] | None = None  # last hidden states and logits

    @property
    def reads(self) -> bool:
        """Whether there is anything yet to read."""
        return bool(self.view.readable.any())


@dataclass(slots=True)
class Reweaving:
    """A reweaver at work in a model. ``state`` is that after the last call; a call that fails leaves it as it was."""

    reweaver: MemoryReweaver
    state: LatentState
    reconstruction: list[Tensor] = field(default_factory=list)
    use: list[Tensor] = field(default_factory=list)
    chunk: _Chunk | None = None

    def auxiliary(self, *, reconstruction: float = 0.1, gate: float = 0.01) -> Tensor:
        """Of all calls made with gradient, weighted: how far decoded codes are from the states of the inject layers
        (mean square), and how much was read rather than nothing."""
        losses = ((reconstruction, self.reconstruction), (gate, self.use))
        return torch.stack(
            [weight * torch.stack(found).mean() for weight, found in losses if found] or [_nothing()]
        ).sum()


def _nothing() -> Tensor:
    return torch.zeros(())


def _begin(session: Reweaving, _model: Any, given: tuple[Any, ...], options: dict[str, Any]) -> Any:
    reweaver, state = session.reweaver, session.state
    ids = _checked(reweaver, state, given[0] if given else options.get("input_ids"), options)
    count = ids.shape[1]
    # The last position of the chunk may read all but the last `window` tokens before it: of the ring, the first
    # `count - 1` places. What the others may read is among those.
    places = state.buffer.joined(state.ring.part(slice(count - 1)))
    readable = places.readable(reweaver.slots, reweaver.window, state.seen, count)
    places, readable = places.pruned(readable, reweaver.slots)
    positions = torch.arange(state.seen, state.seen + count, device=ids.device)
    keep = options.get("logits_to_keep", 0)
    session.chunk = _Chunk(ids, state, places, View.of(places, readable, positions), positions, keep)
    return given, options | {"logits_to_keep": 0}  # surprisal needs them all


def _layer(session: Reweaving, number: int, _layer: Any, _given: Any, output: Any) -> Any:
    chunk, reweaver = session.chunk, session.reweaver
    assert chunk is not None
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    if number in reweaver.capture:
        chunk.codes.append(reweaver.encode(hidden, len(chunk.codes)))
        chunk.deepest = hidden
    if number not in reweaver.inject or not (chunk.reads or torch.is_grad_enabled()):
        return output
    woven = reweaver.places[len(chunk.asked)](hidden, chunk.places, chunk.view)
    chunk.asked.append(hidden)
    chunk.unused.append(woven.unused)
    attended = chunk.places.attended + woven.read.float()
    chunk.places = Kept(**chunk.places.tensors | {"attended": attended})
    hidden = hidden + woven.added
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _head(session: Reweaving, _head: Any, given: tuple[Any, ...], logits: Tensor) -> None:
    assert session.chunk is not None
    session.chunk.last = given[0].detach(), logits.detach()


def _end(session: Reweaving, model: Any, _given: Any, output: Any) -> Any:
    chunk, reweaver = session.chunk, session.reweaver
    assert chunk is not None and chunk.last is not None and chunk.deepest is not None
    codes = torch.stack(chunk.codes, 2)
    if torch.is_grad_enabled() and reweaver.training:
        session.use += [(1 - unused).mean() for unused in chunk.unused]
        for weave, hidden in zip(reweaver.places, chunk.asked, strict=True):
            target = F.rms_norm(hidden, hidden.shape[-1:]).detach()
            session.reconstruction.append((weave.reconstruct(codes) - target[:, :, None]).square().mean())
    session.state, session.chunk = _written(reweaver, chunk, codes, _output(model).weight.detach()), None
    keep = chunk.keep
    if isinstance(keep, Tensor) or keep:
        output.logits = output.logits[:, keep if isinstance(keep, Tensor) else slice(-keep, None)]
    return output


def _written(reweaver: MemoryReweaver, chunk: _Chunk, codes: Tensor, head: Tensor) -> LatentState:
    """The state after the chunk: its tokens join the ring, what left the ring is a candidate for a slot."""
    before = chunk.before
    assert chunk.last is not None and chunk.deepest is not None
    hidden, logits = chunk.last
    surprise = surprisal(hidden, logits, head, chunk.ids, before.ahead, before.normalizer)
    if not before.seen:  # nothing foretold the first token
        surprise = torch.cat([torch.zeros_like(surprise[:, :1]), surprise[:, 1:]], 1)
    raw = reweaver.raw_salience(surprise, chunk.deepest)
    salience, sums = standardised(raw, before.sums, before.seen)
    new = Kept(
        chunk.positions.to(torch.int32).expand_as(chunk.ids),
        chunk.ids.to(torch.int32),
        salience.to(before.ring.salience.dtype),
        torch.zeros_like(salience, dtype=torch.float32),
        codes,
    )
    count = chunk.ids.shape[1]
    seen = before.seen + count
    # What was read within the chunk counts for those that left the ring in it; the last to leave nobody could read.
    candidates = chunk.places.joined(before.ring.part(slice(count - 1, count)))
    return LatentState(
        seen,
        candidates.strongest(reweaver.slots, seen),
        before.ring.part(slice(count, None)).joined(new),
        sums,
        hidden[:, -1].clone(),
        normalizer(logits[:, -1], before.normalizer.dtype),
    )


def _checked(reweaver: MemoryReweaver, state: LatentState, ids: Tensor | None, options: dict[str, Any]) -> Tensor:
    """``input_ids`` of a call that can be woven into."""
    if ids is None:
        raise InvalidInput("input_ids=None: a reweaver needs the tokens themselves, not embeddings")
    if len(ids) != state.rows:
        raise InvalidInput(f"input_ids of {len(ids)} rows: the state holds {state.rows} texts; give a row for each")
    if not 1 <= ids.shape[1] <= reweaver.window:
        raise InvalidInput(
            f"input_ids of {ids.shape[1]} tokens: one call reads 1 to window={reweaver.window}; use read(), or "
            f"generate(prefill_chunk_size={reweaver.window})"
        )
    if state.seen and options.get("use_cache") is False:
        raise InvalidInput("use_cache=False: would read what was read again, and the state cannot; leave it out")
    mask = options.get("attention_mask")
    if mask is not None and (mask.dim() != 2 or not bool(mask.all())):
        raise InvalidInput("attention_mask hides tokens: rows of a batch must be equally long, without padding")
    return ids


def _output(model: Any) -> Any:
    return model.get_output_embeddings()


def _layers(model: Any, reweaver: MemoryReweaver) -> Any:
    name = type(model).__name__
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None:
        raise InvalidInput(f"model={name}: has no model.model.layers to hook into; give a decoder of that shape")
    deepest = max(*reweaver.capture, *reweaver.inject)
    if deepest > len(layers):
        raise InvalidInput(f"model={name}: has {len(layers)} layers; the reweaver wants layer {deepest}")
    width, dtype = model.config.hidden_size, reweaver.learned.dtype
    if width != reweaver.width or model.dtype != dtype:
        raise InvalidInput(
            f"model={name}: {width} wide in {model.dtype}, the reweaver {reweaver.width} in {dtype}; "
            "make one of that width, and reweaver.to(model.dtype)"
        )
    own = getattr(model.config, "sliding_window", None)
    if own is not None and own != reweaver.window:
        raise InvalidInput(
            f"model={name}: its window is {own}, the reweaver's {reweaver.window}; they must be the same"
        )
    if own is None or "full_attention" in (getattr(model.config, "layer_types", None) or ()):
        warnings.warn(
            f"reweaver idle: model={name} attends to all that its cache holds, not to window={reweaver.window} tokens: "
            "nothing is forgotten that slots could give back; load it with sliding_window, or budget its cache",
            stacklevel=4,
        )
    return layers
