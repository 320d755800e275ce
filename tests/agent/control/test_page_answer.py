"""A question that was answered on the agent's page: the scanner's console is told, and scans."""

import queue

import pytest

from agent.control import ControlChannel
from agent.control_inband import InBand
from agent.control_store import CLICK, Verdict
from protocols.control import (
    Acknowledged,
    CoverageReply,
    CoverageRequest,
    Heartbeat,
    Hello,
    Outcome,
    ReplyReason,
)
from scanner.console_adapter import AgentAddress, Answer, ConsoleAdapter, Keys

DEADLINE_S = 60.0


@pytest.fixture
def click(question):
    def make(outcome=Outcome.ACCEPTED):
        reason = ReplyReason.OTHER if outcome is Outcome.DECLINED else None
        return CoverageReply(
            id=f"{CLICK}1", request=question().id, outcome=outcome, reason=reason, detail="anna"
        )

    return make


class Console(ConsoleAdapter):
    """Whose technologist answers on the agent's page instead."""

    def __init__(self, *args, **fields):
        self.log = queue.Queue()
        super().__init__(*args, **fields)

    def ask(self, request):
        self.log.put("ask")
        self.log.join()  # until the other answer has been heard
        return Answer(Outcome.ACCEPTED)

    def answered(self, request, reply):
        self.log.put(f"answered: {reply.outcome}")

    def schedule(self, request, steps):
        self.log.put(f"schedule {[step.step for step in steps]}")

    def scan(self, request, steps):
        self.log.put("scan")

    def moot(self, request, why):
        self.log.put("moot")


def test_what_was_accepted_on_the_page_is_scanned_once(quick, store, question, click):
    with ControlChannel(quick, store) as channel:
        pair = Keys(quick.keys / "console.key_secret", quick.keys / "agent.key")
        address = AgentAddress("127.0.0.1", channel.port, channel.telemetry_port, pair)
        with Console(address, "bay 2", heartbeat_s=0.2) as console:
            channel.request(question())
            assert console.log.get(timeout=DEADLINE_S) == "ask"
            assert channel.answer(click()) is Verdict.COUNTS
            heard = [console.log.get(timeout=DEADLINE_S) for _ in range(3)]
            assert heard == ["answered: accepted", "schedule ['si_stir_cor']", "scan"]
            outcomes = []
            while "done" not in outcomes:
                outcomes += [reply.message.outcome for reply in channel.replies(1.0)]
            assert outcomes == ["accepted", "scheduled", "done"]
            for _ in range(4):
                console.log.task_done()
            assert console.log.get(timeout=DEADLINE_S) == "moot", "its own answer came second"


def test_consoles_hear_of_a_click_until_they_acknowledge_it(quick, store, connect, question, click):
    said = click(Outcome.DECLINED)
    with ControlChannel(quick, store) as channel:
        peer = connect(channel.port)
        peer.say(Hello(role="console", name="bay 2", software="1"))
        channel.request(question())
        peer.hear(CoverageRequest)
        channel.answer(said)
        assert [peer.hear(CoverageReply) for _ in range(2)] == [said] * 2
        peer.say(Acknowledged(of=said.id))
        while isinstance(peer.hear(CoverageReply, Heartbeat), CoverageReply):
            pass
        heard = [peer.hear(CoverageReply, Heartbeat) for _ in range(2)]
        assert all(isinstance(message, Heartbeat) for message in heard)


def test_in_band_it_is_said_until_it_is_acknowledged(store, question, click):
    band = InBand(store, lambda update: True)
    band.request(question())
    assert band.answer(click()) is Verdict.COUNTS
    assert band.to_say(set()) == [click()]
    assert InBand(store, lambda update: True).to_say(set()) == [click()], "also after a restart"
    band.take(Acknowledged(of=click().id))
    assert band.to_say(set()) == []
