"""Scanners that misbehave, all of them against one agent: a process that has to survive each."""

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from bench.agents import AgentProcess
from bench.data import Measurement
from bench.exams import Outcome
from protocols.mrd import Reader
from protocols.mrd_types import (
    AcquisitionFlag,
    Close,
    ConfigFile,
    HeaderText,
    ImageMessage,
    ReadoutBlock,
)
from tests.faults.harness import SLICES, Faults, kept_images, raw, same_picture, send, spool

Spoil = Callable[[ReadoutBlock], ReadoutBlock]
CONVENTIONAL = ConfigFile("conventional")
LAST = int(AcquisitionFlag.LAST_IN_SLICE | AcquisitionFlag.LAST_IN_MEASUREMENT)


def doubled(readouts: ReadoutBlock) -> ReadoutBlock:
    return readouts[np.repeat(np.arange(len(readouts)), 2)]


def reordered(readouts: ReadoutBlock) -> ReadoutBlock:
    """Within slices, as parallel senders would; the marked last ones stay the last."""
    each = len(readouts) // SLICES
    draw = np.random.default_rng(0)
    order = [k * each + np.r_[draw.permutation(each - 1), each - 1] for k in range(SLICES)]
    return readouts[np.concatenate(order)]


def unflagged(readouts: ReadoutBlock) -> ReadoutBlock:
    headers = readouts.headers.copy()
    headers["flags"] &= ~np.uint64(LAST)
    return ReadoutBlock(headers, readouts.samples)


def not_finite(readouts: ReadoutBlock) -> ReadoutBlock:
    samples = readouts.samples.copy()
    samples[5, 0, 3], samples[60, 1, 7] = np.nan, np.inf
    return ReadoutBlock(readouts.headers, samples)


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [
        ("duplicated readouts", doubled),
        ("reordered readouts", reordered),
        ("last-in-slice flags are missing", unflagged),
        ("NaN and Inf among the samples", not_finite),
    ],
)
def test_every_slice_of_damaged_readouts_gives_its_image(
    calm: AgentProcess, scan: Measurement, expected: list, faults: Faults, fault: str, spoil: Spoil
) -> None:
    with calm.connect() as peer:
        outcome = send(peer, CONVENTIONAL, scan.header, scan.noise, spoil(scan.readouts), Close())
    assert outcome.closed and len(outcome.images) == SLICES
    assert all(same_picture(image, truth) for image, truth in zip(outcome.images, expected))
    faults.saw(fault, outcome, calm, SLICES)


@pytest.mark.parametrize(
    ("fault", "what", "instead"),
    [
        ("header states another matrix than the readouts have", "<x>96</x>", "<x>40</x>"),
        ("header is no MRD header", "<ismrmrdHeader", "<somethingElse"),
        ("header holds words for numbers", "<x>96</x>", "<x>wide</x>"),
    ],
)
def test_a_header_that_does_not_fit_still_gives_images(
    calm: AgentProcess, scan: Measurement, faults: Faults, fault: str, what: str, instead: str
) -> None:
    assert what in scan.header.xml
    header = HeaderText(scan.header.xml.replace(what, instead))
    with calm.connect() as peer:
        outcome = send(peer, CONVENTIONAL, header, scan.noise, scan.readouts, Close())
    assert outcome.closed and len(outcome.images) == SLICES
    faults.saw(fault, outcome, calm, SLICES)


def test_a_matrix_beyond_the_machine_is_refused_by_name_and_raw_data_kept(
    calm: AgentProcess, scan: Measurement, faults: Faults
) -> None:
    xml = scan.header.xml.replace("<y>48</y>", "<y>65535</y>").replace("<z>1</z>", "<z>65535</z>")
    with calm.connect() as peer:
        outcome = send(peer, CONVENTIONAL, HeaderText(xml), scan.noise, scan.readouts, Close())
    assert outcome.closed
    assert any(text.startswith("ERR") and "at most" in text for text in outcome.texts)
    name = spool(calm).names()[-1]
    assert raw(scan.readouts) in spool(calm).path(name).read_bytes()
    faults.saw("header asks for more memory than there is", outcome, calm, 0)


def test_another_number_of_coils_in_the_middle_costs_no_other_slice(
    calm: AgentProcess, scan: Measurement, expected: list, faults: Faults
) -> None:
    each = len(scan.readouts) // SLICES
    odd = scan.readouts[each : each + 4]
    odd = ReadoutBlock(odd.headers, odd.samples[:, :2])
    parts = scan.readouts[:each], odd, scan.readouts[each:]
    with calm.connect() as peer:
        outcome = send(peer, CONVENTIONAL, scan.header, scan.noise, *parts, Close())
    assert outcome.closed and len(outcome.images) == SLICES
    assert all(same_picture(image, truth) for image, truth in zip(outcome.images, expected))
    faults.saw("another number of coils in the middle of a scan", outcome, calm, SLICES)


def test_a_scanner_that_vanishes_within_a_slice_leaves_its_images_behind(
    calm: AgentProcess, scan: Measurement, expected: list, faults: Faults
) -> None:
    before = set(spool(calm).names())
    each = len(scan.readouts) // SLICES
    outcome = Outcome()
    with calm.connect() as peer:
        peer.sendall(raw(CONVENTIONAL, scan.header, scan.noise, scan.readouts[: each + 20]))
        for message in Reader(peer.makefile("rb", buffering=0)):
            if isinstance(message, ImageMessage):
                outcome.images.append(message)
                break
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    (name,) = set(spool(calm).names()) - before
    while not spool(calm).done(name):
        threading.Event().wait(0.05)
    kept = kept_images(calm, name)
    assert same_picture(kept[0], expected[0]) and int(kept[1].header["slice"]) == 1
    outcome.images.clear()
    faults.saw("scanner disconnects within a slice", outcome, calm, 2, len(kept))


def test_two_scanners_with_the_same_ids_do_not_get_each_others_images(
    calm: AgentProcess, scan: Measurement, expected: list, faults: Faults
) -> None:
    mirrored = scan.readouts.samples[..., ::-1].conj()
    upside_down = replace(scan, readouts=ReadoutBlock(scan.readouts.headers, mirrored))
    outcomes: dict[int, Outcome] = {}

    def scanner(number: int, mine: Measurement) -> None:
        with calm.connect() as peer:
            outcomes[number] = send(
                peer, CONVENTIONAL, mine.header, mine.noise, mine.readouts, Close()
            )

    scans = [scan, upside_down, scan, upside_down]
    threads = [threading.Thread(target=scanner, args=each) for each in enumerate(scans)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, outcome in outcomes.items():
        assert outcome.closed and len(outcome.images) == SLICES
        mine = [same_picture(image, truth) for image, truth in zip(outcome.images, expected)]
        assert all(mine) if number % 2 == 0 else not any(mine)
    everything = Outcome([i for o in outcomes.values() for i in o.images], [], True)
    faults.saw("two scanners with the same ids at once", everything, calm, 4 * SLICES)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 5000])
def test_garbage_is_answered_with_an_error_after_the_images(
    calm: AgentProcess, scan: Measurement, faults: Faults, garbage: bytes
) -> None:
    with calm.connect() as peer:
        outcome = send(peer, CONVENTIONAL, scan.header, scan.noise, scan.readouts, garbage)
    assert outcome.closed and len(outcome.images) == SLICES
    assert outcome.texts[-1].startswith("ERR")
    faults.saw("garbage instead of the next message", outcome, calm, SLICES)
