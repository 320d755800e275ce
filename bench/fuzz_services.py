"""Mutated answers of a worklist, and mutated requests to the console, for `bench.fuzz`."""

import asyncio
import contextlib
import json
import logging
import random
import warnings
from collections.abc import Iterator, Sequence
from datetime import date
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from pydicom import config
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from agent.console.app import Console
from agent.console.settings import ConsoleSettings, Role
from agent.dicom_identity import Identity
from agent.dicom_settings import WorklistSettings
from agent.dicom_uid import uid
from agent.outbox_peer import PeerAway
from agent.worklist import Worklist
from bench.fuzz_mutate import WORDS, damage, spoil
from protocols.exam_library import SHIPPED

if TYPE_CHECKING:
    from bench.fuzz import Case

PATHS = (
    "/", "/protocols", "/connections", "/login", "/api/me", "/api/login", "/api/logout",
    "/api/pictures", "/api/answer", "/api/protocols", "/api/protocols/lumbar", "/api/check",
    "/api/publish", "/api/figures", "/reports/a.html", "/static/console.css", "/static/../app.py",
    "/static/%2e%2e/app.py", "/nowhere",
)  # fmt: skip
METHODS = ("GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS")
LONG = ("/api/protocols", "/api/check", "/api/publish", "/api/login")
"""They take milliseconds; asked for less often."""


class _Answering(Worklist):
    """A worklist whose answers have come over the network already."""

    items: Sequence[Dataset] = ()

    def find(
        self, accession: str = "", patient_id: str = "", day: date | None = None
    ) -> Sequence[Dataset]:
        """Return the answers at hand."""
        return self.items


def _item() -> Dataset:
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 192"
    item.AccessionNumber, item.PatientID, item.PatientName = "A1", "P1", "Doe^Jane=Doe=x"
    item.PatientBirthDate, item.PatientSex = "19700101", "F"
    item.StudyInstanceUID = uid("fuzz study")
    item.ReferringPhysicianName = "Dr^X"
    item.RequestedProcedureID, item.RequestedProcedureDescription = "R1", "MR lumbar spine"
    step = Dataset()
    step.ScheduledStationAETitle, step.Modality = "MR1", "MR"
    step.ScheduledProcedureStepStartDate = "20261124"
    step.ScheduledProcedureStepID = "S1"
    step.ScheduledProcedureStepDescription = "spine"
    item.ScheduledProcedureStepSequence = [step]
    return item


def worklist(draw: random.Random, folder: Path) -> "Iterator[Case]":
    """Yield mutated answers to C-FIND, as bytes of both implicit and explicit VR."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    warnings.simplefilter("ignore")
    config.settings.reading_validation_mode = config.IGNORE
    station = WorklistSettings(host="nowhere", ae_title="WL", station_ae_title="MR1")
    asked = _Answering(station, folder, "BORESIDE")
    identity = Identity(uid("fuzz study"), uid("fuzz frame"), accession="A1")
    seeds = [bytes(encode(_item(), implicit, True) or b"") for implicit in (True, False)]
    for _ in count():
        implicit = draw.random() < 0.7
        raw = bytearray(seeds[not implicit])
        damage(draw, raw, draw.randrange(1, 5))
        yield lambda raw=bytes(raw), implicit=implicit: _worklist(  # type: ignore[misc]
            asked, identity, folder, raw, implicit
        )


def _worklist(
    asked: _Answering, identity: Identity, folder: Path, raw: bytes, implicit: bool
) -> tuple[int, bool]:
    try:
        item = decode(BytesIO(raw), implicit, True)
    except Exception:
        return 1, True  # pynetdicom gives no answer then
    asked.items = [item]
    try:
        found = asked.complete(identity)
        found.write(Dataset())
    except PeerAway:
        return 1, True
    finally:
        for path in folder.glob("*.json"):
            path.unlink()
    return 1, found == identity


def console(draw: random.Random, folder: Path) -> "Iterator[Case]":
    """Yield requests to the console as a guest who may do everything."""
    settings = ConsoleSettings(
        events=folder / "events",
        folder=folder / "own",
        site=folder / "site",
        reports=folder / "reports",
        guest=Role.ADMIN,
    )
    application = Console(settings).app
    texts = [path.read_text() for path in sorted(SHIPPED.glob("*.yaml"))]
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        lifespan = application.router.lifespan_context(application)
        runner.run(lifespan.__aenter__())
        stack.callback(lambda: runner.run(lifespan.__aexit__(None, None, None)))
        transport = httpx.ASGITransport(application)
        client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        for number in count():
            path = draw.choice([p for p in PATHS if number % 20 == 0 or p not in LONG])
            request = _request(draw, path, texts)
            yield lambda request=request: runner.run(_ask(client, request))  # type: ignore[misc]


def _request(draw: random.Random, path: str, texts: list[str]) -> dict[str, Any]:
    body: Any = {
        "kind": draw.choice(("accept", "decline", 3, None)),
        "request": draw.choice(("x", 1, [], *WORDS)),
        "reason": draw.choice((None, "time", "other", {}, *WORDS)),
        "name": draw.choice(("guest", 1, None, *WORDS)),
        "password": draw.choice(("", {}, *WORDS)),
        "text": draw.choice((draw.choice(texts), 3, None, *WORDS)),
    }
    if path == "/api/login":
        body["name"] = None  # deriving a key from a password is slow, as it has to be
    raw = json.dumps(body)
    if draw.random() < 0.5:
        raw = spoil(draw, raw, [raw], draw.randrange(1, 4))
    headers = {
        "content-type": draw.choice(("application/json", "application/json", "text/plain", "")),
        "origin": draw.choice(("http://localhost", "http://localhost", "null", "http://evil")),
        "cookie": draw.choice(("", "boreside=x", "boreside=" + "y" * 3000, ";;=;")),
        "last-event-id": draw.choice(("", "1-1", "x", "-1", "9" * 40)),
        "host": draw.choice(("localhost", "localhost", "localhost", "evil")),
    }
    query = draw.choice(("", "of=1", "of=1,2", "of=" + "9" * 30, "of=x", "revision=1",
                         "revision=" + "9" * 30, "revision=²", "%00", "a=%ff"))  # fmt: skip
    if path.startswith("/api/protocols/") or draw.random() < 0.1:
        path = "/api/protocols/" + draw.choice(("lumbar", "%2e%2e", "..%2f..%2fetc", "%00", "a%ffb",
                                                "n" * 300, "."))  # fmt: skip
    return {
        "method": draw.choice(METHODS),
        "url": f"{path}?{query}",
        "content": raw.encode("utf-8", "surrogatepass"),
        "headers": headers,
    }


async def _ask(client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[int, bool]:
    answer = await client.request(**request)
    if answer.status_code >= 500 and answer.status_code != 503:
        raise RuntimeError(f"status {answer.status_code} for {request['url'][:80]}")
    return 1, answer.status_code >= 400
