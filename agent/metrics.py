"""Metrics and health over HTTP: /metrics (Prometheus), /health (alive), /ready (may be sent to).

    with Metrics(settings, state) as metrics: ...

Everything is gathered when somebody asks, in a thread of its own, from `agent.counts`, the folders
and the databases: delivery neither waits for it nor knows of it. Nothing served here is about a
patient; the port is on the loopback interface unless told otherwise.

/metrics needs the package prometheus-client (the extra `metrics`); without it, it answers 501 and
says so, and health and readiness are served all the same.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from agent import log
from agent.config import Settings, SettingsError
from agent.control_settings import ControlSettings
from agent.counts import COUNTS, LATENCY_S, Counts

if TYPE_CHECKING:
    from prometheus_client.core import Metric

TIMEOUT_S = 5.0
MOST_CONNECTIONS = 8
FREE_BYTES = 1 << 30
"""On the spool's disk; with less, no more measurements are asked for."""
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class State:
    """How the server is just now.

    Attributes
    ----------
    sessions : int
    draining : bool
        It serves no more scanners.
    """

    sessions: int
    draining: bool


class Metrics:
    """The HTTP server.

    Parameters
    ----------
    settings : Settings
        With a section `metrics`.
    state : callable
        Returns the server's `State`.
    counts : Counts

    Attributes
    ----------
    port : int
        Listened on.

    Raises
    ------
    SettingsError
        The address cannot be bound.
    """

    def __init__(
        self, settings: Settings, state: Callable[[], State], counts: Counts = COUNTS
    ) -> None:
        assert settings.metrics is not None
        self._settings = settings
        self._state = state
        self._counts = counts
        self._engines: list[tuple[str, str, bool]] = []
        try:
            import prometheus_client  # noqa: F401

            self.available = True
        except ImportError:
            self.available = False
            log.get().warning("no metrics: pip install 'boreside[metrics]'")
        try:
            self._server = _Server((settings.metrics.host, settings.metrics.port), self)
        except OSError as error:
            raise SettingsError(
                f"metrics.port: expected an address to listen on, got {error}"
            ) from None
        self.port = int(self._server.server_address[1])
        log.get().info("metrics", host=settings.metrics.host, port=self.port)
        for run in (self._server.serve_forever, self._look_at_engines):
            threading.Thread(target=run, name="metrics", daemon=True).start()

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Return status, content type and content for a path."""
        match path:
            case "/health":
                return 200, TEXT, b"alive\n"
            case "/ready":
                reasons = self._not_ready()
                said = {"ready": not reasons, "reasons": reasons}
                return 503 if reasons else 200, "application/json", json.dumps(said).encode()
            case "/metrics" if not self.available:
                return 501, TEXT, b"expected prometheus-client: pip install 'boreside[metrics]'\n"
            case "/metrics":
                from prometheus_client import CollectorRegistry, generate_latest
                from prometheus_client.exposition import CONTENT_TYPE_LATEST

                registry = CollectorRegistry()
                registry.register(self)
                return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        return 404, TEXT, b"expected /metrics, /health or /ready\n"

    def _not_ready(self) -> list[str]:
        reasons = []
        if self._state().draining:
            reasons.append("draining")
        if shutil.disk_usage(self._settings.spool.folder).free < FREE_BYTES:
            reasons.append("no room on the spool's disk")
        return reasons

    def collect(self) -> "Iterator[Metric]":
        """Yield everything, as prometheus-client asks its collectors."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
            InfoMetricFamily,
        )

        def labelled(family: Any, values: dict[str, float]) -> Any:
            for label, value in sorted(values.items()):
                family.add_metric([label], value)
            return family

        now, state = self._counts.totals(), self._state()
        yield InfoMetricFamily("boreside_build", "Version.", {"version": version("boreside")})
        for name, about, values, label in (
            ("measurements", "Measurements that ended.", now.measurements, "outcome"),
            ("refused_connections", "Connections not served.", now.refused, "reason"),
            ("series", "Series looked at.", now.series, "outcome"),
            ("findings", "Findings, each once.", now.findings, "type"),
        ):
            family = CounterMetricFamily(f"boreside_{name}", about, labels=[label])
            yield labelled(family, dict(values))
        for name, about, value in (
            ("readouts", "Readouts received.", now.readouts),
            ("images", "Images delivered.", now.images),
            ("fallback_images", "Images by a plainer way than asked for.", now.fallback_images),
        ):
            yield CounterMetricFamily(f"boreside_{name}", about, value=value)
        buckets, total = [], 0
        for upper, count in zip((*map(str, LATENCY_S), "+Inf"), now.latency):
            total += count
            buckets.append((upper, float(total)))
        yield HistogramMetricFamily(
            "boreside_image_latency_seconds",
            "From an image's last readout to its departure.",
            buckets=buckets,
            sum_value=now.latency_s,
        )
        yield GaugeMetricFamily("boreside_sessions", "Connected scanners.", value=state.sessions)
        yield GaugeMetricFamily("boreside_draining", "Serves no more.", value=state.draining)
        yield from self._spool(GaugeMetricFamily)
        proposals = GaugeMetricFamily("boreside_proposals", "Questions.", labels=["state"])
        yield labelled(proposals, self._proposals())
        outbox = GaugeMetricFamily(
            "boreside_outbox_waiting", "DICOM objects that wait.", labels=["destination"]
        )
        yield labelled(outbox, self._outbox())
        engines = GaugeMetricFamily(
            "boreside_engine_ready", "Networks that run.", labels=["network", "version"]
        )
        for name, number, ready in self._engines:
            engines.add_metric([name, number], ready)
        yield engines

    def _spool(self, gauge: Any) -> Iterator[Any]:
        folder = self._settings.spool.folder
        sizes = []
        for path in folder.glob("*.mrd"):
            try:
                sizes.append(path.stat().st_size)
            except FileNotFoundError:
                continue  # removed meanwhile, to make room
        free = shutil.disk_usage(folder).free
        yield gauge("boreside_spool_bytes", "Of measurements.", value=sum(sizes))
        yield gauge("boreside_spool_measurements", "Kept.", value=len(sizes))
        yield gauge("boreside_spool_free_bytes", "On the spool's disk.", value=free)

    def _proposals(self) -> dict[str, float]:
        from agent.control_store import states

        if self._settings.exams is None:
            return {}
        return dict(states((self._settings.control or ControlSettings()).store))

    def _outbox(self) -> dict[str, float]:
        if self._settings.outbox is None:
            return {}
        from agent.outbox_store import waiting

        return dict(waiting(self._settings.outbox))

    def _look_at_engines(self) -> None:
        """Let the networks prove themselves, once: it also has them loaded before they are used."""
        from agent.engines import ready

        self._engines = ready(self._settings)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], metrics: Metrics) -> None:
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)

        class Handler(BaseHTTPRequestHandler):
            timeout = TIMEOUT_S

            def do_GET(self) -> None:
                try:
                    status, kind, content = metrics.answer(self.path)
                except Exception as error:
                    log.get().warning("metrics not gathered", reason=str(error))
                    status, kind, content = 500, TEXT, b"not gathered: see the log\n"
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(address, Handler)

    def process_request(self, request: Any, address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, address: Any) -> None:
        try:
            super().process_request_thread(request, address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, address: Any) -> None:
        pass  # whoever asked went away
