"""Who calls: a key, or on the loopback interface without any keys the operator. Every route asks for a right by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from lamina.errors import NotPermitted
from lamina.kernel.governance import GOVERNANCE, Principal
from lamina.server.failures import Unauthorized
from lamina.server.keys import RIGHTS, Key, Right

OPERATOR = "operator"
_bearer = HTTPBearer(auto_error=False, description="An API key: `lamina keys create NAME`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """``user``: the only one it may speak for; ``None``: everyone of ``tenant``."""

    id: str
    tenant: str
    rights: frozenset[Right]
    user: str | None = None

    @classmethod
    def of(cls, key: Key) -> Caller:
        return cls(key.id, key.tenant, key.rights, key.user)

    @property
    def actor(self) -> str:
        """As the log names it: never its user, since rows outlive the forgetting of users."""
        return self.id if self.id == OPERATOR else f"key:{self.id}"

    @property
    def principal(self) -> Principal:
        """As governance knows it."""
        if self.user is not None:
            return Principal(self.tenant, user=self.user)
        roles = {"admin", GOVERNANCE} if "admin" in self.rights else {"admin"}
        return Principal(self.tenant, roles=frozenset(roles))

    def may(self, right: Right) -> bool:
        return right in self.rights or "admin" in self.rights

    def owner(self, ids: Mapping[str, Any]) -> dict[str, Any]:
        """``ids`` with the caller's own user put in. Raises ``NotPermitted`` for another user's."""
        if self.user is None:
            return dict(ids)
        asked = ids.get("user_id")
        if asked not in (None, self.user):
            raise NotPermitted("this key speaks for one user alone, and user_id is another; leave it out")
        return {**ids, "user_id": self.user}


def operator(tenant: str) -> Caller:
    """Whoever sits at this machine, as long as no keys were made."""
    return Caller(OPERATOR, tenant, frozenset(RIGHTS))


def needs(*rights: Right) -> Any:
    """A dependency: the caller, who has all ``rights``; the request counts as one of the last. Raises
    ``Unauthorized``, ``NotPermitted``, ``RateLimited``."""

    def caller(
        request: Request,
        given: HTTPAuthorizationCredentials | None = Security(_bearer),  # noqa: B008 - FastAPI's way
    ) -> Caller:
        found = identify(request, given.credentials if given else None)
        if missing := [right for right in rights if not found.may(right)]:
            needed = " and ".join(map(repr, missing))
            raise NotPermitted(f"this key has the rights {', '.join(sorted(found.rights))}; {needed} is needed, too")
        request.app.state.service.spend(found, rights[-1])
        return found

    return Depends(caller)


def identify(request: Request, token: str | None) -> Caller:
    """Who sends ``request``; ``X-API-Key`` serves clients that cannot send a bearer token."""
    identified: Callable[[str | None], Caller] = request.app.state.service.identify
    found = identified(token or request.headers.get("x-api-key"))
    request.state.caller = found
    return found


def unauthorized(token: str | None) -> Unauthorized:
    """Says whether a key is missing or wrong, and nothing of why it is wrong."""
    if token is None:
        return Unauthorized("a key is needed: send it as 'Authorization: Bearer lk_...'")
    return Unauthorized("the key is not valid: unknown, expired or revoked")
