"""Exams: their series together, looked at in a process of its own, which may crash or hang."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from agent.audit import Audit
from agent.audit_chain import records, verify
from agent.config import EngineSettings
from agent.control_inband import InBand
from agent.control_store import ControlStore
from agent.coverage import Coverage
from agent.coverage_store import CoverageStore
from agent.exam_worker import Job, Setup, Worker, WorkerFailed
from agent.exams import ExamBook, exam_name
from agent.trigger_site import SitePolicy
from agent.trigger_states import Reason, State
from gadgets.items import Series
from protocols.control import ExamUpdate
from protocols.exam_library import library
from protocols.geometry import Volume
from protocols.header import parse_header
from scanner.exam import quick_exam
from scanner.phantom import LumbarSpine, SpineParameters

DEADLINE_S = 120.0
VOLUME = Volume(
    position=np.zeros(3),
    directions=np.array([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [-1.0, 0.0, 0.0]]),
    shape=(3, 32, 32),
    spacing=np.array([8.0, 8.0, 4.4]),
)
SETUP = Setup(
    EngineSettings(site=Path("no-weights")),
    1,
    quality="exam_doubles:quality",
    triage="exam_doubles:triage",
)


def a_series(name="stir_sag", brightest=50.0):
    data = np.full(VOLUME.shape, 10.0, np.float32)
    data[1, 16, 16] = brightest
    return Series(name, data, VOLUME, "stir", True, time.monotonic_ns())


def job(series, seen=(), exam="exam-7"):
    return Job(exam, tuple(seen), series, None)


def wait_for(condition):
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def _doubles():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def worker(_doubles):
    worker = Worker(SETUP, deadline_s=DEADLINE_S)
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def header():
    return parse_header(quick_exam(LumbarSpine(SpineParameters()))[0].header_xml)


class TestWorker:
    def test_a_series_is_labelled_judged_and_triaged(self, worker):
        looked = worker.look(job(a_series(brightest=500.0)))
        assert looked.quality.series == "stir_sag"
        assert looked.findings.findings[0].type == "oedema_like"
        assert looked.seconds > 0

    def test_what_cannot_be_labelled_is_so_with_the_reason(self, worker):
        across = Volume(VOLUME.position, np.eye(3), VOLUME.shape, VOLUME.spacing)
        looked = worker.look(job(Series("axial", np.zeros((3, 32, 32), np.float32), across)))
        assert looked.labels is None and looked.unlabelled and looked.engines == ()

    def test_it_has_low_priority(self, worker):
        worker.start()
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) >= min(
            19, os.getpriority(os.PRIO_PROCESS, 0) + 10
        )

    def test_an_error_is_told_and_the_process_stays(self, worker):
        worker.start()
        pid = worker.pid
        with pytest.raises(WorkerFailed, match="ZeroDivisionError: on purpose") as caught:
            worker.look(job(a_series("fail")))
        assert not caught.value.crashed and worker.pid == pid
        assert worker.look(job(a_series())).findings.findings == ()

    def test_a_crash_is_told_and_the_next_job_has_another_process(self, worker):
        with pytest.raises(WorkerFailed, match="ended with code 7") as caught:
            worker.look(job(a_series("crash")))
        assert caught.value.crashed
        assert worker.look(job(a_series())).findings.findings == ()

    def test_a_process_that_was_killed_is_replaced(self, worker):
        worker.start()
        os.kill(worker.pid, signal.SIGKILL)
        wait_for(lambda: not worker._process.is_alive())
        assert worker.look(job(a_series())).findings.findings == ()

    def test_one_that_hangs_is_ended(self, _doubles):
        worker = Worker(SETUP, deadline_s=DEADLINE_S)
        worker.start()
        worker._deadline_s = 0.5
        with pytest.raises(WorkerFailed, match=r"not done within 0\.5 s") as caught:
            worker.look(job(a_series("hang")))
        assert not caught.value.crashed
        worker.close()

    def test_one_that_does_not_even_take_its_job_is_ended(self, _doubles):
        worker = Worker(SETUP, deadline_s=DEADLINE_S)
        worker.start()
        worker._deadline_s = 0.5
        os.kill(worker.pid, signal.SIGSTOP)
        large = Series("large", np.zeros((64, 512, 512), np.float32), VOLUME)
        with pytest.raises(WorkerFailed, match="not done within"):
            worker.look(job(large))
        worker.close()


class Open:
    """A book with all that is behind it, and the telemetry it gave."""

    def __init__(self, folder, worker):
        self.said = []
        self.audit = Audit(folder / "audit")
        self.questions = ControlStore(folder / "control.sqlite")
        self.courses = CoverageStore(folder / "exams.sqlite")
        self.book = ExamBook(worker, self.audit)
        channel = InBand(self.questions, self.book.tell)
        protocols = {name: entry.protocol for name, entry in library().items()}
        self.coverage = Coverage(
            protocols, "lumbar", SitePolicy(mode="active"), self.courses, self.audit, channel
        )
        self.coverage.start()
        self.book.start(self.coverage, self.said.append)
        self.folder = folder

    def close(self):
        self.book.close(DEADLINE_S)
        self.coverage.close()
        self.audit.close()
        self.questions.close()
        self.courses.close()

    def topics(self, topic):
        return [each.values for each in self.said if each.topic == topic]

    def entries(self, kind):
        assert not verify(self.folder / "audit").problems
        found = [record.entry for record in records(self.folder / "audit")]
        return [entry for entry in found if entry.kind == kind]

    def course(self, header):
        return self.courses.course(self.audit.pseudonyms.exam(exam_name(header)))


@pytest.fixture
def opened(tmp_path, worker):
    books = []

    def make():
        books.append(Open(tmp_path, worker))
        return books[-1]

    yield make
    for book in books:
        book.close()


def test_the_series_of_an_exam_are_looked_at_together(opened, header):
    book = opened()
    for name in ("t1_tse_sag", "t2_tse_sag", "stir_sag"):
        book.book.take(header, a_series(name, 500.0 if name == "stir_sag" else 50.0))
    trigger = "si-joint-signal"
    wait_for(
        lambda: (c := book.course(header)) and c.machine and c.machine.triggers[trigger].confirmed
    )
    last = book.entries("findings")[-1].findings
    assert last.series == ("t1_tse_sag", "t2_tse_sag", "stir_sag")
    assert [finding.series for finding in last.findings] == [("stir_sag",)]
    assert [each["series"] for each in book.topics("series")] == list(last.series)
    assert book.topics("series")[0]["seconds"] > 0 and book.topics("series")[0]["usable"]
    assert book.topics("finding")[0]["probability"] == 0.95


def test_nothing_names_the_patient(opened, header):
    book = opened()
    book.book.take(header, a_series())
    wait_for(lambda: book.entries("findings"))
    uid = exam_name(header)
    assert uid.startswith("2.25.")
    (exam,) = {each.exam for each in book.said}
    assert exam.startswith("exam-") and uid not in exam
    book.close()
    for path in book.folder.rglob("*"):
        if path.is_file():
            assert uid.encode() not in path.read_bytes(), path


def test_a_console_names_the_exam_by_its_uid(opened, header):
    book = opened()
    update = ExamUpdate(
        id="u1", exam=exam_name(header), slot_minutes=10, sar_headroom=0.5, planned=("stir_sag",)
    )
    assert book.book.tell(update)
    book.book.take(header, a_series())
    wait_for(lambda: book.course(header) and book.course(header).machine)
    assert book.course(header).told.sar_headroom == 0.5
    assert book.book.tell(update.model_copy(update={"ended": True}))
    wait_for(lambda: book.course(header).ended)


def test_triage_abstains_where_the_worker_crashes_and_goes_on_with_the_next_series(opened, header):
    book = opened()
    book.book.take(header, a_series("t1_tse_sag"))
    book.book.take(header, a_series("crash"))
    book.book.take(header, a_series("stir_sag"))
    wait_for(lambda: len(book.entries("findings")) == 3)
    _, crashed, after = (entry.findings for entry in book.entries("findings"))
    assert "ended with code 7" in crashed.abstained
    assert after.abstained is None and after.series == ("t1_tse_sag", "stir_sag")
    assert len(book.topics("worker")) == 2  # it was given a second chance
    moved = [step for entry in book.entries("evaluation") for step in entry.transitions]
    assert Reason.TRIAGE_ABSTAINED in {step.reason for step in moved}
    trigger = "si-joint-signal"
    wait_for(lambda: book.course(header).machine.triggers[trigger].state is State.IDLE)


def test_a_series_of_no_exam_is_left_alone(opened):
    book = opened()
    nameless = parse_header(
        "<ismrmrdHeader xmlns='http://www.ismrm.org/ISMRMRD'>"
        "<experimentalConditions><H1resonanceFrequency_Hz>1</H1resonanceFrequency_Hz>"
        "</experimentalConditions><encoding><encodedSpace><matrixSize><x>1</x><y>1</y><z>1</z>"
        "</matrixSize><fieldOfView_mm><x>1</x><y>1</y><z>1</z></fieldOfView_mm></encodedSpace>"
        "<reconSpace><matrixSize><x>1</x><y>1</y><z>1</z></matrixSize><fieldOfView_mm><x>1</x>"
        "<y>1</y><z>1</z></fieldOfView_mm></reconSpace><encodingLimits/>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    )
    assert exam_name(nameless) is None
    book.book.take(nameless, a_series())
    assert book.book._waiting.empty()


def test_taking_a_series_never_waits(opened, header):
    book = opened()
    began = time.monotonic()
    for _ in range(100):
        book.book.take(header, a_series("hang"))
    assert time.monotonic() - began < 5.0
    book.book._worker.kill()
    book.book._waiting.queue.clear()
