"""The audit: what it records of an exam, without identity, and one writer at a time."""

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from agent.audit import Audit, salt_file
from agent.audit_chain import AuditError, AuditLocked, records, verify
from agent.audit_records import (
    EvaluationEntry,
    Event,
    FindingsEntry,
    Pseudonyms,
    ReplyEntry,
    RequestEntry,
    ScanEntry,
)
from agent.trigger_states import Decision, ExamContext, Progress, Standing, State
from agent.triggers import Triggers
from protocols.control import CoverageReply, CoverageRequest, CoverageStep, Outcome
from protocols.exam_library import library
from protocols.findings import EvidenceCoverage, ExamFindings, Finding, Quality
from protocols.geometry import Slab

UID = "1.3.12.2.1107.5.2.43.66012.30000024071509"
SERIES = ("t1_tse_sag", "t2_tse_sag", "stir_sag")
SLAB = Slab(
    centre=(0, 40, -100),
    row=(1, 0, 0),
    column=(0, 0, -1),
    field_of_view_mm=(240, 240),
    matrix=(256, 256),
    slices=20,
    thickness_mm=3,
    gap_mm=0.3,
)


def findings(exam: str = UID, probability: float = 0.9) -> ExamFindings:
    oedema = Finding(
        id="oedema-left",
        type="oedema_like",
        structure="sacral_subchondral",
        side="left",
        level="S1",
        centre_mm=(40, 30, -120),
        extent_mm=(6, 8, 9),
        volume_ml=0.4,
        depth_mm=6,
        cnr=6.5,
        probability=probability,
        series=("stir_sag",),
        slices=(13, 14),
        adjacent_slices=2,
        area_mm2=45,
    )
    sides = [
        EvidenceCoverage(structure="sacral_subchondral", side=side, shown=0.4, judged=True)
        for side in ("left", "right")
    ]
    return ExamFindings(
        exam=exam,
        series=SERIES,
        findings=(oedema,),
        coverage=tuple(sides),
        quality=tuple(Quality(series=name, snr=20, motion=0.1) for name in SERIES),
        agreement=True,
    )


def write_exam(audit: Audit, exam: str = UID) -> None:
    """One lumbar exam with an SI joint that is asked for, accepted and scanned."""
    protocol = library()["lumbar"].protocol
    planned = tuple(step.name for step in protocol.steps)
    triggers = Triggers(protocol, exam, Standing())
    found = findings(exam)
    audit.findings(found)
    context = ExamContext(slot_end_s=1200, remaining_minutes=2.8, sar_headroom=0.6, planned=planned)
    decision = triggers.update(found, context, 360)
    audit.decision(triggers, decision, Event.UPDATE)
    proposal = decision.proposal
    assert proposal
    steps = tuple(
        CoverageStep(step=each.step, minutes=each.minutes, slab=SLAB) for each in proposal.steps
    )
    audit.request(
        CoverageRequest(
            id=proposal.id,
            exam=exam,
            protocol=proposal.protocol,
            revision=proposal.revision,
            trigger=proposal.trigger,
            text=proposal.text,
            findings=tuple(each.id for each in proposal.findings),
            steps=steps,
            extra_minutes=proposal.minutes,
            countdown_s=59.9,
        )
    )
    reply = CoverageReply(
        id="MUSTERMANN^ERIKA",
        request=proposal.id,
        outcome=Outcome.MODIFIED,
        detail="told by Nightingale",
        steps=tuple(step.model_copy(update={"variant": "by Nightingale"}) for step in steps),
    )
    audit.reply(exam, reply, counts=True, latency_s=7.5)
    audit.decision(triggers, triggers.answer(proposal.id, True, 368), Event.ANSWER)
    audit.scan_done(exam, proposal.id, "si_stir_cor", "si_stir_cor", 20, "ab" * 32)
    done = triggers.progress(proposal.id, Progress.DONE, 520, "Mustermann says it is done")
    audit.decision(triggers, done, Event.PROGRESS)
    audit.decision(triggers, triggers.end(900), Event.END)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def audit(folder: Path) -> Iterator[Audit]:
    with Audit(folder) as opened:
        yield opened


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("audit-*")) for line in path.open("rb")]


def test_an_exam_from_findings_to_scan(audit: Audit, folder: Path) -> None:
    write_exam(audit)
    assert not verify(folder).problems
    kinds = [record.entry.kind for record in records(folder)]
    assert kinds == [
        *("findings", "evaluation", "request", "reply"),
        *("evaluation", "scan", "evaluation", "evaluation"),
    ]
    pseudonym = audit.pseudonyms.exam(UID)
    assert {record.exam for record in records(folder)} == {pseudonym}

    found, evaluated, request, reply, _, scan, _, _ = [each.entry for each in records(folder)]
    assert isinstance(found, FindingsEntry)
    assert found.findings == findings(pseudonym)

    assert isinstance(evaluated, EvaluationEntry)
    assert evaluated.digest == library()["lumbar"].protocol.digest
    moves = [move for move in evaluated.transitions if move.trigger == "si-joint-signal"]
    assert moves[-1].after is State.PROPOSED
    (trigger,) = [each for each in evaluated.triggers if each.trigger == "si-joint-signal"]
    assert "0.8" in trigger.when.model_dump_json()  # the upper threshold
    (question,) = evaluated.questions
    assert question.asked
    assert question.findings == ("oedema-left",)

    assert isinstance(request, RequestEntry)
    assert isinstance(reply, ReplyEntry)
    assert isinstance(scan, ScanEntry)
    assert request.request.steps[0].slab == SLAB
    assert request.request.id == reply.reply.request == scan.request == question.id
    assert reply.latency_s == 7.5


def test_each_line_can_be_checked_with_json_and_sha_256_alone(audit: Audit, folder: Path) -> None:
    write_exam(audit)
    previous = "0" * 64
    for sequence, line in enumerate(lines(folder), 1):
        record = json.loads(line)
        body = line[: line.rindex(b',"sha256":')]
        assert record["sha256"] == hashlib.sha256(body).hexdigest()
        assert record["previous"] == previous
        assert record["sequence"] == sequence
        previous = record["sha256"]
    head = json.loads((folder / "head.json").read_text())
    assert head == {"sequence": sequence, "sha256": previous}


def test_an_evaluation_of_which_nothing_came_is_recorded_an_idle_tick_is_not(
    audit: Audit, folder: Path
) -> None:
    triggers = Triggers(library()["lumbar"].protocol, "e", Standing())
    low = findings("e", probability=0.1)
    context = ExamContext(slot_end_s=1200)
    first = triggers.update(low, context, 10)
    second = triggers.update(low, context, 20)
    assert second == Decision()
    assert audit.decision(triggers, first, Event.UPDATE)
    assert audit.decision(triggers, second, Event.UPDATE)
    assert audit.decision(triggers, triggers.tick(21), Event.TICK) is None
    _, last = [record.entry for record in records(folder)]
    assert isinstance(last, EvaluationEntry)
    assert len(last.triggers) == len(triggers.protocol.triggers)


@pytest.mark.parametrize("exam", [UID, "Mustermann^Erika", "Mustermann,Erika", "42", "done"])
def test_no_identity_is_written(folder: Path, exam: str) -> None:
    with Audit(folder) as audit:
        write_exam(audit, exam)
    assert not verify(folder).problems
    written = b"".join(lines(folder)).decode()
    assert "ustermann" not in written.lower()
    assert "Nightingale" not in written
    assert UID not in written
    for record in records(folder):
        assert record.exam != exam
        assert f'"{exam}/' not in record.model_dump_json()


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("left SI joint, p 0.8712345 >= 0.8, 45.25 mm2 on slices 13-14", True),
        ("unlike training: 12.5 of 100", True),
        ("ab12" * 16, True),
        ("MUSTERMANN^ERIKA", False),
        ("study 1.2.840.113619.2.55", False),
        ("born 1970-01-31", False),
        ("born 31.01.1970", False),
        ("born 1/31/70", False),
        ("MRN0012345", False),
        ("19700131", False),
        ("0012345678901234", False),
    ],
)
def test_texts_that_look_like_identity_are_withheld(text: str, kept: bool) -> None:
    entry = FindingsEntry(findings=findings().model_copy(update={"abstained": text}))
    clean = Pseudonyms(b"salt").clean(entry, UID)
    assert isinstance(clean, FindingsEntry)
    written = clean.findings.abstained
    assert written is not None
    assert (written == text) is kept
    assert kept or written.startswith("withheld-")
    again = Pseudonyms(b"salt").clean(clean, UID)
    assert again == clean


def test_entries_have_no_room_for_a_name() -> None:
    with pytest.raises(ValidationError, match="patient_name"):
        ScanEntry(request="r", step="s", series="s", images=1, patient_name="x")  # type: ignore[call-arg]


def test_pseudonyms_are_the_sites_own_and_stay(folder: Path, tmp_path: Path) -> None:
    with Audit(folder) as audit:
        first = audit.pseudonyms.exam(UID)
        assert audit.pseudonyms.exam(first) == first
    with Audit(folder) as audit:
        assert audit.pseudonyms.exam(UID) == first
    with Audit(tmp_path / "elsewhere") as audit:
        assert audit.pseudonyms.exam(UID) != first
    assert salt_file(folder).parent == folder.parent
    assert salt_file(folder).stat().st_mode & 0o077 == 0


def test_files_stay_below_their_size_and_the_chain_goes_on(folder: Path) -> None:
    with Audit(folder, max_bytes=2500) as audit:
        for count in range(12):
            audit.findings(findings(f"exam {count}"))
    paths = sorted(folder.glob("audit-*"))
    assert len(paths) > 5
    assert all(path.stat().st_size <= 2500 for path in paths)
    found = verify(folder)
    assert (found.records, found.problems) == (12, [])


def test_a_record_longer_than_a_file_has_its_own(folder: Path) -> None:
    with Audit(folder, max_bytes=100) as audit:
        audit.findings(findings())
        audit.findings(findings())
    assert [path.read_bytes().count(b"\n") for path in sorted(folder.glob("audit-*"))] == [1, 1]
    assert not verify(folder).problems


def test_one_writer_at_a_time(audit: Audit, folder: Path) -> None:
    with pytest.raises(AuditLocked, match=r"only writer of the audit, but process \d+ has it"):
        Audit(folder)
    audit.close()
    with pytest.raises(AuditError, match="was closed"):
        audit.findings(findings())
    with Audit(folder) as other:
        other.findings(findings())
    assert verify(folder).records == 1


def test_threads_share_a_writer(audit: Audit, folder: Path) -> None:
    def write() -> None:
        for _ in range(3):
            audit.findings(findings())

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = verify(folder)
    assert (found.records, found.problems) == (12, [])
