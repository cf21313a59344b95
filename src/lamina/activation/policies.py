"""Cache policies as people write them: ``cake:6MiB``, ``xkv:ratio=4``, ``cake:6MiB+xkv:ratio=2+int8``.

Parts joined by ``+``: one that says which tokens stay (``cake``, ``snapkv``, ``pyramidkv``, ``streaming-llm``,
``random``), ``xkv`` for factors, and ``int8``, ``int4`` or ``int2`` for rounding. A part's settings follow a colon,
with commas between them: a plain size is the budget, everything else ``name=value`` as in Python (``tau=1.6/0.4``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from lamina._optional import require
from lamina.errors import InvalidInput

if TYPE_CHECKING:
    from lamina.activation.attach import CachePolicy

EVICTING: Mapping[str, dict[str, Any]] = {
    "cake": {},
    "snapkv": {"allocation": "uniform", "indicator": "snapkv"},
    "pyramidkv": {"allocation": "pyramid", "indicator": "snapkv"},
    "streaming-llm": {"allocation": "uniform", "indicator": "recent", "sinks": 4},
    "random": {"allocation": "uniform", "indicator": "random"},
}
_FORM = "write cake:6MiB, xkv:ratio=4, or both joined by +, with +int8 or +int4 to round what is kept"
_EVERYTHING = 2**40  # tokens: no text is longer


def _pair(text: str) -> tuple[float, float]:
    first, slash, second = text.partition("/")
    if not slash:
        raise ValueError("give two numbers, like 1.6/0.4")
    return float(first), float(second)


def _group(text: str) -> int | str:
    return text if text == "auto" else int(text)


_READ: Mapping[str, Callable[[str], Any]] = {
    "budget": str,
    **dict.fromkeys(("tokens", "window", "pool", "sinks", "every", "seed", "rank_k", "rank_v", "tail"), int),
    **dict.fromkeys(("select", "rebuilt"), int),
    **dict.fromkeys(("gamma", "beta", "ratio"), float),
    "tau": _pair,
    "group": _group,
}


def parse_policy(text: str) -> CachePolicy:
    """The policy that ``text`` names. Raises ``InvalidInput`` that says which part is wrong and how to write it."""
    require("torch", "a cache policy")
    from lamina.activation.cascade_eviction import CAKE
    from lamina.activation.cross_layer_svd import XKV
    from lamina.activation.evicted_bases import EvictedBases

    evict: CAKE | None = None
    factor: XKV | None = None
    bits: int | None = None
    for part in text.split("+"):
        name, _, written = part.strip().partition(":")
        if name in EVICTING and evict is None:
            if not written:
                raise InvalidInput(f"cache={text!r}: say how much {name} may keep: {name}:6MiB or {name}:tokens=512")
            evict = CAKE(**EVICTING[name] | _settings(part, written, CAKE))
        elif name == "xkv" and factor is None:
            factor = XKV(**_settings(part, written, XKV))
        elif name in ("int2", "int4", "int8") and not written and bits is None:
            bits = int(name[3:])
        else:
            raise InvalidInput(f"cache={text!r}: {part.strip()!r} is unknown or comes twice; {_FORM}")
    if factor is not None:
        factor = factor if bits is None else replace(factor, bits=bits)
        return factor if evict is None else EvictedBases(evict, factor)
    if evict is None:  # only rounded
        evict = CAKE(tokens=_EVERYTHING, allocation="uniform", indicator="recent")
    return evict if bits is None else replace(evict, bits=bits)


def written_policy(policy: CachePolicy) -> str:
    """``policy`` as ``parse_policy`` reads it; settings that are left as they come are left out."""
    from lamina.activation.cascade_eviction import CAKE
    from lamina.activation.cross_layer_svd import XKV
    from lamina.activation.evicted_bases import EvictedBases

    if isinstance(policy, EvictedBases):
        evict, factor = written_policy(policy.evict), written_policy(policy.factor)
        return f"{evict}+{factor}"
    if isinstance(policy, XKV):
        return _joined("xkv", _changed(policy, XKV(ratio=2.0), always=("ratio",)), policy.bits)
    if not isinstance(policy, CAKE):
        raise InvalidInput(f"policy={policy!r} has no written form")
    kind = policy.allocation, policy.indicator
    named = {
        (shape.get("allocation", "cake"), shape.get("indicator", "cake")): name for name, shape in EVICTING.items()
    }
    name = named.get(kind)
    if name is None:
        raise InvalidInput(f"policy={policy!r}: this allocation with this indicator has no name; "
                           f"named are {', '.join(EVICTING)}")  # fmt: skip
    if policy.tokens == _EVERYTHING and policy.bits is not None:
        return f"int{policy.bits}"
    plain = CAKE(tokens=2**20, **EVICTING[name])
    return _joined(name, _changed(policy, plain, always=("budget", "tokens")), policy.bits)


def _settings(part: str, written: str, kind: Any) -> dict[str, Any]:
    """``written``, the settings of ``part``, as arguments of ``kind``."""
    known = {field.name for field in fields(kind)} & set(_READ)
    found: dict[str, Any] = {}
    for one in filter(None, (piece.strip() for piece in written.split(","))):
        name, equals, value = one.partition("=")
        name, value = (name, value) if equals else ("budget", one)
        if name not in known or name in found:
            raise InvalidInput(f"cache={part!r}: {one!r} is unknown or comes twice; "
                               f"settings are {', '.join(sorted(known))}")  # fmt: skip
        try:
            found[name] = _READ[name](value)
        except ValueError as error:
            raise InvalidInput(f"cache={part!r}: {one!r} cannot be read ({error})") from error
    return found


def _changed(policy: Any, plain: Any, always: tuple[str, ...]) -> list[str]:
    found = []
    for field in fields(policy):
        value = getattr(policy, field.name)
        if (
            field.name not in _READ
            or value is None
            or (value == getattr(plain, field.name) and field.name not in always)
        ):
            continue
        said = "/".join(map(str, value)) if isinstance(value, tuple) else str(value)
        found.append(f"{field.name}={said}")
    return found


def _joined(name: str, settings: list[str], bits: int | None) -> str:
    head = f"{name}:{','.join(settings)}" if settings else name
    return head if bits is None else f"{head}+int{bits}"
