"""Who may do what: accounts in front of every request, and the audit of every click."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from agent.audit import Audit
from agent.audit_chain import AuditError
from agent.audit_records import ClickEntry
from agent.console.accounts import Account, Accounts, TooManyAttempts
from agent.console.settings import ConsoleSettings, Role

LARGEST_BODY = 2 << 20
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
Handler = Callable[[Request, Account], Awaitable[Response]]


def refuse(status: int, text: str) -> JSONResponse:
    """Return an answer that says what is wrong, to be read."""
    return JSONResponse({"error": text}, status)


class Gate:
    """Accounts, sessions and audit of one console.

    Parameters
    ----------
    settings : ConsoleSettings
    accounts : Accounts
    audit : Audit
    """

    def __init__(self, settings: ConsoleSettings, accounts: Accounts, audit: Audit) -> None:
        self._settings = settings
        self._accounts = accounts
        self._audit = audit
        secure = settings.certificate is not None
        self._cookie = "__Host-boreside" if secure else "boreside"
        self._secure = secure

    def who(self, request: Request) -> Account | None:
        """Return who asks."""
        token = request.cookies.get(self._cookie)
        account = self._accounts.of(token) if token else None
        if account is None and self._settings.guest is not None:
            return Account("guest", self._settings.guest)
        return account

    def page(self, handler: Handler, roles: tuple[Role, ...] = tuple(Role)) -> Any:
        """Wrap a page: whoever has not logged in is sent to do so."""

        async def answer(request: Request) -> Response:
            account = self.who(request)
            if account is None:
                return RedirectResponse("/login", 303)
            if account.role not in roles:
                return RedirectResponse("/", 303)
            return await handler(request, account)

        return answer

    def api(self, handler: Handler, roles: tuple[Role, ...] = tuple(Role)) -> Any:
        """Wrap what the page asks for; changes come as JSON and from this page only."""

        async def answer(request: Request) -> Response:
            account = self.who(request)
            if account is None:
                return refuse(401, "log in first")
            if account.role not in roles:
                return refuse(403, f"expected one of {', '.join(roles)}, you are {account.role}")
            if request.method == "POST" and (problem := foreign(request)):
                return problem
            return await handler(request, account)

        return answer

    def click(self, account: Account, action: Any, about: str = "", detail: str = "",
              exam: str | None = None) -> None:  # fmt: skip
        """Record a click, before anything is done about it.

        Raises
        ------
        AuditError
        """
        entry = ClickEntry(
            user=account.name, role=account.role, action=action, about=about, detail=detail
        )
        self._audit.append(entry, exam)

    async def login(self, request: Request) -> Response:
        """Begin a session."""
        if problem := foreign(request):
            return problem
        body = await json_body(request)
        if body is None:
            return refuse(400, "expected JSON with name and password")
        name, password = str(body.get("name", ""))[:64], str(body.get("password", ""))[:1024]
        try:
            account = await run_in_threadpool(self._accounts.check, name, password)
        except TooManyAttempts:
            return refuse(429, "wait")
        try:
            if account is None:
                # What was typed as a name may be a password.
                known = any(each.name == name for each in self._accounts.all())
                nobody = Account(name if known else "unknown", Role.VIEWER)
                self.click(nobody, "login_failed")
                return refuse(401, "wrong")
            self.click(account, "login")
        except AuditError as error:
            return refuse(503, str(error))
        answer = JSONResponse({"name": account.name, "role": account.role})
        hours = self._settings.session_hours
        answer.set_cookie(
            self._cookie,
            self._accounts.begin(account, hours),
            max_age=int(3600 * hours),
            httponly=True,
            samesite="strict",
            secure=self._secure,
        )
        return answer

    async def logout(self, request: Request, account: Account) -> Response:
        """End a session."""
        self.click(account, "logout")
        self._accounts.end(request.cookies.get(self._cookie, ""))
        answer = JSONResponse({})
        answer.delete_cookie(self._cookie, secure=self._secure, httponly=True, samesite="strict")
        return answer


def foreign(request: Request) -> Response | None:
    """Refuse a change that another site's page has sent, or that is no JSON."""
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
        return refuse(403, "expected a request of this page")
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return refuse(415, "expected JSON")
    return None


async def json_body(request: Request) -> dict[str, Any] | None:
    """Return the JSON object of a request; None where there is none, or it is too long."""
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > LARGEST_BODY:
            return None
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
