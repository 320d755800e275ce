"""Metrics and health: over HTTP, of a real agent, and never in the way of delivery."""

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from agent.config import SettingsError, load
from agent.counts import COUNTS, Counts
from agent.measurement import Report
from agent.metrics import MOST_CONNECTIONS, Metrics, State
from protocols.control import Telemetry
from protocols.mrd_types import Close, ConfigFile

ROOT = Path(__file__).parents[3]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def values(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@pytest.fixture
def serve(tmp_path):
    """Serve metrics of counts and a state; returns the port."""
    servers = []

    def run(counts=None, draining=False, **sections) -> int:
        (tmp_path / "spool").mkdir(exist_ok=True)
        settings = load(
            metrics={"port": 0}, spool={"folder": tmp_path / "spool"}, threads=1, **sections
        )
        servers.append(Metrics(settings, lambda: State(1, draining), counts or Counts()))
        return servers[-1].port

    yield run
    for server in servers:
        server.__exit__()


def test_what_was_counted_is_served(serve):
    counts = Counts()
    counts.measurement(
        Report("sense", 3, 128, 0, [(1,)] * 4, [20.0, 30.0, 900.0, 40e3], fallbacks=2)
    )
    counts.measurement(Report())
    counts.measurement(Report(items=1, cut=True))
    counts.refused("full")
    for _ in range(2):
        values_ = {"id": "f1", "type": "subchondral_oedema"}
        counts.told(Telemetry(topic="finding", at_s=1.0, exam="e", values=values_))
    counts.told(Telemetry(topic="series", at_s=1.0, exam="e", values={"failed": "hung"}))
    found = values(get(serve(counts), "/metrics")[1])
    assert found['boreside_measurements_total{outcome="delivered"}'] == 1
    assert found['boreside_measurements_total{outcome="cut"}'] == 1
    assert found["boreside_images_total"] == 4 and found["boreside_readouts_total"] == 128
    assert found["boreside_fallback_images_total"] == 2
    assert found['boreside_image_latency_seconds_bucket{le="0.025"}'] == 1
    assert found['boreside_image_latency_seconds_bucket{le="1.0"}'] == 3
    assert found['boreside_image_latency_seconds_bucket{le="30.0"}'] == 3
    assert found["boreside_image_latency_seconds_count"] == 4
    assert found['boreside_findings_total{type="subchondral_oedema"}'] == 1
    assert found['boreside_series_total{outcome="failed"}'] == 1
    assert found['boreside_refused_connections_total{reason="full"}'] == 1
    assert found["boreside_spool_bytes"] == 0 and found["boreside_spool_free_bytes"] > 0


def test_a_draining_agent_is_alive_and_not_ready(serve):
    port = serve(draining=True)
    assert get(port, "/health") == (200, "alive\n")
    status, text = get(port, "/ready")
    assert status == 503 and json.loads(text) == {"ready": False, "reasons": ["draining"]}
    assert get(serve(), "/ready")[0] == 200
    assert get(port, "/other")[0] == 404


def test_outbox_and_questions_are_counted_where_they_are(serve, tmp_path):
    from agent.control_store import ControlStore
    from agent.outbox_settings import OutboxSettings
    from agent.outbox_store import Store

    destination = {"name": "main", "host": "127.0.0.1", "ae_title": "PACS"}
    outbox = {"folder": tmp_path / "outbox", "destinations": [destination]}
    control = {"port": 0, "telemetry_port": 0, "keys": None, "store": tmp_path / "c.sqlite"}
    port = serve(outbox=outbox, control=control, exams={})
    assert values(get(port, "/metrics")[1])['boreside_outbox_waiting{destination="main"}'] == 0
    Store(OutboxSettings.model_validate(outbox)).close()
    ControlStore(tmp_path / "c.sqlite").close()
    assert values(get(port, "/metrics")[1])['boreside_outbox_waiting{destination="main"}'] == 0


def test_without_the_package_health_is_served_and_metrics_say_what_to_install(tmp_path):
    program = """
import sys
sys.modules["prometheus_client"] = None
from agent.config import load
from agent.metrics import Metrics, State
with Metrics(load(metrics={"port": 0}), lambda: State(0, False)) as metrics:
    print(metrics.answer("/health")[0], *metrics.answer("/metrics"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "\n200 501" in done.stdout and "boreside[metrics]" in done.stdout, done.stderr


def test_a_port_in_use_is_a_named_error(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = load(metrics={"port": other.getsockname()[1]})
        with pytest.raises(SettingsError, match=r"metrics\.port"):
            Metrics(settings, lambda: State(0, False))


def test_who_hangs_on_the_port_takes_no_more_than_some_threads(serve):
    port = serve()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(4 * MOST_CONNECTIONS)]
    for end in silent:
        end.close()
    while True:
        try:
            assert get(port, "/health")[0] == 200
            break
        except OSError:
            continue  # it has not noticed yet that they went away


def test_images_leave_while_metrics_hang(start, scan):
    before = COUNTS.totals()
    agent = start(metrics={"port": 0})
    agent.exchange(Close())  # it serves now
    port = agent.server.metrics_port
    hanging = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_CONNECTIONS)]
    answer = agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts, Close())
    assert len(answer.images) == 1 and answer.closed
    for end in hanging:
        end.close()
    agent.stop()
    now = COUNTS.totals()
    assert now.images == before.images + 1
    assert now.measurements["delivered"] == before.measurements["delivered"] + 1


def test_images_of_a_plainer_way_are_counted(start, scan, tmp_path):
    before = COUNTS.totals().fallback_images
    # A network that is not there: conventional images, which say so.
    weights = tmp_path / "weights" / "recon" / "99"
    weights.mkdir(parents=True)
    (weights / "manifest.json").write_text("{}")
    agent = start(engines={"site": tmp_path / "weights"})
    from agent import engines

    engines.use(agent.settings)
    answer = agent.exchange(ConfigFile("dl"), scan.header, scan.noise, scan.readouts, Close())
    engines.use(load())
    agent.stop()
    assert len(answer.images) == 1 and "BoresideFallback" in answer.images[0].attributes
    assert COUNTS.totals().fallback_images == before + 1
