"""A protocol that is wrong: the line, the column, what is wrong and what would be right."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.exam_check import Known
from protocols.exam_file import ProtocolError, load, parse
from protocols.exam_library import SHIPPED

LUMBAR = (SHIPPED / "lumbar.yaml").read_text(encoding="utf-8")
KNOWN = Known(
    chains=frozenset({"conventional", "denoise", "dl"}),
    engines=frozenset({"denoiser", "recon"}),
    measures=frozenset({"lordosis"}),
)


def changed(old: str, new: str) -> str:
    assert old in LUMBAR
    return LUMBAR.replace(old, new, 1)


def problems(text: str) -> list[str]:
    with pytest.raises(ProtocolError) as caught:
        parse(text, KNOWN, "lumbar.yaml")
    return [str(problem) for problem in caught.value.problems]


def place(text: str, marker: str) -> str:
    """Line and column, both from 1, where a text first stands."""
    before = text[: text.index(marker)]
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}: "


WRONG = {
    "oedema_like": ("^odema_like", "did you mean oedema_like?"),
    "iliac_subchondral": ("^iliac_subchondrial", "did you mean iliac_subchondral?"),
    "rule: sagittal": ("rule: ^sagital", "did you mean sagittal?"),
    "chain: dl": ("chain: ^dll", "unknown chain dll, expected one of conventional, denoise, dl"),
    "[recon]": ("[^reco]", "unknown engine reco, expected one of denoiser, recon; did you mean"),
    "scan: [si_stir_cor": ("scan: [^si_stir_co", "did you mean si_stir_cor?"),
    "series: [stir_sag]": ("series: [^stir_sg]", "did you mean stir_sag?"),
    "finding: oedema_like": ("^findng: oedema_like", "did you mean finding?"),
    "    slices: 15": ("    ^slice: 15", "unknown key, expected one of field_of_view_mm"),
    "slices: 15": ("slices: ^fifteen", "expected a valid integer"),
    "slices: 15\n": ("slices: ^yes\n", "expected a valid integer, got true"),
    "matrix: [384, 288]": ("matrix: [384, ^0]", "expected greater than or equal to 16, got 0"),
    "kind: tse": ("kind: ^epi", "expected a sequence of kind tse or gre, got epi"),
    "up: 0.80": ("up: ^1.80", "expected less than or equal to 1, got 1.8"),
    "{up: 0.80, down: 0.60}": ("^{up: 0.80, down: 0.70}", "expected down at least 0.15 below up"),
    "level: [T11, ": ("level: [^T91, ", "expected a level such as L4, or L4/L5 of a disc"),
    "name: stir_sag\n": ("name: ^STIR\n", "small letters"),
    "format: 1": ("format: ^2", "expected one of 1"),
    ">-\n        Proposal: bright": ("^>-\n        {sides} bright", "did you mean side?"),
    ">-\n        Proposal: ": ("^>-\n        Sacroiliitis? ", "expected words for what is seen"),
    "ti_ms: 210": ("ti_ms: ^-1", "expected greater than 0, got -1"),
    "name: t1_tse_sag\n    title: T1 TSE sagittal\n    contrast: t1\n": (
        "^name: t1_tse_sag\n    contrast: stir\n",
        "expected ti_ms with contrast stir",
    ),
    "{phase: 2, calibration_lines: 32}": (
        "^{phase: 2}",
        "expected calibration_lines of 8 or more with acceleration",
    ),
}
"""What is replaced in a good file by what; ^ marks where the problem is."""


@pytest.mark.parametrize(("old", "new", "says"), [(old, *new) for old, new in WRONG.items()])
def test_points_at_what_is_wrong_and_says_what_is_right(old: str, new: str, says: str) -> None:
    marked = changed(old, new)
    at = place(marked, "^")
    found = problems(marked.replace("^", ""))
    assert any(problem.startswith(at) and says in problem for problem in found), found


def test_a_trigger_that_costs_more_than_the_budget_is_an_error() -> None:
    text = changed("extra_minutes: 6", "extra_minutes: 2")
    assert problems(text) == [
        place(text, "[si_stir_cor, si_t1_cor]")
        + "triggers[1].scan: takes 2.2 min and would never be asked: "
        "expected at most the budget's extra_minutes, 2"
    ]


def test_a_missing_key_is_named_where_it_belongs() -> None:
    text = changed("    scan: [si_stir_cor, si_t1_cor]\n", "")
    assert problems(text) == [
        place(text, "name: si-joint-signal") + "triggers[1]: expected the key scan"
    ]


def test_all_problems_are_told_in_order_of_line() -> None:
    text = changed("chain: dl", "chain: dll").replace("[recon]", "[recn]")
    found = problems(text)
    assert "dll" in found[0]
    assert len(found) == 1 + LUMBAR.count("[recon]")
    lines = [int(problem.split(":")[0]) for problem in found]
    assert lines == sorted(lines)


def test_a_measure_nobody_computes_is_an_error() -> None:
    text = changed("finding: oedema_like", "measure: lordosi\n      above: {up: 60, down: 50}")
    for key in ("where: [sacral", "probability: {up: 0.80", "persists: {adjacent"):
        start = text.index("      " + key)
        text = text[:start] + text[text.index("\n", start) + 1 :]
    text = text.replace(", {side}", "", 1)
    assert problems(text) == [
        place(text, "lordosi\n")
        + "triggers[1].when.measure: unknown measure lordosi, expected one of lordosis; "
        "did you mean lordosis?"
    ]


def test_a_step_on_demand_which_no_trigger_scans_is_an_error() -> None:
    text = changed("scan: [si_stir_cor, si_t1_cor]", "scan: [si_stir_cor]")
    assert problems(text) == [
        place(text, "si_t1_cor\n") + "on_demand[2].name: no trigger scans si_t1_cor: "
        "name it in one, or move it to steps"
    ]


def test_names_are_unique() -> None:
    found = problems(changed("name: marrow-above", "name: si-joint-signal"))
    assert "there is a si-joint-signal already" in found[0]


def test_a_key_said_twice_is_an_error_not_the_last_one() -> None:
    text = changed("    minutes: 1.7\n", "    minutes: 1.7\n    minutes: 3\n")
    assert problems(text) == [place(text, "minutes: 3") + "minutes stands in line 31 already"]


def test_two_conditions_in_one_are_an_error() -> None:
    text = changed("finding: oedema_like", "anomaly: {up: 0.9, down: 0.5}\n      finding: fat_like")
    assert problems(text)[0].endswith("got finding and anomaly in one: write them under `all:`")


def test_anchors_are_refused_before_they_can_grow() -> None:
    bomb = "b0: &b0 [x, x]\n"
    bomb += "".join(f"b{i + 1}: &b{i + 1} [*b{i}, *b{i}]\n" for i in range(60))
    assert problems(bomb) == ["2:10: expected the value itself, not a reference"]
    assert problems("a: &a [*a]") == ["1:8: expected the value itself, not a reference"]


@pytest.mark.parametrize("deep", ["- " * 400_000, "[" * 400_000, "a: " + "{a: " * 200_000])
def test_deep_nesting_is_refused_before_it_is_followed(deep: str) -> None:
    (problem,) = problems(deep)
    assert problem.endswith("expected at most 40 levels")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "lumbar", "\x00", "a: a: a:", "? {a: b}\n: 3", "a: !!python/name:os.system x",
     "a: " + "[" * 5000 + "]" * 5000, "x" * (2 << 20), "1: 2", "~: 1", "format: .nan",
     # Found by `python -m bench fuzz`: PyYAML's own errors, digits without end, seconds of work.
     "a: !!timestamp x", "a: 0x" + "f" * 100_000, "a: !!int x", "a: !!binary =", "k: v\n" * 99_000],
)  # fmt: skip
def test_what_is_no_protocol_is_refused_with_a_place(text: str) -> None:
    assert all(int(problem.split(":")[0]) >= 1 for problem in problems(text))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ProtocolError, match=r"x\.yaml:1:1: expected UTF-8"):
        load(path)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, len(LUMBAR) - 1),
    st.integers(0, 40),
    st.text(alphabet=" :-[]{}#&*!|>'\"%@`,?~\n\tabz019._", max_size=8),
)
def test_a_damaged_file_gives_a_protocol_or_problems_never_anything_else(
    start: int, length: int, new: str
) -> None:
    text = LUMBAR[:start] + new + LUMBAR[start + length :]
    try:
        parse(text, KNOWN)
    except ProtocolError as error:
        assert error.problems
        lines = text.count("\n") + 2
        assert all(1 <= problem.line <= lines for problem in error.problems)
