"""A header as JSON text and back: what a ``.cube`` file and every store keep of it.

Lossless (``from_json(to_json(header)) == header``) and strict: unknown keys, wrong types, naive
datetimes, non-finite numbers and texts over ``MAX_HEADER_BYTES`` are refused with the field's name.
The fields that say which memory this is must be present; others fall back to the header's defaults,
so that JSON written before a field existed still reads.
"""

from __future__ import annotations

from lamina.cube import strict_json
from lamina.cube.codec import Codec
from lamina.cube.cube import Header
from lamina.errors import InvalidInput

MAX_HEADER_BYTES = 1 << 20

_codec = Codec(Header, required=("id", "version", "kind", "scope", "created", "recorded", "state"))


def to_json(header: Header) -> str:
    """Compact JSON; fields that are ``None`` are left out. Raises ``InvalidInput`` naming the field."""
    text = strict_json.dumps(_codec.encode(header))
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_HEADER_BYTES:
        raise InvalidInput(
            f"the header of {header.id!r} takes {size} bytes of JSON, over the limit of {MAX_HEADER_BYTES}; "
            "keep large values in the text or in a tensor, not in metadata"
        )
    return text


def from_json(text: str) -> Header:
    """The header that ``to_json`` wrote. Raises ``InvalidInput`` naming the field for anything else."""
    return _codec.decode(strict_json.loads(text, max_bytes=MAX_HEADER_BYTES))
