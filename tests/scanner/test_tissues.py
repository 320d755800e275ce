"""Tissue table: published values, field scaling, and the contrasts a radiologist expects."""

import numpy as np
import pytest

from scanner.tissues import FieldStrengthError, Label, Tissue, tissue_table


def spin_echo(tissue: Tissue, fat: float, tr: float, te: float, ti: float | None = None) -> float:
    """Two-compartment (inversion recovery) spin-echo signal."""

    def compartment(t1: float, t2: float) -> float:
        recovered = 1 - np.exp(-tr / t1)
        if ti is not None:
            recovered = 1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)
        return float(recovered * np.exp(-te / t2))

    water = compartment(tissue.t1_ms, tissue.t2_ms)
    lipid = compartment(tissue.fat_t1_ms, tissue.fat_t2_ms)
    return tissue.pd * abs((1 - fat) * water + fat * lipid)


def test_table_has_one_tissue_per_label():
    for field in (1.5, 3.0):
        assert len(tissue_table(field)) == len(Label)
    assert Label.AIR == 0
    assert tissue_table(3.0)[Label.AIR].pd == 0


@pytest.mark.parametrize(
    ("label", "t1", "t2"),
    [
        (Label.CSF, 4273.4, 1577.6),
        (Label.NUCLEUS, 1164.9, 101.9),
        (Label.NUCLEUS_INTERMEDIATE, 723.0, 66.8),
        (Label.DISC_DESICCATED, 554.4, 55.6),
    ],
)
def test_symri_values_at_3t(label, t1, t2):
    tissue = tissue_table(3.0)[label]
    assert tissue.t1_ms == pytest.approx(t1, rel=0.01)
    assert tissue.t2_ms == pytest.approx(t2, rel=0.01)


def test_fat_matches_de_bazelaire_at_3t_and_the_shorter_range_at_1p5t():
    assert tissue_table(3.0)[Label.FAT].fat_t1_ms == pytest.approx(382, abs=13)
    assert 68 <= tissue_table(3.0)[Label.FAT].fat_t2_ms <= 133
    assert 288 <= tissue_table(1.5)[Label.FAT].fat_t1_ms <= 343


def test_field_scaling_shortens_t1_and_lengthens_t2star():
    high, low = tissue_table(3.0), tissue_table(1.5)
    assert low[Label.MUSCLE].t1_ms == pytest.approx(0.8 * high[Label.MUSCLE].t1_ms)
    assert low[Label.CSF].t1_ms == high[Label.CSF].t1_ms
    assert low[Label.MUSCLE].t2_ms == pytest.approx(1.05 * high[Label.MUSCLE].t2_ms)
    assert 8 <= high[Label.MARROW].t2star_ms <= 12
    assert 15 <= low[Label.MARROW].t2star_ms <= 20


def test_relaxation_times_are_ordered():
    for field in (1.5, 3.0):
        for tissue in tissue_table(field):
            assert 0 < tissue.t2star_ms <= tissue.t2_ms <= tissue.t1_ms or tissue.pd == 0


@pytest.mark.parametrize("field", [0.55, 2.0, 7.0])
def test_other_fields_are_refused(field):
    with pytest.raises(FieldStrengthError, match=str(field)):
        tissue_table(field)


def test_stir_nulls_fat_and_leaves_fluid():
    table = tissue_table(3.0)
    fat = spin_echo(table[Label.FAT], 0.95, 4500, 45, ti=256)
    assert fat < 0.06 * spin_echo(table[Label.CSF], 0.0, 4500, 45, ti=256)


# Ratios to adult marrow (30 % fat) from an independent extended-phase-graph simulation of the
# same tissue values: T1w TSE 600/10, T2w TSE 3500/100, STIR 4500/63 with TI 256.
@pytest.mark.parametrize(
    ("label", "fat", "t1w", "t2w", "stir"),
    [
        (Label.CSF, 0.0, 0.116 / 0.368, 0.490 / 0.141, 0.487 / 0.060),
        (Label.MUSCLE, 0.08, 0.204 / 0.368, 0.048 / 0.141, 0.062 / 0.060),
        (Label.NUCLEUS, 0.0, 0.281 / 0.368, 0.336 / 0.141, 0.296 / 0.060),
        (Label.FAT, 0.95, 0.637 / 0.368, 0.351 / 0.141, 0.017 / 0.060),
    ],
)
def test_contrast_to_marrow(label, fat, t1w, t2w, stir):
    table = tissue_table(3.0)

    def ratio(*timing: float) -> float:
        tissue = spin_echo(table[label], fat, *timing)
        return tissue / spin_echo(table[Label.MARROW], 0.30, *timing)

    assert ratio(600, 10) == pytest.approx(t1w, rel=0.35)
    assert ratio(3500, 100) == pytest.approx(t2w, rel=0.35)
    assert ratio(4500, 63, 256) == pytest.approx(stir, rel=0.45)
