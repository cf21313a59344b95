"""What all pages share: templates, the frame around each, and errors as pages instead of JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from lamina._optional import require
from lamina.errors import LaminaError
from lamina.server.dashboard import words
from lamina.server.dashboard.visitor import ROOT
from lamina.server.failures import Unauthorized, come_again, status_of

Written = Sequence[tuple[str, str]]  # (what it is, the text)

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",  # memories are nobody's cache's
    "Vary": "HX-Request",
}
_ADDRESS = ":/%#?=@[]!$&'()*+,;"  # what stands in an address as it is
# Fields that people write into, and what they are: shown again where the page's own form cannot be.
_WRITTEN = {"text": "Text", "metadata": "Metadata", "question": "Question", "user_id": "Whose memory"}
# (path, title): the order of the navigation; a page that does not exist yet is not in it.
NAVIGATION = (
    ("memories", "Memories"),
    ("graph", "Graph"),
    ("timeline", "Timeline"),
    ("chat", "Chat"),
    ("tiers", "Tiers"),
    ("proofs", "Proofs"),
)


def _environment() -> Any:
    jinja2 = require("jinja2", "the dashboard")
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= words.FILTERS
    found.globals |= {"root": ROOT, "navigation": NAVIGATION}
    return found


_templates: Any = None


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """``template`` with ``values``, the path of the page and who looks at it (``visitor``, ``None`` if unknown)."""
    global _templates
    _templates = _templates or _environment()
    here = request.url.path.removeprefix(ROOT).strip("/").split("/")[0]
    known = {
        "here": here,
        "visitor": getattr(request.state, "caller", None),
        "said": words.said(request.query_params.get("said")),
    }
    html = _templates.get_template(template).render(known | values)
    return HTMLResponse(html, status, HEADERS)


def asks_for_part(request: Request) -> bool:
    """Whether htmx asks for a part of a page (its target), not a person for a whole one."""
    return request.headers.get("hx-request") == "true" and "hx-history-restore-request" not in request.headers


def go(request: Request, path: str, **query: str) -> Response:
    """After a write: show ``path`` (below the root of the dashboard). ``said=`` names a sentence of ``words.SAID``."""
    told = "&".join(f"{name}={quote(value)}" for name, value in query.items())
    to = quote(f"{ROOT}/{path}" + (f"?{told}" if told else ""), safe=_ADDRESS)
    if asks_for_part(request):
        return Response(status_code=204, headers=HEADERS | {"HX-Redirect": to})
    return RedirectResponse(to, 303, HEADERS)


class PageRoute(APIRoute):
    """A route whose errors are pages: who is not known signs in, everything else is said where it was asked, with what
    was written there."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def page(request: Request) -> Response:
            try:
                return await handle(request)
            except Unauthorized:
                return await _sign_in(request)
            except LaminaError as error:
                answer = problem(request, status_of(error), str(error), await _written(request))
                answer.headers.update(come_again(error))
                return answer
            except RequestValidationError as error:
                told = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()[:5])
                return problem(request, 422, told, await _written(request))

        return page


async def _sign_in(request: Request) -> Response:
    """Whoever was writing keeps what was written: on the page that stays or, without scripts, beside the key."""
    if request.method == "GET":
        if asks_for_part(request):
            return go(request, "sign-in")
        asked = request.url.path.removeprefix(f"{ROOT}/")
        return go(request, "sign-in", to=asked + (f"?{request.url.query}" if request.url.query else ""))
    if asks_for_part(request):
        return problem(request, 401, "Not done: you are not signed in any more. Nothing you wrote is lost.")
    told = "Not done: you were not signed in any more."
    return render(request, "sign_in.html", status=401, to="", wrong=told, typed=await _written(request))


async def _written(request: Request) -> Written:
    if request.method == "GET":
        return ()
    form = await request.form()
    return [(what, text) for name, what in _WRITTEN.items() if isinstance(text := form.get(name), str) and text]


def problem(request: Request, status: int, message: str, typed: Written = ()) -> Response:
    """A page that says what is wrong, with what was ``typed``; or, asked for a part, that sentence alone, for the page
    that stays."""
    message = message[:1].upper() + message[1:]
    if not asks_for_part(request):
        return render(request, "problem.html", status=status, code=status, message=message, typed=typed)
    answer = render(request, "said.html", status=status, kind="problem", message=message, code=status)
    return instead(answer, "#said", "innerHTML")


def instead(answer: Response, target: str, swap: str) -> Response:
    """``answer``, an error, put where it belongs, whatever the request was for."""
    answer.headers.update({"HX-Retarget": target, "HX-Reswap": swap, "HX-Push-Url": "false"})
    return answer
