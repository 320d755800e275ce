"""Requests after the scan, from the page."""

import json

import pytest

from agent.console.settings import Role
from agent.requests import Contrast, Request
from agent.requests_store import RequestStore

NAME = "20261124T184312.520114Z-5f0c12aa"
CONTRAST = {"kind": "contrast", "tr_ms": 4000, "te_ms": 100}


@pytest.fixture
def console(serve, tmp_path):
    return serve("--requests", str(tmp_path / "requests"))


def test_a_request_waits_for_the_worker_and_is_in_the_audit(console, tmp_path):
    with console.client(Role.TECHNOLOGIST) as client:
        assert client.get("/api/me").json()["requests"] is True
        made = [
            client.post("/api/request", json={"measurement": NAME, "wanted": CONTRAST})
            for _ in range(2)
        ]
        assert [answer.json()["state"] for answer in made] == ["waiting", "waiting"]
        (found,) = client.get("/api/requests").json()["requests"]
    store = RequestStore(tmp_path / "requests")
    request = store.take()
    assert request == Request.of(NAME, Contrast(tr_ms=4000, te_ms=100), "technologist")
    assert found["id"] == request.id and found["wanted"]["te_ms"] == 100
    store.close()
    lines = [
        json.loads(line)["entry"]
        for path in console.audit.glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert [line["detail"] for line in lines if line["action"] == "request"] == [
        "synthetic TR 4000 TE 100"
    ] * 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"measurement": NAME, "wanted": {"kind": "wish"}},
        {"measurement": "../" + NAME, "wanted": CONTRAST},
        {"measurement": NAME, "wanted": {**CONTRAST, "te_ms": 5000}},
        {"measurement": NAME, "wanted": {**CONTRAST, "te_ms": "nan"}},
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(console, body):
    with console.client(Role.TECHNOLOGIST) as client:
        answer = client.post("/api/request", json=body)
        assert answer.status_code == 400 and answer.json()["error"]
        assert client.get("/api/requests").json()["requests"] == []


def test_viewers_may_not_ask(console):
    with console.client(Role.VIEWER) as client:
        assert client.get("/api/me").json()["requests"] is False
        body = {"measurement": NAME, "wanted": CONTRAST}
        assert client.post("/api/request", json=body).status_code == 403


def test_without_the_section_there_is_no_button(serve):
    with serve().client(Role.TECHNOLOGIST) as client:
        assert client.get("/api/me").json()["requests"] is False
        body = {"measurement": NAME, "wanted": CONTRAST}
        assert client.post("/api/request", json=body).status_code == 404
