"""Narrow canals: from diameters to findings, on numbers whose answer is known."""

import numpy as np
import pytest

from gadgets.items import LabelMap, Series
from gadgets.triage_fit import fit_canals
from gadgets.triage_model import Parameters
from gadgets.triage_shape import DISCS, narrow, narrowings, shape_findings
from protocols.findings import FindingType, Measure, Structure
from protocols.geometry import Volume

BODIES = ("L1", "L2", "L3", "L4", "L5")
VOLUME = Volume(
    np.zeros(3), np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]), (9, 64, 64), np.full(3, 4.0)
)


def sac(discs, bodies=10.0):
    """Return diameters in mm: those of discs by level, one for all bodies."""
    values = {**dict.fromkeys(BODIES, bodies), **discs}
    return [Measure(name="dural_sac_ap", level=at, value=v, unit="mm") for at, v in values.items()]


def patient(rng, lost):
    """Return diameters of a patient, and the truth: the canal behind L3/L4 lost this share."""
    size = rng.normal(10, 1)
    discs = {level: size * rng.normal(1, 0.07) for level in DISCS}
    discs["L3/L4"] *= 1 - lost
    return sac(discs, size), ((FindingType.CANAL_NARROW, "L3/L4", lost),)


@pytest.fixture(scope="module")
def parameters():
    rng = np.random.default_rng(6)
    table = {"logistic": {}, "listed_from": {}, "metrics_of_held_out_folds": {}}
    fit_canals(table, [(*patient(rng, 0.5 * (n % 4 == 0)), n // 4) for n in range(160)])
    return Parameters(table)


@pytest.fixture(scope="module")
def labels():
    marks = {}
    for n, level in enumerate((*BODIES, "S1")):
        for end, lower in (("superior", 0.0), ("inferior", 20.0)):
            marks[f"{level}_{end}_posterior"] = np.array([0.0, 10.0, 60.0 - 30 * n - lower])
    return LabelMap(np.zeros(VOLUME.shape, np.uint8), ("",), VOLUME, marks, {"levels": 0.9})


def found(measures, labels, parameters):
    series = Series("stir", np.zeros(VOLUME.shape, np.float32), VOLUME, "stir")
    return shape_findings(labels, measures, series, parameters)


def test_a_diameter_counts_against_that_behind_the_bodies_and_what_is_usual():
    levels = narrowings(sac({"L2/L3": 6.0, "T12/L1": 3.0}), {"L2/L3": 1.2})
    assert set(levels) == {"L2/L3"}
    ratio, diameter = levels["L2/L3"]
    assert ratio == pytest.approx(np.log(0.5)) and diameter == 6.0


def test_with_too_few_bodies_nothing_is_said(labels, parameters):
    few = [one for one in sac({"L3/L4": 3.0}) if one.level not in BODIES[:3]]
    assert narrowings(few, {}) == {} and found(few, labels, parameters) == []


def test_a_canal_of_half_its_width_is_found_where_it_is(labels, parameters):
    widths = {**dict.fromkeys(DISCS, 10.0), "L3/L4": 4.5}
    (one,) = found(sac(widths), labels, parameters)
    assert one.type is FindingType.CANAL_NARROW and one.structure is Structure.CANAL
    assert one.level == "L3/L4" and one.probability > 0.8 and one.series == ("stir",)
    assert one.centre_mm[1] == pytest.approx(10 + 2 + 4.5 / 2) and one.slices == (4,)


def test_a_canal_that_is_slim_all_along_is_not_narrow_anywhere(labels, parameters):
    assert found(sac(dict.fromkeys(DISCS, 8.5), bodies=8.5), labels, parameters) == []


def test_without_fitted_numbers_nothing_is_said(labels):
    empty = Parameters({"logistic": {}, "listed_from": {}})
    assert found(sac(dict.fromkeys(DISCS, 3.0)), labels, empty) == []


def test_the_probability_is_calibrated_on_patients_not_seen(parameters):
    kept = parameters.table["metrics_of_held_out_folds"]["canal_narrow"]
    assert kept["auc"] > 0.98 and kept["ece"] < 0.03 and kept["true"] == 40


def test_a_slip_makes_unclear_whether_a_canal_is_narrow():
    shapes = (
        (FindingType.CANAL_NARROW, "L2/L3", 0.4),
        (FindingType.CANAL_NARROW, "L3/L4", 0.2),
        (FindingType.OFFSET, "L4/L5", 6.0),
        (FindingType.CANAL_NARROW, "L5/S1", 0.0),
        (FindingType.DISC_SIGNAL_LOSS, "L1/L2", 5.0),
    )
    assert narrow(shapes) == ({"L2/L3"}, {"L3/L4", "L4/L5"})
