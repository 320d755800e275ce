"""Exams as files, and what triage is fitted on: what is read is what was simulated."""

import numpy as np
import pytest

from gadgets.triage_examples import example, paths, read, seen
from gadgets.triage_fit import SUBSETS, judged, looks
from gadgets.triage_regions import Candidate
from gadgets.triage_signal import signal_of
from protocols.findings import FindingType
from scanner.disease import HELD_OUT
from scanner.triage_data import KINDS, MIX, exam, write


@pytest.fixture(scope="module")
def arrays():
    return exam(11, 3, "modic", slices=9)


@pytest.fixture(scope="module")
def modic(arrays):
    return example(arrays)


def test_a_file_holds_all_of_an_exam(arrays, modic, tmp_path):
    write(tmp_path / "one.npz", arrays)
    (path,) = paths(tmp_path)
    found = read(path)
    assert found.truth == modic.truth and found.shapes == modic.shapes
    assert found.family == "modic" and found.labels.names == modic.labels.names
    for one, other in zip(found.series, modic.series):
        assert one.weighting == other.weighting
        np.testing.assert_array_equal(one.data, other.data)
    for name, at in modic.labels.landmarks.items():
        np.testing.assert_array_equal(found.labels.landmarks[name], at)


def test_an_empty_folder_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="boreside phantoms --exams"):
        list(paths(tmp_path))


def test_lesions_lie_where_disease_took_its_share(modic):
    ill = [one.number for one in modic.truth if not one.normal]
    assert ill
    assert modic.shares.shape == (len(KINDS), *modic.lesions.shape)
    inside = np.isin(modic.lesions, ill)
    assert modic.shares[:, inside].max(axis=0).mean() > 0.2
    assert modic.shares[:, modic.lesions == 0].max(axis=0).mean() < 0.01


def test_it_is_looked_at_with_exact_labels_and_with_those_given(modic):
    found = list(looks(modic, modic.labels, 4))
    assert len(found) == 2
    for exam_, anatomy, number, ratios, shares in found:
        assert number == 4 and not exam_.shares.size
        assert anatomy.core.any()
        assert set(ratios) == set(SUBSETS[0].split("+"))
        assert all(len(ratio) == len(shares) for ratio in ratios.values())
        assert shares.shape[1] == len(KINDS) and shares.max() > 0.2


def test_a_candidate_is_a_lesion_where_it_covers_one(modic):
    (_, anatomy, *_), _ = looks(modic, modic.labels, 0)
    assert signal_of(anatomy, {"stir": seen(modic)[2].series.data[anatomy.box]}, None) is not None
    water = [one for one in modic.truth if one.type is FindingType.OEDEMA_LIKE and not one.normal]
    largest = max(water, key=lambda one: one.volume_ml)
    lesions = modic.lesions[anatomy.box]
    on_it = np.argwhere(lesions == largest.number)
    beside = np.argwhere(lesions == 0)[:50]
    for voxels, expected in ((on_it, True), (beside, False)):
        one = Candidate("water", voxels, np.ones(len(voxels), np.float32), "L4", {})
        assert judged(one, modic, anatomy)[0] is expected


def test_nothing_is_fitted_on_what_is_held_out():
    assert not set(MIX) & set(HELD_OUT)
