"""The reference adapter and a real agent's channel: asked once, scanned where both agree."""

import queue
import threading

import pytest

from agent import control_keys
from agent.control import ControlChannel
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore
from protocols.control import (
    CoverageRequest,
    CoverageStep,
    Outcome,
    ReplyReason,
    Telemetry,
)
from protocols.geometry import Slab
from scanner.console_adapter import AgentAddress, Answer, ConsoleAdapter, Keys, NotScanned

DEADLINE_S = 20.0
SLAB = Slab(
    centre=(1.0, 2.0, 3.5),
    row=(1.0, 0.0, 0.0),
    column=(0.0, 0.6, -0.8),
    field_of_view_mm=(240.0, 240.0),
    matrix=(256, 256),
    slices=21,
    thickness_mm=3.0,
)
STEP = CoverageStep(step="si_stir_cor", slab=SLAB, minutes=2.5)
YES = Answer(Outcome.ACCEPTED)
NO = Answer(Outcome.DECLINED, ReplyReason.PATIENT)


def question(number=1, countdown_s=60.0):
    return CoverageRequest(
        id=f"exam-7/si-joint-signal/{number}",
        exam="exam-7",
        protocol="lumbar",
        revision=1,
        trigger="si-joint-signal",
        text="Proposal: scan the SI joints?",
        steps=(STEP,),
        extra_minutes=2.5,
        countdown_s=countdown_s,
    )


class Scripted(ConsoleAdapter):
    """A technologist who answers what a test puts into `answers`; all that happens is a log."""

    def __init__(self, address):
        self.log = queue.Queue()
        self.answers = queue.Queue()
        self.fails = None
        super().__init__(address, "bay 2", heartbeat_s=0.2)

    def happened(self, *names):
        """Return the next entry of these names."""
        while (entry := self.log.get(timeout=DEADLINE_S))[0] not in names:
            pass
        return entry

    def ask(self, request):
        self.log.put(("ask", request))
        return self.answers.get(timeout=DEADLINE_S)

    def schedule(self, request, steps):
        self.log.put(("schedule", tuple(steps)))

    def scan(self, request, steps):
        self.log.put(("scan", tuple(steps)))
        if self.fails:
            raise self.fails

    def moot(self, request, why):
        self.log.put(("moot", why))

    def met(self, agent):
        self.log.put(("met", agent))

    def missed(self, why):
        self.log.put(("missed", why))

    def hear(self, telemetry):
        self.log.put(("hear", telemetry))


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    control_keys.make(folder)
    control_keys.make(folder, "bay-2")
    return folder


@pytest.fixture
def open_channel(tmp_path, keys):
    """Start the agent's end, again on the same port after it was closed."""
    store = ControlStore(tmp_path / "control.sqlite")
    channels = []

    def start(port=0, heartbeat_s=0.2):
        settings = ControlSettings(port=port, telemetry_port=0, keys=keys, heartbeat_s=heartbeat_s)
        channels.append(ControlChannel(settings, store))
        return channels[-1]

    yield start
    for channel in channels:
        channel.close()
    store.close()


@pytest.fixture
def channel(open_channel):
    return open_channel()


@pytest.fixture
def adapter(channel, keys):
    pair = Keys(keys / "bay-2.key_secret", keys / "agent.key")
    address = AgentAddress("127.0.0.1", channel.port, channel.telemetry_port, pair)
    with Scripted(address) as adapter:
        assert adapter.happened("met")[1].role == "agent"
        yield adapter


def outcomes(channel, count):
    """Return the next outcomes that are handed on, with their reasons."""
    found = []
    while len(found) < count:
        told = [reply.message for reply in channel.replies(DEADLINE_S)]
        assert told, f"heard {found}, and nothing more within {DEADLINE_S} s"
        found += [(message.outcome, message.reason) for message in told]
    return found


def test_accepted_coverage_is_scheduled_and_scanned(channel, adapter):
    channel.request(question())
    asked = adapter.happened("ask")[1]
    assert asked == question(countdown_s=asked.countdown_s)
    adapter.answers.put(YES)
    assert adapter.happened("schedule", "scan") == ("schedule", (STEP,))
    assert adapter.happened("scan", "schedule") == ("scan", (STEP,))
    assert outcomes(channel, 3) == [
        (Outcome.ACCEPTED, None),
        (Outcome.SCHEDULED, None),
        (Outcome.DONE, None),
    ]


def test_declined_coverage_is_not_scanned(channel, adapter):
    channel.request(question())
    adapter.answers.put(NO)
    assert outcomes(channel, 1) == [(Outcome.DECLINED, ReplyReason.PATIENT)]
    channel.request(question(2))
    adapter.answers.put(YES)
    # The first thing scheduled is the second question's.
    assert [adapter.happened("ask", "schedule")[0] for _ in range(3)] == ["ask", "ask", "schedule"]


def test_no_word_of_the_technologist_is_a_decline(channel, adapter):
    channel.request(question())
    adapter.answers.put(None)
    assert outcomes(channel, 1) == [(Outcome.DECLINED, ReplyReason.NO_ANSWER)]


def test_modified_slices_are_scanned_instead(channel, adapter):
    mine = STEP.model_copy(update={"minutes": 1.5})
    channel.request(question())
    adapter.answers.put(Answer(Outcome.MODIFIED, steps=(mine,)))
    assert adapter.happened("scan") == ("scan", (mine,))
    assert outcomes(channel, 3)[0] == (Outcome.MODIFIED, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NotScanned(ReplyReason.PATIENT, "wants out"), ReplyReason.PATIENT),
        (ZeroDivisionError(), ReplyReason.SCANNER),
    ],
)
def test_a_scan_that_breaks_off_has_failed(channel, adapter, error, reason):
    adapter.fails = error
    channel.request(question())
    adapter.answers.put(YES)
    assert outcomes(channel, 3)[-1] == (Outcome.FAILED, reason)


def test_an_answer_after_the_countdown_schedules_nothing(channel, adapter):
    channel.request(question(countdown_s=1.0))
    adapter.happened("ask")
    assert outcomes(channel, 1) == [(Outcome.DECLINED, ReplyReason.NO_ANSWER)]
    adapter.answers.put(YES)
    entry = adapter.happened("moot", "schedule")
    assert entry[0] == "moot"
    assert "counts as declined" in entry[1]


def test_of_two_consoles_one_scans(channel, adapter, keys):
    pair = Keys(keys / "bay-2.key_secret", keys / "agent.key")
    address = AgentAddress("127.0.0.1", channel.port, channel.telemetry_port, pair)
    with Scripted(address) as other:
        other.happened("met")
        channel.request(question())
        adapter.happened("ask")
        other.happened("ask")
        adapter.answers.put(YES)
        adapter.happened("schedule")
        other.answers.put(YES)
        assert "answered before" in other.happened("moot", "schedule")[1]


def test_a_question_is_asked_once_although_the_agent_restarts(channel, adapter, open_channel):
    channel.request(question())
    adapter.happened("ask")
    channel.close()
    adapter.happened("missed")
    adapter.answers.put(YES)
    again = open_channel(channel.port)
    assert outcomes(again, 1)[0] == (Outcome.ACCEPTED, None)
    assert adapter.happened("ask", "scan")[0] == "scan"


def test_telemetry_is_heard(channel, adapter):
    sent = Telemetry(topic="series", at_s=1.0, values={"seconds": 0.5})
    heard = threading.Event()
    adapter.hear = lambda telemetry: heard.set() if telemetry == sent else None
    for _ in range(1000):  # until the subscription has come through
        channel.publish(sent)
        if heard.wait(0.02):
            break
    assert heard.is_set()
