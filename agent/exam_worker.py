"""The worker that looks at series: a process of its own with low priority, beside delivery.

    worker = Worker(Setup(settings.engines, threads=2), deadline_s=60)
    looked = worker.look(Job("exam-7", seen, series, previous))       # raises WorkerFailed
    pages = worker.pages()                                            # of the summary
    worker.close()

It labels a series, judges its quality, and lets triage conclude; when that is told, it draws the
summary. It keeps nothing between two jobs: one that crashes or hangs is ended, and the next job
gets a new one.
"""

import importlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from agent import engines, log
from agent.audit_records import EngineUsed
from agent.config import EngineSettings
from gadgets.items import Labelled, LabelMap, Series
from protocols.findings import ExamFindings, Quality

if TYPE_CHECKING:
    from gadgets.summary import SummaryPage

NICENESS = 10
START_S = 60.0
"""A process may take to come up."""
END_S = 2.0
"""It may take to go when nobody wants it any more."""


class WorkerFailed(Exception):
    """A series was not looked at: why.

    Attributes
    ----------
    crashed : bool
        The process has ended of itself, and another one may succeed.
    """

    def __init__(self, why: str, crashed: bool) -> None:
        super().__init__(why)
        self.crashed = crashed


@dataclass(frozen=True)
class Setup:
    """What a worker is made of.

    Attributes
    ----------
    engines : EngineSettings
    threads : int
        Of one numerical step.
    quality, triage : str or None
        Where its functions are, "module:name". No triage: nothing is concluded.
    summary : bool
        Whether pages are drawn of what triage concludes.
    """

    engines: EngineSettings
    threads: int
    quality: str = "gadgets.quality:quality"
    triage: str | None = "gadgets.triage:triage"
    summary: bool = False


@dataclass(frozen=True)
class Job:
    """A series to look at.

    Attributes
    ----------
    exam : str
        Pseudonym.
    seen : tuple of Labelled
        The exam's earlier series.
    series : Series
    previous : ExamFindings or None
        After the series before.
    """

    exam: str
    seen: tuple[Labelled, ...]
    series: Series
    previous: ExamFindings | None


@dataclass(frozen=True)
class Looked:
    """What came of it.

    Attributes
    ----------
    labels : LabelMap or None
    unlabelled : str
        Why there are none.
    quality : Quality
    findings : ExamFindings or None
        None where there is no triage.
    engines : tuple of EngineUsed
    seconds : float
        In the worker.
    """

    labels: LabelMap | None
    unlabelled: str
    quality: Quality
    findings: ExamFindings | None
    engines: tuple[EngineUsed, ...]
    seconds: float


class Worker:
    """The process, started anew whenever it is not there. To be used by one thread.

    Parameters
    ----------
    setup : Setup
    deadline_s : float
        For one job; after it the process is ended.
    """

    def __init__(self, setup: Setup, deadline_s: float) -> None:
        self._setup = setup
        self._deadline_s = deadline_s
        self._process: Any = None
        self._connection: Connection | None = None
        self._drawing = False

    @property
    def pid(self) -> int | None:
        """Of the process, where there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Have a process that is ready.

        Raises
        ------
        WorkerFailed
        """
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=work, args=(other, self._setup), name="exams", daemon=True
        )
        self._process.start()
        other.close()
        self._answer(START_S)

    def look(self, job: Job) -> Looked:
        """Look at a series.

        Raises
        ------
        WorkerFailed
        """
        if self._drawing:
            self.pages()
        self.start()
        answer = self._answer(self._deadline_s, job)
        if isinstance(answer, str):
            raise WorkerFailed(answer, crashed=False)
        self._drawing = self._setup.summary and answer.findings is not None
        return answer

    def pages(self) -> "tuple[SummaryPage, ...]":
        """Return the summary after the latest series; none where there is none, or it failed."""
        if not self._drawing:
            return ()
        self._drawing = False
        try:
            pages: tuple[SummaryPage, ...] = self._answer(self._deadline_s)
        except WorkerFailed as error:
            log.get(part="exams").error("no summary", reason=str(error))
            return ()
        return pages

    def close(self) -> None:
        """End the process; whoever waits for an answer of it gets none."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is not None and connection is not None:
            connection.close()
            process.join(END_S)
            if process.is_alive():
                process.kill()
                process.join()

    def kill(self) -> None:
        """End the process at once, from another thread."""
        if (process := self._process) is not None:
            process.kill()

    def _answer(self, within_s: float, job: Job | None = None) -> Any:
        assert self._connection is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            self.kill()

        # A process that hangs may not even take its job: only its end wakes us.
        watchdog = threading.Timer(within_s, end)
        watchdog.daemon = True
        watchdog.start()
        try:
            if job is not None:
                self._connection.send(job)
            return self._connection.recv()
        except (OSError, EOFError):
            self._process.join(END_S)
            code = self._process.exitcode
            self.close()
            if late.is_set():
                why = f"the worker was ended: not done within {within_s:g} s"
            else:
                why = f"the worker has ended with code {code}"
            raise WorkerFailed(why, crashed=not late.is_set()) from None
        finally:
            watchdog.cancel()


def work(connection: Connection, setup: Setup) -> None:
    """Be the worker, until the agent does not want one any more."""
    os.nice(NICENESS)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the agent decides
    log.setup()
    tools = _Tools(setup)
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer: Looked | str = tools.look(job)
        except Exception as error:
            log.get(exam=job.exam).error("series not looked at", exc_info=error)
            answer = f"{type(error).__name__}: {error}"
        try:
            connection.send(answer)
            if setup.summary and isinstance(answer, Looked) and answer.findings is not None:
                connection.send(_pages(job, answer, answer.findings))
        except OSError:
            return


def _pages(job: Job, looked: Looked, findings: ExamFindings) -> "tuple[SummaryPage, ...]":
    from gadgets.summary import summary

    try:
        return summary(findings, (*job.seen, Labelled(job.series, looked.labels, looked.quality)))
    except Exception as error:
        log.get(exam=job.exam).error("no summary", exc_info=error)
        return ()


class _Tools:
    """What a worker works with; heavy imports are its own."""

    def __init__(self, setup: Setup) -> None:
        from engines.engine import engine_or_reason
        from gadgets.fft import set_threads

        set_threads(setup.threads)
        self._setup = setup
        self._engine = engine_or_reason(
            "labels",
            runtime=setup.engines.runtime,
            store=engines.store(setup.engines),
            options=engines.options(setup.engines, setup.threads),
        )

    def look(self, job: Job) -> Looked:
        began = time.monotonic()
        labels, why = self._label(job.series)
        quality = _function(self._setup.quality)(job.series, labels)
        findings = None
        if self._setup.triage is not None:
            seen = (*job.seen, Labelled(job.series, labels, quality))
            findings = _function(self._setup.triage)(job.exam, seen, job.previous)
        return Looked(labels, why, quality, findings, self._used(labels), time.monotonic() - began)

    def _label(self, series: Series) -> tuple[LabelMap | None, str]:
        from engines.errors import EngineUnavailable
        from gadgets.label import label
        from gadgets.label_planes import NotSagittal

        try:
            return label(series, self._engine), ""
        except (NotSagittal, EngineUnavailable) as error:
            return None, str(error)

    def _used(self, labels: LabelMap | None) -> tuple[EngineUsed, ...]:
        manifest = self._engine.manifest
        if labels is None or manifest is None:
            return ()
        weights = manifest.files["model.onnx"]
        return (EngineUsed(name=manifest.name, version=manifest.version, sha256=weights),)


def _function(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
