"""The control channel on real sockets and processes, when something goes wrong."""

import json

import pytest
import zmq
import zmq.auth

from agent import control_keys
from agent.config import SettingsError
from agent.control import ControlChannel
from agent.control_settings import ControlSettings
from agent.control_store import ControlStore, Verdict
from protocols.control import (
    Acknowledged,
    CoverageRequest,
    Hello,
    Outcome,
    Refusal,
    Refused,
    ReplyReason,
    Telemetry,
    encode,
)

DEADLINE_S = 20.0
HELLO = Hello(role="console", name="bay 2", software="test 1")


def test_without_a_console_the_answer_is_no(channel, question, told):
    channel.request(question(countdown_s=0.2))
    (declined,) = told(channel)
    assert (declined.outcome, declined.reason) == (Outcome.DECLINED, ReplyReason.NO_ANSWER)


def test_a_console_that_goes_away_has_declined(quick, store, connect, question, told):
    with ControlChannel(quick, store) as channel:
        peer = connect(channel.port)
        peer.say(HELLO)
        peer.hear(Hello)
        channel.request(question(countdown_s=2.0))
        peer.hear(CoverageRequest)
        peer.close()
        (declined,) = told(channel)
        assert declined.reason is ReplyReason.NO_ANSWER
        assert channel.consoles == ()


def test_of_two_answers_the_first_counts(channel, console, store, question, answer, told):
    channel.request(question())
    second = answer(Outcome.DECLINED, "a2", reason=ReplyReason.TIME)
    console.say(answer(Outcome.ACCEPTED), second)
    assert console.hear(Acknowledged).counts
    refused = console.hear(Acknowledged)
    assert (refused.of, refused.counts) == ("a2", False)
    assert "answered before" in refused.detail
    assert told(channel) == [answer(Outcome.ACCEPTED)]
    assert [reply.verdict for reply in store.replies(question().id)] == ["counts", "second"]


def test_the_same_answer_again_is_acknowledged_again(
    channel, console, store, question, answer, told
):
    channel.request(question())
    console.say(answer(Outcome.ACCEPTED), answer(Outcome.ACCEPTED))
    assert console.hear(Acknowledged) == console.hear(Acknowledged) == Acknowledged(of="a1")
    assert len(store.replies(question().id)) == 1
    assert len(told(channel)) == 1


def test_an_answer_after_the_countdown_is_recorded_and_changes_nothing(
    channel, console, store, question, answer, told
):
    channel.request(question(countdown_s=0.1))
    (declined,) = told(channel)
    console.say(answer(Outcome.ACCEPTED))
    acknowledged = console.hear(Acknowledged)
    assert not acknowledged.counts
    assert "counts as declined" in acknowledged.detail
    assert list(channel.replies(0)) == []
    assert [(reply.message, reply.verdict) for reply in store.replies(question().id)] == [
        (declined, Verdict.COUNTS),
        (answer(Outcome.ACCEPTED), Verdict.LATE),
    ]
    assert channel.ignored == {"reply: late": 1}


def test_an_answer_to_nothing_is_not_recorded(channel, console, store, question, answer):
    console.say(answer(Outcome.ACCEPTED))
    assert not console.hear(Acknowledged).counts
    assert store.replies(question().id) == []


def test_a_reply_whose_handling_failed_comes_again_after_a_restart(
    settings, connect, question, answer, told
):
    store = ControlStore(settings.store)
    with ControlChannel(settings, store) as first:
        first.request(question())
        peer = connect(first.port)
        peer.say(HELLO, answer(Outcome.ACCEPTED))
        with pytest.raises(ZeroDivisionError):
            for _ in first.replies(DEADLINE_S):
                raise ZeroDivisionError
        store.close()
    store = ControlStore(settings.store)
    with ControlChannel(settings, store) as second:
        assert told(second) == [answer(Outcome.ACCEPTED)]
        assert list(second.replies(0)) == []
    store.close()


def test_a_question_outlives_the_process_that_asked_it(start, connect, question, answer):
    first = start(request=question(countdown_s=600.0))
    peer = connect(first.port)
    peer.say(HELLO)
    asked = peer.hear(CoverageRequest)
    peer.say(Acknowledged(of=asked.id))
    first.kill()

    second = start(port=first.port)
    peer.event(zmq.EVENT_DISCONNECTED)
    peer.event(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    peer.say(answer(Outcome.ACCEPTED))
    assert peer.hear(Refused).reason is Refusal.HELLO_FIRST
    peer.say(HELLO)
    again = peer.hear(CoverageRequest)
    assert again.id == asked.id
    assert again.countdown_s <= asked.countdown_s
    peer.say(answer(Outcome.ACCEPTED))
    assert peer.hear(Acknowledged).counts
    assert json.loads(second.line())["outcome"] == "accepted"


def test_a_question_that_ran_out_while_the_process_was_down_is_declined(start, question):
    first = start(request=question(countdown_s=0.1))
    first.kill()
    second = start()
    assert json.loads(second.line())["reason"] == "no_answer"


def test_an_unknown_key_gets_nothing(channel, keys, tmp_path, connect, question):
    control_keys.make(tmp_path / "others", "stranger")
    (tmp_path / "others" / "agent.key").write_bytes((keys / "agent.key").read_bytes())
    channel.request(question())
    stranger = connect(channel.port, tmp_path / "others", "stranger")
    stranger.say(HELLO)
    assert stranger.event(zmq.EVENT_HANDSHAKE_FAILED_AUTH)["value"] == 400
    assert channel.consoles == ()
    assert channel.ignored["wrong key"] >= 1


def test_a_key_is_admitted_without_a_restart(channel, keys, connect):
    control_keys.make(keys, "bay-3")
    peer = connect(channel.port, name="bay-3")
    peer.say(HELLO)
    assert peer.hear(Hello)


def test_a_console_does_not_talk_to_another_agent(channel, keys, tmp_path, connect):
    control_keys.make(tmp_path / "others")
    (keys / "other.key").write_bytes((tmp_path / "others" / "agent.key").read_bytes())
    peer = connect(channel.port, agent="other")
    peer.say(HELLO)
    peer.event(
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_DISCONNECTED,
    )
    assert channel.consoles == ()


def test_a_peer_without_encryption_gets_nothing(channel, connect):
    peer = connect(channel.port, None)
    peer.say(HELLO)
    peer.event(zmq.EVENT_DISCONNECTED, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    assert channel.consoles == ()


def test_an_old_version_is_answered_politely(channel, console):
    console.say(b'{"version": 0, "type": "hello", "scanner": "bay 2"}')
    refused = console.hear(Refused)
    assert refused.reason is Refusal.UNSUPPORTED_VERSION
    assert refused.versions == (1,)
    assert "version 0" in refused.detail
    console.say(HELLO)
    assert console.hear(Hello)


def test_a_console_of_the_future_is_told(channel, connect):
    peer = connect(channel.port)
    peer.say(Hello(role="console", name="bay 2", software="test 9", versions=(8, 9)))
    assert peer.hear().reason is Refusal.UNSUPPORTED_VERSION
    assert channel.consoles == ()


def test_hello_comes_first(channel, connect, answer):
    peer = connect(channel.port)
    peer.say(answer(Outcome.ACCEPTED))
    assert peer.hear().reason is Refusal.HELLO_FIRST


def test_nonsense_is_ignored_and_counted(channel, console, question):
    console.say(b"", b"\xff\x00", b"[" * 60_000, b'{"version": 1, "type": "scan_now"}')
    console.say(Telemetry(topic="t", at_s=0), Refused(reason=Refusal.HELLO_FIRST))
    console.socket.send_multipart([b"", encode(HELLO)])
    channel.request(question())
    assert console.hear(CoverageRequest).id == question().id
    console.say(HELLO)
    console.hear(Hello)
    assert channel.ignored == {"malformed": 5, "unexpected": 1, "refused by console": 1}


def test_a_message_too_long_costs_its_sender_the_connection(channel, console, connect):
    console.say(b" " * (1 << 20))
    console.event(zmq.EVENT_DISCONNECTED)
    peer = connect(channel.port)
    peer.say(HELLO)
    assert peer.hear(Hello)


def test_nothing_is_encrypted_on_demand_and_on_loopback_only(tmp_path, connect):
    with pytest.raises(ValueError, match="expected keys"):
        ControlSettings(host="0.0.0.0", keys=None)
    store = ControlStore(tmp_path / "control.sqlite")
    settings = ControlSettings(port=0, telemetry_port=0, keys=None)
    with ControlChannel(settings, store) as channel:
        peer = connect(channel.port, None)
        peer.say(HELLO)
        assert peer.hear(Hello)
        store.close()


def test_without_keys_it_does_not_start(settings, store, tmp_path):
    with pytest.raises(SettingsError, match="run `boreside keys make`"):
        ControlChannel(settings.model_copy(update={"keys": tmp_path / "none"}), store)


def test_a_port_that_is_taken_is_named(channel, settings, store):
    with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{channel.port}"):
        ControlChannel(settings.model_copy(update={"port": channel.port}), store)
