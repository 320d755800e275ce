"""One session: a connection, its spool file, and the two threads between them.

The receiving thread copies bytes from the connection to the spool file and does nothing else. The
thread that calls `Session.run` reads the messages back from the file as they come, runs the
measurement (`agent.measurement`) and writes to the connection. So neither a slow chain nor a
scanner which is slow to take its images ever stops the receiving.
"""

import statistics
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agent import log
from agent.config import Settings
from agent.counts import COUNTS
from agent.measurement import Measurement, PeerGone, Report
from agent.recover import reconstruct
from agent.spool import Spool, SpoolFull, SpoolReader
from protocols.mrd import Limits, Message, Reader, Sink, Source
from protocols.mrd_types import Close, Text
from protocols.mrd_write import write

if TYPE_CHECKING:
    from agent.exam_beside import Beside
    from agent.ways_out import WaysOut

RECEIVE_BYTES = 1 << 20
LINGER_SECONDS = 5.0


class Session:
    """Serve one connection to its end.

    Parameters
    ----------
    source, sink : raw binary streams
        What the peer sends, and what it gets.
    spool : Spool
    settings : Settings
    end_sending : callable
        Tells the peer that no more will come, after the CLOSE.
    hang_up : callable
        Ends the connection; whoever waits for bytes is woken.
    beside : Beside or None
        Takes the series, where somebody looks at exams.
    ways : WaysOut or None
        Where images go besides the peer.
    peer : str
        Who connected, as the console's page may show it.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        spool: Spool,
        settings: Settings,
        end_sending: Callable[[], None] = lambda: None,
        hang_up: Callable[[], None] = lambda: None,
        beside: "Beside | None" = None,
        ways: "WaysOut | None" = None,
        peer: str = "",
    ) -> None:
        self._source = source
        self._sink = sink
        self._spool = spool
        self._settings = settings
        self._end_sending = end_sending
        self._hang_up = hang_up
        self._beside = beside
        self._recording = spool.record()
        self._log = log.get(measurement=self._recording.name)
        self._ways = ways
        self._outgoing = ways.measurement(self._recording.name, peer) if ways else None

    def run(self) -> None:
        """Serve the connection; nothing that a peer does makes this raise."""
        recording = self._recording
        receiver = threading.Thread(target=self._receive, name="receive", daemon=True)
        receiver.start()
        report, measured = Report(), False
        try:
            report, taken = self._measure()
            measured = True
            self._end_sending()
            receiver.join(LINGER_SECONDS if taken else None)
            again = not taken or (report.cut and not report.empty)
            self._end_outgoing(report, complete=not again)
            if again:
                name = recording.name
                outgoing = self._ways.recovered(name) if self._ways else None
                reconstruct(self._read, self._spool, name, self._settings, outgoing=outgoing)
        except Exception as error:
            self._log.error("session failed", exc_info=error)
        finally:
            self._end_outgoing(report, complete=False)
            self._hang_up()
            receiver.join(LINGER_SECONDS)
            if not receiver.is_alive():
                recording.close()
            if measured and report.empty:
                self._spool.remove(recording.name)
            COUNTS.measurement(report)

    def _end_outgoing(self, report: Report, complete: bool) -> None:
        if self._outgoing is not None:
            self._outgoing.end(report, complete, self._recording.durable_bytes)

    def _receive(self) -> None:
        recording = self._recording
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        failure = None
        try:
            while got := self._source.readinto(buffer):
                recording.write(buffer[:got])
        except SpoolFull as error:
            failure = error
        except (OSError, ValueError) as error:
            self._log.info("peer went away", reason=str(error))
        recording.end(failure)

    def _read(self) -> Reader:
        limits = self._settings.limits
        return Reader(
            SpoolReader(self._recording),
            Limits(limits.text_bytes, limits.message_bytes),
            self._recording.arrival,
        )

    def _measure(self) -> tuple[Report, bool]:
        """Run the measurement; returns its report, and whether the peer took what it was sent."""
        recording = self._recording
        measurement = Measurement(
            self._read,
            self._send,
            self._settings.chain,
            self._settings.pixel_type,
            self._log,
            recording.arrival,
            lambda: recording.durable_bytes,
            self._beside,
            self._outgoing,
        )
        try:
            measurement.run()
            self._finish(measurement.report)
        except PeerGone as error:
            self._log.warning("images find no taker: keeping them", reason=str(error))
            return measurement.report, False
        finally:
            try:
                self._send(Close())
            except PeerGone:
                pass
        return measurement.report, True

    def _finish(self, report: Report) -> None:
        """Make the measurement durable and write down what became of it, before the CLOSE."""
        recording = self._recording
        if recording.failure is not None:
            self._send(Text(f"ERR {recording.failure}"))
        if not recording.durable:
            self._send(Text("WRN the spool had no room: this measurement is not on the disk"))
        if report.empty:
            return
        recording.sync()
        latency = report.latency_ms
        summary: dict[str, Any] = {
            "config": report.config,
            "bytes": recording.durable_bytes,
            "durable": recording.durable,
            "readouts": report.readouts,
            "images_in": report.images_in,
            "latency_ms": {"median": statistics.median(latency), "max": max(latency)}
            if latency
            else {},
            "errors": report.errors,
        }
        self._log.info("measurement ended", **summary, images=len(report.images))
        if not report.cut:
            outcome = "failed" if report.failed else "delivered"
            try:
                self._spool.mark(recording.name, outcome=outcome, **summary, images=report.images)
            except OSError as error:
                reason = str(error.strerror)
                self._log.error("not noted: it will be recovered once more", reason=reason)

    def _send(self, message: Message) -> None:
        try:
            write(self._sink, message)
        except (OSError, ValueError) as error:
            raise PeerGone(str(error)) from error
