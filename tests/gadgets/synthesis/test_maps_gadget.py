"""The whole way: virtual scanner, reconstruction, maps, synthetic contrasts, messages."""

from dataclasses import replace

import numpy as np
import pytest

from gadgets.finish import Finish
from gadgets.items import Image, Role
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.sort import Sort
from gadgets.stream import chain
from gadgets.synthesis.maps_gadget import MeasuredMaps
from gadgets.synthesis.marks import BurnIn
from gadgets.synthesis.synthetic_mr import CONTRASTS, synthesise, synthetic_mr
from protocols.header import parse_header
from protocols.meta import parse_meta
from protocols.mrd_types import ImageMessage
from scanner.quantitative import multi_delay_multi_echo_step
from scanner.tissues import Label, tissue_table


@pytest.fixture(scope="module")
def scene():
    """A step on balls of one tissue each, its header, and the images it is reconstructed to."""
    from tests.scanner.conftest import Ellipsoids

    balls = Ellipsoids(
        [
            ((0, 0, 0), (150, 100, 190), int(Label.MUSCLE), 1.0, 0.0),
            ((0, 30, 70), (40, 35, 35), int(Label.NUCLEUS), 1.0, 0.0),
            ((0, 30, -20), (40, 35, 35), int(Label.LIVER), 1.0, 0.0),
            ((0, 30, -110), (40, 35, 35), int(Label.SPLEEN), 1.0, 0.0),
        ]
    )
    step = multi_delay_multi_echo_step(balls, matrix=96, slices=2, efficiency=0.92)
    header = parse_header(step.header_xml)
    gadgets = [Prewhiten(header), TransformReadout(header), Sort(header)]
    reconstruct = chain([*gadgets, Reconstruct("sense", header)])
    images = [item for item in reconstruct(step.readouts()) if isinstance(item, Image)]
    return step, header, images


def run(header, images):
    return list(chain(synthetic_mr(header))(iter(images)))


def test_maps_hold_what_the_tissue_table_says(scene):
    step, header, images = scene
    (measured,) = (x for x in run(header, images) if isinstance(x, MeasuredMaps))
    maps, geometry = measured.maps, step.protocol.geometry
    size = geometry.field_of_view_mm[0] / 96
    for label, z_mm in ((Label.NUCLEUS, 70), (Label.LIVER, -20), (Label.SPLEEN, -110)):
        tissue = tissue_table(3.0)[label]
        y, x = round(48 - z_mm / size), round(48 + 30 / size)
        there = np.s_[:, y - 3 : y + 4, x - 3 : x + 4]
        assert np.median(maps.t1_ms[there]) == pytest.approx(tissue.t1_ms, rel=0.05)
        assert np.median(maps.t2_ms[there]) == pytest.approx(tissue.t2_ms, rel=0.05)
        assert np.median(maps.efficiency[there]) == pytest.approx(0.92, rel=0.02)


def test_acquired_images_pass_at_once_and_untouched(scene):
    _, header, images = scene
    items = chain(synthetic_mr(header))(iter(images))
    assert all(next(items) is image for image in images)


def test_maps_are_derived_and_contrasts_synthetic(scene):
    _, header, images = scene
    made = [item for item in run(header, images)[len(images) :] if isinstance(item, Image)]
    roles = {image.quantity: image.role for image in made}
    assert {q for q, role in roles.items() if role is Role.DERIVED} == {
        "t1_map",
        "t2_map",
        "pd",
        "b1",
    }
    names = {q for q, role in roles.items() if role is Role.SYNTHETIC}
    assert names == {f"synthetic-{contrast.name}" for contrast in CONTRASTS}
    assert {image.key.slice for image in made} == {0, 1}
    stir = next(image for image in made if image.quantity == "synthetic-stir")
    assert "TI 259 ms (nulls fat)" in stir.history[-1] and "Warntjes 2008" in stir.history[-1]


def test_messages_carry_their_times_and_maps_their_units(scene):
    _, header, images = scene
    whole = chain([*synthetic_mr(header), Finish(header), BurnIn()])
    found = [x for x in whole(iter(images)) if isinstance(x, ImageMessage)]
    metas = {parse_meta(x.attributes)["BoresideQuantity"]: x for x in found}
    t2w = parse_meta(metas["synthetic-t2w"].attributes)
    assert float(t2w["EchoTime"]) == 100 and float(t2w["RepetitionTime"]) == 4000
    assert t2w["BurnedInAnnotation"] == "YES" and t2w["SyntheticData"] == "YES"
    t1 = metas["t1_map"]
    slope = float(parse_meta(t1.attributes)["RescaleSlope"])
    assert np.median(t1.data[t1.data > 0]) * slope == pytest.approx(1350, rel=0.1)  # Muscle.
    assert "BurnedInAnnotation" not in parse_meta(t1.attributes)


def test_any_contrast_can_be_made_of_them_later(scene):
    _, header, images = scene
    (measured,) = (x for x in run(header, images) if isinstance(x, MeasuredMaps))
    image = synthesise(measured.maps, 2000, 30, 400)
    assert image.shape == (2, 96, 96) and np.isfinite(image).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda images: images[:-1],
        lambda images: [replace(image, complete=False) for image in images],
        lambda images: [replace(image, snr_units=False) for image in images],
        lambda images: [replace(image, role=Role.SYNTHETIC) for image in images],
        lambda images: [replace(image, data=image.data * np.float32(1e-3)) for image in images],
        lambda images: [],
    ],
)
def test_what_does_not_suffice_makes_no_image(scene, change):
    _, header, images = scene
    given = change(images)
    assert run(header, given) == given


@pytest.mark.parametrize("name", ["TI", "TE", "TR", "echo_spacing"])
def test_a_header_without_times_makes_no_image(scene, name):
    step, _, images = scene
    header = parse_header(step.header_xml)
    setattr(header.sequenceParameters, name, [])
    assert run(header, images) == images
    setattr(header.sequenceParameters, name, ["often"])
    assert run(header, images) == images
