"""A measurement whose series are taken delivers the very images of one whose series are not."""

import io

import numpy as np
import pytest

from agent import chains, log
from agent.exam_beside import Beside
from agent.measurement import Measurement
from gadgets.items import Series
from protocols.mrd import Reader
from protocols.mrd_types import Close, ConfigFile, HeaderText, ImageMessage
from protocols.mrd_write import encode
from scanner.exam import quick_exam
from scanner.phantom import LumbarSpine, SpineParameters


class Book:
    """Takes series, as `ExamBook`; or stumbles over them."""

    def __init__(self, stumbles=False):
        self.series = []
        self.images_before = []
        self.left = []
        self.stumbles = stumbles

    def pages(self, header):
        return ()

    def take(self, header, series):
        if self.stumbles:
            raise ZeroDivisionError
        self.series.append((header, series))
        self.images_before.append(len(self.left))


@pytest.fixture(scope="module")
def step():
    return quick_exam(LumbarSpine(SpineParameters()))[2]


@pytest.fixture(scope="module")
def recording(step):
    readouts = list(step.readouts())

    def of(config):
        messages = [ConfigFile(config), HeaderText(step.header_xml), *readouts, Close()]
        return b"".join(bytes(part) for message in messages for part in encode(message))

    return of


def measure(raw, book):
    left = []
    if book is not None:
        book.left = left
    report = Measurement(
        lambda: Reader(io.BytesIO(raw)),
        left.append,
        "conventional",
        "uint16",
        log.get(),
        beside=None if book is None else Beside(book, None),
    ).run()
    assert not report.errors
    return [message for message in left if isinstance(message, ImageMessage)]


@pytest.mark.parametrize("config", ["conventional", "conventional-maps", "dl", "denoise"])
def test_images_are_the_same_to_the_last_bit(recording, config):
    raw, book = recording(config), Book()
    with_it, without = measure(raw, book), measure(raw, None)
    assert len(with_it) == len(without) >= 3
    for one, other in zip(with_it, without, strict=True):
        assert one.header.tobytes() == other.header.tobytes()
        assert np.array_equal(one.data, other.data)
        assert one.attributes == other.attributes
    assert len(book.series) == 1


def test_the_series_comes_when_its_images_have_left(recording):
    book = Book()
    measure(recording("conventional"), book)
    (header, series), (before,) = book.series[0], book.images_before
    assert isinstance(series, Series) and series.name == "stir_sag" and len(series.data) == 3
    assert header.studyInformation.studyInstanceUID
    assert before == 3


def test_who_stumbles_over_a_series_does_not_hurt_the_measurement(recording):
    assert len(measure(recording("conventional"), Book(stumbles=True))) == 3


def test_chains_without_series_stay_as_they_were(recording):
    book = Book()
    assert len(measure(recording("simplefft"), book)) == 3
    assert book.series == []


def test_builders_of_integrators_take_two_arguments(monkeypatch, recording):
    simple = chains.CHAINS["simplefft"]
    monkeypatch.setitem(
        chains.CHAINS, "ours", lambda header, pixel_type: simple(header, pixel_type)
    )
    assert len(measure(recording("ours"), Book())) == 3
