"""Questions and answers within the MRD stream, on a session over a real socket."""

import io
import time

import pytest

from agent import log
from agent.control_inband import InBand
from agent.control_store import ControlStore
from agent.exam_beside import Beside
from agent.measurement import Measurement
from bench.data import measurement
from protocols.control import (
    Acknowledged,
    CoverageReply,
    CoverageRequest,
    CoverageStep,
    ExamUpdate,
    Outcome,
    Refused,
    Withdraw,
    WithdrawReason,
)
from protocols.control_inband import TEXT_PREFIX, from_meta, from_text, to_text
from protocols.geometry import Slab
from protocols.meta import parse_meta
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Text
from protocols.mrd_write import encode

SLAB = Slab(
    centre=(1.0, 2.0, 3.5),
    row=(1.0, 0.0, 0.0),
    column=(0.0, 0.6, -0.8),
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=21,
    thickness_mm=3.0,
)
REQUEST = CoverageRequest(
    id="exam-7/si-joint-signal/1",
    exam="exam-7",
    protocol="lumbar",
    revision=1,
    trigger="si-joint-signal",
    text="Proposal: scan the SI joints?",
    steps=(CoverageStep(step="si_stir_cor", slab=SLAB, minutes=2.5),),
    extra_minutes=2.5,
    countdown_s=60.0,
)
YES = CoverageReply(id="a1", request=REQUEST.id, outcome=Outcome.ACCEPTED)


class Book:
    """Takes series, as `ExamBook`; here there are none."""

    def take(self, header, series):
        raise AssertionError("no series were expected")


@pytest.fixture
def updates():
    return []


@pytest.fixture
def in_band(tmp_path, updates):
    store = ControlStore(tmp_path / "control.sqlite")
    yield InBand(store, lambda update: updates.append(update) is None)
    store.close()


@pytest.fixture(scope="session")
def small():
    return measurement((32, 32, 1), coils=2)


@pytest.fixture
def run(in_band, small):
    """Run a measurement with texts of the scanner before its readouts; return what leaves."""

    def measure(*texts):
        messages = [ConfigFile("simplefft"), small.header, *texts, small.readouts, Close()]
        raw = b"".join(bytes(part) for message in messages for part in encode(message))
        left = []
        Measurement(
            lambda: Reader(io.BytesIO(raw)),
            left.append,
            "simplefft",
            "uint16",
            log.get(),
            beside=Beside(Book(), in_band),
        ).run()
        return left

    return measure


def talk(left):
    """Return what is said in texts, and with images."""
    texts = [from_text(item) for item in left if isinstance(item, Text)]
    images = [
        from_meta(parse_meta(item.attributes)) for item in left if isinstance(item, ImageMessage)
    ]
    return [text for text in texts if text], [image for image in images if image]


def same(message):
    return message.model_copy(update={"countdown_s": REQUEST.countdown_s})


def test_a_question_leaves_as_text_and_with_the_next_image(run, in_band):
    in_band.request(REQUEST)
    texts, images = talk(run())
    assert [same(text) for text in texts] == [same(image) for image in images] == [REQUEST]
    assert 0 < texts[0].countdown_s < REQUEST.countdown_s


def test_it_is_said_in_every_measurement_until_it_is_acknowledged(run, in_band):
    in_band.request(REQUEST)
    assert len(talk(run())[0]) == 1
    assert talk(run(to_text(Acknowledged(of=REQUEST.id))))[1] == []
    assert talk(run()) == ([], [])


def test_an_answer_comes_as_text_and_is_acknowledged(run, in_band):
    in_band.request(REQUEST)
    texts, _ = talk(run(to_text(YES), to_text(YES)))
    assert texts[1:] == [Acknowledged(of="a1")] * 2
    (reply,) = in_band.replies(0.0)
    assert reply.message == YES
    assert list(in_band.replies(0.0)) == []
    assert talk(run()) == ([], [])


def test_no_answer_is_a_decline(in_band):
    in_band.request(REQUEST.model_copy(update={"countdown_s": 0.01}))
    end = time.monotonic() + 20
    while not (replies := list(in_band.replies(0.01))):
        assert time.monotonic() < end
    assert replies[0].message.reason == "no_answer"


def test_what_is_taken_back_is_said_too(run, in_band):
    in_band.request(REQUEST)
    withdraw = Withdraw(id="w1", request=REQUEST.id, reason=WithdrawReason.EXAM_ENDED)
    assert in_band.withdraw(withdraw) and not in_band.withdraw(withdraw)
    texts, images = talk(run(to_text(YES)))
    assert texts[0] == withdraw and images == [withdraw]
    assert not texts[1].counts


def test_the_scanner_tells_of_the_exam(run, updates):
    update = ExamUpdate(id="u1", exam="1.2.3", slot_minutes=12)
    texts, _ = talk(run(to_text(update)))
    assert updates == [update] and texts == [Acknowledged(of="u1")]


def test_nonsense_is_ignored_and_other_versions_are_refused(run):
    texts, images = talk(
        run(Text(TEXT_PREFIX + "{"), Text(TEXT_PREFIX + '{"version": 2, "type": "x"}'))
    )
    assert [type(text) for text in texts] == [Refused]
    assert images == []


def test_questions_of_an_earlier_process_are_said(tmp_path, in_band):
    in_band.request(REQUEST)
    again = InBand(ControlStore(tmp_path / "control.sqlite"), lambda update: True)
    (said,) = again.to_say(set())
    assert same(said) == REQUEST


def test_without_anything_to_say_images_are_as_they_were(run):
    assert talk(run()) == ([], [])
    (image,) = [item for item in run() if isinstance(item, ImageMessage)]
    assert "BoresideControl" not in image.attributes
