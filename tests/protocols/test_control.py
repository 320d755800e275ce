"""Control messages: there and back, exactly; hostile input refused in words."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import control
from protocols.control import (
    Acknowledged,
    ControlError,
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    ExamUpdate,
    Heartbeat,
    Hello,
    Outcome,
    Refusal,
    Refused,
    ReplyReason,
    Telemetry,
    UnsupportedVersion,
    Withdraw,
    WithdrawReason,
)
from protocols.geometry import Slab

TILT = np.deg2rad(31.7)
SLAB = Slab(
    centre=(1.25, -1 / 3, 417.0625),
    row=(1.0, 0.0, 0.0),
    column=(0.0, float(np.sin(TILT)), -float(np.cos(TILT))),
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=21,
    thickness_mm=3.0,
    gap_mm=0.3,
)
REQUEST = CoverageRequest(
    id="exam-7/si-joint-signal/1",
    exam="exam-7",
    protocol="lumbar",
    revision=3,
    trigger="si-joint-signal",
    text='Proposal: bright marrow signal beside the SI joint, "left" <0.8 & more> ünd\nSo?',
    findings=("f1", "f2"),
    steps=(
        CoverageStep(step="si_stir_cor", slab=SLAB, minutes=2.5, variant="parallel to S2"),
        CoverageStep(step="si_t1_cor", slab=SLAB, minutes=1.5, table_mm=-12.5),
    ),
    extra_minutes=4.0,
    countdown_s=60.0,
)
MESSAGES = [
    Hello(role="console", name="bay 2", software="vendor 1.0", versions=(1, 2)),
    Heartbeat(),
    REQUEST,
    CoverageReply(id="a1", request=REQUEST.id, outcome=Outcome.ACCEPTED),
    CoverageReply(
        id="a2", request=REQUEST.id, outcome=Outcome.DECLINED, reason=ReplyReason.PATIENT
    ),
    CoverageReply(id="a3", request=REQUEST.id, outcome=Outcome.MODIFIED, steps=REQUEST.steps[:1]),
    Withdraw(id="w1", request=REQUEST.id, reason=WithdrawReason.EXAM_ENDED, detail="over"),
    ExamUpdate(
        id="u1",
        exam="2.25.17",
        protocol="lumbar",
        slot_minutes=-0.5,
        sar_headroom=0.4,
        planned=("t1_tse_sag", "stir_sag"),
        order=("pregnancy",),
    ),
    Acknowledged(of="a3", counts=False, detail="too late"),
    Refused(reason=Refusal.HELLO_FIRST),
    Telemetry(topic="series", at_s=1.5, exam="exam-7", values={"seconds": 0.5, "ok": True}),
]


def kind(message):
    return message.type


@pytest.mark.parametrize("message", MESSAGES, ids=kind)
def test_a_message_comes_back_as_it_was_sent(message):
    assert control.decode(control.encode(message)) == message


def test_geometry_travels_to_the_last_bit():
    back = control.decode(control.encode(REQUEST)).steps[0].slab
    assert isinstance(back, Slab)
    np.testing.assert_array_equal(back.positions, SLAB.positions)
    np.testing.assert_array_equal(back.directions, SLAB.directions)


@pytest.mark.parametrize("version", [0, 2, 10**30])
def test_another_version_is_told_apart_from_nonsense(version):
    with pytest.raises(UnsupportedVersion, match=f"expected .* version 1, got version {version}"):
        control.decode(json.dumps({"version": version, "type": "of_the_future"}).encode())


def changed(**fields):
    return {**json.loads(control.encode(REQUEST)), **fields}


def with_slab(**fields):
    message = changed()
    message["steps"][0]["slab"].update(fields)
    return message


WRONG = {
    "no JSON": b"\x00\xff{",
    "cut off": control.encode(REQUEST)[:-1],
    "a list": b"[]",
    "nested": b"[" * 60_000,
    "no version": b'{"type": "heartbeat"}',
    "no such type": b'{"version": 1, "type": "scan_now"}',
    "another key": b'{"version": 1, "type": "heartbeat", "scan": true}',
    "no question": changed(text=""),
    "control characters": changed(text="\x1b[31mred"),
    "no steps": changed(steps=[]),
    "steps without end": changed(steps=changed()["steps"] * 20),
    "id with blanks": changed(id="a b"),
    "id of nothing": changed(id=""),
    "id without end": changed(id="x" * 5000),
    "no number": changed(countdown_s="NaN"),
    "not a number": b'{"version": 1, "type": "telemetry", "topic": "t", "at_s": NaN}',
    "slab: skewed": with_slab(row=[0.9, 0.1, 0.0]),
    "slab: not finite": with_slab(gap_mm="inf"),
    "slab: huge": with_slab(matrix=[10**400, 256]),
    "slab: more memory than there is": with_slab(slices=10**9),
    "slab: far away": with_slab(centre=[0.0, 0.0, 1e9]),
    "slab: another key": with_slab(scan=True),
    "accepted with a reason": {
        **json.loads(control.encode(MESSAGES[3])),
        "reason": "time",
    },
    "declined without one": {**json.loads(control.encode(MESSAGES[3])), "outcome": "declined"},
    "modified without steps": {**json.loads(control.encode(MESSAGES[3])), "outcome": "modified"},
    "too long": b'{"version": 1, "type": "heartbeat"}' + b" " * control.MAX_BYTES,
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_refused_in_words(wrong):
    raw = wrong if isinstance(wrong, bytes) else json.dumps(wrong).encode()
    with pytest.raises(ControlError, match="expected"):
        control.decode(raw)


def test_the_examples_for_vendors_are_messages():
    page = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
    examples = page.split("```json\n")[1].split("```")[0].split("\n\n")
    request, reply, update, withdraw = (control.decode(each.encode()) for each in examples)
    assert isinstance(request, CoverageRequest)
    assert isinstance(reply, CoverageReply)
    assert isinstance(update, ExamUpdate)
    assert isinstance(withdraw, Withdraw)
    assert reply.request == withdraw.request == request.id


def test_a_message_too_long_is_not_sent():
    long = Telemetry(topic="t", at_s=0, values={f"k{n}": "x" * 1000 for n in range(64)})
    with pytest.raises(ControlError, match="at most 65536 bytes"):
        control.encode(long.model_copy(update={"values": {**long.values, "more": "x" * 9000}}))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None)
@given(key=st.sampled_from(sorted(changed())), value=ANYTHING)
def test_whatever_comes_is_a_message_or_a_control_error(key, value):
    try:
        message = control.decode(json.dumps(changed(**{key: value})).encode())
    except ControlError:
        return
    assert control.decode(control.encode(message)) == message


@settings(deadline=None)
@given(key=st.sampled_from(sorted(Slab.__dataclass_fields__)), value=ANYTHING)
def test_whatever_slab_comes_is_one_or_a_control_error(key, value):
    try:
        message = control.decode(json.dumps(with_slab(**{key: value})).encode())
    except ControlError:
        return
    assert len(message.steps[0].slab.positions) <= control.MAX_COUNT


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_are_a_message_or_a_control_error(raw):
    try:
        control.decode(raw)
    except ControlError:
        pass
