"""A KV cube at rest: which tensors a payload holds, in which form, and what the form costs in error.

``ids`` int32 ``(n,)``, ``logits`` float32 ``(V,)`` and, for each layer, ``layer.000.key`` (positions taken off) and
``layer.000.value`` ``(H_kv, n, d)``. In ``int8`` these are codes, with a float32 ``.scale`` and ``.low``
``(H_kv, n, 1)`` beside them. Bytes a token: ``2 L H_kv d b`` with b = 4 or 2, and ``2 L H_kv (d + 8)`` in int8.

Keys are rounded after their positions are off: rotation mixes channels of unlike size, and rounding rotated keys
would tie the error to where the text stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from lamina._optional import require
from lamina.cube.payload import TensorPayload
from lamina.cube.tensor import TensorView
from lamina.errors import CorruptCube, InvalidInput
from lamina.tensors.quantize import Rows, dequantize, quantize

if TYPE_CHECKING:
    from torch import Tensor

    from lamina.activation.eligibility import KVLayout
    from lamina.activation.prefill import Prefix

Form = Literal["float32", "bfloat16", "int8"]
_FORM_OF = {"F32": "float32", "BF16": "bfloat16", "U8": "int8"}


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """What a payload holds, keys turned to positions 0..n-1 again, in the model's dtype."""

    ids: list[int]
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    logits: Tensor
    form: Form


@dataclass(frozen=True, slots=True)
class FormCost:
    """Bytes of keys and values a token, counted from the payload; largest error of each, relative to the largest
    element of its layer, over all layers."""

    bytes_per_token: float
    key_error: float
    value_error: float


def pack(cube: Prefix, form: Form) -> TensorPayload:
    """Raises ``InvalidInput`` for an unknown ``form``."""
    torch = require("torch", "storing a key-value cube")
    if form not in get_args(Form):
        raise InvalidInput(f"form={form!r} is not known; give one of {', '.join(get_args(Form))}")
    tensors = {"ids": torch.tensor(cube.ids, dtype=torch.int32), "logits": cube.logits}
    for layer, value in enumerate(cube.values):
        tensors |= _rounded(f"layer.{layer:03d}.key", cube.unrotated(layer), form)
        tensors |= _rounded(f"layer.{layer:03d}.value", value, form)
    return TensorPayload.from_torch(tensors, cube.fingerprint)


def unpack(payload: TensorPayload, layout: KVLayout, dtype: Any) -> Stored:
    """Raises ``CorruptCube`` naming the tensor that is missing, unknown or misshapen."""
    torch = require("torch", "loading a key-value cube")
    tensors = payload.tensors
    form = form_of(payload)
    ids = _vector(tensors, "ids", "I32").tolist()
    tables = layout.rotary.tables(torch.arange(len(ids)))
    keys, values, names = [], [], {"ids", "logits"}
    for layer, (heads, key_width, value_width) in enumerate(layout.layers):
        names |= (key := _names(f"layer.{layer:03d}.key", form)) | (value := _names(f"layer.{layer:03d}.value", form))
        plain = _widened(tensors, min(key), form, (heads, len(ids), key_width))
        keys.append(layout.rotary.turn(plain, *tables).to(dtype))
        values.append(_widened(tensors, min(value), form, (heads, len(ids), value_width)).to(dtype))
    if unknown := sorted(tensors.keys() - names):
        raise CorruptCube(f"the payload holds {unknown[0]!r}, which is no part of a key-value cube of this model")
    return Stored(ids, tuple(keys), tuple(values), _vector(tensors, "logits", "F32").clone(), form)


def form_of(payload: TensorPayload) -> Form:
    """The form of a stored cube. Raises ``CorruptCube`` if ``payload`` is none."""
    first = payload.tensors.get("layer.000.key")
    form = _FORM_OF.get(first.dtype) if first is not None else None
    if form is None:
        raise CorruptCube("the payload holds no key-value cube: 'layer.000.key' is missing or of another dtype")
    return form  # type: ignore[return-value]


def cost(cube: Prefix, form: Form) -> FormCost:
    """What ``form`` costs this cube, measured on the payload it makes."""
    tensors = pack(cube, form).tensors
    nbytes = sum(view.nbytes for name, view in tensors.items() if name.startswith("layer."))
    keys: list[float] = []
    values: list[float] = []
    for layer, value in enumerate(cube.values):
        for kind, true, errors in (("key", cube.unrotated(layer), keys), ("value", value, values)):
            near = _widened(tensors, f"layer.{layer:03d}.{kind}", form, tuple(true.shape))
            errors.append(float((near - true.float()).abs().max() / true.abs().max()))
    return FormCost(nbytes / len(cube.ids), max(keys), max(values))


def _rounded(name: str, x: Tensor, form: Form) -> dict[str, Tensor]:
    if form == "int8":
        rows = quantize(x)
        return {name: rows.codes, f"{name}.scale": rows.scale, f"{name}.low": rows.low}
    return {name: x.float() if form == "float32" else x.bfloat16()}


def _widened(tensors: Mapping[str, TensorView], name: str, form: Form, shape: tuple[int, ...]) -> Tensor:
    """Float32; the stored memory itself where that is float32 already."""
    if form != "int8":
        return _tensor(tensors, name, "F32" if form == "float32" else "BF16", shape).float()
    scale, low = (_tensor(tensors, f"{name}.{part}", "F32", (*shape[:-1], 1)) for part in ("scale", "low"))
    return dequantize(Rows(_tensor(tensors, name, "U8", shape), scale, low))


def _names(name: str, form: Form) -> set[str]:
    return {name, f"{name}.scale", f"{name}.low"} if form == "int8" else {name}


def _tensor(tensors: Mapping[str, TensorView], name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    view = tensors.get(name)
    if view is None:
        raise CorruptCube(f"the payload lacks {name!r}")
    if view.dtype != dtype or view.shape != shape:
        raise CorruptCube(f"{name!r} must be {dtype} {shape}, but is {view.dtype} {view.shape}")
    return view.torch()


def _vector(tensors: Mapping[str, TensorView], name: str, dtype: str) -> Tensor:
    view = tensors.get(name)
    if view is None or len(view.shape) != 1:
        raise CorruptCube(f"the payload lacks the vector {name!r}")
    return _tensor(tensors, name, dtype, view.shape)
