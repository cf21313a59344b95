"""Frozen dataclasses to JSON values and back, without loss and without leniency.

Encoders and decoders are built once from the type hints, so a new header field needs no line here.
Both directions check: what ``encode`` lets through, ``decode`` reads back equal. ``None`` is left out
of the JSON; a field that is missing gets its default unless it is required.

Datetimes are ISO 8601 in UTC, enums their values, integers 0 to 2**63 - 1 (every integer in a header
counts something), floats finite, text valid Unicode. ``Mapping[str, Any]`` holds plain JSON values:
its integers may be negative, a tuple is refused because it would come back as a list.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
import sys
import types
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, NamedTuple, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from lamina.errors import InvalidInput

T = TypeVar("T")
_MAX_INT = 2**63 - 1
_MAX_NESTING = 32


class _Bad(Exception):
    """A value that does not fit, and the path to it, innermost name first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.path: list[str] = []


class _Pair(NamedTuple):
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class Codec(Generic[T]):
    """``encode`` and ``decode`` for one dataclass; both raise ``InvalidInput`` naming the field."""

    def __init__(self, cls: type[T], *, required: Collection[str] = ()) -> None:
        """``required``: fields that must be present although the dataclass gives them a default."""
        self._name = cls.__name__
        self._pair = _record(cls, required)

    def encode(self, value: T) -> dict[str, Any]:
        return self._run(self._pair.encode, value)  # type: ignore[no-any-return]

    def decode(self, value: Any) -> T:
        return self._run(self._pair.decode, value)  # type: ignore[no-any-return]

    def _run(self, step: Callable[[Any], Any], value: Any) -> Any:
        try:
            return step(value)
        except _Bad as bad:
            where = ".".join([self._name, *reversed(bad.path)])
            raise InvalidInput(f"{where} {bad}") from None


def _fail(need: str, value: object) -> NoReturn:
    raise _Bad(f"must be {need}, got {reprlib.repr(value)}")


def _str(value: Any) -> str:
    if not isinstance(value, str):
        _fail("text", value)
    if not value.isascii():  # ASCII is flagged on the string: free to ask
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _Bad(f"holds the lone surrogate {value[error.start]!r} at character {error.start}") from error
    return value


def _bool(value: Any) -> bool:
    if value is not True and value is not False:
        _fail("true or false", value)
    return bool(value)


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INT:
        _fail("an integer from 0 to 2**63 - 1", value)
    return value


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        _fail("a finite number", value)
    return float(value)


def _encode_datetime(value: Any) -> str:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        _fail("a datetime with a time zone", value)
    try:
        return value.astimezone(UTC).isoformat()
    except OverflowError:
        _fail("within the years 1 to 9999 in UTC", value)


def _decode_datetime(value: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        _fail("an ISO 8601 datetime in UTC", value)
    if moment.utcoffset() != timedelta(0):
        _fail("an ISO 8601 datetime in UTC (ending in +00:00)", value)
    return moment


def _json(value: Any, depth: int = 0) -> Any:
    """A plain copy of a JSON value; both the encoder and the decoder of ``metadata``."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _str(value)
    if isinstance(value, int):
        return value if -_MAX_INT <= value <= _MAX_INT else _fail("an integer below 2**63", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _fail("a finite number", value)
    if depth >= _MAX_NESTING:
        raise _Bad(f"is nested deeper than {_MAX_NESTING}")
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value]
    if not isinstance(value, Mapping):
        _fail("a JSON value (None, bool, int, float, str, list or dict)", value)
    result = {}
    for key, item in value.items():
        name = _str(key)
        try:
            result[name] = _json(item, depth + 1)
        except _Bad as bad:
            bad.path.append(name)
            raise
    return result


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        _fail("a mapping", value)
    return _json(value)  # type: ignore[no-any-return]


def _choice(allowed: Collection[str]) -> _Pair:
    def check(value: Any) -> Any:
        return value if isinstance(value, str) and value in allowed else _fail(f"one of {', '.join(allowed)}", value)

    return _Pair(check, check)


def _enum(cls: type[StrEnum]) -> _Pair:
    members = {member.value: member for member in cls}
    check = _choice(members).encode
    return _Pair(lambda value: members[check(value)].value, lambda value: members[check(value)])


def _optional(inner: _Pair) -> _Pair:
    def encode(value: Any) -> Any:
        return None if value is None else inner.encode(value)

    def decode(value: Any) -> Any:
        return None if value is None else inner.decode(value)

    return _Pair(encode, decode)


def _many(inner: _Pair) -> _Pair:
    def each(step: Callable[[Any], Any], value: Any) -> list[Any]:
        result = []
        for item in value:
            try:
                result.append(step(item))
            except _Bad as bad:
                bad.path.append(str(len(result)))
                raise
        return result

    def encode(value: Any) -> Any:
        return each(inner.encode, value) if isinstance(value, tuple) else _fail("a tuple", value)

    def decode(value: Any) -> Any:
        return tuple(each(inner.decode, value)) if isinstance(value, list) else _fail("a list", value)

    return _Pair(encode, decode)


def _fixed(parts: tuple[_Pair, ...]) -> _Pair:
    need = f"{len(parts)} values"

    def encode(value: Any) -> Any:
        if not isinstance(value, tuple) or len(value) != len(parts):
            _fail(f"a tuple of {need}", value)
        return [part.encode(item) for part, item in zip(parts, value, strict=True)]

    def decode(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(parts):
            _fail(f"a list of {need}", value)
        return tuple(part.decode(item) for part, item in zip(parts, value, strict=True))

    return _Pair(encode, decode)


def _record(cls: type[Any], required: Collection[str] = ()) -> _Pair:
    hints = get_type_hints(cls)
    pairs = {field.name: _pair_for(hints[field.name]) for field in dataclasses.fields(cls)}
    needed = {*required, *(f.name for f in dataclasses.fields(cls) if _has_no_default(f))}

    def encode(value: Any) -> Any:
        if type(value) is not cls:
            _fail(f"a {cls.__name__}", value)
        result, name = {}, ""
        try:
            for name, pair in pairs.items():
                encoded = pair.encode(getattr(value, name))
                if encoded is not None:
                    result[name] = encoded
        except _Bad as bad:
            bad.path.append(name)
            raise
        return result

    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            _fail("an object", value)
        if not value.keys() <= pairs.keys():
            raise _Bad(f"has unknown keys: {reprlib.repr(sorted(value.keys() - pairs.keys()))}")
        if not needed <= value.keys():
            raise _Bad(f"lacks {', '.join(sorted(needed - value.keys()))}")
        result, name = {}, ""
        try:
            for name, item in value.items():
                result[name] = pairs[name].decode(item)
        except _Bad as bad:
            bad.path.append(name)
            raise
        return cls(**result)

    return _Pair(encode, decode)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


_SIMPLE: dict[Any, _Pair] = {
    str: _Pair(_str, _str),
    bool: _Pair(_bool, _bool),
    int: _Pair(_int, _int),
    float: _Pair(_float, _float),
    datetime: _Pair(_encode_datetime, _decode_datetime),
    Mapping[str, Any]: _Pair(_mapping, _mapping),
}


def _pair_for(hint: Any) -> _Pair:
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _choice(arguments)
    if origin is types.UnionType and len(arguments) == 2 and arguments[1] is types.NoneType:
        return _optional(_pair_for(arguments[0]))
    if origin is tuple and arguments[-1] is Ellipsis:
        return _many(_pair_for(arguments[0]))
    if origin is tuple:
        return _fixed(tuple(_pair_for(argument) for argument in arguments))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _record(hint)
    raise TypeError(f"a field of type {hint} has no JSON form: add one to lamina.cube.codec")
