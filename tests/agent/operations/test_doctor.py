"""`boreside doctor`: real ports, files, keys, networks and a PACS, well and out of order."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.config import load
from agent.doctor import Check, Verdict, examine
from agent.running import AlreadyRunning, process, running

ROOT = Path(__file__).parents[3]
PACS = ROOT / "tests" / "agent" / "dicom" / "pacs.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Examine an installation in a folder of its own; returns checks by name."""
    monkeypatch.chdir(tmp_path)

    def run(**sections) -> dict[str, Check]:
        sections.setdefault("listen", {"port": 0})
        return {each.name: each for each in examine(load(threads=1, **sections))}

    return run


@pytest.fixture
def pacs(tmp_path):
    """A PACS with a worklist, as a process of its own; returns its port."""
    options = json.dumps({"folder": str(tmp_path / "pacs")})
    (tmp_path / "pacs").mkdir()
    (tmp_path / "pacs" / "worklist.json").write_text("[]")
    with subprocess.Popen(
        [sys.executable, str(PACS), options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as server:
        yield int(server.stdout.readline())
        server.stdin.close()


def test_an_installation_as_it_comes_has_nothing_wrong(check):
    found = check()
    assert [c for c in found.values() if c.verdict is Verdict.WRONG and "disk" not in c.name] == []
    for name in ("denoiser", "recon", "labels"):
        assert "golden vector within" in found[f"engine {name}"].found
    assert found["port mrd"].verdict is Verdict.OK
    assert "MB/s" in found["disk speed"].found or "GB/s" in found["disk speed"].found
    assert all(c.mend for c in found.values() if c.verdict is not Verdict.OK)


def test_a_port_of_somebody_else_is_wrong(check):
    with socket.create_server(("127.0.0.1", 0)) as other:
        found = check(listen={"port": other.getsockname()[1]})["port mrd"]
    assert found.verdict is Verdict.WRONG and "in use" in found.found and "ss -ltnp" in found.mend


def test_a_port_of_the_running_agent_is_well(check, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as ours, running(tmp_path / "spool"):
        found = check(listen={"port": ours.getsockname()[1]})["port mrd"]
    assert found.verdict is Verdict.OK and str(os.getpid()) in found.found


def test_one_agent_uses_a_spool(tmp_path):
    assert process(tmp_path) is None
    with running(tmp_path):
        assert process(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning, match="boreside drain"), running(tmp_path):
            pass
    assert process(tmp_path) is None


def test_a_pacs_is_asked(check, pacs):
    to = {"name": "main", "host": "127.0.0.1", "port": pacs, "ae_title": "PACS"}
    nobody = {**to, "name": "gone", "port": free_port()}
    worklist = {
        "host": "127.0.0.1",
        "port": pacs,
        "ae_title": "PACS",
        "station_ae_title": "BAY2",
    }
    found = check(
        outbox={"destinations": [to, nobody], "timeout_s": 5}, dicom={"worklist": worklist}
    )
    assert found["pacs main"].verdict is Verdict.OK and "C-ECHO" in found["pacs main"].found
    assert found["pacs gone"].verdict is Verdict.WRONG and "firewall" in found["pacs gone"].mend
    assert found["worklist"].verdict is Verdict.WARNING
    assert "station_ae_title" in found["worklist"].mend


def test_a_worklist_that_is_away_is_wrong(check):
    away = {"host": "127.0.0.1", "port": free_port(), "ae_title": "A", "station_ae_title": "B"}
    assert check(dicom={"worklist": {**away, "timeout_s": 2}})["worklist"].verdict is Verdict.WRONG


def test_keys_that_others_may_read_are_told(check, tmp_path):
    from agent.control_keys import make

    control = {"port": 0, "telemetry_port": 0}
    assert check(control=control)["keys agent"].verdict is Verdict.WRONG
    make(tmp_path / "keys")
    assert check(control=control)["keys admitted"].verdict is Verdict.WARNING
    make(tmp_path / "keys", "bay-2")
    secret = tmp_path / "keys" / "agent.key_secret"
    secret.chmod(0o644)
    found = check(control=control)
    assert found["keys agent"].verdict is Verdict.WARNING
    assert found["keys agent"].mend == "chmod 600 keys/agent.key_secret"
    assert "bay-2.key_secret" in found["keys scanners"].found
    assert found["keys admitted"].verdict is Verdict.OK


def test_changed_weights_are_wrong(check, tiny_network, tmp_path):
    folder = tiny_network.write(tmp_path / "weights")
    (folder / "card.md").write_text("Heals everything.\n")
    found = check()["engine tiny"]
    assert found.verdict is Verdict.WRONG and "card.md: expected SHA-256" in found.found


def test_measurements_that_nobody_finished_are_told(check, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir(mode=0o755)
    (spool / "20260101T000000.000000Z-00000000.mrd").write_bytes(b"\x04\x00")
    found = check()
    assert found["spool measurements"].verdict is Verdict.WARNING
    assert "boreside recover" in found["spool measurements"].mend
    assert found["spool"].mend == "chmod 700 spool"


def test_a_changed_audit_is_wrong(check, tmp_path):
    from agent.audit import Audit
    from protocols.findings import ExamFindings

    with Audit(tmp_path / "audit") as audit:
        audit.findings(ExamFindings(exam="a" * 16, series=("T2",), abstained="test"), ())
    assert check()["audit records"].verdict is Verdict.OK
    file = next((tmp_path / "audit").glob("*.jsonl"))
    file.write_text(file.read_text().replace("test", "TEST"))
    assert check()["audit records"].verdict is Verdict.WRONG


def test_objects_that_wait_for_long_are_told(check, tmp_path):
    from agent.outbox_settings import OutboxSettings
    from agent.outbox_store import Store

    destination = {"name": "gone", "host": "127.0.0.1", "port": free_port(), "ae_title": "A"}
    outbox = {"folder": tmp_path / "outbox", "destinations": [destination], "timeout_s": 2}
    Store(OutboxSettings.model_validate(outbox)).close()
    file = tmp_path / "outbox" / "1.2.dcm"
    file.write_bytes(b"")
    os.utime(file, (time.time() - 3590,) * 2)
    assert "outbox age" not in check(outbox=outbox)
    assert check(outbox=outbox)["outbox gone"].verdict is Verdict.OK


def test_the_command_prints_a_table_or_json_and_its_status_tells(tmp_path):
    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "agent.doctor_cli", *arguments],
            cwd=tmp_path,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout + done.stderr

    with socket.create_server(("127.0.0.1", 0)) as other:
        config = tmp_path / "own.yaml"
        config.write_text(f"listen: {{port: {other.getsockname()[1]}}}\nthreads: 1\n")
        status, text = run("--json", "--config", str(config))
        said = json.loads(text)
        assert status == 1 and said["verdict"] == "wrong"
        assert {"name", "verdict", "found", "mend"} == set(said["checks"][0])
        status, text = run("--config", str(config))
        assert status == 1 and "port mrd" in text and "wrong" in text
    config.write_text("listen: {prt: 1}\n")
    status, text = run("--config", str(config))
    assert status == 2 and "unknown key" in text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
