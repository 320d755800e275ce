"""Labelling: geometry of the network's planes, counting of levels, the whole on a phantom."""

import numpy as np
import pytest

from engines.engine import load_engine
from engines.errors import EngineUnavailable
from gadgets.items import LabelMap, Series
from gadgets.label import Labelling, label
from gadgets.label_levels import find_chain
from gadgets.label_planes import NotSagittal, planes_of
from protocols.geometry import Volume

PIXEL = 1.4


def _volume(read, phase, shape=(5, 60, 80), spacing=(1.1, 0.9, 4.0)):
    read, phase = np.array(read, float), np.array(phase, float)
    directions = np.stack([read, phase, np.cross(read, phase)])
    return Volume(np.array([3.0, -8.0, 21.0]), directions, shape, np.array(spacing))


SAGITTAL = [
    ((0, 1, 0), (0, 0, -1)),
    ((0, -1, 0), (0, 0, -1)),
    ((0, 1, 0), (0, 0, 1)),
    ((0, 0, -1), (0, 1, 0)),
    ((0, 0, 1), (0, -1, 0)),
]


class TestPlanes:
    @pytest.mark.parametrize("axes", SAGITTAL)
    def test_a_bright_spot_is_where_the_patient_has_it(self, axes):
        volume = _volume(*axes)
        data = np.zeros(volume.shape, np.float32)
        data[2] = _spot(volume.shape[1:], (21, 51), 5)
        planes = planes_of(volume, PIXEL, 16)
        images = planes.planes(data)
        assert images.shape[2] % 16 == images.shape[3] % 16 == 0
        y, x = np.indices(images.shape[2:])
        mass = images[2, 0]
        row, column = ((a * mass).sum() / mass.sum() for a in (y, x))
        np.testing.assert_allclose(planes.point(2, row, column), volume.point(2, 21, 51), atol=0.3)

    @pytest.mark.parametrize("axes", SAGITTAL)
    def test_rows_run_to_the_feet_and_columns_to_the_back(self, axes):
        planes = planes_of(_volume(*axes), PIXEL, 16)
        here, below, behind = (planes.point(2, *at) for at in ((5, 5), (6, 5), (5, 6)))
        np.testing.assert_allclose(below - here, (0, 0, -PIXEL), atol=1e-9)
        np.testing.assert_allclose(behind - here, (0, PIXEL, 0), atol=1e-9)

    @pytest.mark.parametrize("axes", SAGITTAL)
    def test_maps_come_back_to_their_voxels(self, axes):
        volume = _volume(*axes)
        planes = planes_of(volume, PIXEL, 16)
        rows, columns = planes.pixels()
        shape = planes.planes(np.ones(volume.shape, np.float32)).shape[2:]
        index = np.broadcast_to(np.indices(shape, np.float32), (volume.shape[0], 2, *shape))
        found = planes.back_to_series(index)
        inner = (slice(4, -4), slice(4, -4))
        np.testing.assert_allclose(found[1, 0][inner], rows[inner], atol=1e-3)
        np.testing.assert_allclose(found[1, 1][inner], columns[inner], atol=1e-3)

    @pytest.mark.parametrize("axes", SAGITTAL)
    def test_each_voxel_has_the_class_whose_map_is_largest_there(self, axes):
        volume = _volume(*axes)
        planes = planes_of(volume, PIXEL, 16)
        rng = np.random.default_rng(4)
        shape = planes.planes(np.ones(volume.shape, np.float32)).shape[2:]
        found = 0.3 * rng.random((volume.shape[0], 4, *shape), np.float32)
        found[:, 0] = 0.4
        found[:, 2] += _spot(shape, (20, 30), 7)
        found[:, 3] += _spot(shape, (32, 33), 5)
        expected = np.argmax(planes.back_to_series(found), axis=1)
        assert set(np.unique(expected)) == {0, 2, 3}
        np.testing.assert_array_equal(planes.classes(found), expected)
        assert not planes.classes(np.zeros_like(found)).any()

    def test_axial_slices_are_refused(self):
        with pytest.raises(NotSagittal, match="sagittal"):
            planes_of(_volume((1, 0, 0), (0, 1, 0)), PIXEL, 16)


def _spot(shape, at, size):
    y, x = np.indices(shape)
    return np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / (2 * size**2)).astype(np.float32)


def _maps(centres, sacral=(142, 60), doubt=0.0):
    """Ideal maps of vertebrae at ``centres`` and of S1."""
    shape = (192, 112)
    heat = np.max([_spot(shape, at, 2.5) for at in centres], axis=0)
    vertebra = (np.max([_spot(shape, at, 6) for at in centres], axis=0) > 0.4).astype(np.float32)
    first = np.zeros(shape, np.float32)
    if sacral:
        first = (_spot(shape, sacral, 8) > 0.5).astype(np.float32)
    return heat, vertebra, first, doubt * first


CENTRES = [(20 + 24 * n, 50 + n) for n in range(5)]


class TestLevels:
    def test_they_are_counted_from_the_sacrum(self):
        chain = find_chain(*_maps(CENTRES), PIXEL)
        assert [body.name for body in chain.bodies] == ["L1", "L2", "L3", "L4", "L5", "S1"]
        for body, at in zip(chain.bodies, CENTRES):
            np.testing.assert_allclose(body.centre, at, atol=0.3)
        assert chain.certain > 0.9
        assert chain.notes == ()

    def test_without_a_sacrum_they_have_no_names(self):
        chain = find_chain(*_maps(CENTRES, sacral=None), PIXEL)
        assert [body.name for body in chain.bodies] == [f"vertebra {n}" for n in range(1, 6)]
        assert chain.certain == 0
        assert "sacrum" in chain.notes[0]

    def test_doubt_of_the_network_is_said(self):
        chain = find_chain(*_maps(CENTRES, doubt=0.9), PIXEL)
        assert chain.certain < 0.2
        assert "transitional" in chain.notes[0]

    def test_a_vertebra_that_was_missed_makes_the_names_uncertain(self):
        chain = find_chain(*_maps([*CENTRES[:2], *CENTRES[3:]]), PIXEL)
        assert chain.certain < 0.5 or len(chain.bodies) < 5

    def test_nothing_is_found_in_nothing(self):
        empty = np.zeros((64, 48), np.float32)
        chain = find_chain(empty, empty, empty, empty, PIXEL)
        assert chain.bodies == () and chain.certain == 0


@pytest.fixture(scope="module")
def engine():
    try:
        return load_engine("labels")
    except EngineUnavailable as error:
        pytest.skip(f"no weights: {error.reason}")


class TestGadget:
    def test_an_empty_series_has_no_spine(self, engine):
        volume = _volume(*SAGITTAL[0])
        found = label(Series("t2", np.zeros(volume.shape, np.float32), volume), engine)
        assert found.labels.shape == volume.shape and found.confidence["levels"] == 0

    def test_the_label_map_follows_its_series_and_the_rest_passes_on(self, engine):
        sagittal, axial = _volume(*SAGITTAL[0]), _volume((1, 0, 0), (0, 1, 0))
        rng = np.random.default_rng(1)
        noise = [
            Series(name, rng.random(volume.shape, np.float32), volume)
            for name, volume in (("sag", sagittal), ("ax", axial))
        ]
        out = list(Labelling(engine)(iter(["text", *noise])))
        assert out[:2] == ["text", noise[0]] and out[3] is noise[1] and len(out) == 4
        assert isinstance(out[2], LabelMap)
        assert out[2].labels.max() < len(out[2].names)
