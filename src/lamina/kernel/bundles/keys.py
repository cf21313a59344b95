"""Who signed it: Ed25519 keys, and the folder that holds one's own and those of the people one trusts.

Ed25519, RFC 8032, by ``cryptography``. Who checks a bundle needs the public key alone, so a signature convinces
anybody, and nobody who reads can write. A publisher *is* its public key; the name in it is what people see, chosen by
its owner, and proves nothing. Keys of strangers are never taken up by themselves: somebody compares a fingerprint and
trusts the key once, and another key under the same name is refused with both fingerprints.

The own key is made at its first use, readable by its owner alone. A second secret is derived from it for watermarks, so
that no mark says anything about a signature.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lamina.errors import InvalidInput, UntrustedBundle

Purpose = Literal["bundle", "feed"]  # a signature for one never stands for the other
_PUBLIC, _SECRET = "ed25519", "ed25519-secret"
_NAME = re.compile(r"[^\s:]{1,64}")
_BYTES = 32
_MARK = b"lamina.watermark/1\0"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A publisher: 32 bytes that check its signatures, and the name it goes by. Equal if both are; ``same`` compares
    the bytes alone."""

    name: str
    raw: bytes

    def __post_init__(self) -> None:
        _check(self.name, self.raw)

    def __str__(self) -> str:
        """``ed25519:NAME:HEX``: what is given to others, and what ``parse`` reads."""
        return f"{_PUBLIC}:{self.name}:{self.raw.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ``InvalidInput`` and quotes nothing that might be a secret."""
        return cls(*_parse(text, _PUBLIC, "a public key"))

    @property
    def id(self) -> str:
        """The key as one word, for ids and logs: nobody can make another key with it."""
        return self.raw.hex()

    @property
    def fingerprint(self) -> str:
        """Half of its sha256, in groups of four, for people to compare."""
        digest = hashlib.sha256(self.raw).hexdigest()[:32]
        return " ".join(digest[place : place + 4] for place in range(0, 32, 4))

    def same(self, other: PublicKey) -> bool:
        return self.raw == other.raw

    def signed(self, purpose: Purpose, data: bytes, signature: str) -> bool:
        """Whether ``signature`` (hex) is this key's, of ``data``, for this purpose."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(bytes.fromhex(signature), _told(purpose, data))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Key:
    """A publisher's own key: a secret of 32 bytes and the name it goes by. Its ``repr`` does not show the secret."""

    name: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.name, self.secret)

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.name, Ed25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes_raw())

    def sign(self, purpose: Purpose, data: bytes) -> str:
        """The signature of ``data``, 128 hex digits."""
        return Ed25519PrivateKey.from_private_bytes(self.secret).sign(_told(purpose, data)).hex()

    def watermark(self, id: str, content: str) -> str:
        """The mark of ``content`` (a payload's sha256) of memory ``id``, an HMAC: its maker can prove later who let it
        out. Nobody else can make or check it."""
        marking = hmac.new(self.secret, _MARK, hashlib.sha256).digest()
        return hmac.new(marking, f"{id}\0{content}".encode(), hashlib.sha256).hexdigest()


def known(claimed: PublicKey, trusted: Collection[PublicKey]) -> PublicKey:
    """The trusted key that ``claimed`` is, by the name it is trusted under.

    Raises ``UntrustedBundle`` with its fingerprint and that of the key which is trusted by its name, or of all.
    """
    for one in trusted:
        if one.same(claimed):
            return one
    theirs = f"signed by {claimed.name!r} with the key {claimed.fingerprint}"
    remedy = f"If it is theirs (compare it by another way), trust it: --trust {claimed}"
    if namesakes := [one for one in trusted if one.name == claimed.name]:
        ours = ", ".join(one.fingerprint for one in namesakes)
        raise UntrustedBundle(f"{theirs}, which is not the key of {claimed.name!r} that is trusted: {ours}. {remedy}")
    ours = ", ".join(f"{one.name}: {one.fingerprint}" for one in trusted) or "none"
    raise UntrustedBundle(f"{theirs}, which is not trusted (trusted: {ours}). {remedy}")


class KeyRing:
    """The keys in ``folder`` (made when missing): ``signing.key``, one's own, and ``trusted_keys``, one a line."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "signing.key"
        self._trusted = self.folder / "trusted_keys"

    def own(self, name: str) -> Key:
        """One's own key, made under ``name`` if there is none yet; an old one keeps its name.

        Raises ``InvalidInput`` when the file is not such a key, or others may read it.
        """
        if not self.file.exists():
            made = Key(name, Ed25519PrivateKey.generate().private_bytes_raw())
            _write(self.file, f"{_SECRET}:{made.name}:{made.secret.hex()}\n", once=True)
        return self._read()

    def trusted(self) -> list[PublicKey]:
        """Whose bundles are believed to be theirs, one's own among them. Raises ``InvalidInput``."""
        lines = self._trusted.read_text(encoding="utf-8").splitlines() if self._trusted.exists() else []
        own = [self._read().public] if self.file.exists() else []
        return [*own, *(PublicKey.parse(line) for line in lines if line.strip())]

    def trust(self, key: PublicKey) -> bool:
        """Believe ``key`` from now on; whether that is new."""
        if any(one.same(key) for one in self.trusted()):
            return False
        self._keep([*self._others(), key])
        return True

    def distrust(self, fingerprint: str) -> PublicKey:
        """Believe a key no more; which one. Raises ``InvalidInput`` for a fingerprint of none, or of one's own."""
        wanted = fingerprint.replace(" ", "").lower()
        for key in self._others():
            if key.fingerprint.replace(" ", "") == wanted:
                self._keep([one for one in self._others() if not one.same(key)])
                return key
        raise InvalidInput(f"fingerprint {fingerprint!r:.60} is that of no key that was trusted here")

    def _others(self) -> list[PublicKey]:
        own = self._read().public if self.file.exists() else None
        return [one for one in self.trusted() if own is None or not one.same(own)]

    def _read(self) -> Key:
        mode = stat.S_IMODE(self.file.stat().st_mode)
        if mode & 0o077:
            raise InvalidInput(f"{self.file} may be read by others (mode {mode:o}): chmod 600, or make a new key")
        return Key(*_parse(self.file.read_text(encoding="utf-8"), _SECRET, f"the key in {self.file}"))

    def _keep(self, keys: Collection[PublicKey]) -> None:
        _write(self._trusted, "".join(f"{key}\n" for key in keys))


def _check(name: str, raw: bytes) -> None:
    if not _NAME.fullmatch(name) or not name.isprintable() or len(raw) != _BYTES:
        raise InvalidInput(
            f"key {name!r:.80}: give a name of at most 64 characters without spaces and colons, and {_BYTES} bytes"
        )


def _told(purpose: Purpose, data: bytes) -> bytes:
    return f"lamina.{purpose}/2\0".encode() + data


def _parse(text: str, kind: str, what: str) -> tuple[str, bytes]:
    said, _, rest = text.strip().partition(":")
    name, _, digits = rest.rpartition(":")
    if said != kind or not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise InvalidInput(f"{what} is one line {kind}:NAME:HEX with 64 hex digits; this is none")
    return name, bytes.fromhex(digits)


def _write(path: Path, text: str, *, once: bool = False) -> None:
    """Whole or not at all, readable by its owner alone. ``once``: what somebody else wrote meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".keys-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if once:
            path.hardlink_to(temporary)
        else:
            Path(temporary).replace(path)
    except FileExistsError:
        pass  # made by another process at the same moment: that one is the key
    finally:
        Path(temporary).unlink(missing_ok=True)
