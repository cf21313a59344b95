"""Chat: talk with the model of the service, and see of every answer what it rests on and what was kept of the question.

With memory switched off nothing is looked for and nothing is kept. A conversation lives in its page, in a hidden field
that every question brings along, so any worker can answer it. The field names memories; what they say is read anew each
time, by what the key may read then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from lamina.cube.cube import MemCube
from lamina.errors import InvalidInput, LaminaError, NotFound
from lamina.server.caller import Caller
from lamina.server.dashboard.conversation import LONGEST, SHOWN, Conversation, Exchange, Used, answer
from lamina.server.dashboard.shell import PageRoute, asks_for_part, render
from lamina.server.dashboard.suggesting import questions
from lamina.server.dashboard.visitor import Changer, Reader
from lamina.server.routes.service_of import Served, asks
from lamina.server.service import Service
from lamina.text import arguments

router = APIRouter(route_class=PageRoute)

USERS = 100  # to choose from
FORMS = {"text": "text", "activation": "cache", "parameter": "adapter"}
SERVED = {"text": "as text", "activation": "from a cache", "parameter": "by an adapter"}
PARTS = {
    "dense": "meaning",
    "lexical": "words",
    "period": "time",
    "speaker": "who spoke",
    "session": "same talk",
    "stated": "says a fact",
    "question": "is a question",
    "succession": "newer",
}

logger = logging.getLogger("lamina.server")


class Sent(BaseModel):
    """The form. ``suggested``: a question that was clicked on; ``undo``: ids of what is to be taken back."""

    question: str = Field("", max_length=LONGEST)
    suggested: str = Field("", max_length=LONGEST)
    conversation: str = Field("", max_length=2**20)
    user_id: str = Field("", max_length=255)
    memory: bool = False
    undo: str = Field("", max_length=2**14)

    def talk(self) -> Conversation:
        """Raises ``InvalidInput``."""
        try:
            return Conversation.model_validate_json(self.conversation) if self.conversation else Conversation()
        except ValidationError:
            raise InvalidInput("The conversation in this page cannot be read; open the page anew.") from None


@dataclass(frozen=True, slots=True)
class Cited:
    """A memory on the page; ``text`` is ``None`` for what is no longer there, or never was for this key."""

    id: str
    text: str | None
    current: bool
    kind: str = ""
    used: Used | None = None


@router.get("/chat")
def chat(request: Request, caller: Reader, service: Served, user_id: str = "") -> Response:
    user = _user(caller, user_id) or _only_user(service, caller)
    return _page(request, service, caller, user, Conversation(), Sent(memory=True))


@router.post("/chat")
async def say(request: Request, sent: Annotated[Sent, Form()], caller: Changer, service: Served) -> Response:
    question = (sent.suggested or sent.question).strip()
    user = _user(caller, sent.user_id)
    if not question or user is None:
        raise InvalidInput("Write a question first." if user else "Say first whose memory it is.")
    talk = sent.talk()
    exchange = Exchange(question=question, memory=sent.memory)
    try:
        await answer(request.app.state.upstream, service, caller, user, talk, exchange)
    except LaminaError as error:
        exchange.error = str(error)
    except RuntimeError:  # what torch raises, for want of room for example
        logger.exception("the model failed")
        exchange.error = "The model failed; the log of the service says why."
    if not exchange.error:
        talk.exchanges = [*talk.exchanges, exchange][-SHOWN:]
    left = sent.model_copy(update={"question": question if exchange.error else ""})
    return await run_in_threadpool(_page, request, service, caller, user, talk, left, exchange)


@router.post("/chat/undo")
@asks("change")
def undo(request: Request, sent: Annotated[Sent, Form()], caller: Changer, service: Served) -> Response:
    """Take out of use what was remembered of a message, and back into use what it had replaced."""
    ids, memory = sent.undo.split(), service.memory(caller)
    for id in ids:
        service.changeable(caller, id)
    standing = [id for id in ids if _stands(service, caller, id)]  # what was replaced since takes nothing back
    replaced = {one.id for id in standing for one in _replaced_by(service, caller, id)}
    for id in standing:
        if _stands(service, caller, id):  # it may have gone with another
            memory.delete(id)
    for id in replaced - set(ids):  # what one message said first and then took back stays gone with it
        if not _stands(service, caller, id):
            memory.restore(id)
    if asks_for_part(request):
        return render(request, "chat_kept.html", kept=_cited(service, caller, ids))
    return _page(request, service, caller, _user(caller, sent.user_id), sent.talk(), sent)


def _stands(service: Service, caller: Caller, id: str) -> bool:
    return service.readable(caller, id).header.superseded is None


def _replaced_by(service: Service, caller: Caller, id: str) -> list[MemCube]:
    """What the memory ``id`` took the place of."""
    cube = service.changeable(caller, id)
    page = service.memory(caller).store.query(cube.header.scope, {"superseded_by": id}, closed=True, limit=20)
    return [service.changeable(caller, one.id) for one in page.cubes if one.id != id]


def _cited(service: Service, caller: Caller, ids: Iterable[str | Used]) -> list[Cited]:
    return [_read(service, caller, one) for one in ids]


def _read(service: Service, caller: Caller, one: str | Used) -> Cited:
    """What the caller may read now of a memory, in the version that was used."""
    used = one if isinstance(one, Used) else None
    id = used.id if used else str(one)
    try:
        newest = service.readable(caller, id)
    except NotFound:
        return Cited(id, None, False, used=used)
    store = service.memory(caller).store
    cube = store.get(id, version=used.version) if used else newest
    if cube is None or cube.header.kind != "text":
        return Cited(id, None, False, used=used)
    current = newest.header.superseded is None and newest.text == cube.text
    return Cited(id, cube.text, current, cube.header.semantic_type, used)


def _user(caller: Caller, asked: str) -> str | None:
    """Whose memory. Raises ``NotPermitted`` for another than the key's."""
    ids = caller.owner({"user_id": asked.strip() or None})
    return arguments.scope_of(caller.tenant, ids, required=False).user


def _users(service: Service, caller: Caller) -> list[str]:
    """Whose memories there are, those with the most first."""
    if caller.user is not None:
        return [caller.user]
    counts: dict[str, int] = {}
    for scope, count in service.memory(caller).store.scopes(caller.tenant):
        if scope.user is not None:
            counts[scope.user] = counts.get(scope.user, 0) + count
    return sorted(counts, key=lambda user: (-counts[user], user))[:USERS]


def _only_user(service: Service, caller: Caller) -> str | None:
    """Who is meant if nobody is named. With many it must be said: a question becomes a memory of somebody."""
    users = _users(service, caller)
    if len(users) == 1:
        return users[0]
    return service.settings.user if not users or service.settings.user in users else None


def _page(
    request: Request,
    service: Service,
    caller: Caller,
    user: str | None,
    talk: Conversation,
    sent: Sent,
    newest: Exchange | None = None,
) -> Response:
    """The page, or what is new in it. ``sent`` is what stands in the form."""

    def view(exchange: Exchange) -> dict[str, Any]:
        used = _cited(service, caller, exchange.used)
        best = max((one.used.score or 0.0 for one in used if one.used), default=0.0)
        told = {"used": used, "kept": _cited(service, caller, exchange.kept), "best": best or 1.0}
        return {"said": exchange, "newest": exchange is newest} | told

    common: dict[str, Any] = {
        "field": talk.model_dump_json(),
        "user": user,
        "sent": sent,
        "forms": FORMS,
        "served": SERVED,
        "parts": PARTS,
    }
    if newest is not None and asks_for_part(request):
        return render(request, "chat_said.html", exchange=view(newest), **common)
    shown = [view(one) for one in talk.exchanges]
    if newest is not None and newest.error:
        shown.append(view(newest))
    return render(
        request,
        "chat.html",
        exchanges=shown,
        users=_users(service, caller),
        suggested=questions(service.memory(caller).store, caller, user) if user else [],
        model=service.settings.llm,
        **common,
    )
