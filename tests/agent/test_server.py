"""The listener: ports, sockets, limits, and the end."""

import socket
import threading

import pytest

from agent.config import SettingsError, load
from agent.server import Server
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, ImageMessage, Query, Response, Text
from protocols.mrd_write import write


def test_a_unix_socket_serves_like_the_port(start, scan, tmp_path):
    path = tmp_path / "run" / "mrd.sock"
    agent = start(listen={"socket": path})
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        write(peer.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        write(peer.makefile("wb", buffering=0), scan.readouts, Close())
        image, close = Reader(peer.makefile("rb", buffering=0))
    assert isinstance(image, ImageMessage) and close == Close()
    agent.stop()
    assert not path.exists()


def test_a_scanner_too_many_is_refused_in_words(start):
    agent = start(limits={"connections": 1})
    with agent.connect() as first:
        write(first.makefile("wb", buffering=0), Query(1, "boreside::alive"))
        source = Reader(first.makefile("rb", buffering=0))
        assert source.read() == Response(1, "alive")
        answer = agent.exchange()
        assert answer.texts[0].startswith("ERR")
        assert answer.closed
        write(first.makefile("wb", buffering=0), Close())
        assert source.read() == Close()


def test_too_many_connections_in_a_minute_are_refused_in_words(start):
    agent = start(limits={"connections_per_minute": 2})
    answers = [agent.exchange(Close()) for _ in range(3)]
    assert [bool(answer.texts) for answer in answers] == [False, False, True]
    assert "minute" in answers[2].texts[0] and answers[2].closed


def test_a_scanner_that_is_silent_for_too_long_is_given_up(start, scan):
    agent = start(limits={"silence_s": 0.2, "connections": 1})
    with agent.connect() as peer:
        write(peer.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        write(peer.makefile("wb", buffering=0), scan.readouts[:8])
        *_, close = Reader(peer.makefile("rb", buffering=0))
    assert close == Close()
    agent.stop()
    assert agent.states()[0]["outcome"] == "kept"


def test_stopping_lets_a_running_measurement_end(start, scan):
    agent = start()
    with agent.connect() as peer:
        sink, source = peer.makefile("wb", buffering=0), peer.makefile("rb", buffering=0)
        write(sink, ConfigFile("simplefft"), scan.header, Query(1, "boreside::alive"))
        reader = Reader(source)
        assert reader.read() == Response(1, "alive")
        agent.server.stop()
        while not (answer := agent.exchange(Close())).texts:
            pass  # served, as it has not noticed yet
        assert answer.texts[0].startswith("ERR this agent finishes") and answer.closed
        write(sink, scan.readouts, Close())
        assert isinstance(reader.read(), ImageMessage)
        assert reader.read() == Close()
        peer.shutdown(socket.SHUT_RDWR)
    agent.thread.join(10)
    assert not agent.thread.is_alive()
    agent._stopped = True


def test_stopping_does_not_wait_for_ever(start, scan):
    agent = start(limits={"stop_seconds": 0})
    with agent.connect() as peer:
        write(peer.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        agent.stop()


def test_a_port_in_use_is_a_named_error(start, tmp_path):
    agent = start()
    settings = load(listen={"port": agent.server.address[1]}, spool={"folder": tmp_path / "s"})
    with pytest.raises(SettingsError, match=r"listen\.port.*in use"):
        Server(settings)


def test_a_default_chain_that_does_not_exist_is_a_named_error(tmp_path):
    with pytest.raises(SettingsError, match=r"chain: expected one of .*simplefft"):
        settings = load(chain="none", listen={"port": 0}, spool={"folder": tmp_path / "s"})
        Server(settings).serve(False)


def test_many_short_connections_leave_nothing_behind(start):
    agent = start(limits={"connections": 4})
    before = threading.active_count()
    for _ in range(50):
        agent.exchange(Close())
    with agent.connect():
        pass
    agent.stop()
    assert threading.active_count() <= before
    assert agent.spool.names() == []


def test_an_idle_agent_says_what_it_can_do(agent):
    answer = agent.exchange(Query(9, "boreside::info"), Close())
    assert answer.responses[0].correlation_id == 9
    assert not any(isinstance(m, Text) for m in answer.messages)
