"""After a crash: nothing that was acknowledged is lost, nothing that was torn is hidden."""

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.audit import Audit
from agent.audit_chain import AuditDamaged, AuditError, records, verify
from agent.audit_records import TornEntry
from protocols.findings import ExamFindings

FINDINGS = ExamFindings(exam="e", series=("t1_tse_sag", "t2_tse_sag", "stir_sag"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "audit"


def lines(folder: Path) -> list[bytes]:
    return [line for path in sorted(folder.glob("audit-*")) for line in path.open("rb")]


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, 500), min_size=1, max_size=3))
def test_what_was_torn_stays_and_is_on_record(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    """Each cut is a crash that left so many bytes of a line."""
    folder = tmp_path_factory.mktemp("torn") / "audit"
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    whole = lines(folder)[0].rstrip(b"\n")
    tails = []
    for cut in cuts:
        latest = sorted(folder.glob("audit-*"))[-1]
        with open(latest, "ab") as file:
            file.write(whole[:cut])
        tails.append((latest, whole[:cut]))
        found = verify(folder)
        assert (len(found.torn), found.problems) == (int(cut > 0), [])
        with Audit(folder):
            pass
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    found = verify(folder)
    assert (found.torn, found.problems) == ([], [])
    told = [
        tail
        for record in records(folder)
        if isinstance(record.entry, TornEntry)
        for tail in record.entry.tails
    ]
    torn = [(path, tail) for path, tail in tails if tail]
    assert [(each.file, each.bytes) for each in told] == [(p.name, len(t)) for p, t in torn]
    assert all(path.read_bytes().endswith(tail) for path, tail in torn)


def test_a_record_about_torn_lines_may_be_torn_itself(folder: Path) -> None:
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    for number in (1, 2, 3):
        with open(folder / f"audit-{number:06d}.jsonl", "ab") as file:
            file.write(b'{"version":"1","sequ')
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    assert [record.entry.kind for record in records(folder)] == ["findings", "torn", "findings"]
    _, entry, _ = [record.entry for record in records(folder)]
    assert isinstance(entry, TornEntry)
    assert len(entry.tails) == 3
    assert not verify(folder).problems


def test_a_crash_before_the_head_was_written_leaves_it_one_behind(folder: Path) -> None:
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
        behind = (folder / "head.json").read_bytes()
        audit.findings(FINDINGS)
    (folder / "head.json").write_bytes(behind)
    assert not verify(folder).problems
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    found = verify(folder)
    assert (found.records, found.problems) == (3, [])


@pytest.mark.parametrize("damage", ["cut off", "changed", "no head"])
def test_a_damaged_end_is_not_written_over(folder: Path, damage: str) -> None:
    with Audit(folder) as audit:
        for _ in range(3):
            audit.findings(FINDINGS)
    path = folder / "audit-000001.jsonl"
    if damage == "cut off":
        path.write_bytes(b"".join(lines(folder)[:-1]))
    elif damage == "changed":
        path.write_bytes(path.read_bytes().replace(b"stir", b"STIR", 1))
    else:
        (folder / "head.json").unlink()
    with pytest.raises(AuditDamaged, match="go on with a new one"):
        Audit(folder)


def test_a_full_disk_is_an_error_and_later_records_go_on(folder: Path) -> None:
    """The limit on the size of files stands for the disk: the record is cut in its middle."""
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
        size = (folder / "audit-000001.jsonl").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200, limits[1]))
        try:
            with pytest.raises(AuditError, match=r"cannot write the audit: .*File too large"):
                audit.findings(FINDINGS)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        audit.findings(FINDINGS)
    assert [record.entry.kind for record in records(folder)] == ["findings", "torn", "findings"]
    assert not verify(folder).problems


WRITER = """
import sys
from pathlib import Path
from agent.audit import Audit
from protocols.findings import ExamFindings

with Audit(Path(sys.argv[1]), max_bytes=5000) as audit:
    while True:
        record = audit.findings(ExamFindings(exam="e", series=("stir_sag",) * 40))
        print(record.sequence, record.sha256, flush=True)
"""


def test_killed_at_any_moment_what_was_acknowledged_is_there(folder: Path) -> None:
    acknowledged: list[str] = []
    for kill_after in (1, 8, 19):
        command = [sys.executable, "-c", WRITER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout
            for _ in range(kill_after):
                acknowledged.append(writer.stdout.readline().strip())
            # The writer goes on writing meanwhile.
            assert not verify(folder).problems
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().splitlines()
        assert writer.returncode == -signal.SIGKILL
        found = verify(folder)
        assert found.problems == []
        assert len(found.torn) <= 1
        there = {f"{each.sequence} {each.sha256}" for each in records(folder)}
        assert there >= set(acknowledged)
    with Audit(folder) as audit:
        audit.findings(FINDINGS)
    found = verify(folder)
    assert (found.torn, found.problems) == ([], [])
