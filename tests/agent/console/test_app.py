"""The console's server: a real process, real HTTP."""

import json
import struct
import time

import numpy as np
import pytest

from agent.audit_chain import verify
from agent.console.settings import Role
from agent.event_records import Answered, Asked, ExamBegun
from agent.events import Commands, EventReader, Events
from protocols.control import CoverageRequest, CoverageStep, Outcome
from protocols.exam_library import SHIPPED
from protocols.geometry import Slab
from protocols.mrd_types import IMAGE_HEADER, ImageMessage

EXAM = "exam-" + "a" * 32
SLAB = Slab((0, 0, 0), (1, 0, 0), (0, 0, -1), (240, 240), (256, 205), 24, 3.0)


def asked(number: int = 1) -> Asked:
    request = CoverageRequest(
        id=f"{EXAM}/t/{number}", exam=EXAM, protocol="lumbar", revision=1, trigger="t",
        text="Scan the SI joints, 2 min?",
        steps=(CoverageStep(step="si_stir_cor", slab=SLAB, minutes=2),),
        extra_minutes=2, countdown_s=600,
    )  # fmt: skip
    return Asked(request=request, asked_s=time.time())


def say(console, *said) -> None:
    with Events(console.events) as events:
        for event in said:
            events.say(EXAM, event)


def clicks(console) -> list:
    lines = [json.loads(line) for path in sorted(console.audit.glob("*.jsonl"))
             for line in path.read_text().splitlines()]  # fmt: skip
    return [(e["user"], e["action"]) for e in (line["entry"] for line in lines)]


def stream(client, count: int, seen: str = "") -> list[dict]:
    """Return the first events that a browser gets, with their ids."""
    found = []
    headers = {"last-event-id": seen} if seen else {}
    with client.stream("GET", "/api/events", headers=headers) as answer:
        name, identity = "", ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("id: "):
                identity = line[4:]
            elif line.startswith("data: ") and not name:
                found.append({"id": identity, **json.loads(line[6:])})
                if len(found) == count:
                    return found
            elif not line:
                name = ""
    raise AssertionError("the stream ended")


def test_without_a_login_nothing_is_shown(console):
    with console.client() as client:
        assert client.get("/").headers["location"] == "/login"
        for path in ("/api/events", "/api/pictures?of=1", "/api/protocols", "/api/figures"):
            assert client.get(path).status_code == 401
        wrong = client.post("/api/login", json={"name": "viewer", "password": "wrong horse"})
        assert wrong.status_code == 401
        page = client.get("/login")
        assert "default-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.TECHNOLOGIST])
def test_protocols_are_for_engineers(console, role):
    with console.client(role) as client:
        assert client.get("/api/protocols").status_code == 403
        assert client.post("/api/publish", json={}).status_code == 403


def test_a_click_goes_to_audit_and_agent_and_a_second_one_does_not(console):
    question = asked()
    say(console, ExamBegun(protocol="lumbar", title="Lumbar"), question)
    body = {"kind": "accept", "request": question.request.id}
    with console.client(Role.VIEWER) as viewer:
        assert viewer.post("/api/answer", json=body).status_code == 403
    with console.client(Role.TECHNOLOGIST) as client:
        assert client.post("/api/answer", json={**body, "request": "other"}).status_code == 409
        assert client.post("/api/answer", json=body).status_code == 200
        (command,) = Commands(console.events).poll()
        assert (command.kind, command.user) == ("accept", "technologist")
        say(console, Answered(request=question.request.id, outcome=Outcome.ACCEPTED))
        assert client.post("/api/answer", json=body).status_code == 409
    assert clicks(console)[-1] == ("technologist", "accept")
    assert Commands(console.events).poll() == []


def test_changes_from_another_site_are_refused(console):
    with console.client(Role.TECHNOLOGIST) as client:
        foreign = client.post("/api/answer", json={}, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403
        form = client.post("/api/answer", data={"kind": "accept"})
        assert form.status_code == 415
        rebound = client.get("/api/me", headers={"host": "evil.example"})
        assert rebound.status_code == 400


def test_a_browser_that_was_cut_off_goes_on_where_it_was(console):
    say(console, ExamBegun(protocol="lumbar", title="one"))
    with console.client(Role.VIEWER) as client:
        (first,) = stream(client, 1)
        say(console, ExamBegun(protocol="lumbar", title="two"))
        (second,) = stream(client, 1, first["id"])
        assert (first["title"], second["title"]) == ("one", "two")
        # Of another file, all of the latest exam comes again.
        assert [event["title"] for event in stream(client, 2, "other:99")] == ["one", "two"]


def test_pictures_come_whole_behind_their_lengths(console):
    header = np.zeros(1, IMAGE_HEADER)[0]
    header["field_of_view"] = 4, 3, 2
    data = np.arange(12, dtype=np.uint16).reshape(1, 1, 3, 4)
    with Events(console.events) as events:
        events.picture(EXAM, "t1", ImageMessage(header, data))
    (row,) = EventReader(console.events).after(0)
    with console.client(Role.VIEWER) as client:
        body = client.get(f"/api/pictures?of={row.number},999").content
        for wrong in ("../x", "²", "9" * 30, "9" * 5000, ""):
            assert client.get(f"/api/pictures?of={wrong}").status_code == 400
    assert body == struct.pack("<I", 24) + data.astype("<u2").tobytes() + struct.pack("<I", 0)


def test_a_protocol_is_checked_published_with_reason_and_kept_by_version(console):
    text = (SHIPPED / "lumbar.yaml").read_text()
    with console.client(Role.ENGINEER) as client:
        wrong = client.post("/api/check", json={"text": text.replace("steps:", "stepps:")}).json()
        assert any("stepps" in problem["message"] for problem in wrong["problems"])
        assert text.splitlines()[wrong["problems"][0]["line"] - 1]
        same = {"text": text, "reason": "no change"}
        assert client.post("/api/publish", json=same).status_code == 409
        newer = text.replace("revision: 1", "revision: 2", 1)
        assert client.post("/api/publish", json={"text": newer, "reason": ""}).status_code == 409
        found = client.post("/api/check", json={"text": newer}).json()
        assert "+revision: 2" in found["diff"] and found["says"]["revision"] == 2
        done = client.post("/api/publish", json={"text": newer, "reason": "slot is longer"})
        assert done.json() == {"name": "lumbar", "revision": 2}
        there = client.get("/api/protocols/lumbar").json()
        assert there["text"] == newer
        assert [version["reason"] for version in there["versions"]] == ["slot is longer"]
    assert (console.site / "lumbar.yaml").read_text() == newer
    assert (console.site / "versions" / "lumbar" / "r2.yaml").read_text() == newer
    assert clicks(console)[-1] == ("engineer", "publish")
    assert not verify(console.audit).problems


@pytest.mark.parametrize("revision", ["²", "9" * 5000, "-1", "1.0", ""])
def test_a_revision_that_is_no_number_is_that_in_force(console, revision):
    with console.client(Role.ENGINEER) as client:
        answer = client.get(f"/api/protocols/lumbar?revision={revision}")
    assert answer.status_code == 200 and "lumbar" in answer.json()["text"]


def test_guests_get_in_without_login_where_that_was_asked_for(serve):
    with serve("--guest", "viewer").client() as client:
        assert client.get("/api/me").json()["role"] == "viewer"
        assert client.get("/api/protocols").status_code == 403
