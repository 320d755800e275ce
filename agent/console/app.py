"""The console's web server: pages, events, pictures, clicks.

Routes that change something take JSON (`agent.console.gate`), record the click in the audit, and
only then act. The agent's answer to a click comes back as an event, to every browser alike.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.audit import Audit
from agent.audit_chain import AuditError
from agent.console.accounts import Account, Accounts
from agent.console.asking import Asking
from agent.console.figures import figures
from agent.console.gate import HEADERS, Gate, json_body, refuse
from agent.console.settings import ANSWER, ENGINEER, REQUEST, ConsoleSettings
from agent.console.stream import Stream
from agent.console.trial import shadow, sweeps
from agent.console.workbench import PublishError, Workbench
from agent.event_records import Answered, Asked
from agent.events import Commands, EventReader
from protocols.control import ReplyReason
from protocols.exam import ExamProtocol
from protocols.exam_file import ProtocolError

STATIC = Path(__file__).parent / "static"
MOST_PICTURES = 256
"""Of one request."""
MOST_DIGITS = 15
"""Of a number in an address: larger ones are none of ours, and more than SQLite takes."""
ACCOUNTS, AUDIT = "accounts.sqlite", "audit"


class _Headers:
    """What every answer says to browsers, besides its own (ASGI middleware)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._headers = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                more = [pair for pair in self._headers if pair[0] not in there]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        await self._app(scope, receive, with_headers)


class Console:
    """The application; `app` is it for an ASGI server.

    Parameters
    ----------
    settings : ConsoleSettings

    Raises
    ------
    AuditError
        The audit of the clicks cannot be written, or another console has it.
    """

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._reader = EventReader(settings.events)
        self._commands = Commands(settings.events)
        self._stream = Stream(self._reader)
        self._workbench = Workbench(settings.site)
        self._audit = Audit(settings.folder / AUDIT)
        gate = Gate(settings, Accounts(settings.folder / ACCOUNTS), self._audit)
        self._gate = gate
        self._asking = asking = Asking(settings, gate)
        hosts = ["localhost", "127.0.0.1", "[::1]"] if settings.loopback else ["*"]
        self.app = Starlette(
            routes=[
                Route("/", gate.page(_file("exam.html"))),
                Route("/protocols", gate.page(_file("protocols.html"), ENGINEER)),
                Route("/connections", gate.page(_file("connections.html"), ENGINEER)),
                Route("/login", self._login_page),
                Route("/api/me", gate.api(self._me)),
                Route("/api/login", gate.login, methods=["POST"]),
                Route("/api/logout", gate.api(gate.logout), methods=["POST"]),
                Route("/api/events", gate.api(self._events)),
                Route("/api/pictures", gate.api(self._pictures)),
                Route("/api/answer", gate.api(self._answer, ANSWER), methods=["POST"]),
                Route("/api/requests", gate.api(asking.all)),
                Route("/api/request", gate.api(asking.ask, REQUEST), methods=["POST"]),
                Route("/api/protocols", gate.api(self._protocols, ENGINEER)),
                Route("/api/protocols/{name}", gate.api(self._protocol, ENGINEER)),
                Route("/api/trial/{name}", gate.api(self._trial, ENGINEER)),
                Route("/api/check", gate.api(self._check, ENGINEER), methods=["POST"]),
                Route("/api/publish", gate.api(self._publish, ENGINEER), methods=["POST"]),
                Route("/api/figures", gate.api(self._figures, ENGINEER)),
                Route("/reports/{name}", gate.page(self._report, ENGINEER)),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
            middleware=[
                Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
                Middleware(_Headers),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        watcher = asyncio.create_task(self._stream.watch())
        try:
            yield
        finally:
            watcher.cancel()
            self._audit.close()
            self._asking.close()
            self._commands.close()
            self._reader.close()

    async def _login_page(self, request: Request) -> Response:
        return FileResponse(STATIC / "login.html")

    async def _me(self, request: Request, account: Account) -> Response:
        return JSONResponse(
            {
                "name": account.name,
                "role": account.role,
                "answers": account.role in ANSWER,
                "requests": self._asking.may(account),
                "engineer": account.role in ENGINEER,
                "guest": self._settings.guest is not None and account.name == "guest",
            }
        )

    async def _events(self, request: Request, account: Account) -> Response:
        seen = request.headers.get("last-event-id", "")
        return StreamingResponse(self._stream.follow(seen), media_type="text/event-stream")

    async def _pictures(self, request: Request, account: Account) -> Response:
        """Pixels of pictures, one after the other, each behind its length (uint32)."""
        numbers = request.query_params.get("of", "").split(",")
        if len(numbers) > MOST_PICTURES or not all(map(_is_number, numbers)):
            return refuse(400, f"expected of=NUMBER,NUMBER, at most {MOST_PICTURES}")
        parts = [self._reader.pixels(int(number)) or b"" for number in numbers]
        body = b"".join(struct.pack("<I", len(part)) + part for part in parts)
        return Response(body, media_type="application/octet-stream")

    async def _answer(self, request: Request, account: Account) -> Response:
        body = await json_body(request) or {}
        kind, question = body.get("kind"), body.get("request")
        reasons = (None, *ReplyReason)
        if kind not in ("accept", "decline") or body.get("reason") not in reasons:
            return refuse(400, "expected kind accept or decline, and request")
        asked = self._open_question()
        if asked is None or asked.request.id != question:
            return refuse(409, "closed")
        reason = ReplyReason(body["reason"]) if body.get("reason") else None
        try:
            self._gate.click(account, kind, asked.request.id, reason or "", asked.request.exam)
        except AuditError as error:
            return refuse(503, str(error))
        self._commands.post(kind, asked.request.id, account.name, reason)
        return JSONResponse({})

    def _open_question(self) -> Asked | None:
        latest = self._reader.latest("question", 1)
        if not latest:
            return None
        asked = latest[0].event
        assert isinstance(asked, Asked)
        for row in self._reader.latest("answer", 16):
            event = row.event
            if isinstance(event, Answered) and event.request == asked.request.id:
                return None
        return asked

    async def _protocols(self, request: Request, account: Account) -> Response:
        reports = self._settings.reports
        names = sorted(path.name for path in reports.glob("*.html")) if reports.is_dir() else []
        overview = await run_in_threadpool(self._workbench.overview)
        return JSONResponse({"protocols": overview, "reports": names})

    async def _protocol(self, request: Request, account: Account) -> Response:
        name = request.path_params["name"]
        revision = request.query_params.get("revision", "")
        if _is_number(revision):
            text = self._workbench.version(name, int(revision))
        else:
            text = await run_in_threadpool(self._workbench.text, name)
        if text is None:
            return refuse(404, f"there is no protocol {name}")
        versions = [vars(version) for version in self._workbench.versions(name)]
        return JSONResponse({"text": text, "versions": versions})

    async def _trial(self, request: Request, account: Account) -> Response:
        name, settings = request.path_params["name"], self._settings
        found = await run_in_threadpool(sweeps, settings.reports, name)
        noted = await run_in_threadpool(shadow, settings.courses, settings.policy, name)
        return JSONResponse({"sweeps": found, "shadow": noted})

    async def _check(self, request: Request, account: Account) -> Response:
        body = await json_body(request)
        if body is None or not isinstance(body.get("text"), str):
            return refuse(400, "expected text")
        return JSONResponse(await run_in_threadpool(self._workbench.check, body["text"]))

    async def _publish(self, request: Request, account: Account) -> Response:
        body = await json_body(request) or {}
        text, reason = body.get("text"), body.get("reason")
        if not isinstance(text, str) or not isinstance(reason, str):
            return refuse(400, "expected text and reason")

        def record(protocol: ExamProtocol) -> None:
            about = f"{protocol.name} revision {protocol.revision}"
            detail = f"{reason} (SHA-256 {protocol.digest})"
            self._gate.click(account, "publish", about, detail)

        try:
            protocol, made = await run_in_threadpool(
                self._workbench.publish, text, reason, account.name, record
            )
        except ProtocolError as error:
            return refuse(422, str(error))
        except PublishError as error:
            return refuse(409, str(error))
        except (AuditError, OSError) as error:
            return refuse(503, str(error))
        return JSONResponse({"name": protocol.name, "revision": made.revision})

    async def _figures(self, request: Request, account: Account) -> Response:
        return JSONResponse(figures(self._reader))

    async def _report(self, request: Request, account: Account) -> Response:
        path = self._settings.reports / Path(request.path_params["name"]).name
        if path.suffix != ".html" or not path.is_file():
            return refuse(404, "there is no such report")
        # A report carries its own style sheet and pictures, and no scripts.
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        return FileResponse(path, headers={"Content-Security-Policy": policy})


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _file(name: str) -> Any:
    async def page(request: Request, account: Account) -> Response:
        return FileResponse(STATIC / name)

    return page
