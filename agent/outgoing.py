"""What one measurement sends out besides the images for its scanner: to PACS, and to the page.

    outgoing = Outgoing(measurement, way, page)
    outgoing.begin(header, chain)
    outgoing.image(message, latency_ms)     # when it has left for the scanner
    outgoing.end(report, complete=True)

It stands beside delivery: its methods hand on references and return, and never raise.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec

from agent import log
from gadgets.series import series_name, step_name
from protocols.header import Header
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from agent.dicom import DicomSink
    from agent.dicom_way import DicomWay
    from agent.measurement import Report
    from agent.page import Page

_Arguments = ParamSpec("_Arguments")
_KEPT = "the scanner did not take all images of a measurement: they are kept in the spool's results"
_COUNTERS = ("contrast", "repetition", "phase", "set")


def _beside(
    method: Callable[Concatenate["Outgoing", _Arguments], None],
) -> Callable[Concatenate["Outgoing", _Arguments], None]:
    """Log what goes wrong, and go on."""

    @functools.wraps(method)
    def safe(self: "Outgoing", *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            log.get(measurement=self.measurement).error("not handed on", exc_info=error)

    return safe


class Outgoing:
    """One measurement.

    Parameters
    ----------
    measurement : str
        The spool's name of it.
    exam : callable
        From a header and the name of a measurement to the pseudonym of its exam.
    way : DicomWay or None
    page : Page or None
    peer : str
        The scanner, as the page may show it; "" where there is none.
    wait : bool
        For room, where images are more than may wait: of recovery, which nobody waits for.

    Attributes
    ----------
    sink : DicomSink or None
        Once it has begun.
    """

    def __init__(
        self,
        measurement: str,
        exam: Callable[[Header | None, str], str],
        way: "DicomWay | None" = None,
        page: "Page | None" = None,
        peer: str = "",
        wait: bool = False,
    ) -> None:
        self.measurement = measurement
        self.sink: DicomSink | None = None
        self._exam_of = exam
        self._way, self._page = way, page
        self._peer, self._wait = peer, wait
        self._step = ""
        self._exam: str | None = None
        self._over = False
        if page is not None and peer:
            page.connected(peer)

    @_beside
    def begin(self, header: Header | None, chain: str) -> None:
        """Take note of what comes, before the first image."""
        self._exam = self._exam_of(header, self.measurement)
        self._step = "series" if header is None else step_name(header)
        if self._way is not None:
            self.sink = self._way.open(self.measurement, header, self._exam)
        if self._page is not None:
            self._page.begun(self._exam, self.measurement, self._step, header, chain)

    @_beside
    def came(self, readouts: int, size: int) -> None:
        """Take note of how many readouts and bytes have come so far."""
        if self._page is not None and self._exam is not None:
            self._page.came(self._exam, self.measurement, readouts, size)

    @_beside
    def image(self, image: ImageMessage, latency_ms: float | None) -> None:
        """Take an image that has left for the scanner."""
        if self._exam is None:
            self.begin(None, "")
        if self.sink is not None:
            self.sink.add(image, self._wait)
        if self._page is not None and self._exam is not None:
            counters = {name: int(image.header[name]) for name in _COUNTERS}
            series = series_name(self._step, counters)
            self._page.image(self._exam, series, image, self.measurement, latency_ms)

    @_beside
    def series(self, name: str) -> None:
        """Take note of a series whose images have all left."""
        if self._way is not None and self.sink is not None and self._exam is not None:
            self._way.series(self._exam, name, self.sink)

    @_beside
    def say(self, level: str, text: str) -> None:
        """Show a line of the measurement's log: ``level`` is "warning" or "error"."""
        if self._page is not None:
            self._page.problem(level, text)

    @_beside
    def end(self, report: "Report", complete: bool, size: int = 0) -> None:
        """Take note that nothing more will come; the second call does nothing.

        Parameters
        ----------
        report : Report
        complete : bool
            False where the measurement is to be done again.
        size : int
            Bytes of it in the spool.
        """
        if self._over:
            return
        self._over = True
        if self.sink is not None:
            self.sink.end(complete)
        if self._page is not None:
            lost = not complete or report.cut
            if self._peer:
                self._page.disconnected(self._peer, lost and not report.empty)
            if self._exam is not None:
                self._page.ended(self._exam, self.measurement, report, lost, size)
                if not complete:
                    self._page.problem("warning", _KEPT)

    def wait(self) -> None:
        """Return when the objects of a measurement that has ended are in the outbox, or owed."""
        if self.sink is not None:
            self.sink.done.wait()
