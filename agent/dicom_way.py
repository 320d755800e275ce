"""From the measurements to the outbox: what leaves as DICOM, and that all of it does.

    way = DicomWay(settings, spool)
    sink = way.open(measurement, header, exam)   # before its first image
    sink.add(image)                              # as each leaves; returns at once
    sink.end()
    way.labels(exam, "t2_tse_sag", label_map, ("labels 0.2 (ab12)",))
    way.close(within_s=60)

The objects of a measurement are owed (`Spool.owe`) from before its first image until all of them
are in the outbox. Where images were more than could wait, the outbox had no room, or the process
was killed, they are made anew of the spool when nothing is being measured: the same images, and the
same UIDs, so that nothing is there twice.
"""

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent import log
from agent.config import Settings, SettingsError
from agent.dicom import MOST_EXAMS, DicomExam, DicomExams, DicomSink
from agent.outbox import Outbox
from agent.outgoing import Outgoing
from agent.recover import ATTEMPTS, dicom_again
from agent.spool import Spool
from agent.worklist import Worklist
from gadgets.items import LabelMap
from protocols.findings import ExamFindings
from protocols.header import Header

LOOK_S = 0.25
RETRY_S = 60.0
"""After which what the outbox had no room for is tried again."""


@dataclass
class _Exam:
    """Of one exam: its objects, and when those of a series are all written."""

    objects: DicomExam
    written: dict[str, threading.Event] = field(default_factory=dict)


@dataclass
class _Job:
    """A report, label map or summary: to be written when the images it speaks of are."""

    what: str
    write: Callable[[], bool]
    after: threading.Event | None


class DicomWay:
    """All of one agent.

    Parameters
    ----------
    settings : Settings
        With an outbox.
    spool : Spool
    exam : callable
        From a header and the name of a measurement to the pseudonym of its exam.
    send : bool
        False: objects are put into the outbox, and another process sends them.
    said : callable or None
        Takes what the technologist should know: a level, and words.

    Raises
    ------
    SettingsError
        The outbox's folder or port cannot be had.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        exam: Callable[[Header | None, str], str],
        send: bool = True,
        said: Callable[[str, str], None] | None = None,
    ) -> None:
        assert settings.outbox is not None
        self._settings = settings
        self._spool = spool
        self._exam_of = exam
        self._said = said or (lambda level, text: None)
        self._log = log.get(part="dicom")
        title, folder = settings.dicom.ae_title, settings.outbox.folder
        try:
            self.outbox = Outbox(settings.outbox, title)
            lookup = None
            if settings.dicom.worklist is not None:
                lookup = Worklist(settings.dicom.worklist, folder / "worklist", title).complete
            if send:
                self.outbox.start()
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"outbox: expected a folder and a port of its own: {error}") from (
                None
            )
        self._exams = DicomExams(settings.dicom, self.outbox.add, lookup)
        self._lock = threading.Lock()
        self._known: dict[str, _Exam] = {}
        self._open: dict[int, DicomSink] = {}
        self._closing = threading.Event()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._owed: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._write, "dicom reports"), (self._anew, "dicom anew"))
        ]
        for thread in self._threads:
            thread.start()

    def recovered(self, measurement: str) -> Outgoing:
        """Return the way of a measurement that is reconstructed again."""
        return Outgoing(measurement, self._exam_of, self, wait=True)

    def open(self, measurement: str, header: Header | None, exam: str) -> DicomSink:
        """Begin a measurement of an exam, which goes by its pseudonym here."""
        self._spool.owe(measurement, self._spool.owed(measurement) or 0)
        objects = self._exams.of(header, measurement)
        with self._lock:
            known = self._known.pop(exam, None)
            if known is None or known.objects is not objects:
                known = _Exam(objects)
            self._known[exam] = known
            while len(self._known) > MOST_EXAMS:
                del self._known[next(iter(self._known))]
            sink = objects.sink(measurement, header, self._ended)
            self._open[id(sink)] = sink
        return sink

    def series(self, exam: str, series: str, sink: DicomSink) -> None:
        """Take note which measurement a series is of."""
        with self._lock:
            self._known[exam].written[series] = sink.done

    def labels(self, exam: str, series: str, labels: LabelMap, networks: Sequence[str]) -> None:
        """Write the labels of a series, soon."""
        self._put(exam, series, "labels", lambda of: of.labels(series, labels, networks))

    def findings(self, findings: ExamFindings, networks: Sequence[str]) -> None:
        """Write a report of the findings so far, soon."""
        latest = findings.series[-1]
        self._put(findings.exam, latest, "report", lambda of: of.findings(findings, networks))

    def summary(
        self, findings: ExamFindings, pages: NDArray[np.uint8], networks: Sequence[str]
    ) -> None:
        """Write the pages of a summary of findings, uint8 (page, y, x, rgb), soon."""
        latest = findings.series[-1]
        # A step may be scanned twice: the number tells its summaries apart.
        title = f"Summary {len(findings.series)}: after {latest}"
        self._put(findings.exam, latest, "summary", lambda of: of.summary(pages, title, networks))

    def make_anew(self, measurements: Iterable[str]) -> None:
        """Make the objects of measurements again, when nothing is being measured."""
        for name in measurements:
            self._owed.put(name)

    def close(self, within_s: float) -> None:
        """Write what has come, for so long at most; what is owed then is made by the next one."""
        end = time.monotonic() + within_s
        with self._lock:
            still = list(self._open.values())
        for sink in still:
            sink.done.wait(max(0.0, end - time.monotonic()))
        self._jobs.put(None)
        self._threads[0].join(max(0.0, end - time.monotonic()))
        self._closing.set()
        for thread in self._threads:
            thread.join(LOOK_S)
        self.outbox.close()

    def _put(self, exam: str, series: str, what: str, write: Callable[[DicomExam], Any]) -> None:
        with self._lock:
            known = self._known.get(exam)
        if known is None:
            self._log.warning("of no measurement of this process", what=what, exam=exam)
            return
        objects = known.objects
        self._jobs.put(_Job(what, lambda: bool(write(objects)), known.written.get(series)))

    def _ended(self, sink: DicomSink) -> None:
        name = sink.measurement
        with self._lock:
            self._open.pop(id(sink), None)
        if sink.errors:
            self._said("error", f"not all of a measurement was written as DICOM: {sink.errors[0]}")
        if not sink.complete:
            return  # It is being done again, or will be.
        if sink.owing:
            self._log.warning("DICOM objects are owed", measurement=name)
            self._owed.put(name)
        else:
            self._spool.settle(name)

    def _write(self) -> None:
        while (job := self._jobs.get()) is not None:
            while job.after is not None and not job.after.wait(LOOK_S):
                if self._closing.is_set():
                    return
            while not self._written(job):
                if self._closing.wait(RETRY_S):
                    return

    def _written(self, job: _Job) -> bool:
        """Write; False where the outbox had no room."""
        try:
            if not job.write():
                self._log.warning("no DICOM object: its images are not known", of=job.what)
        except (OSError, sqlite3.Error) as error:
            self._log.error("the outbox does not take", of=job.what, reason=str(error))
            return False
        except Exception as error:
            self._log.error("no DICOM object made", of=job.what, exc_info=error)
            self._said("error", f"no DICOM {job.what}: {error}")
        return True

    def _anew(self) -> None:
        later: dict[str, float] = {}
        while not self._closing.wait(LOOK_S):
            while not self._owed.empty():
                name = self._owed.get()
                later[name] = time.monotonic() + (RETRY_S if name in later else 0.0)
            with self._lock:
                busy = bool(self._open)
            due = [name for name, when in later.items() if when <= time.monotonic()]
            if busy or not due:
                continue
            name = due[0]
            attempts = self._spool.owed(name)
            if attempts is None or attempts >= ATTEMPTS:
                del later[name]
                if attempts is not None:
                    self._log.error("DICOM objects stay owed: boreside recover", measurement=name)
                continue
            later[name] = time.monotonic() + RETRY_S
            try:
                dicom_again(self._spool, name, self._settings, self.recovered(name))
            except Exception as error:
                self._log.error("DICOM objects not made anew", measurement=name, exc_info=error)
