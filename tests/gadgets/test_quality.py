"""Image quality of simulated exams: still and moving patients, failed fat suppression, fold-over.

Reconstructed by the agent's own chain from the virtual scanner's readouts.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gadgets.items import LabelMap, Series
from gadgets.noise import Prewhiten
from gadgets.oversampling import TransformReadout
from gadgets.quality import MOST_MOTION, _blurred, quality, wrapped
from gadgets.reconstruct import Reconstruct
from gadgets.series import CollectSeries
from gadgets.sort import Sort
from gadgets.stream import chain
from protocols.geometry import Volume
from protocols.header import parse_header
from scanner.exam import quick_exam
from scanner.faults import FailedFatSuppression
from scanner.motion import breathing, jerk, moved
from scanner.phantom import LumbarSpine
from scanner.step import make_scanner

CONTRASTS = ("t1", "t2", "stir")
STILL, GATE = 0.3, 0.5
FAT_GATE = 0.05
"""Beyond these a trigger abstains (`protocols.trigger.Unless`)."""


def exam(thing, oversampling=0.4, noise_level=1.0):
    """T1, T2 and STIR of a sagittal slice, 160 x 160 pixels of 1.9 mm, R 2."""
    protocols = []
    for step in quick_exam(thing, centre=(0.0, 0.0, -10.0)):
        geometry = replace(
            step.protocol.geometry,
            field_of_view_mm=(300.0, 300.0),
            matrix=(160, 160),
            slices=1,
            phase_oversampling=oversampling,
        )
        protocols.append(replace(step.protocol, geometry=geometry))
    scanner = make_scanner(thing, rows=6, columns=1, noise_level=noise_level, exam="quality")
    return dict(zip(CONTRASTS, scanner.exam_steps(protocols)))


def series_of(step, path=None):
    header = parse_header(step.header_xml)
    blocks = step.readouts() if path is None else moved(step.readouts(), step.protocol, path)
    gadgets = [
        Prewhiten(header),
        TransformReadout(header),
        Sort(header),
        Reconstruct("sense", header, noise_maps=True),
        CollectSeries(header),
    ]
    (series,) = [item for item in chain(gadgets)(blocks) if isinstance(item, Series)]
    return series


@pytest.fixture(scope="module")
def patient():
    return LumbarSpine()


@pytest.fixture(scope="module")
def steps(patient):
    return exam(patient)


@pytest.fixture(scope="module")
def still(steps):
    return {name: series_of(step) for name, step in steps.items()}


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_images_of_a_still_patient_are_usable(still, contrast):
    found = quality(still[contrast], None)
    assert found.usable and found.reason is None and found.series == still[contrast].name
    assert found.snr > 8 and found.motion < STILL
    assert not found.wrapped and not found.cut_off
    assert (found.fat_suppression_failed is None) == (contrast != "stir")
    assert (found.fat_suppression_failed or 0) < FAT_GATE


class TestMotion:
    @pytest.mark.parametrize("contrast", CONTRASTS)
    def test_strong_breathing_is_seen_and_weak_breathing_counts_less(self, steps, still, contrast):
        found = [
            quality(series_of(steps[contrast], breathing(mm, 15.0, (1.0, 0.2))), None).motion
            for mm in (4.0, 10.0)
        ]
        assert quality(still[contrast], None).motion <= found[0] < found[1]
        assert found[1] > GATE

    def test_images_spoiled_by_breathing_are_not_usable(self, steps):
        found = quality(series_of(steps["t2"], breathing(12.0, 15.0, (1.0, 0.2))), None)
        assert not found.usable and found.reason == (
            f"motion {found.motion:.2f} above {MOST_MOTION:g}"
        )

    def test_a_jerk_is_seen(self, steps):
        path = jerk(0.45 * steps["stir"].duration_s, (5.6, 5.6))
        assert quality(series_of(steps["stir"], path), None).motion > GATE

    def test_neither_scale_nor_shading_counts(self, still):
        one = still["t2"]
        y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in one.data.shape[1:]), indexing="ij")
        shaded = one.data * 7 * np.exp(0.5 * x + 0.4 * y).astype(np.float32)
        before = quality(one, None).motion
        after = quality(replace(one, data=shaded, noise=7 * one.noise), None).motion
        assert after == pytest.approx(before, abs=0.15)


class TestFat:
    def test_failed_suppression_is_seen_and_a_larger_region_more(self, patient):
        found = []
        for radius in (40.0, 80.0):
            fails = FailedFatSuppression(patient, (0.0, 90.0, -60.0), radius)
            found.append(quality(series_of(exam(fails)["stir"]), None))
        shares = [one.fat_suppression_failed for one in found]
        assert FAT_GATE < shares[0] < shares[1]
        assert not found[1].usable and "subcutaneous fat is not suppressed" in found[1].reason


class TestNoise:
    @staticmethod
    def bodies(series):
        labels = np.zeros(series.data.shape, np.uint8)
        labels[:, 60:80, 75:90] = 1
        labels[:, 20:60, 20:60] = 2
        return LabelMap(labels, ("", "L3", "canal"), series.volume)

    def test_snr_is_signal_over_the_noise_map_in_the_vertebral_bodies(self, still):
        one = still["t2"]
        known = self.bodies(one)
        expected = np.median((one.data / one.noise)[known.labels == 1])
        assert quality(one, known).snr == pytest.approx(expected, rel=1e-6)

    def test_where_fat_is_suppressed_dark_marrow_is_no_noise(self, still):
        one = still["stir"]
        assert quality(one, self.bodies(one)).snr == quality(one, None).snr

    def test_four_times_the_noise_is_a_quarter_of_the_snr(self, patient, still):
        noisy = series_of(exam(patient, noise_level=4.0)["t2"])
        found, expected = (quality(one, self.bodies(one)).snr for one in (noisy, still["t2"]))
        assert found == pytest.approx(expected / 4, rel=0.1)

    def test_images_drowned_in_noise_are_not_usable(self, still):
        one = still["t2"]
        rng = np.random.default_rng(0)
        sigma = 2 * float(np.median(one.data[one.data > 20]))
        drowned = np.hypot(
            one.data + sigma * rng.standard_normal(one.data.shape),
            sigma * rng.standard_normal(one.data.shape),
        ).astype(np.float32)
        noise = np.full(one.data.shape, sigma, np.float32)
        found = quality(replace(one, data=drowned, noise=noise), None)
        assert not found.usable and "SNR" in found.reason

    def test_without_a_noise_map_noise_is_estimated(self):
        """Of known noise on flat tissue."""
        rng = np.random.default_rng(0)
        data = (100 + 5 * rng.standard_normal((3, 120, 120))).astype(np.float32)
        data[:, :, :20] = 0.1
        volume = Volume(np.zeros(3), np.eye(3), data.shape, np.array([1.0, 1, 4]))
        assert quality(Series("s", data, volume, "t2"), None).snr == pytest.approx(20, rel=0.1)


class TestFoldOver:
    def test_a_body_longer_than_the_field_of_view_folds_over(self, patient):
        assert quality(series_of(exam(patient, oversampling=0.0)["t1"]), None).wrapped

    def test_air_at_both_ends_does_not(self):
        data = np.random.default_rng(0).rayleigh(1, (2, 100, 100)).astype(np.float32)
        data[:, 30:70] += 50
        assert not wrapped(data)

    def test_what_goes_on_beyond_the_edge_does(self):
        row = np.arange(100)
        data = np.repeat(60 + 30 * np.cos(2 * np.pi * row / 100)[:, None], 80, axis=1)
        assert wrapped(data[None].astype(np.float32))
        assert not wrapped(data[None, :70].astype(np.float32))


class TestCutOff:
    @staticmethod
    def labels(names, top=100.0, axis=0, length=300):
        """Bodies 35 mm apart downwards from ``top``, in a field of view of 300 mm."""
        axes = np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]])
        if axis:
            axes = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        volume = Volume(np.zeros(3), axes, (9, length, 100), np.array([3.0, 1.0, 4.0]))
        order = ("L1", "L2", "L3", "L4", "L5", "S1")
        marks = {n: np.array([9.0, 0, top - 35 * order.index(n)]) for n in names}
        return LabelMap(np.zeros((9, 1, 1), np.uint8), ("",), volume, marks)

    @pytest.mark.parametrize(
        ("names", "top", "expected"),
        [
            (("L1", "L2", "L3", "L4", "L5", "S1"), 100.0, False),
            (("L1", "L2", "L3", "L4", "L5", "S1"), 140.0, True),  # L1 half out
            (("L1", "L2", "L3", "L4", "L5", "S1"), 30.0, True),  # S1 half out
            (("L3", "L4", "L5", "S1"), 100.0, False),  # in view, not recognised
            (("L3", "L4", "L5", "S1"), 180.0, True),
            (("L1", "L2", "L3"), 100.0, False),
            (("L1", "L2", "L3"), 20.0, True),
            (("L3",), 0.0, False),
        ],
    )
    def test_where_l1_or_s1_lie_beyond_the_field_of_view(self, still, names, top, expected):
        assert quality(still["t2"], self.labels(names, top)).cut_off == expected

    def test_only_sagittal_series_are_to_show_them_all(self, still):
        assert not quality(still["t2"], self.labels(("L1", "L2"), 180.0, axis=1)).cut_off


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_without_signal_nothing_is_usable(still, value):
    found = quality(replace(still["t1"], data=np.full_like(still["t1"].data, value)), None)
    assert not found.usable and found.reason == "there is no signal" and found.snr == 0


def test_a_series_of_a_few_pixels(still):
    tiny = replace(still["stir"], data=np.ones((1, 6, 5), np.float32), noise=None)
    found = quality(tiny, None)
    assert found.motion == 0


def test_wide_blurring_by_products_is_that_of_the_filter():
    image = np.random.default_rng(5).random((64, 48), np.float32)
    found = _blurred(image, np.array([11.0, 7.5]))
    np.testing.assert_allclose(found, gaussian_filter(image, (11.0, 7.5)), rtol=1e-5)
