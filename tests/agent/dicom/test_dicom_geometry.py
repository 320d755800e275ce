"""A marked point of a phantom is at the same patient coordinate in MRD, in DICOM and on the page.

A ball lies at a known place, is scanned obliquely by the virtual scanner, reconstructed by the
agent's own chain, and its centre found in DICOM's coordinates alone.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from agent import chains
from agent.dicom import DicomExam
from agent.dicom_settings import DicomSettings
from agent.events import EventReader, Events
from protocols.geometry import Volume, volume
from protocols.header import parse_header
from protocols.mrd_types import ImageMessage
from scanner.sequence import Geometry, NoiseScan, Protocol, Sampling, TurboSpinEcho
from scanner.step import make_scanner

PLACE = np.array([2.0, -8.0, 3.0])
RADIUS_MM = 10.0
ELSEWHERE = np.array([[90.0, 82.0, 3.0], [90.0, -98.0, 3.0]])
"""Outside all slices. Coils lie behind and before these, far from the ball: it is evenly bright."""


class Balls:
    """Three balls of muscle, and nothing else in the world."""

    def sample(self, points):
        inside = np.zeros(points.shape[:-1], bool)
        for place, radius in ((PLACE, RADIUS_MM), *((place, 25.0) for place in ELSEWHERE)):
            inside |= np.linalg.norm(points - place, axis=-1) <= radius
        return SimpleNamespace(
            labels=np.where(inside, 3, 0).astype(np.uint8),
            density=inside.astype(np.float32),
            fat_fraction=np.zeros(inside.shape, np.float32),
        )

    def b0_ppm(self, points):
        return np.zeros(points.shape[:-1], np.float32)


@pytest.fixture(scope="module")
def scanned():
    tilt = np.deg2rad(20.0)
    geometry = Geometry(
        (0.0, -4.0, 1.0),
        (0.0, float(np.cos(tilt)), float(np.sin(tilt))),
        (0.0, float(np.sin(tilt)), -float(np.cos(tilt))),
        field_of_view_mm=(96.0, 80.0),
        matrix=(96, 80),
        slices=12,
        thickness_mm=4.0,
    )
    protocol = Protocol(
        "marked",
        TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
        geometry,
        Sampling(),
        NoiseScan(readouts=64),
    )
    [step] = make_scanner(Balls(), rows=6, columns=2, anterior=True, noise_level=0.1).exam_steps(
        [protocol]
    )
    header = parse_header(step.header_xml)
    chain = chains.build("conventional", header, "float32")
    return header, [m for m in chain(step.readouts()) if isinstance(m, ImageMessage)]


def centre(slices):
    """Centre of mass of what is bright, of (values, point of a pixel)."""
    top = max(values.max() for values, _ in slices)
    bright = [
        (values[y, x], place(y, x))
        for values, place in slices
        for y, x in np.argwhere(values > 0.15 * top)
    ]
    return np.average([point for _, point in bright], axis=0, weights=[v for v, _ in bright])


def mrd_slices(messages):
    for message in messages:
        where = volume(message.header, message.data.shape[1:])
        yield message.data[0, 0].astype(float), lambda y, x, where=where: where.point(0, y, x)


def dicom_frames(datasets):
    for dataset in datasets:
        frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        groups = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
        for group, values in zip(groups, frames):
            if group is None:
                origin, axes = dataset.ImagePositionPatient, dataset.ImageOrientationPatient
                spacing, slope = dataset.PixelSpacing, float(dataset.RescaleSlope)
            else:
                shared = dataset.SharedFunctionalGroupsSequence[0]
                origin = group.PlanePositionSequence[0].ImagePositionPatient
                axes = shared.PlaneOrientationSequence[0].ImageOrientationPatient
                spacing = shared.PixelMeasuresSequence[0].PixelSpacing
                slope = float(shared.PixelValueTransformationSequence[0].RescaleSlope)
            row, column = np.split(np.array(axes, float), 2)

            def place(y, x, origin=origin, spacing=spacing, row=row, column=column):
                return np.array(origin, float) + x * spacing[1] * row + y * spacing[0] * column

            yield values * slope, place


@pytest.mark.parametrize("objects", ["classic", "enhanced"])
def test_a_marked_point_is_where_it_is_within_half_a_millimetre(scanned, objects):
    header, messages = scanned
    out = []
    sink = DicomExam(DicomSettings(objects=objects), out.append).sink("m", header)
    for message in messages:
        sink.add(message)
    assert sink.close() == []
    in_dicom, in_mrd = centre(list(dicom_frames(out))), centre(list(mrd_slices(messages)))
    assert np.linalg.norm(in_dicom - in_mrd) < 0.01
    assert np.linalg.norm(in_dicom - PLACE) <= 0.5, in_dicom - PLACE


def test_the_console_page_has_the_point_at_the_same_place(scanned, tmp_path):
    _, messages = scanned
    with Events(tmp_path) as events:
        for message in messages:
            events.picture("exam", "marked", message)
    reader = EventReader(tmp_path)
    pictures = [row.event for row in reader.after(0) if row.kind == "picture"]
    reader.close()

    def shown():
        for picture in pictures:
            pixels = np.frombuffer((tmp_path / "pictures" / picture.file).read_bytes(), "<u2")
            values = pixels.reshape(picture.shape)[0] * picture.slope
            where = Volume(
                np.array(picture.position),
                np.array(picture.directions),
                picture.shape,
                np.array(picture.spacing),
            )
            yield values, lambda y, x, where=where: where.point(0, y, x)

    on_page, in_mrd = centre(list(shown())), centre(list(mrd_slices(messages)))
    assert np.linalg.norm(on_page - in_mrd) < 0.01
    assert np.linalg.norm(on_page - PLACE) <= 0.5, on_page - PLACE
