"""The exams that are being scanned: their series together, looked at beside delivery.

    book = ExamBook(Worker(...), audit)
    book.start(coverage, publish)
    book.take(header, series)             # of any session, when a measurement ends; never waits
    book.tell(update)                     # of a console
    book.pages(header)                    # of the summary, for the scanner; once

Series of one exam find each other by what its MRD headers have in common; from here on the exam
goes by a pseudonym. One thread hands them to the worker (`agent.exam_worker`), one at a time, and
what comes back to audit, telemetry and the coverage loop. A worker that crashes or hangs costs the
conclusions about one series, never an image: triage then abstains, and says why.
"""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent import log
from agent.audit import Audit
from agent.audit_records import EngineUsed
from agent.coverage import IDLE_S, Coverage
from agent.exam_summary import Summary
from agent.exam_telemetry import telemetry
from agent.exam_worker import Job, Looked, Worker, WorkerFailed
from gadgets.items import Labelled, Series
from protocols.control import ExamUpdate, Telemetry
from protocols.findings import ExamFindings
from protocols.header import Header
from protocols.mrd_types import ImageMessage

if TYPE_CHECKING:
    from agent.ways_out import WaysOut

WAITING = 32
"""Series and words of consoles that wait; more series are not looked at."""
MOST_SERIES = 64
"""Of one exam."""
ATTEMPTS = 2
"""With a worker that crashes."""
LOOK_OUT_S = 0.25
MOST_SUMMARIES = 4
"""Of exams, that wait for a measurement to go to the scanner with."""


@dataclass
class Exam:
    """One exam.

    Attributes
    ----------
    name : str
        Pseudonym.
    planned : tuple of str
        Names of the steps after which its summary is whole.
    seen : list of Labelled
        Its series in order of completion, without those that could not be looked at.
    findings : ExamFindings or None
        What triage said last.
    summary : Summary or None
        What that looks like, as long as it has not left for PACS and page.
    heard_s : float
        When something came last, monotonic clock.
    """

    name: str
    planned: tuple[str, ...] = ()
    seen: list[Labelled] = field(default_factory=list)
    findings: ExamFindings | None = None
    summary: Summary | None = None
    heard_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _Arrived:
    exam: str
    series: Series
    header: Header


class ExamBook:
    """All exams of one scanner.

    Parameters
    ----------
    worker : Worker
        Stays after `close`, unless it was busy.
    audit : Audit
        Whose pseudonyms exams go by.
    ways : WaysOut or None
        Takes labels, findings and summaries on to PACS and page.
    planned : tuple of str
        Steps of exams whose console names none.
    """

    def __init__(
        self,
        worker: Worker,
        audit: Audit,
        ways: "WaysOut | None" = None,
        planned: tuple[str, ...] = (),
    ) -> None:
        self._worker = worker
        self._ways = ways
        self._planned = planned
        self._pages: dict[str, tuple[ImageMessage, ...]] = {}
        self._audit = audit
        self._log = log.get(part="exams")
        self._exams: dict[str, Exam] = {}
        self._waiting: queue.Queue[_Arrived | ExamUpdate] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exams", daemon=True)

    def start(self, coverage: Coverage, publish: Callable[[Telemetry], None]) -> None:
        """Begin to look."""
        self._coverage = coverage
        self._publish = publish
        self._thread.start()

    def take(self, header: Header, series: Series) -> None:
        """Take a series whose images have all left; returns at once."""
        name = exam_name(header)
        if name is None:
            self._log.warning("series of no exam: its header names neither study nor patient")
            return
        try:
            self._waiting.put_nowait(_Arrived(self._audit.pseudonyms.exam(name), series, header))
        except queue.Full:
            self._log.error("series not looked at: too many wait", series=series.name)

    def tell(self, update: ExamUpdate) -> bool:
        """Take what a console says of an exam; False where too much waits already."""
        try:
            self._waiting.put_nowait(update)
        except queue.Full:
            return False
        return True

    def pages(self, header: Header) -> tuple[ImageMessage, ...]:
        """Return the latest summary of an exam as images for its scanner, if it is a new one."""
        name = exam_name(header)
        if name is None or not self._pages:
            return ()
        return self._pages.pop(self._audit.pseudonyms.exam(name), ())

    def close(self, within_s: float) -> None:
        """Look at what waits, for so long at most, and stop."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(within_s)
            while self._thread.is_alive():
                self._worker.kill()
                self._thread.join(LOOK_OUT_S)

    def _run(self) -> None:
        try:
            self._worker.start()
        except WorkerFailed as error:
            self._log.error("no worker", reason=str(error))
        while True:
            try:
                item = self._waiting.get(timeout=LOOK_OUT_S)
            except queue.Empty:
                if self._closing.is_set():
                    for exam in self._exams.values():
                        self._hand_on(exam)
                    return
                self._sweep()
                continue
            try:
                if isinstance(item, ExamUpdate):
                    self._update(item)
                else:
                    self._series(self._exam(item.exam), item.series, item.header)
            except Exception as error:
                # The audit cannot be written, say: nothing is concluded then, and nothing asked.
                self._log.error("exams stumbled", exc_info=error)

    def _exam(self, name: str) -> Exam:
        if name not in self._exams:
            before = self._coverage.findings(name)
            self._exams[name] = Exam(name, self._planned, findings=before)
        self._exams[name].heard_s = time.monotonic()
        return self._exams[name]

    def _update(self, update: ExamUpdate) -> None:
        name = self._audit.pseudonyms.exam(update.exam)
        self._coverage.tell(name, update)
        if self._ways is not None and self._ways.page is not None and not update.ended:
            self._ways.page.planned(name, update.protocol)
        if (exam := self._exams.get(name)) is not None:
            exam.planned = update.planned or exam.planned
            if update.ended:
                self._hand_on(self._exams.pop(name))

    def _series(self, exam: Exam, series: Series, header: Header) -> None:
        asked = self._coverage.joined(exam.name, series)
        looked = self._look(exam, series)
        if isinstance(looked, str):
            findings: ExamFindings | None = _abstained(exam, series, looked)
            engines: tuple[EngineUsed, ...] = ()
        else:
            exam.seen.append(Labelled(series, looked.labels, looked.quality))
            findings, engines = looked.findings, looked.engines
            exam.findings = findings or exam.findings
        self._report(exam, series, looked, asked)
        if self._ways is not None and isinstance(looked, Looked) and looked.labels is not None:
            self._ways.labelled(exam.name, series.name, looked.labels, engines)
        if findings is None:
            return
        self._audit.findings(findings, engines)
        if self._ways is not None:
            self._ways.found(findings, engines)
        for finding in findings.findings:
            self._publish(
                telemetry(
                    "finding",
                    exam.name,
                    id=finding.id,
                    type=finding.type,
                    structure=finding.structure,
                    side=finding.side,
                    level=finding.level,
                    probability=finding.probability,
                )
            )
        labels = [one.labels for one in reversed(exam.seen) if one.labels is not None]
        self._coverage.update(findings, labels, series.last_readout_ns)
        self._publish(telemetry("decided", exam.name, series=series.name))
        if pages := self._worker.pages():
            self._summarise(exam, Summary.of(pages, findings, engines, header))

    def _summarise(self, exam: Exam, summary: Summary) -> None:
        exam.summary = summary
        self._pages[exam.name] = summary.images
        while len(self._pages) > MOST_SUMMARIES:
            del self._pages[next(iter(self._pages))]
        if summary.whole(exam.planned):
            self._hand_on(exam)

    def _hand_on(self, exam: Exam) -> None:
        """Let PACS and page have the summary: the exam is complete, or has ended."""
        summary, exam.summary = exam.summary, None
        if summary is not None and self._ways is not None:
            self._ways.summarised(summary)

    def _look(self, exam: Exam, series: Series) -> Looked | str:
        """Return what the worker says, or why it says nothing."""
        if len(exam.seen) >= MOST_SERIES:
            return f"more than {MOST_SERIES} series"
        why = ""
        for _ in range(ATTEMPTS):
            try:
                return self._worker.look(Job(exam.name, tuple(exam.seen), series, exam.findings))
            except WorkerFailed as error:
                why = str(error)
                self._log.error("series not looked at", series=series.name, reason=why)
                self._publish(telemetry("worker", exam.name, series=series.name, failed=why))
                if not error.crashed:
                    break
        return why

    def _report(self, exam: Exam, series: Series, looked: Looked | str, asked: str | None) -> None:
        since_s = (time.monotonic_ns() - series.last_readout_ns) / 1e9
        said = {
            "series": series.name,
            "weighting": series.weighting,
            "request": asked,
            "seconds": round(since_s, 3) if series.last_readout_ns else None,
        }
        if isinstance(looked, str):
            said["failed"] = looked
        else:
            quality = looked.quality
            said |= {
                "labelled": looked.labels is not None,
                "unlabelled": looked.unlabelled or None,
                "usable": quality.usable,
                "reason": quality.reason,
                "snr": quality.snr,
                "motion": quality.motion,
                "worker_seconds": round(looked.seconds, 3),
            }
        self._log.info("series", exam=exam.name, **{k: v for k, v in said.items() if v is not None})
        self._publish(telemetry("series", exam.name, **said))

    def _sweep(self) -> None:
        for name, exam in list(self._exams.items()):
            if time.monotonic() - exam.heard_s >= IDLE_S:
                self._hand_on(self._exams.pop(name))


def exam_name(header: Header) -> str | None:
    """Return what the headers of one exam have in common, and no others have.

    It may identify the patient: nothing but its pseudonym goes further.
    """
    study = header.studyInformation
    measurement = header.measurementInformation
    subject = header.subjectInformation
    if study and study.studyInstanceUID:
        return str(study.studyInstanceUID)
    if measurement and measurement.frameOfReferenceUID:
        return str(measurement.frameOfReferenceUID)
    parts = [subject and subject.patientID, study and study.studyID, study and study.studyDate]
    if parts[0]:
        return "/".join(str(part) for part in parts if part)
    return str(measurement.measurementID) if measurement and measurement.measurementID else None


def _abstained(exam: Exam, series: Series, why: str) -> ExamFindings:
    before = exam.findings
    if before is None:
        return ExamFindings(exam=exam.name, series=(series.name,), abstained=why)
    names = (*before.series, series.name)
    return before.model_copy(update={"series": names, "abstained": why})
