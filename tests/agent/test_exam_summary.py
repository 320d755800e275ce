"""The summary of an exam: when it is whole, and that its scanner gets each one once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.audit import Audit
from agent.config import EngineSettings
from agent.exam_summary import Summary
from agent.exam_worker import Job, Setup, Worker
from agent.exams import Exam, ExamBook, exam_name
from gadgets.items import Labelled, Series
from gadgets.summary import summary
from protocols.findings import ExamFindings, Quality
from protocols.geometry import Volume
from protocols.header import parse_header
from protocols.meta import parse_meta
from scanner.exam import quick_exam
from scanner.phantom import LumbarSpine, SpineParameters

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
    triage="exam_doubles:always",
    summary=True,
)


@pytest.fixture(scope="module")
def header():
    return parse_header(quick_exam(LumbarSpine(SpineParameters()))[0].header_xml)


def series(name="stir_sag"):
    data = np.tile(np.linspace(0, 50, 32, dtype=np.float32), (3, 32, 1))
    return Series(name, data, VOLUME, "stir", True)


def made(header, *names):
    quality = tuple(Quality(series=name, snr=20.0, motion=0.0) for name in names)
    seen = [Labelled(series(name), None, each) for name, each in zip(names, quality)]
    findings = ExamFindings(exam="exam-7", series=names, quality=quality)
    return Summary.of(summary(findings, seen), findings, (), header)


def test_it_is_whole_when_all_that_was_planned_has_been_looked_at(header):
    summary = made(header, "t1_tse_sag", "stir_sag echo 2")
    assert summary.series == "stir_sag echo 2"
    assert summary.whole(("t1_tse_sag", "stir_sag"))
    assert not summary.whole(("t1_tse_sag", "stir_sag", "t2_tse_sag"))
    assert not summary.whole(("t1_tse", "stir_sag"))


def test_its_pages_are_marked_as_computed(header):
    summary = made(header, "stir_sag")
    assert summary.pictures.shape[1:] == (1024, 1024, 3) and summary.pictures.dtype == np.uint8
    assert len(summary.images) == len(summary.pages)
    for image in summary.images:
        meta = parse_meta(image.attributes)
        assert (meta["BoresideQuantity"], meta["BoresideRole"]) == ("summary", "derived")


def test_the_scanner_gets_the_latest_one_once(header, tmp_path):
    with Audit(tmp_path / "audit") as audit:
        book = ExamBook(Worker(SETUP, 60), audit, planned=("t1_tse_sag",))
        exam = Exam(audit.pseudonyms.exam(exam_name(header)), ("t1_tse_sag", "stir_sag"))
        assert book.pages(header) == ()
        first, second = made(header, "t1_tse_sag"), made(header, "t1_tse_sag", "stir_sag")
        book._summarise(exam, first)
        assert exam.summary is first, "PACS and page get it when it is whole"
        book._summarise(exam, second)
        assert exam.summary is None
        assert book.pages(header) is second.images
        assert book.pages(header) == ()


def test_the_worker_draws_it_when_it_has_answered(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    worker = Worker(SETUP, deadline_s=240)
    try:
        looked = worker.look(Job("exam-7", (), series(), None))
        assert looked.findings.findings
        # Nobody took the pages: the next series is looked at all the same.
        again = worker.look(Job("exam-7", (), series("t1_tse_sag"), None))
        assert again.findings.series == ("t1_tse_sag",)
        assert len(worker.pages()) == 2 and worker.pages() == ()
    finally:
        worker.close()


def test_without_conclusions_there_is_none(monkeypatch):
    assert Worker(replace(SETUP, triage=None), 60).pages() == ()
