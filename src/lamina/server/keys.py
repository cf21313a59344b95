"""API keys: made once, shown once, kept as a hash, bound to a tenant and to what may be done there.

A key is a memory like any other, of the reserved tenant ``lamina:keys``: so it is in the database that all workers
share, its making and revoking stand in the hash-chained log, and no tenant can reach it. Its secret has 256 random
bits, so that a plain sha256 of it can be neither reversed nor searched.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from lamina.cube.cube import Header, MemCube, Scope, now
from lamina.cube.payload import TextPayload
from lamina.errors import InvalidInput, NotFound
from lamina.store.base import Store, Write
from lamina.text import arguments

Right = Literal["read", "write", "forget", "admin"]
RIGHTS: tuple[Right, ...] = get_args(Right)
RESERVED = "lamina:"  # tenants that begin so are ours
KEYS = Scope(tenant=f"{RESERVED}keys")
PREFIX = "lk_"  # of every token
_TOKEN = re.compile(r"lk_([a-z0-9]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class Key:
    """``rights``: "read"; "write" (add, change, delete, promote); "forget" (erase); "admin" (all of these, and keys).
    ``user``: the only user whose memories it reaches; ``None``: all of the tenant."""

    id: str
    name: str
    tenant: str
    rights: frozenset[Right]
    user: str | None
    created: datetime
    expires: datetime | None
    revoked: datetime | None = None


class KeyRing:
    """The keys in a store of the tenant ``lamina:keys``."""

    def __init__(self, store: Store) -> None:
        self._store = store.as_tenant(KEYS.tenant)

    def create(
        self,
        name: str,
        tenant: str,
        rights: Iterable[str] = ("read", "write"),
        *,
        user: str | None = None,
        expires: datetime | None = None,
        actor: str = "operator",
    ) -> tuple[Key, str]:
        """A new key, and the token that is its only proof: it is not kept. Raises ``InvalidInput``."""
        wanted, user = set(rights), arguments.identity("user", user)
        arguments.clean_text("name", name)
        if not name.strip() or len(name) > 100:
            raise InvalidInput(f"name={name[:120]!r}: name the key in 1 to 100 characters, after who will use it")
        if not arguments.clean_text("tenant", tenant, 255).strip() or reserved(tenant):
            raise InvalidInput(f"tenant={tenant!r}: must not be empty, 'lamina', or begin with {RESERVED!r}")
        if not wanted or not wanted <= set(RIGHTS):
            raise InvalidInput(f"rights={sorted(wanted)}: give some of {', '.join(RIGHTS)}")
        if user is not None and "admin" in wanted:
            raise InvalidInput(f"user={user!r}: a key of one user cannot be admin of the tenant")
        expires = arguments.moment("expires", expires)
        if expires is not None and expires <= now():
            raise InvalidInput(f"expires={expires.isoformat()}: is past")
        id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        said = {
            "name": name,
            "tenant": tenant,
            "rights": sorted(wanted),
            "user": user,
            "sha256": hashlib.sha256(secret.encode()).hexdigest(),
        }
        cube = MemCube(Header(kind="text", id=_cube_id(id), scope=KEYS, expires=expires), TextPayload(json.dumps(said)))
        with self._store.transaction() as tx:
            tx.insert([Write(cube, actor=actor, action="create key", details={"tenant": tenant, "key": id})])
        return _key(cube), f"lk_{id}_{secret}"

    def verify(self, token: str) -> Key | None:
        """The key that ``token`` proves, or ``None``: unknown, wrong, expired or revoked, all alike."""
        match = _TOKEN.fullmatch(token)
        cube = self._get(match[1]) if match else None
        secret = match[2] if match else ""
        kept = json.loads(cube.text)["sha256"] if cube else "0" * 64
        right = hmac.compare_digest(hashlib.sha256(secret.encode()).hexdigest(), kept)
        if cube is None or not right:
            return None
        key = _key(cube)
        ended = key.revoked is not None or (key.expires is not None and key.expires <= now())
        return None if ended else key

    def revoke(self, id: str, *, tenant: str | None = None, actor: str = "operator") -> Key:
        """From here on it proves nothing. Raises ``NotFound``, also for a key of another ``tenant``."""
        cube = self._get(id)
        if cube is None or (tenant is not None and _key(cube).tenant != tenant):
            raise NotFound(f"there is no key {arguments.short(id)}; lamina keys list shows them")
        if cube.header.superseded is None:
            with self._store.transaction() as tx:
                tx.close(cube.id, at=now(), action="revoke key", actor=actor)
        return _key(self._get(id) or cube)

    def list(self, tenant: str | None = None) -> list[Key]:
        """All keys (of a tenant), oldest first, revoked ones too."""
        found: list[Key] = []
        cursor: str | None = None
        while True:
            page = self._store.query(KEYS, closed=True, cursor=cursor, newest_first=False, limit=1000)
            found += [_key(cube) for cube in page.cubes]
            cursor = page.cursor
            if cursor is None:
                return [key for key in found if tenant is None or key.tenant == tenant]

    def any(self) -> bool:
        """Whether a key was ever made: from then on every request needs one."""
        return bool(self._store.query(KEYS, closed=True, limit=1).cubes)

    def _get(self, id: str) -> MemCube | None:
        cube = self._store.get(_cube_id(id))
        return cube if cube is not None and cube.header.scope == KEYS else None


def reserved(tenant: str) -> bool:
    """Whether it is ours, or one whose parts would be: a database that keeps tenants apart lets it see them."""
    return f"{tenant}:".startswith(RESERVED)


def _cube_id(id: str) -> str:
    return f"key-{id}"


def _key(cube: MemCube) -> Key:
    said, header = json.loads(cube.text), cube.header
    return Key(
        id=header.id.removeprefix("key-"),
        name=said["name"],
        tenant=said["tenant"],
        rights=frozenset(said["rights"]),
        user=said["user"],
        created=header.recorded,
        expires=header.expires,
        revoked=header.superseded,
    )
