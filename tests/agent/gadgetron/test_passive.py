"""Boreside as a server that Gadgetrons connect to."""

import ipaddress
import re
import socket
from pathlib import Path

import numpy as np

from protocols.mrd_types import IMAGE_HEADER, WAVEFORM_HEADER, ImageMessage, Waveform

PATIENCE_S = 60
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}


def waveform(identifier: int) -> Waveform:
    header = np.zeros((), WAVEFORM_HEADER)
    header["waveform_id"] = identifier
    return Waveform(header[()], np.zeros((2, 4), np.uint32))


def image() -> ImageMessage:
    header = np.zeros((), IMAGE_HEADER)
    header["read_dir"], header["phase_dir"], header["slice_dir"] = np.eye(3)
    header["field_of_view"] = 100
    return ImageMessage(header[()], np.zeros((1, 1, 4, 5), np.uint16), "<ismrmrdMeta/>")


def test_it_listens_on_every_address_of_localhost_and_on_no_other(listening):
    places, process = listening()
    assert all(ipaddress.ip_address(address).is_loopback for address, _ in places)
    (port,) = {port for _, port in places}
    tables = "".join(Path(f"/proc/net/tcp{v}").read_text() for v in ("", "6"))
    bound = re.findall(rf"\d+: ([0-9A-F]+):{port:04X} [0-9A-F]+:0000 {LISTEN}", tables)
    assert len(bound) == len(places) and set(bound) <= LOOPBACK
    assert process.poll() is None


def test_a_measurement_through_each_address_gives_its_image(listening, scan, wire):
    places, process = listening("recon")
    for place in places:
        with socket.create_connection(place, PATIENCE_S) as sock:
            parent = wire.Gadgetron(sock)
            parent.open()
            (result,) = parent.exchange(*scan.acquisitions())
            scan.check(result)
    assert process.poll() is None


def test_several_gadgetrons_are_served_at_once_and_a_broken_one_harms_none(listening, wire):
    places, process = listening("passthrough")
    first, second, broken, silent = (
        wire.Gadgetron(socket.create_connection(places[0], PATIENCE_S)) for _ in range(4)
    )
    silent.sock.close()
    first.open()
    first.send(waveform(1))
    broken.write(b"GET / HTTP/1.1\r\n\r\n")
    assert broken.receive() == [] and len(broken.errors) == 1
    broken.sock.close()
    second.open('<configuration><property name="target" value="images"/></configuration>')
    (result,) = second.exchange(image())
    assert "geometry checked" in result.attribute_string
    assert [w.waveform_id for w in first.exchange(waveform(2))] == [1, 2]
    assert process.poll() is None
    first.sock.close()
    second.sock.close()
