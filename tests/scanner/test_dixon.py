"""Dixon steps of the virtual scanner: phases of echoes, the field, the truth."""

import numpy as np
import pytest

from scanner.dixon import EDDY_RAD, VISIBLE_MS, bad_field, dixon_step
from scanner.sequence import GYROMAGNETIC_MHZ_PER_T
from scanner.step import Step, centred_ifft, crop
from scanner.tissues import Label, tissue_table

TE_MS = (1.3, 2.35, 3.4)


@pytest.fixture
def thing(ellipsoids):
    made = ellipsoids(
        [
            ((0, 0, 0), (150, 100, 190), int(Label.MUSCLE), 1.0, 0.25),
            ((0, 0, 60), (150, 50, 40), int(Label.CORTICAL_BONE), 1.0, 0.0),
        ]
    )
    made.b0_ppm = lambda points: np.asarray(points[..., 2] / 200 + 5, np.float32)
    return made


def test_the_field_reaches_what_is_asked_for_within_the_body(thing):
    bad = bad_field(thing, 1.5, 300.0)
    axis = np.linspace(-180, 180, 31)
    points = np.stack([0 * axis, 0 * axis, axis], -1).astype(np.float32)
    hz = bad.b0_ppm(points) * GYROMAGNETIC_MHZ_PER_T * 1.5
    assert np.abs(hz).max() == pytest.approx(300, rel=0.05)
    assert hz.min() < -250


def test_echoes_have_phases_of_their_own(thing):
    step = dixon_step(thing, TE_MS, matrix=64)
    plain = next(Step.kspace(step))
    turned = next(step.kspace())
    angles = np.angle(np.sum(turned * plain.conj(), axis=(1, 2, 3, 4)))
    assert np.allclose(np.abs(turned), np.abs(plain), rtol=1e-5)
    assert angles[0] - angles[-1] == pytest.approx(
        EDDY_RAD * (1 - np.exp(-(TE_MS[-1] - TE_MS[0]) / 2)), abs=1e-3
    )


@pytest.mark.parametrize("volumetric", [False, True])
def test_the_truth_lies_where_the_images_do(thing, volumetric):
    step = dixon_step(thing, TE_MS, slices=4 if volumetric else 2, volumetric=volumetric,
                      matrix=64, reach_hz=0.0)  # fmt: skip
    fraction, density = step.pdff()
    assert np.allclose(fraction[density > 0], 0.25)
    bone = tissue_table(3.0)[Label.CORTICAL_BONE]
    assert bone.t2star_ms < VISIBLE_MS
    full = np.sqrt(sum(np.abs(coil) ** 2 for coil in next(step.kspace())[0]))
    assert full.shape[-1] == 128
    image = np.concatenate([self_image(one[0]) for one in step.kspace()])
    seen = image > 0.2 * np.median(image[density > 0.5])
    agree = np.mean((seen == (density > 0.4))[:, 8:-8])
    assert agree > 0.9


def self_image(kspace):
    """Root sum of squares on the recon matrix, (z, y, x)."""
    image = crop(centred_ifft(kspace, 3), 3, 64)
    image = centred_ifft(image, 2)
    image = centred_ifft(image, 1) if image.shape[1] > 1 else image
    return np.sqrt(np.sum(np.abs(image) ** 2, axis=0))
