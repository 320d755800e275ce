"""A session, as a scanner sees it."""

import json
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from agent import chains
from bench.data import measurement
from protocols.meta import parse_meta
from protocols.mrd import Reader
from protocols.mrd_hdf5 import read_measurement
from protocols.mrd_types import (
    AcquisitionFlag,
    Close,
    ConfigFile,
    HeaderText,
    ImageMessage,
    Query,
    ReadoutBlock,
    Response,
)
from protocols.mrd_write import write

JSON = {"version": "1.1.0", "parameters": {"config": "invertcontrast", "customconfig": ""}}


def pixels(image: ImageMessage) -> np.ndarray:
    return image.data.squeeze().astype(float)


def looks_like(image: ImageMessage, truth: np.ndarray) -> bool:
    return np.corrcoef(pixels(image).ravel(), truth.ravel())[0, 1] > 0.99


def sinks(peer: socket.socket) -> tuple[Any, Any]:
    return peer.makefile("wb", buffering=0), peer.makefile("rb", buffering=0)


def test_a_stock_client_gets_its_image_and_a_close(agent, scan, stock):
    answer = agent.exchange(
        stock.config_file("simplefft"),
        stock.header(scan.header.xml),
        stock.acquisitions(scan.readouts),
        stock.close,
    )
    (image,) = answer.images
    assert looks_like(image, scan.truth)
    assert answer.closed


@pytest.mark.parametrize("config", ["conventional", "grappa"])
def test_an_accelerated_scan_is_reconstructed(agent, config):
    scan = measurement((64, 64, 1), coils=8, acceleration=2)
    answer = agent.exchange(ConfigFile(config), scan.header, scan.noise, scan.readouts, Close())
    (image,) = answer.images
    assert image.data.dtype == np.uint16
    assert looks_like(image, scan.truth)
    assert answer.texts == [] and answer.closed
    assert float(parse_meta(image.attributes)["BoresideLatencyMs"]) > 0


def test_maps_follow_the_image_they_belong_to(agent):
    scan = measurement((64, 64, 1), coils=8, acceleration=2)
    config = ConfigFile("conventional-maps")
    answer = agent.exchange(config, scan.header, scan.noise, scan.readouts, Close())
    quantities = [parse_meta(image.attributes)["BoresideQuantity"] for image in answer.images]
    assert quantities == ["magnitude", "g-factor", "snr"]


def test_every_image_says_how_long_it_took_from_its_last_readout(agent, scan):
    answer = agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts, Close())
    assert float(parse_meta(answer.images[0].attributes)["BoresideLatencyMs"]) > 0
    assert agent.states()[0]["latency_ms"]["max"] > 0


def test_the_spool_holds_the_wires_own_bytes_and_what_became_of_them(agent, scan, stock):
    raw = (
        stock.config_file("simplefft")
        + stock.header(scan.header.xml)
        + stock.acquisitions(scan.readouts)
        + stock.close
    )
    agent.exchange(raw)
    (name,) = agent.spool.names()
    assert agent.spool.path(name).read_bytes() == raw
    state = agent.spool.state(name)
    assert state["outcome"] == "delivered"
    assert state["readouts"] == len(scan.readouts)
    assert state["images"] == [[0, 1, 0, 0, 0, 0, 0]]
    assert state["errors"] == []


def test_a_scan_that_the_chain_cannot_take_still_gives_an_image(start, scan):
    agent = start(chain="conventional")
    header = HeaderText(scan.header.xml.replace(">cartesian<", ">other<"))
    answer = agent.exchange(ConfigFile("conventional"), header, scan.readouts, Close())
    assert looks_like(answer.images[0], scan.truth)
    assert any(text.startswith("ERR") for text in answer.texts)
    assert answer.closed


@pytest.mark.parametrize("name", ["default.xml", "no_such_module", ""])
def test_a_configuration_we_do_not_know_gives_the_default_and_a_warning(agent, scan, stock, name):
    answer = agent.exchange(
        stock.config_file(name), scan.header, stock.acquisitions(scan.readouts), Close()
    )
    assert looks_like(answer.images[0], scan.truth)
    assert any(text.startswith("WRN") for text in answer.texts) == bool(name)


@pytest.mark.parametrize("parameters", [JSON["parameters"], {"customconfig": "invertcontrast"}])
def test_json_parameters_after_the_header_choose_the_configuration(agent, scan, stock, parameters):
    answer = agent.exchange(
        stock.config_file("simplefft"),
        stock.header(scan.header.xml),
        stock.text(json.dumps({**JSON, "parameters": parameters})),
        stock.acquisitions(scan.readouts),
        stock.close,
    )
    assert parse_meta(answer.images[0].attributes)["ImageProcessingHistory"] == ["PYTHON", "INVERT"]


@pytest.mark.parametrize("text", ["{", "[]", '{"parameters": 3}', '{"parameters": {"config": 3}}'])
def test_parameters_that_are_none_do_not_disturb(agent, scan, stock, text):
    answer = agent.exchange(
        stock.config_file("simplefft"), scan.header, stock.text(text), scan.readouts, Close()
    )
    assert looks_like(answer.images[0], scan.truth)


def test_a_configuration_may_come_as_text(agent, scan, stock):
    answer = agent.exchange(
        stock.config_text("invertcontrast"), scan.header, scan.readouts, Close()
    )
    assert "INVERT" in answer.images[0].attributes


@pytest.mark.parametrize("config", ["null", "savedataonly"])
def test_data_may_just_be_taken(agent, scan, config):
    answer = agent.exchange(ConfigFile(config), scan.header, scan.readouts, Close())
    assert answer.messages == [Close()] and answer.ended
    assert agent.states()[0]["readouts"] == len(scan.readouts)


def test_images_are_answered_with_images_even_after_a_dummy_header(agent, stock):
    first, second = (np.arange(12, dtype=np.int16).reshape(3, 4) + k for k in (0, 5))
    answer = agent.exchange(
        stock.config_file("invertcontrast"),
        stock.header("Dummy XML header"),
        stock.image(first, index=1, IceMiniHead="AAAA"),
        stock.image(second, index=2),
        stock.close,
    )
    scaled = [np.around(a * (4095 / 16)).astype(int) for a in (first, second)]
    for image, expected in zip(answer.images, scaled):
        np.testing.assert_array_equal(pixels(image), 4095 - expected)
    assert parse_meta(answer.images[0].attributes)["IceMiniHead"] == "AAAA"
    assert answer.closed


def test_images_pass_the_default_chain_unchanged(start, stock):
    agent = start(chain="conventional")
    data = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer = agent.exchange(
        stock.config_file("anything"), stock.header("Dummy XML header"), stock.image(data), Close()
    )
    np.testing.assert_array_equal(pixels(answer.images[0]), data)


def test_a_connection_without_a_header_just_ends(agent, stock):
    assert agent.exchange(stock.config_file("default_measurement_dependencies.xml"), Close()).closed
    agent.exchange(stock.close)
    with agent.connect():
        pass
    agent.stop()
    assert agent.spool.names() == []


def test_a_stream_without_configuration_has_its_header_echoed(agent, scan):
    answer = agent.exchange(scan.header, scan.readouts, Close())
    assert answer.messages[0] == scan.header
    assert looks_like(answer.images[0], scan.truth)


def test_queries_are_answered_at_any_moment(agent, scan, stock):
    config, header = stock.config_file("null"), stock.header(scan.header.xml)
    lines = stock.acquisitions(scan.readouts)
    query_bytes = 2 + 8 + 8 + 8 + len("boreside::spooled")
    with agent.connect() as peer:
        sink, source = sinks(peer)
        reader = Reader(source)
        write(sink, Query(1, "boreside::info"))
        info = reader.read()
        assert isinstance(info, Response) and info.correlation_id == 1
        assert "simplefft" in json.loads(info.text)["configurations"]
        write(sink, Query(2, "boreside::alive"))
        assert reader.read() == Response(2, "alive")
        peer.sendall(config + header + lines)
        write(sink, Query(3, "boreside::spooled"))
        answer = reader.read()
        before = 2 * (query_bytes - len("boreside::spooled")) + len("boreside::infoboreside::alive")
        total = before + len(config + header + lines) + query_bytes
        assert answer == Response(3, str(total))
        assert sum(agent.spool.path(n).stat().st_size for n in agent.spool.names()) == total
        write(sink, Query(4, "what?"), Close())
        assert "unknown query" in reader.read().text
        assert reader.read() == Close()


def test_several_scanners_with_different_coils_at_once(agent):
    scans = [measurement((32 + 8 * k, 32, 1), coils=2 + k) for k in range(4)]
    answers: dict[int, Any] = {}

    def scanner(k: int) -> None:
        s = scans[k]
        with agent.connect() as peer:
            sink, source = sinks(peer)
            write(sink, ConfigFile("simplefft"), s.header)
            for line in range(len(s.readouts)):
                write(sink, s.readouts[line : line + 1])
            write(sink, Close())
            answers[k] = list(Reader(source))

    threads = [threading.Thread(target=scanner, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for k, s in enumerate(scans):
        image, close = answers[k]
        assert looks_like(image, s.truth)
        assert close == Close()


def test_a_peer_that_vanishes_within_a_message_leaves_its_images_behind(agent, scan, stock):
    lines = stock.acquisitions(scan.readouts)
    with agent.connect() as peer:
        write(peer.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        peer.sendall(lines)
        write(peer.makefile("wb", buffering=0), Query(1, "boreside::spooled"))
        assert isinstance(Reader(peer.makefile("rb", buffering=0)).read(), ImageMessage)
        peer.sendall(lines[:1000])
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    agent.stop()
    (name,) = agent.spool.names()
    state = agent.spool.state(name)
    assert state["outcome"] == "kept"
    (image,) = read_measurement(agent.spool.results / f"{name}.h5")
    assert looks_like(image, scan.truth)


def test_a_peer_that_stops_sending_mid_message_is_told_so_after_its_image(agent, scan, stock):
    lines = stock.acquisitions(scan.readouts)
    with agent.connect() as peer:
        write(peer.makefile("wb", buffering=0), ConfigFile("simplefft"), scan.header)
        peer.sendall(lines + lines[:1000])
        peer.shutdown(socket.SHUT_WR)
        image, error, close = Reader(peer.makefile("rb", buffering=0))
    assert looks_like(image, scan.truth)
    assert error.text.startswith("ERR") and "expected" in error.text
    assert close == Close()


def test_a_slice_that_breaks_off_gives_an_image_that_says_so(agent, scan):
    answer = agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts[:50], Close())
    assert "incomplete" in parse_meta(answer.images[0].attributes)["ImageComments"]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("<HI", 3, 1 << 31),
        struct.pack("<H", 1022) + b"\xff" * 300,
        struct.pack("<H", 1050) + b"\xff" * 300,
    ],
    ids=["http", "header too long", "image", "bucket"],
)
def test_garbage_is_answered_with_an_error_after_the_images(agent, scan, garbage):
    answer = agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts, garbage)
    assert looks_like(answer.images[0], scan.truth)
    assert answer.texts[-1].startswith("ERR")
    assert answer.closed
    assert agent.exchange(garbage).closed
    assert agent.exchange(ConfigFile("null"), scan.header, scan.readouts, Close()).closed


def fails_after(images: int) -> Any:
    def build(header: Any, pixel_type: str) -> Any:
        def gadget(items: Iterator[Any]) -> Iterator[Any]:
            for made, item in enumerate(chains.fire.simplefft(header)(items)):
                if made == images:
                    raise RuntimeError("injected")
                yield item

        return gadget

    return build


def slices(scan: Any, count: int) -> ReadoutBlock:
    headers = np.tile(scan.readouts.headers, count)
    headers["idx"]["slice"] = np.repeat(np.arange(count), len(scan.readouts))
    headers["flags"][:-1] &= ~np.uint64(AcquisitionFlag.LAST_IN_MEASUREMENT)
    scale = np.repeat(np.arange(1, count + 1), len(scan.readouts))[:, None, None]
    samples = np.tile(scan.readouts.samples, (count, 1, 1)) * scale
    return ReadoutBlock(headers, samples.astype(np.complex64))


@pytest.mark.parametrize("delivered", [0, 1, 2])
def test_a_chain_that_fails_gives_way_and_no_image_is_lost_or_doubled(
    agent, scan, monkeypatch, delivered
):
    monkeypatch.setitem(chains.CHAINS, "failing", fails_after(delivered))
    answer = agent.exchange(ConfigFile("failing"), scan.header, slices(scan, 3), Close())
    assert [int(i.header["slice"]) for i in answer.images] == [0, 1, 2]
    assert all(looks_like(image, scan.truth) for image in answer.images)
    assert any(text.startswith("ERR") and "injected" in text for text in answer.texts)
    assert answer.closed
    (state,) = agent.states()
    assert state["outcome"] == "delivered" and state["errors"]


def test_a_chain_that_fails_returns_the_images_it_was_sent(agent, stock, monkeypatch):
    monkeypatch.setitem(chains.CHAINS, "failing", fails_after(1))
    sent = [stock.image(np.full((3, 4), k, np.int16), index=k, Tag=str(k)) for k in (1, 2, 3)]
    answer = agent.exchange(stock.config_file("failing"), stock.header("?"), *sent, stock.close)
    assert [int(i.data.max()) for i in answer.images] == [1, 2, 3]
    assert [parse_meta(i.attributes)["Tag"] for i in answer.images] == ["1", "2", "3"]
    assert b"".join(ismrmrd_bytes(i) for i in answer.images[1:]) == b"".join(sent[1:])


def ismrmrd_bytes(image: ImageMessage) -> bytes:
    pieces: list[bytes] = []

    class Sink:
        def write(self, buffer: Any) -> int:
            pieces.append(bytes(buffer))
            return len(buffer)

    write(Sink(), image)
    return b"".join(pieces)


def test_a_client_that_reads_nothing_does_not_stop_the_receiving(agent):
    scan = measurement((256, 256, 1), coils=1)
    count = 120  # images of 128 KiB, more than any socket buffer takes
    with agent.connect() as peer:
        sink, source = sinks(peer)
        write(sink, ConfigFile("simplefft"), scan.header)
        for k in range(count):
            block = slices(scan, 1)
            block.headers["idx"]["repetition"] = k
            write(sink, block)
        write(sink, Close())
        *images, close = Reader(source)
    assert len(images) == count and close == Close()


def test_a_measurement_for_which_the_disk_has_no_room_is_made_in_memory_and_says_so(start, scan):
    agent = start(spool={"max_bytes": 100_000})
    answer = agent.exchange(
        ConfigFile("simplefft"), scan.header, scan.readouts, Query(1, "boreside::spooled"), Close()
    )
    assert looks_like(answer.images[0], scan.truth)
    assert int(answer.responses[0].text) <= 100_000
    assert any("not on the disk" in text for text in answer.texts)
    assert agent.states()[0]["durable"] is False


def test_a_measurement_for_which_even_memory_has_no_room_ends_with_a_named_error(start, scan):
    agent = start(spool={"max_bytes": 100_000, "memory_bytes": 100_000})
    answer = agent.exchange(ConfigFile("simplefft"), scan.header, scan.readouts, Close())
    assert any("spool.max_bytes" in text for text in answer.texts)
    assert len(answer.images) == 1
    assert answer.closed


def test_headers_and_texts_are_not_logged(agent, scan, stock, capfd):
    header = HeaderText(scan.header.xml.replace("<encoding>", "<!--Jane Doe--><encoding>", 1))
    agent.exchange(
        ConfigFile("Jane Doe"),
        header,
        stock.text("Jane Doe"),
        stock.image(np.ones((2, 2), np.int16), PatientName="Jane Doe"),
        Close(),
    )
    agent.exchange(ConfigFile("x"), HeaderText("Jane Doe"), Close())
    agent.stop()
    out, err = capfd.readouterr()
    assert "Jane Doe" not in out + err
