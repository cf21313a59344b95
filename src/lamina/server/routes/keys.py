"""Keys of the caller's tenant: made, listed and revoked by its administrators."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from lamina.server.caller import Caller, needs
from lamina.server.keys import Key
from lamina.server.routes.service_of import Served

router = APIRouter(tags=["keys"], prefix="/keys")
Admin = Annotated[Caller, needs("admin")]


class KeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(examples=["the support bot"])
    rights: list[str] = Field(default=["read", "write"], examples=[["read"]])
    user: str | None = Field(None, description="the only user whose memories it reaches")
    expires: datetime | None = Field(
        None,
        description="without a zone, in UTC",
        examples=["2099-01-01", "2099-01-01T09:30:00", "2099-01-01T09:30+02:00"],
    )


@router.post("", status_code=201, summary="Make a key")
def create(body: KeyBody, caller: Admin, service: Served) -> dict[str, Any]:
    """``token`` is shown now and never again."""
    key, token = service.keys.create(
        body.name, caller.tenant, body.rights, user=body.user, expires=body.expires, actor=caller.actor
    )
    return {**key_dict(key), "token": token}


@router.get("", summary="List keys")
def list_keys(caller: Admin, service: Served) -> list[dict[str, Any]]:
    """Oldest first, revoked ones too; never their tokens."""
    return [key_dict(key) for key in service.keys.list(caller.tenant)]


@router.delete("/{key_id}", summary="Revoke a key")
def revoke(key_id: str, caller: Admin, service: Served) -> dict[str, Any]:
    """From the next request on it proves nothing."""
    return key_dict(service.keys.revoke(key_id, tenant=caller.tenant, actor=caller.actor))


def key_dict(key: Key) -> dict[str, Any]:
    """For JSON."""
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "rights": sorted(key.rights),
        "user": key.user,
        "created": key.created.isoformat(),
        "expires": key.expires.isoformat() if key.expires else None,
        "revoked": key.revoked.isoformat() if key.revoked else None,
    }
