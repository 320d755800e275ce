"""FRACTURE on images of known tissue, and in a chain fed by the virtual scanner."""

import numpy as np
import pytest

from gadgets.items import Image, Role
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.reconstruct import Reconstruct
from gadgets.sort import Sort
from gadgets.stream import chain
from gadgets.synthesis.fracture import Fracture, fracture, in_phase
from gadgets.synthesis.marks import Unavailable
from protocols.header import parse_header
from scanner.phantom import LumbarSpine
from scanner.quantitative import in_phase_step
from scanner.tissues import Label

IN_PHASE_3T = (2.30, 4.61, 6.91, 9.21)


def leg(te_ms=IN_PHASE_3T, sigma=0.0, shading=0.0):
    """Marrow in a ring of cortex, in muscle, in air: (echo, z, y, x); and where each is."""
    y, x = np.mgrid[-48:48, -48:48]
    radius = np.hypot(y, x)
    where = {
        "marrow": radius < 12,
        "cortex": (radius >= 13) & (radius < 17),
        "muscle": (radius >= 19) & (radius < 38),
        "air": radius >= 42,
    }
    strength = np.zeros(y.shape)
    decay = np.ones(y.shape)
    for name, signal, t2star in (
        ("marrow", 80, 12),
        ("cortex", 10, 0.4),
        ("muscle", 60, 25),
    ):
        strength[where[name]], decay[where[name]] = signal, t2star
    strength = strength * np.exp(-shading * (y + 48) / 96)
    echoes = np.stack([strength * np.exp(-te / decay) for te in te_ms])[:, None]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(echoes.shape) + 1j * rng.standard_normal(echoes.shape)
    return (echoes * np.exp(0.3j) + sigma * noise).astype(np.complex64), where


class TestImage:
    def test_cortex_is_bright_soft_tissue_dark_and_air_black(self):
        echoes, where = leg(sigma=1.0)
        image, _ = fracture(echoes, IN_PHASE_3T, 3.0, noise=1.0)
        cortex, marrow, muscle, air = (
            np.median(image[0][where[name]]) for name in ("cortex", "marrow", "muscle", "air")
        )
        assert cortex > 2 * max(marrow, muscle)
        assert air == 0 and image.dtype == np.float32

    def test_grey_scale_leads_back_to_the_sum_of_echoes_less_the_last(self):
        """Without shading the local mean differs little over a few pixels: ratios survive."""
        echoes, where = leg()
        image, level = fracture(echoes, IN_PHASE_3T, 3.0, spacing_mm=(1.0, 5.0, 5.0))
        relative = level - image[0]
        expected = np.abs(echoes[:-1, 0]).sum(axis=0)
        inside = where["muscle"] & (relative < 0.999 * level)
        ratio = relative[inside] / expected[inside]
        assert ratio.std() < 0.15 * ratio.mean()

    def test_echoes_may_come_in_any_order(self):
        echoes, _ = leg()
        image, level = fracture(echoes, IN_PHASE_3T, 3.0)
        other, _ = fracture(echoes[::-1], IN_PHASE_3T[::-1], 3.0)
        np.testing.assert_allclose(other, image, atol=1e-5 * level)

    def test_what_a_surface_coil_sees_less_of_is_no_bone(self):
        echoes, where = leg(shading=2.5)
        image, _ = fracture(echoes, IN_PHASE_3T, 3.0, spacing_mm=(1.0, 3.0, 3.0))
        rows = np.arange(96)[:, None] < 48
        near, far = (np.median(image[0][where["muscle"] & half]) for half in (rows, ~rows))
        assert abs(near - far) < 0.25 * np.median(image[0][where["cortex"]])

    def test_echoes_out_of_phase_are_left_out(self):
        times = (1.15, *IN_PHASE_3T)
        echoes, _ = leg(times)
        image, level = fracture(echoes, times, 3.0)
        expected, _ = fracture(echoes[1:], IN_PHASE_3T, 3.0)
        np.testing.assert_allclose(image, expected, atol=1e-6 * level)

    def test_in_phase_times_go_with_the_field(self):
        assert in_phase((1.15, 2.30, 3.45, 4.61, 6.91), 3.0) == [False, True, False, True, True]
        assert in_phase((2.30, 4.61, 9.21), 1.5) == [False, True, True]


class TestUnavailable:
    @pytest.mark.parametrize(
        "te_ms, reason",
        [
            ((2.3, 4.61), "3 or more echoes with fat and water in phase .* got 2"),
            ((1.3, 2.35, 3.4, 4.45), "got 1|got 2"),
            ((2.3, 4.61, 9.21), "evenly spaced"),
        ],
    )
    def test_echo_times(self, te_ms, reason):
        echoes, _ = leg(te_ms)
        with pytest.raises(Unavailable, match=reason):
            fracture(echoes, te_ms, 3.0)

    def test_an_echo_is_missing(self):
        echoes, _ = leg()
        with pytest.raises(Unavailable, match="expected 4 echoes"):
            fracture(echoes[:3], IN_PHASE_3T, 3.0)

    def test_too_noisy(self):
        echoes, _ = leg(sigma=30.0)
        with pytest.raises(Unavailable, match="signal-to-noise ratio"):
            fracture(echoes, IN_PHASE_3T, 3.0, noise=30.0)

    @pytest.mark.parametrize("value", [0, np.nan])
    def test_nothing_there(self, value):
        with pytest.raises(Unavailable):
            fracture(np.full((4, 2, 16, 16), value, np.complex64), IN_PHASE_3T, 3.0)


@pytest.fixture(scope="module")
def step():
    return in_phase_step(LumbarSpine(), centre=(0.0, 40.0, -40.0), matrix=128, slices=4)


@pytest.fixture(scope="module")
def images(step):
    """What leaves reconstruction."""
    header = parse_header(step.header_xml)
    gadgets = [Prewhiten(header), TransformReadout(header), Sort(header), Reconstruct("sense")]
    return [item for item in chain(gadgets)(step.readouts()) if isinstance(item, Image)]


class TestChain:
    def test_a_synthetic_image_follows_the_echoes(self, step, images):
        out = list(Fracture(parse_header(step.header_xml))(iter(images)))
        assert [a is b for a, b in zip(out, images, strict=False)] == [True] * 4
        (made,) = out[4:]
        assert made.role is Role.SYNTHETIC and made.quantity == "fracture"
        assert "Johnson 2021" in made.history[-1] and "no Hounsfield units" in made.history[-1]
        assert made.data.shape == images[0].data.shape

    def test_in_the_phantom_cortical_bone_is_brighter_than_marrow(self, step, images):
        header = parse_header(step.header_xml)
        made = list(Fracture(header)(iter(images)))[-1]
        geometry = step.protocol.geometry
        z, y, x = (np.arange(n) - n // 2 for n in (4, 128, 128))
        width = geometry.field_of_view_mm[0] / 128
        points = (
            np.array(geometry.centre)
            + (z * geometry.thickness_mm)[:, None, None, None] * geometry.slice_dir
            + (y * width)[:, None, None] * np.array(geometry.phase_dir)
            + (x * width)[:, None] * np.array(geometry.read_dir)
        )
        labels = step.scanner.thing.sample(points.astype(np.float32)).labels
        seen = (np.abs(points[..., 2]) < 150) & (np.abs(points[..., 0]) < 60)
        image = made.data
        bone = np.median(image[seen & (labels == Label.CORTICAL_BONE)])
        marrow = np.median(image[seen & (labels == Label.MARROW)])
        assert bone > 1.2 * marrow

    def test_without_all_echoes_there_is_none(self, step, images):
        out = list(Fracture(parse_header(step.header_xml))(iter(images[:-1])))
        assert len(out) == 3 and all(image.role is Role.ACQUIRED for image in out)

    def test_a_header_without_echo_times_makes_none(self, step, images):
        header = parse_header(step.header_xml)
        header.sequenceParameters = None
        assert list(Fracture(header)(iter(images))) == images
