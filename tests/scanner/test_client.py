"""The scanner's client against real peers: threads that speak MRD over sockets and pipes."""

import os
import socket
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from protocols.mrd import Reader
from protocols.mrd_types import (
    ACQUISITION_HEADER,
    IMAGE_HEADER,
    AcquisitionFlag,
    Close,
    ConfigFile,
    HeaderText,
    ImageMessage,
    ReadoutBlock,
    Text,
)
from protocols.mrd_write import write
from scanner import client
from scanner.client import ServerAbsent, SessionBroken, stream

TICK_S = 0.0025


def block(slices, noise=False, tick=0) -> ReadoutBlock:
    headers = np.zeros(len(slices), ACQUISITION_HEADER)
    headers["idx"]["slice"] = slices
    headers["acquisition_time_stamp"] = tick
    if noise:
        headers["flags"] = int(AcquisitionFlag.IS_NOISE_MEASUREMENT)
    return ReadoutBlock(headers, np.ones((len(slices), 2, 8), np.complex64))


def image(slice_number) -> ImageMessage:
    header = np.zeros((), IMAGE_HEADER)
    header["slice"] = slice_number
    return ImageMessage(header[()], np.full((1, 1, 2, 2), slice_number, np.uint16))


def measurement(*blocks):
    return [ConfigFile("boreside"), HeaderText("<xml/>"), *blocks]


class Peer:
    """A server of one connection; ``answer(source, sink)`` runs in its thread."""

    def __init__(self, listener, answer):
        self.taken = []
        self._listener, self._answer = listener, answer
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with (
            connection,
            connection.makefile("rb", 0) as source,
            connection.makefile("wb", 0) as sink,
        ):
            self._answer(self, source, sink)


@contextmanager
def serving(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(listener, answer)
        yield f"127.0.0.1:{listener.getsockname()[1]}", peer
        peer.thread.join(10)


def whole_session(peer, source, sink):
    """Answer every readout of a line with an image of its slice, then CLOSE."""
    for message in Reader(source):
        peer.taken.append(message)
        if isinstance(message, ReadoutBlock):
            lines = message[message.headers["flags"] == 0]
            write(sink, *(image(number) for number in lines.headers["idx"]["slice"]))
    write(sink, Text("DBG done"), Close())


class TestSession:
    def test_everything_is_sent_and_everything_comes_back(self):
        told = []
        with serving(whole_session) as (address, peer):
            got = stream(address, measurement(block([0, 1, 2])), on_item=told.append)
        assert [type(m).__name__ for m in peer.taken] == [
            "ConfigFile",
            "HeaderText",
            "ReadoutBlock",
            "Close",
        ]
        assert [int(m.header["slice"]) for m in got.images] == [0, 1, 2]
        assert got.texts == ["DBG done"]
        assert got.closed
        assert {type(m) for m in told} == {ReadoutBlock, ImageMessage, Text, Close}

    def test_unix_sockets_and_pipes_are_addresses_too(self, tmp_path):
        path = tmp_path / "wire"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            Peer(listener, whole_session)
            assert len(stream(f"unix:{path}", measurement(block([4]))).images) == 1
        (to_read, to_answer), (from_us, to_us) = os.pipe(), os.pipe()
        files = [os.fdopen(fd, mode, 0) for fd, mode in ((to_read, "rb"), (to_us, "wb"))]
        peer = Peer.__new__(Peer)
        peer.taken = []
        thread = threading.Thread(target=whole_session, args=(peer, *files), daemon=True)
        thread.start()
        with os.fdopen(from_us, "rb", 0) as source, os.fdopen(to_answer, "wb", 0) as sink:
            assert len(stream((source, sink), measurement(block([4]))).images) == 1
        thread.join(10)
        for file in files:
            file.close()

    def test_megabytes_both_ways_at_once_do_not_lock(self):
        """Neither side's socket buffer holds it all: both have to be drained while sending."""

        def echo_much(peer, source, sink):
            for message in Reader(source):
                if isinstance(message, ReadoutBlock):
                    big = image(0)
                    write(sink, ImageMessage(big.header, np.zeros((1, 1, 1024, 1024), np.uint16)))
            write(sink, Close())

        large = ReadoutBlock(
            np.zeros(64, ACQUISITION_HEADER), np.zeros((64, 16, 1024), np.complex64)
        )
        with serving(echo_much) as (address, _):
            got = stream(address, measurement(large, large, large))
        assert len(got.images) >= 3


class TestTimes:
    def test_latency_is_from_the_last_line_of_the_image_sent_to_the_image_received(self):
        with serving(whole_session) as (address, _):
            got = stream(
                address,
                measurement(block([7], noise=True), block([7]), block([8]), block([7])),
            )
        assert got.readouts["line"].tolist() == [False, True, True, True]
        assert len(got.lines_of(0)) == 2
        last_of_7 = got.readouts["sent_ns"][3]
        number = [int(m.header["slice"]) for m in got.images].index(7)
        assert got.latency_ms(number) == (got.image_ns[number] - last_of_7) * 1e-6

    def test_an_image_of_no_line_has_no_latency(self):
        def one_image(peer, source, sink):
            list(Reader(source))
            write(sink, image(9), Close())

        with serving(one_image) as (address, _):
            assert np.isnan(stream(address, measurement(block([0]))).latency_ms(0))

    @pytest.mark.parametrize("pace", [1.0, 4.0])
    def test_paced_readouts_leave_no_earlier_than_their_time_stamps(self, pace):
        ticks = 1000 + np.array([0, 4, 4, 16])
        with serving(whole_session) as (address, _):
            got = stream(address, measurement(block([0] * 4, tick=ticks)), pace=pace)
        after = (got.readouts["sent_ns"] - got.readouts["sent_ns"][0]) * 1e-9
        first_may_be_late = 0.5 * TICK_S
        assert (after >= (ticks - ticks[0]) * TICK_S / pace - first_may_be_late).all()


class TestBrokenSessions:
    def test_nobody_there(self, monkeypatch):
        monkeypatch.setattr(client, "CONNECT_PAUSE_S", 0.001)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(ServerAbsent, match=f"no MRD server at 127.0.0.1:{port}.*start one"):
            stream(f"127.0.0.1:{port}", measurement())

    def test_a_server_that_comes_up_late_is_found(self, tmp_path):
        path = tmp_path / "late"
        with socket.socket(socket.AF_UNIX) as listener:

            def listen():
                listener.bind(str(path))
                listener.listen()
                Peer(listener, whole_session)

            threading.Timer(0.05, listen).start()
            assert stream(f"unix:{path}", measurement(block([1]))).closed

    def test_what_came_before_the_server_died_is_kept(self):
        def die_after_one_image(peer, source, sink):
            messages = Reader(source)
            for _ in range(3):
                next(iter(messages))
            write(sink, image(5))

        with serving(die_after_one_image) as (address, _), pytest.raises(SessionBroken) as broken:
            stream(address, measurement(block([0])))
        assert [int(m.header["slice"]) for m in broken.value.received.images] == [5]
        assert "1 images had come back" in str(broken.value)

    def test_a_server_that_hangs_up_ends_a_paced_scan_at_once(self):
        def hang_up(peer, source, sink):
            write(sink, Text("ERR no"), Close())

        an_hour = np.array([0, 3600 / TICK_S])
        with serving(hang_up) as (address, _), pytest.raises(SessionBroken) as broken:
            stream(address, measurement(block([0, 0], tick=an_hour)), pace=1.0)
        assert broken.value.received.texts == ["ERR no"]

    def test_a_server_that_breaks_the_protocol(self):
        def babble(peer, source, sink):
            sink.write(b"\xff\xff?")
            list(Reader(source))

        with serving(babble) as (address, _), pytest.raises(SessionBroken, match="65535"):
            stream(address, measurement(block([0])))

    def test_a_silent_server_is_given_up(self):
        def silent(peer, source, sink):
            list(Reader(source))
            source.read(1)

        with serving(silent) as (address, _), pytest.raises(SessionBroken, match="fell silent"):
            stream(address, measurement(block([0])), silence_s=0.1)

    def test_a_broken_input_ends_the_connection(self):
        def broken_input():
            yield from measurement(block([0]))
            raise OSError("disk gone")

        serve = serving(lambda peer, source, sink: list(Reader(source)))
        with serve as (address, peer), pytest.raises(OSError, match="disk gone"):
            stream(address, broken_input())
        assert not peer.thread.is_alive()

    @pytest.mark.parametrize("address", ["nowhere", "host:port"])
    def test_an_address_that_is_none(self, address):
        with pytest.raises(ValueError, match="host:port or unix:/path"):
            stream(address, measurement())
