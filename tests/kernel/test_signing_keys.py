"""Keys: RFC 8032's own vectors, one key made once and for its owner alone, strangers told apart by fingerprint."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidInput, UntrustedBundle
from lamina.kernel.bundles.keys import Key, KeyRing, PublicKey, known

ANA, EVE = Key("ana", b"a" * 32), Key("eve", b"e" * 32)
IMPOSTOR = Key("ana", b"i" * 32)


def test_the_algorithm_is_that_of_rfc_8032() -> None:
    """Section 7.1, test 1: the public key of a secret; and the message is what the purpose says, nothing less."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = Key("rfc", secret)
    assert key.public.id == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert len(bytes.fromhex(key.sign("bundle", b""))) == 64


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_a_signature_is_of_one_key_purpose_and_message(data: bytes, other: bytes) -> None:
    signature = ANA.sign("bundle", data)
    assert ANA.public.signed("bundle", data, signature)
    assert not ANA.public.signed("feed", data, signature)
    assert not EVE.public.signed("bundle", data, signature)
    assert ANA.public.signed("bundle", other, signature) == (data == other)
    for broken in ("", "00", signature[:-2], signature[:-1] + "x", signature.replace(signature[:2], "zz", 1)):
        assert not ANA.public.signed("bundle", data, broken)


def test_secrets_are_not_shown_and_marks_need_them() -> None:
    assert "61" * 4 not in repr(ANA) and "aaaa" not in repr(ANA)
    mark = ANA.watermark("id", "content")
    assert len(mark) == 64 and mark == Key("renamed", ANA.secret).watermark("id", "content")
    assert mark not in (ANA.watermark("other", "content"), ANA.watermark("id", "other"), EVE.watermark("id", "content"))
    for name, secret in [("x", b"short"), ("two words", b"a" * 32), ("a:b", b"a" * 32), ("", b"a" * 32)]:
        with pytest.raises(InvalidInput, match="32 bytes"):
            Key(name, secret)


def test_public_keys_are_read_as_written_and_no_secret_passes_for_one() -> None:
    assert PublicKey.parse(f" {ANA.public}\n") == ANA.public
    assert ANA.public.fingerprint.replace(" ", "") == hashlib.sha256(ANA.public.raw).hexdigest()[:32]
    secret = ANA.secret.hex()
    for wrong in (f"ed25519-secret:ana:{secret}", f"ana:{secret}", f"ed25519:ana:{secret[:-2]}", f"ed25519:{secret}"):
        with pytest.raises(InvalidInput) as refused:
            PublicKey.parse(wrong)
        assert secret[:16] not in str(refused.value)


def test_a_stranger_and_a_changed_key_are_refused_with_both_fingerprints() -> None:
    trusted = [EVE.public, ANA.public]
    assert known(PublicKey("so-she-says", ANA.public.raw), trusted) == ANA.public, "the key counts, not the name"
    with pytest.raises(UntrustedBundle, match="not the key of 'ana'") as changed:
        known(IMPOSTOR.public, trusted)
    assert IMPOSTOR.public.fingerprint in str(changed.value) and ANA.public.fingerprint in str(changed.value)
    assert EVE.public.fingerprint not in str(changed.value)
    with pytest.raises(UntrustedBundle, match="not trusted") as unknown:
        known(ANA.public, [EVE.public])
    assert ANA.public.fingerprint in str(unknown.value) and EVE.public.fingerprint in str(unknown.value)
    assert str(ANA.public) in str(unknown.value), "what to pass to --trust"
    with pytest.raises(UntrustedBundle, match="none"):
        known(ANA.public, [])


def test_the_own_key_is_made_once_and_readable_by_its_owner_alone(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "home")
    assert ring.trusted() == [] and not ring.file.exists(), "looking makes no key"
    key = ring.own("ana")
    assert ring.file.stat().st_mode & 0o777 == 0o600
    assert KeyRing(tmp_path / "home").own("somebody") == key and key.name == "ana"
    assert ring.trusted() == [key.public]
    assert [path.name for path in ring.folder.iterdir()] == ["signing.key"]
    ring.file.chmod(0o640)
    with pytest.raises(InvalidInput, match="chmod 600"):
        ring.own("ana")
    ring.file.chmod(0o600)
    ring.file.write_text(f"ana:{key.secret.hex()}\n")
    with pytest.raises(InvalidInput, match="ed25519-secret") as refused:
        ring.own("ana")
    assert key.secret.hex() not in str(refused.value)


def test_processes_that_start_together_make_one_key(tmp_path: Path) -> None:
    code = "import sys; from lamina.kernel.bundles.keys import KeyRing; print(KeyRing(sys.argv[1]).own('ana').public)"
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "home")], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert len({process.communicate(timeout=60)[0] for process in started}) == 1
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["signing.key"]


def test_trust_is_given_and_taken_back(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    own = ring.own("me").public
    assert ring.trust(ANA.public) and ring.trust(EVE.public)
    assert not ring.trust(PublicKey("renamed", ANA.public.raw)) and not ring.trust(own)
    assert KeyRing(tmp_path).trusted() == [own, ANA.public, EVE.public]
    assert ring.distrust(ANA.public.fingerprint.upper()) == ANA.public
    assert ring.trusted() == [own, EVE.public]
    for none in (ANA.public.fingerprint, own.fingerprint, ""):
        with pytest.raises(InvalidInput, match="no key"):
            ring.distrust(none)
