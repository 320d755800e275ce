"""Tissue table: published values, field scaling, and the contrasts a radiologist expects."""

import numpy as np
import pytest

from scanner.sequence import TurboSpinEcho
from scanner.signal import signals
from scanner.tissues import (
    FieldStrengthError,
    Label,
    Tissue,
    tissue_table,
    varied_tissue_table,
)


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


# Ratios to adult marrow of an independent simulation (150 degrees refocusing, spacing 9-10 ms).
@pytest.mark.parametrize(
    ("label", "fat", "t1w", "t2w", "stir"),
    [
        (Label.OEDEMA, 0.10, 0.78, 2.11, 3.5),
        (Label.FIBROVASCULAR_MARROW, 0.12, 0.84, 2.04, 3.3),
        (Label.LYTIC_TUMOUR, 0.04, 0.79, 1.82, 3.3),
        (Label.FATTY_MARROW, 0.80, 1.51, 1.78, 0.35),
        (Label.SCLEROTIC_BONE, 0.25, 0.36, 0.20, 0.22),
        (Label.HAEMANGIOMA, 0.65, 1.38, 2.39, 1.40),
    ],
)
def test_diseased_marrow_against_healthy_marrow(label, fat, t1w, t2w, stir):
    ratios = marrow_ratios(tissue_table(3.0), label, fat, 0.30)
    assert ratios == pytest.approx((t1w, t2w, stir), rel=0.2)


def marrow_ratios(table, label: Label, fat: float, marrow_fat: float) -> tuple[float, ...]:
    """Signal of a tissue over that of marrow: T1 600/10, T2 3500/100, STIR 4500/45 TI 256."""
    ratios = []
    for sequence in (
        TurboSpinEcho(600.0, 10.0, 10.0, (150.0,) * 3, 250.0),
        TurboSpinEcho(3500.0, 100.0, 10.0, (150.0,) * 16, 250.0),
        TurboSpinEcho(4500.0, 45.0, 9.0, (150.0,) * 14, 250.0, ti_ms=256.0),
    ):
        water, lipid = (level[:, sequence.centre_echo] for level in signals(sequence, table))
        lesion = water[label] * (1 - fat) + lipid[label] * fat
        marrow = water[Label.MARROW] * (1 - marrow_fat) + lipid[Label.MARROW] * marrow_fat
        ratios.append(abs(lesion / marrow))
    return tuple(ratios)


def test_oedema_reads_as_oedema_across_all_patients():
    """STIR ratio 2 to 6, T1 ratio 0.6 to 0.95: if not, the generator is broken."""
    rng = np.random.default_rng(0)
    ratios = np.array(
        [
            marrow_ratios(varied_tissue_table(3.0, rng), Label.OEDEMA, min(f, 0.4 * marrow), marrow)
            for f, marrow in rng.uniform((0.02, 0.2), (0.2, 0.45), (300, 2))
        ]
    )
    t1, stir = ratios[:, 0], ratios[:, 2]
    assert np.mean((stir > 2) & (stir < 6)) > 0.98
    assert np.mean((t1 > 0.6) & (t1 < 0.95)) > 0.95
    assert stir.min() > 2 and stir.max() < 8 and t1.min() > 0.5 and t1.max() < 1


def test_varied_tissues_differ_and_stay_physical():
    rng = np.random.default_rng(1)
    first, second = varied_tissue_table(1.5, rng), varied_tissue_table(1.5, rng)
    assert first != second
    for tissue, plain in zip(first, tissue_table(1.5), strict=True):
        assert 0 < tissue.t2star_ms <= tissue.t2_ms <= tissue.t1_ms or tissue.pd == 0
        assert tissue.pd == plain.pd
        assert tissue.fat_t1_ms / plain.fat_t1_ms == pytest.approx(
            first[Label.FAT].fat_t1_ms / tissue_table(1.5)[Label.FAT].fat_t1_ms
        )
