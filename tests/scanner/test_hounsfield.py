"""Hounsfield units of the phantom: what CT shows of tissue, and of disease."""

import numpy as np
import pytest

from scanner.hounsfield import Hounsfield
from scanner.phantom import TissueSample
from scanner.tissues import Label


def points(label, fat=0.0, lesion=None):
    def sample(label, density, fat, lesion=None):
        return TissueSample(
            np.array([label], np.uint8), np.array([density]), np.array([fat]), lesion
        )

    if lesion is None:
        return sample(label, 1.0, fat)
    kind, share = lesion
    return sample(label, 1 - share, fat, sample(kind, share, 0.2))


@pytest.fixture
def patient():
    return Hounsfield(45.0, np.random.default_rng(1))


@pytest.mark.parametrize(
    "label, fat, low, high",
    [
        (Label.AIR, 0, -1000, -1000),
        (Label.FAT, 0.95, -110, -80),
        (Label.MUSCLE, 0.05, 40, 65),
        (Label.CSF, 0, 0, 20),
        (Label.CORTICAL_BONE, 0, 800, 1600),
        (Label.SCLEROTIC_BONE, 0.2, 300, 800),
    ],
)
def test_tissues_lie_in_their_ranges(patient, label, fat, low, high):
    assert low <= patient(points(label, fat))[0] <= high


def test_trabecular_bone_falls_with_age_by_the_published_slope():
    means = [
        np.mean([Hounsfield(age, np.random.default_rng(n)).trabecular for n in range(200)])
        for age in (30.0, 70.0)
    ]
    assert means[0] - means[1] == pytest.approx(100, abs=15)


def test_fatty_marrow_is_less_dense(patient):
    red, yellow = (patient(points(Label.MARROW, fat))[0] for fat in (0.2, 0.8))
    assert yellow < red - 50


def test_a_lesion_takes_its_share(patient):
    host = patient(points(Label.MARROW, 0.4))[0]
    whole = patient(points(Label.MARROW, 0.4, (Label.SCLEROTIC_BONE, 1.0)))[0]
    half = patient(points(Label.MARROW, 0.4, (Label.SCLEROTIC_BONE, 0.5)))[0]
    assert whole > host + 100 and half == pytest.approx((host + whole) / 2)


def test_oedema_is_a_little_denser_than_its_marrow(patient):
    host = patient(points(Label.MARROW, 0.4))[0]
    assert 20 <= patient(points(Label.MARROW, 0.4, (Label.OEDEMA, 1.0)))[0] - host <= 60
