"""What is familiar: signals that go together as they did in training, and nothing else."""

import numpy as np
import pytest

from engines.familiar import Familiar, body, learn, scale_of

TISSUES = ((0.9, 0.6), (0.3, 0.1), (0.2, 1.0))
"""Fat, muscle and fluid in T1w and T2w."""


def slices(seed, tissues=TISSUES, count=1):
    rng = np.random.default_rng(seed)
    where = rng.integers(len(tissues), size=(count, 48, 48))
    planes = np.array(tissues, np.float32)[where].transpose(0, 3, 1, 2)
    return np.clip(planes + 0.02 * rng.standard_normal(planes.shape), 0, None).astype(np.float32)


@pytest.fixture(scope="module")
def familiar():
    return learn(list(slices(1, count=20)), list(slices(2, count=10)))


def test_other_patients_are_familiar(familiar):
    assert familiar.rarity(slices(3, count=4)) < familiar.most + 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda planes: planes[:, ::-1],
        lambda planes: planes[:, [0, 0]],
        lambda planes: 1 - planes,
        lambda planes: np.stack([planes[:, 0], planes[:, 1, ::-1]], axis=1),
    ],
    ids=["swapped", "twice the same", "inverted", "not registered"],
)
def test_what_does_not_go_together_is_not(familiar, wrong):
    assert familiar.rarity(np.ascontiguousarray(wrong(slices(3)))) > familiar.most + 1


def test_nothing_is_not_familiar(familiar):
    assert familiar.rarity(np.zeros((1, 2, 16, 16), np.float32)) > familiar.most


def test_a_manifest_holds_it(familiar):
    again = Familiar.from_plain(familiar.to_plain())
    np.testing.assert_allclose(again.bits, familiar.bits, atol=1 / 16)
    assert again.most == familiar.most


def test_the_scale_does_not_depend_on_the_air_around():
    image = slices(4)[0, 0]
    assert scale_of(np.pad(image, 40)) == pytest.approx(scale_of(image), rel=0.05)


def test_the_body_is_where_any_channel_shows_something():
    planes = np.zeros((1, 2, 4, 4), np.float32)
    planes[0, 1, 2, 3] = 0.5
    assert body(planes).sum() == 1 and body(planes)[0, 2, 3]
