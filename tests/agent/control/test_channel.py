"""The control channel's agent end, on real sockets: what is asked, and what becomes of it."""

import time

import pytest

from agent.control import ControlChannel
from protocols.control import (
    Acknowledged,
    ControlError,
    CoverageRequest,
    Heartbeat,
    Hello,
    Outcome,
    Telemetry,
    decode,
)

DEADLINE_S = 20.0
HELLO = Hello(role="console", name="bay 2", software="test 1")


def test_a_question_is_asked_and_its_answer_counts(channel, console, question, answer, told):
    assert channel.consoles == (HELLO,)
    assert channel.request(question())
    asked = console.hear(CoverageRequest)
    assert asked == question(countdown_s=asked.countdown_s)
    assert 0 < asked.countdown_s <= 60
    console.say(Acknowledged(of=asked.id), answer(Outcome.ACCEPTED))
    assert console.hear(Acknowledged) == Acknowledged(of="a1")
    assert told(channel) == [answer(Outcome.ACCEPTED)]


def test_a_question_waits_for_the_console(channel, connect, question):
    channel.request(question())
    peer = connect(channel.port)
    peer.say(HELLO)
    assert peer.hear(CoverageRequest).id == question().id


def test_a_question_is_repeated_until_it_is_acknowledged(quick, store, connect, question, answer):
    with ControlChannel(quick, store) as channel:
        channel.request(question())
        peer = connect(channel.port)
        peer.say(HELLO)
        asked = [peer.hear(CoverageRequest) for _ in range(3)]
        assert {each.id for each in asked} == {question().id}
        assert asked[0].countdown_s > asked[1].countdown_s > asked[2].countdown_s
        peer.say(Acknowledged(of=question().id))
        # What was sent before that came is through when another message has been answered.
        peer.say(answer(Outcome.DONE, "x"))
        peer.hear(Acknowledged)
        for _ in range(3):
            assert isinstance(peer.hear(Heartbeat, CoverageRequest), Heartbeat)


def test_a_console_that_says_hello_again_is_asked_again(channel, console, question):
    channel.request(question())
    console.say(Acknowledged(of=console.hear(CoverageRequest).id), HELLO)
    assert console.hear(Hello)
    assert console.hear(CoverageRequest).id == question().id


def test_asking_twice_is_asking_once(channel, store, question):
    assert channel.request(question())
    assert not channel.request(question(countdown_s=30))
    assert len(store.open()) == 1
    with pytest.raises(ControlError, match="the same question with id"):
        channel.request(question(text="Something else?"))


def test_accepted_coverage_goes_its_way(channel, console, question, answer, told):
    channel.request(question())
    for number, outcome in enumerate((Outcome.ACCEPTED, Outcome.SCHEDULED, Outcome.DONE)):
        console.say(answer(outcome, f"a{number}"))
        assert console.hear(Acknowledged) == Acknowledged(of=f"a{number}")
        assert told(channel) == [answer(outcome, f"a{number}")]


def test_modified_slices_come_back(channel, console, question, answer, told):
    channel.request(question())
    modified = answer(Outcome.MODIFIED, steps=question().steps)
    console.say(modified)
    assert told(channel) == [modified]


def test_telemetry_is_published(channel, console, connect):
    sent = Telemetry(topic="series", at_s=1.0, exam="exam-7", values={"seconds": 0.5})
    console.telemetry.connect(f"tcp://127.0.0.1:{channel.telemetry_port}")
    end = time.monotonic() + DEADLINE_S
    while not console.telemetry.poll(20) and time.monotonic() < end:
        channel.publish(sent)  # until the subscription has come through
    topic, raw = console.telemetry.recv_multipart()
    assert (topic, decode(raw)) == (b"series", sent)
