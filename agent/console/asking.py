"""Requests after the scan, from the page: written down for the worker, and what became of them."""

from typing import Any

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from agent.audit_chain import AuditError
from agent.console.accounts import Account
from agent.console.gate import Gate, json_body, refuse
from agent.console.settings import REQUEST, ConsoleSettings
from agent.requests import WANTED, Request, Standing
from agent.requests_store import RequestError, RequestStore

LATEST = 100


class Asking:
    """The page's end of `agent.requests_store`.

    Parameters
    ----------
    settings : ConsoleSettings
    gate : Gate
    """

    def __init__(self, settings: ConsoleSettings, gate: Gate) -> None:
        self._store = RequestStore(settings.requests) if settings.requests else None
        self._gate = gate

    def may(self, account: Account) -> bool:
        """Whether somebody has a button for it."""
        return self._store is not None and account.role in REQUEST

    async def all(self, http: HttpRequest, account: Account) -> Response:
        """Return the latest requests."""
        if self._store is None:
            return JSONResponse({"requests": []})
        found = await run_in_threadpool(self._store.latest, LATEST)
        return JSONResponse({"requests": [_plain(standing) for standing in found]})

    async def ask(self, http: HttpRequest, account: Account) -> Response:
        """Take a request."""
        if self._store is None:
            return refuse(404, "there are no requests here: the section `requests` is missing")
        body = await json_body(http) or {}
        try:
            request = Request.of(
                body.get("measurement", ""),
                WANTED.validate_python(body.get("wanted")),
                account.name,
            )
        except ValidationError as error:
            return refuse(400, "; ".join(str(each["msg"]) for each in error.errors()))
        try:
            self._gate.click(account, "request", request.id, request.wanted.words)
            standing = await run_in_threadpool(self._store.put, request)
        except RequestError as error:
            return refuse(409, str(error))
        except (AuditError, OSError) as error:
            return refuse(503, str(error))
        return JSONResponse(_plain(standing))

    def close(self) -> None:
        """Let go of the file."""
        if self._store is not None:
            self._store.close()


def _plain(standing: Standing) -> dict[str, Any]:
    request = standing.request
    return {
        "id": request.id,
        "measurement": request.measurement,
        "wanted": request.wanted.model_dump(),
        "user": request.user,
        **standing.model_dump(exclude={"request"}),
    }
