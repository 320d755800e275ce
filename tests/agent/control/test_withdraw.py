"""Questions that are taken back, and what a console says of an exam, on real sockets."""

import queue

import pytest

from agent.control import ControlChannel
from agent.control_store import ControlStore, Verdict
from protocols.control import (
    Acknowledged,
    CoverageRequest,
    ExamUpdate,
    Hello,
    Outcome,
    Withdraw,
    WithdrawReason,
)
from scanner.console_adapter import AgentAddress, Answer, ConsoleAdapter, Keys

DEADLINE_S = 20.0
HELLO = Hello(role="console", name="bay 2", software="test 1")
UPDATE = ExamUpdate(
    id="u1", exam="1.2.3", slot_minutes=12.5, sar_headroom=0.6, planned=("stir_sag",)
)


@pytest.fixture
def withdrawal(question):
    return Withdraw(
        id="w1",
        request=question().id,
        reason=WithdrawReason.EXAM_ENDED,
        detail="the exam has ended",
    )


def test_a_question_that_is_taken_back_gets_no_answer(
    channel, console, store, question, answer, withdrawal
):
    channel.request(question())
    console.say(Acknowledged(of=console.hear(CoverageRequest).id))
    assert channel.withdraw(withdrawal)
    assert console.hear(Withdraw) == withdrawal
    console.say(answer(Outcome.ACCEPTED))
    acknowledged = console.hear(Acknowledged)
    assert not acknowledged.counts and "taken back" in acknowledged.detail
    assert list(channel.replies(0)) == []
    assert store.state(question().id) == "withdrawn"
    assert [reply.verdict for reply in store.replies(question().id)] == [Verdict.WITHDRAWN]


def test_only_open_questions_are_taken_back(channel, console, question, answer, withdrawal):
    assert not channel.withdraw(withdrawal)
    channel.request(question())
    console.say(answer(Outcome.ACCEPTED))
    assert console.hear(Acknowledged).counts
    assert not channel.withdraw(withdrawal)


def test_a_question_is_taken_back_until_the_console_has_noticed(
    quick, store, connect, question, withdrawal
):
    with ControlChannel(quick, store) as channel:
        channel.request(question())
        channel.withdraw(withdrawal)
        peer = connect(channel.port)
        peer.say(HELLO)
        assert [peer.hear(Withdraw) for _ in range(3)] == [withdrawal] * 3
        peer.say(Acknowledged(of=withdrawal.id), UPDATE)
        peer.hear(Acknowledged)
        peer.say(HELLO)  # it may have forgotten: it is told again
        assert peer.hear(Withdraw, CoverageRequest) == withdrawal


def test_what_was_taken_back_is_so_after_a_restart(tmp_path, question, withdrawal):
    first = ControlStore(tmp_path / "store")
    first.ask(question(countdown_s=60), 0.0)
    assert first.withdraw(withdrawal, 1.0)
    first.close()
    second = ControlStore(tmp_path / "store")
    assert second.open() == []
    assert second.withdrawn(59.0) == [withdrawal]
    assert second.withdrawn(60.0) == []
    assert second.expire(61.0) == 0
    second.close()


def test_a_console_tells_of_an_exam(settings, store, connect):
    heard = queue.Queue()
    with ControlChannel(settings, store, lambda update: heard.put(update) is None) as channel:
        peer = connect(channel.port)
        peer.say(HELLO, UPDATE)
        assert peer.hear(Acknowledged) == Acknowledged(of="u1")
        assert heard.get(timeout=DEADLINE_S) == UPDATE


def test_what_is_not_taken_is_not_acknowledged(settings, store, connect):
    answers = iter([False, True])
    with ControlChannel(settings, store, lambda update: next(answers)) as channel:
        peer = connect(channel.port)
        peer.say(HELLO, UPDATE, UPDATE.model_copy(update={"id": "u2"}))
        assert peer.hear(Acknowledged) == Acknowledged(of="u2")


def test_it_is_known_when_a_question_was_sent(channel, connect, question):
    channel.request(question())
    assert channel.sent_ns(question().id, 0.0) is None
    peer = connect(channel.port)
    peer.say(HELLO)
    peer.hear(CoverageRequest)
    sent_ns = channel.sent_ns(question().id, DEADLINE_S)
    peer.say(HELLO)
    peer.hear(CoverageRequest)
    assert channel.sent_ns(question().id, 0.0) == sent_ns


class Patient(ConsoleAdapter):
    """A technologist who thinks until `decide`; what happens is a log."""

    def __init__(self, address):
        self.log = queue.Queue()
        self.decide = queue.Queue()
        super().__init__(address, "bay 2", heartbeat_s=0.2)

    def ask(self, request):
        self.log.put("ask")
        return self.decide.get(timeout=DEADLINE_S)

    def schedule(self, request, steps):
        self.log.put("schedule")

    def scan(self, request, steps):
        pass

    def withdrawn(self, request, why):
        self.log.put(f"{request.trigger} withdrawn: {why}")


@pytest.fixture
def adapter(keys):
    adapters = []

    def start(channel):
        pair = Keys(keys / "console.key_secret", keys / "agent.key")
        address = AgentAddress("127.0.0.1", channel.port, channel.telemetry_port, pair)
        adapters.append(Patient(address))
        return adapters[-1]

    yield start
    for each in adapters:
        each.close()


class TestReferenceAdapter:
    def test_takes_the_question_off_the_screen(self, channel, adapter, question, withdrawal):
        console = adapter(channel)
        channel.request(question())
        assert console.log.get(timeout=DEADLINE_S) == "ask"
        channel.withdraw(withdrawal)
        assert console.log.get(timeout=DEADLINE_S) == (
            "si-joint-signal withdrawn: the exam has ended"
        )
        console.decide.put(Answer(Outcome.ACCEPTED))
        channel.request(question(2))
        assert console.log.get(timeout=DEADLINE_S) == "ask"
        assert console.log.empty()
        console.decide.put(None)

    def test_tells_the_agent_of_the_exam_also_after_its_restart(
        self, settings, store, adapter, connect
    ):
        heard = queue.Queue()
        with ControlChannel(settings, store, lambda update: heard.put(update) is None) as first:
            console = adapter(first)
            console.tell(UPDATE)
            assert heard.get(timeout=DEADLINE_S).exam == "1.2.3"
        again = settings.model_copy(
            update={"port": first.port, "telemetry_port": first.telemetry_port}
        )
        with ControlChannel(again, store, lambda update: heard.put(update) is None):
            update = heard.get(timeout=DEADLINE_S)
        assert 12.0 < update.slot_minutes < 12.5
        assert update == UPDATE.model_copy(update={"slot_minutes": update.slot_minutes})
