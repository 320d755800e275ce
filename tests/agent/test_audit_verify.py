"""Whatever is done to an audit afterwards is found: where, and by the command line."""

import csv
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agent.audit import Audit
from agent.audit_chain import Anchor, AuditError, records, seal, verify
from agent.audit_cli import app
from agent.audit_export import what
from agent.audit_records import ClickEntry
from protocols.findings import ExamFindings

UID = "1.3.12.2.1107.5.2.43.66012"


def write(audit: Audit, count: int) -> None:
    for number in range(count):
        exam = UID if number % 2 else "other"
        audit.findings(ExamFindings(exam=exam, series=("stir_sag",)))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve records in several files, with a torn line on record between them."""
    folder = tmp_path_factory.mktemp("original") / "audit"
    with Audit(folder, max_bytes=3000) as audit:
        write(audit, 6)
    with open(sorted(folder.glob("audit-*"))[-1], "ab") as file:
        file.write(b'{"version":"1","sequence":7,"at":"20')
    with Audit(folder, max_bytes=3000) as audit:
        write(audit, 5)
    assert not verify(folder).problems
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "audit"))


def paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("audit-*"))


def places(folder: Path) -> list[tuple[Path, int]]:
    """Every line, torn ones left out: its file, and its index there."""
    return [
        (path, index) for path in paths(folder) for index in range(path.read_bytes().count(b"\n"))
    ]


def poke(path: Path, offset: int, byte: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes([byte]))


def edit(path: Path, change: Callable[[list[bytes]], object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_where_it_is(original: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([*paths(original), original / "head.json"]))
    whole = path.read_bytes()
    offset = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[offset]))
    poke(path, offset, byte)
    try:
        problems = verify(original).problems
    finally:
        poke(path, offset, whole[offset])
    line = whole[:offset].count(b"\n") + 1
    if path.name == "head.json":
        assert any("head.json" in str(each) for each in problems)
    else:
        assert (path.name, line) in {(each.file, each.line) for each in problems}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_end_that_is_cut_off_is_found(original: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(paths(original)))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        assert verify(original).problems
    finally:
        path.write_bytes(whole)


def test_a_removed_line(folder: Path) -> None:
    for path, index in places(folder):
        whole = path.read_bytes()
        edit(path, lambda lines, index=index: lines.pop(index))
        assert verify(folder).problems
        path.write_bytes(whole)
    path, _ = places(folder)[0]
    edit(path, lambda lines: lines.pop(0))
    assert str(verify(folder).problems[0]) == (
        "audit-000001.jsonl:1: expected record 1, got 2: records were removed or moved"
    )


def test_lines_that_changed_places(folder: Path) -> None:
    for (one, i), (other, j) in pairwise(places(folder)):
        before = one.read_bytes(), other.read_bytes()
        first = before[0].splitlines(keepends=True)[i]
        second = before[1].splitlines(keepends=True)[j]
        edit(one, lambda lines, i=i, line=second: lines.__setitem__(i, line))
        edit(other, lambda lines, j=j, line=first: lines.__setitem__(j, line))
        problems = verify(folder).problems
        assert (problems[0].file, problems[0].line) == (one.name, i + 1)
        one.write_bytes(before[0])
        other.write_bytes(before[1])
    assert not verify(folder).problems


def test_an_inserted_line(folder: Path) -> None:
    """A copy of another record, garbage, and a forged record that fits the one before it."""
    path = paths(folder)[0]
    whole = path.read_bytes()
    copied = whole.splitlines(keepends=True)[0]
    second = json.loads(whole.splitlines()[1])
    forged = {**second, "sequence": 3, "previous": second.pop("sha256")}
    for inserted in (copied, b"{}\n", b"\n", forge(forged)):
        edit(path, lambda lines, inserted=inserted: lines.insert(2, inserted))
        problems = verify(folder).problems
        assert problems[0].file == path.name
        assert problems[0].line in (3, 4)
        path.write_bytes(whole)


def test_a_replaced_line_that_is_whole_in_itself(folder: Path) -> None:
    path = paths(folder)[0]
    record = json.loads(path.read_bytes().splitlines()[1])
    record["entry"]["findings"]["abstained"] = "nothing to see"
    edit(path, lambda lines: lines.__setitem__(1, forge(record)))
    (problem,) = verify(folder).problems
    assert str(problem).startswith("audit-000001.jsonl:3: expected record 3, got 3: it does not")


def test_files_removed_renamed_added(folder: Path) -> None:
    names = [path.name for path in paths(folder)]
    for path in paths(folder):
        path.rename(folder.parent / path.name)
        assert verify(folder).problems
        (folder.parent / path.name).rename(path)
    one, other = (folder / name for name in names[:2])
    swap(one, other)
    assert verify(folder).problems[0].file == one.name
    swap(one, other)
    added = folder / "audit-2.jsonl"
    added.write_bytes(one.read_bytes())
    assert [str(problem) for problem in verify(folder).problems] == [
        "audit-2.jsonl:1: expected no such file in the audit"
    ]
    added.unlink()
    assert not verify(folder).problems


def test_without_its_head_or_its_records(folder: Path) -> None:
    (folder / "head.json").rename(folder.parent / "head.json")
    (problem,) = verify(folder).problems
    assert problem.file == "head.json"
    (folder.parent / "head.json").rename(folder / "head.json")
    for path in paths(folder):
        path.unlink()
    (problem,) = verify(folder).problems
    assert "expected 12 records as head.json says, got 0" in problem.text
    with pytest.raises(AuditError, match="expected the folder of an audit"):
        verify(folder / "none")


def test_only_an_anchor_from_elsewhere_shows_that_all_was_written_anew(folder: Path) -> None:
    anchor = Anchor.parse(str(verify(folder).anchor))
    with Audit(folder) as audit:
        write(audit, 1)
    assert not verify(folder, anchor).problems

    shutil.rmtree(folder)
    with Audit(folder) as audit:
        write(audit, 20)
    assert not verify(folder).problems
    (problem,) = verify(folder, anchor).problems
    assert "replaced" in problem.text


def forge(record: dict[str, object]) -> bytes:
    record = {key: value for key, value in record.items() if key != "sha256"}
    return seal(json.dumps(record, separators=(",", ":")).encode())[0]


def swap(one: Path, other: Path) -> None:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def boreside(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_verify_says_file_and_line_and_the_anchor(folder: Path) -> None:
    status, output = boreside("verify", folder)
    assert status == 0
    assert output == f"12 records, no problems\nanchor {verify(folder).anchor}\n"
    assert boreside("verify", folder, "--anchor", f"12:{'0' * 64}")[0] == 1
    assert boreside("verify", folder, "--anchor", "twelve")[0] == 2
    assert boreside("verify", folder / "none")[0] == 2
    edit(paths(folder)[0], lambda lines: lines.__setitem__(1, lines[1].replace(b"stir", b"STIR")))
    status, output = boreside("verify", folder)
    assert status == 1
    assert f"{folder}/audit-000001.jsonl:2: expected a record that ends with its own" in output


def test_verify_notes_a_torn_line(folder: Path) -> None:
    with open(paths(folder)[-1], "ab") as file:
        file.write(b'{"version')
    status, output = boreside("verify", folder)
    assert status == 0
    assert "a torn line of 9 bytes, which was never acknowledged" in output


def test_export_of_all_as_json(folder: Path, tmp_path: Path) -> None:
    status, output = boreside("export", tmp_path / "all.json", folder)
    assert (status, output) == (0, f"{tmp_path / 'all.json'}: 12 of 12 records\n")
    exported = json.loads((tmp_path / "all.json").read_text())
    assert exported["anchor"] == str(verify(folder).anchor)
    assert exported["problems"] == []
    there = [json.loads(path.read_bytes().splitlines()[index]) for path, index in places(folder)]
    assert exported["records"] == there


def test_export_of_one_exam_as_csv(folder: Path, original: Path, tmp_path: Path) -> None:
    shutil.copy(original.with_name("audit.salt"), tmp_path)
    by_uid, by_pseudonym = tmp_path / "uid.csv", tmp_path / "pseudonym.csv"
    assert boreside("export", by_uid, folder, "--exam", UID)[0] == 0
    rows = list(csv.DictReader(by_uid.open(newline="")))
    assert len(rows) == 5
    assert {row["what"] for row in rows} == {"after stir_sag: 0 findings"}
    assert json.loads(rows[0]["entry"])["findings"]["series"] == ["stir_sag"]
    assert boreside("export", by_pseudonym, folder, "--exam", rows[0]["exam"])[0] == 0
    assert by_pseudonym.read_bytes() == by_uid.read_bytes()
    assert UID not in by_uid.read_text()


def test_export_of_a_time(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "some.json"
    boreside("export", target, folder, "--until", "2020-01-01")
    assert json.loads(target.read_text())["records"] == []
    assert boreside("export", target, folder, "--since", "2020-01-01T12:00:00")[0] == 0
    assert len(json.loads(target.read_text())["records"]) == 12


def test_export_of_a_damaged_audit_says_so(folder: Path, tmp_path: Path) -> None:
    edit(paths(folder)[0], lambda lines: lines.pop(0))
    target = tmp_path / "all.json"
    status, output = boreside("export", target, folder)
    assert status == 1
    assert "1 problems, the first at" in output
    assert len(json.loads(target.read_text())["problems"]) == 1
    assert boreside("export", tmp_path / "all.xml", folder)[0] == 2


def test_records_read_back_as_they_were_returned(tmp_path: Path) -> None:
    with Audit(tmp_path / "audit") as audit:
        written = audit.findings(ExamFindings(exam=UID, series=("stir_sag",)))
    assert list(records(tmp_path / "audit")) == [written]


def test_a_click_has_words_in_the_export() -> None:
    clicked = ClickEntry(user="anna", role="technologist", action="accept", about="question 7")
    assert what(clicked) == "clicked by anna (technologist): accept question 7"
