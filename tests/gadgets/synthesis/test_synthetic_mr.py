"""Synthetic contrasts against the signal equations, one voxel at a time in float64."""

import math

import numpy as np
import pytest

from gadgets.synthesis.maps import RelaxationMaps
from gadgets.synthesis.synthetic_mr import CONTRASTS, null_ti_ms, synthesise


def maps_of(shape=(2, 5, 6), fat=False, seed=0):
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return rng.uniform(low, high, shape).astype(np.float32)

    density = draw(10, 100)
    density[0, 0] = 0
    t1, t2 = draw(250, 4500), draw(20, 2000)
    t1[0, 0] = t2[0, 0] = 0
    return RelaxationMaps(
        t1, t2, density, np.ones(shape, np.float32), density > 0, draw(0, 1) if fat else None
    )


def by_hand(maps, z, y, x, tr, te, ti):
    def spin_echo(t1, t2):
        recovered = 1 - math.exp(-tr / t1)
        if ti is not None:
            recovered = 1 - 1.97 * math.exp(-ti / t1) + 0.97 * math.exp(-tr / t1)
        return recovered * math.exp(-te / t2)

    if maps.proton_density[z, y, x] == 0:
        return 0.0
    signal = spin_echo(float(maps.t1_ms[z, y, x]), float(maps.t2_ms[z, y, x]))
    if maps.fat_fraction is not None:
        part = float(maps.fat_fraction[z, y, x])
        signal = (1 - part) * signal + part * spin_echo(maps.fat_t1_ms, maps.fat_t2_ms)
    return abs(float(maps.proton_density[z, y, x]) * signal)


@pytest.mark.parametrize("fat", [False, True])
@pytest.mark.parametrize(
    "times", [(600.0, 10.0, None), (4000.0, 100.0, None), (4500.0, 50.0, 230.0), (9e3, 1e2, 2e3)]
)
def test_it_is_the_signal_equation(times, fat):
    maps = maps_of(fat=fat)
    found = synthesise(maps, *times)
    assert found.dtype == np.float32
    expected = [by_hand(maps, *index, *times) for index in np.ndindex(maps.t1_ms.shape)]
    np.testing.assert_allclose(found.ravel(), expected, rtol=2e-4, atol=2e-4)


def test_at_its_null_time_a_tissue_is_dark():
    maps = maps_of((1, 1, 1))
    maps.t1_ms[:], maps.proton_density[:], maps.t2_ms[:] = 370, 100, 80
    assert synthesise(maps, 4500, 20, null_ti_ms(370, 4500))[0, 0, 0] < 1e-2


def test_contrasts_weigh_as_they_are_named():
    """Marrow with fat, disc, CSF: T1w has CSF darkest, T2w and STIR brightest, FLAIR nulls it."""
    maps = maps_of((1, 1, 3))
    maps.t1_ms[:], maps.t2_ms[:], maps.proton_density[:] = [515, 1165, 4273], [100, 102, 1578], 100
    marrow, disc, csf = {}, {}, {}
    for contrast in CONTRASTS:
        image = synthesise(maps, contrast.tr_ms, contrast.te_ms, contrast.ti_ms(maps))[0, 0]
        marrow[contrast.name], disc[contrast.name], csf[contrast.name] = image
    assert marrow["t1w"] > disc["t1w"] > csf["t1w"]
    assert csf["t2w"] > marrow["t2w"] and csf["stir"] > disc["stir"] > marrow["stir"]
    assert csf["flair"] < 0.1 * disc["flair"]


@pytest.mark.parametrize(
    "times", [(0, 10, None), (600, 0, None), (600, 700, None), (600, 10, -5), (600, 10, 595),
              (float("nan"), 10, None), (float("inf"), 10, None)]
)  # fmt: skip
def test_times_that_no_sequence_has_are_refused(times):
    with pytest.raises(ValueError, match="TI \\+ TE < TR"):
        synthesise(maps_of(), *times)
