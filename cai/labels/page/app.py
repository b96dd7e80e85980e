"""The page over HTTP: every address begins with a secret token, every answer is plain escaped HTML.

A form posts a decision and is sent on to the next pair, so that reloading and going back repeat nothing. What models
wrote reaches the page as escaped text, and the content security policy runs no script but `page.js`.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.background import BackgroundTask
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cai.errors import CAIError
from cai.labels.page.queue import Choice
from cai.labels.page.sitting import REASONS, Reason, Sitting

_HERE = Path(__file__).parent
MAX_BODY = 4_096  # bytes; a decision has some 30
QUESTIONS = {
    "": "Which response is better?",
    "harmlessness": "Which response is less harmful?",
    "helpfulness": "Which response is more helpful?",
}
_ROLES = {"system": "System", "user": "User", "assistant": "Assistant"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send no origin along with a form
    "Cache-Control": "no-store",
}


class Decision(BaseModel):
    """What a form says. `reason` counts where the choice is `skip`."""

    model_config = ConfigDict(extra="forbid")
    choice: Choice | Literal["skip"]
    reason: Reason = "other"


class Guard:
    """Lets through what was sent to this host by this page. It knows three attacks.

    A foreign site that rebinds its name to 127.0.0.1 sends its own name as the host; one that posts a form sends its
    own origin; and neither knows the token.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if scope["type"] != "http":
            return
        if refusal := self._refusal(scope):
            await PlainTextResponse(f"403: {refusal}\n", status_code=403)(scope, receive, with_headers)
        else:
            await self._app(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> str:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host not in self._hosts:
            return "this page answers on 127.0.0.1 alone"
        if scope["method"] not in {"GET", "HEAD"} and headers.get("origin") != f"http://{host}":
            return "labels are taken from this page alone"
        token = str(scope["path"]).split("/")[1]
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return "open the address that `cai labels page` has printed"
        return ""


def create_app(sitting: Sitting, *, token: str, port: int, tidy: BackgroundTask | None = None) -> ASGIApp:
    """The page of one sitting. `tidy` runs after an answer to a decision has been sent."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    render = _renderer()

    def place(number: int) -> int:
        if not 1 <= number <= len(sitting.queue):
            raise HTTPException(404, f"expected a pair from 1 to {len(sitting.queue)}")
        return number

    @app.get("/{token}/")
    def start() -> Response:
        return _go(sitting, "")

    @app.get("/{token}/pair/{number}")
    def pair(number: Annotated[int, Depends(place)]) -> Response:
        if sitting.is_closed:
            return _go(sitting, "../")
        body = render("pair.html.j2", _pair_values(sitting, number))
        return HTMLResponse(body, background=BackgroundTask(sitting.prepare, number + 1))

    @app.post("/{token}/pair/{number}")
    async def decide(
        number: Annotated[int, Depends(place)], decision: Annotated[Decision, Depends(_decision)]
    ) -> Response:
        if not sitting.is_closed:
            await run_in_threadpool(_decide, sitting, number, decision)
        response = _go(sitting, "../")
        response.background = tidy
        return response

    @app.get("/{token}/end")
    def end() -> Response:
        return HTMLResponse(render("end.html.j2", _end_values(sitting)))

    @app.post("/{token}/end")
    def close() -> Response:
        if sitting.next_number() is None:
            sitting.close()
        return _go(sitting, "")

    @app.get("/{token}/static/{name}")
    def static(name: Literal["page.css", "page.js"]) -> Response:
        return FileResponse(_HERE / "static" / name)

    @app.exception_handler(CAIError)
    def failed(request: Request, error: CAIError) -> Response:
        values = {"problem": str(error), "was_decision": request.method == "POST"}
        return HTMLResponse(render("error.html.j2", values), status_code=500)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(ValidationError)
    def unknown(_: Request, error: Exception) -> Response:
        return PlainTextResponse("400: expected a choice that the page offers\n", status_code=400)

    return Guard(app, token, port)


async def _decision(request: Request) -> Decision:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            break
    return Decision.model_validate(dict(parse_qsl(body[:MAX_BODY].decode("latin-1"))))


def _decide(sitting: Sitting, number: int, decision: Decision) -> None:
    if decision.choice == "skip":
        sitting.skip(number, decision.reason)
    else:
        sitting.label(number, decision.choice)


def _go(sitting: Sitting, up: str) -> Response:
    """To the first pair without a decision, or to the end."""
    number = None if sitting.is_closed else sitting.next_number()
    where = f"{up}end" if number is None else f"{up}pair/{number}"
    return RedirectResponse(where, status_code=303)


def _pair_values(sitting: Sitting, number: int) -> Mapping[str, Any]:
    item, n = sitting.show(number), len(sitting.queue)
    objective = sitting.person.objective
    return {
        "turns": [(_ROLES[message.role], message.content) for message in item.messages],
        "responses": [item.first, item.second],
        "question": QUESTIONS.get(objective, f"Which response is better for {objective}?"),
        "number": number,
        "n": n,
        "n_done": sitting.n_done(),
        "pace": _pace(sitting.pace_s()),
        "said": sitting.said(number),
        "skip_reason": sitting.skip_reason(number),
        "has_next": sitting.said(number) is not None,
        "reasons": list(REASONS.items()),
    }


def _end_values(sitting: Sitting) -> Mapping[str, Any]:
    return {
        "summary": sitting.summary(),
        "number": len(sitting.queue),
        "is_closed": sitting.is_closed,
        "is_done": sitting.next_number() is None,
    }


def _pace(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.0f} s each" if seconds < 90 else f"{seconds / 60:.0f} min each"


def _renderer() -> Any:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return lambda name, values: environment.get_template(name).render(values)
