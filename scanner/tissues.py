"""Tissue parameters of the digital phantom: what each label means to the MR physics.

Every tissue is two compartments, water and fat, because that is what keeps T1w, T2w, STIR and
Dixon images of one anatomy mutually consistent. The phantom gives the fat fraction per voxel; this
table gives the relaxation times of each compartment. Touches numbers only: no geometry.

Sources of single values (all at 3 T):

- de Bazelaire 2004 (n=6): subcutaneous fat T1 382, T2 68 ms.
- SyMRI, PMC7410772 (n=32): CSF T1 4273, T2 1578; normal, intermediate and desiccated disc T1
  1165/723/554, T2 102/67/56 ms, relative proton densities 78.9/60.8/47.6 against CSF 107.5.
- Sacroiliac cartilage T2 44 ms (svuijm 441734, measured at 1.5 T).

All values not attributed on their line are general knowledge: mid-range defaults, not citations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np


class FieldStrengthError(ValueError):
    """The tissue table holds 1.5 T and 3 T only."""


class Label(IntEnum):
    """What a point of the phantom is made of."""

    AIR = 0
    SKIN = 1
    FAT = 2
    MUSCLE = 3
    MARROW = 4
    CORTICAL_BONE = 5
    NUCLEUS = 6
    NUCLEUS_INTERMEDIATE = 7
    DISC_DESICCATED = 8
    ANNULUS = 9
    CSF = 10
    CORD = 11
    NERVE = 12
    LIGAMENT = 13
    CONNECTIVE = 14
    CARTILAGE = 15
    JOINT_FLUID = 16
    AORTA = 17
    VENA_CAVA = 18
    VEIN = 19
    BOWEL_WALL = 20
    BOWEL_CONTENT = 21
    BOWEL_FLUID = 22
    BOWEL_GAS = 23
    KIDNEY_CORTEX = 24
    KIDNEY_MEDULLA = 25
    LIVER = 26
    SPLEEN = 27
    LUNG = 28
    OEDEMA = 29
    FIBROVASCULAR_MARROW = 30
    FATTY_MARROW = 31
    SCLEROTIC_BONE = 32
    LYTIC_TUMOUR = 33
    SCLEROTIC_TUMOUR = 34
    HAEMANGIOMA = 35
    FRACTURE_OEDEMA = 36
    PANNUS = 37
    METAL = 38


@dataclass(frozen=True)
class Tissue:
    """One tissue at one field strength.

    Attributes
    ----------
    name : str
    pd : float
        Proton density relative to CSF = 1. For flowing blood it is the *apparent* density: the
        part of the signal that a spin echo keeps, so that vessels come out as flow voids.
    t1_ms, t2_ms, t2star_ms : float
        Relaxation of the water compartment.
    fat_t1_ms, fat_t2_ms : float
        Relaxation of the fat compartment.
    """

    name: str
    pd: float
    t1_ms: float
    t2_ms: float
    t2star_ms: float
    fat_t1_ms: float = 370.0
    fat_t2_ms: float = 85.0


_AT_3T: dict[Label, Tissue] = {
    Label.AIR: Tissue("air", 0.0, 1000.0, 1.0, 1.0),
    Label.SKIN: Tissue("skin", 0.65, 1100.0, 30.0, 12.0),
    # Fat T1 de Bazelaire; T2 from the middle of 68-133 ms: J-coupling makes it depend on the echo
    # train.
    Label.FAT: Tissue("fat", 1.0, 1000.0, 40.0, 30.0, 382.0, 100.0),
    Label.MUSCLE: Tissue("muscle", 0.80, 1350.0, 32.0, 22.0, 370.0, 70.0),
    Label.MARROW: Tissue("bone marrow", 0.85, 1000.0, 40.0, 12.0),
    Label.CORTICAL_BONE: Tissue("cortical bone", 0.12, 220.0, 0.5, 0.4),
    # SyMRI: normal, intermediate and desiccated disc.
    Label.NUCLEUS: Tissue("nucleus pulposus", 0.90, 1165.0, 102.0, 60.0),
    Label.NUCLEUS_INTERMEDIATE: Tissue("nucleus pulposus, intermediate", 0.70, 723.0, 67.0, 40.0),
    Label.DISC_DESICCATED: Tissue("disc, desiccated", 0.60, 554.0, 56.0, 25.0),
    Label.ANNULUS: Tissue("annulus fibrosus", 0.60, 900.0, 40.0, 12.0),
    Label.CSF: Tissue("cerebrospinal fluid", 1.0, 4270.0, 1580.0, 500.0),  # SyMRI
    Label.CORD: Tissue("spinal cord", 0.70, 993.0, 78.0, 40.0),
    Label.NERVE: Tissue("nerve root", 0.70, 993.0, 78.0, 40.0),
    Label.LIGAMENT: Tissue("ligament", 0.30, 800.0, 10.0, 3.0),
    Label.CONNECTIVE: Tissue("loose connective tissue", 0.65, 1000.0, 30.0, 12.0),
    Label.CARTILAGE: Tissue("hyaline cartilage", 0.70, 1200.0, 42.0, 18.0),
    Label.JOINT_FLUID: Tissue("joint fluid", 1.0, 3600.0, 600.0, 200.0),
    Label.AORTA: Tissue("arterial blood", 0.08, 1650.0, 150.0, 50.0),
    Label.VENA_CAVA: Tissue("venous blood, fast", 0.16, 1650.0, 100.0, 40.0),
    Label.VEIN: Tissue("venous blood, slow", 0.85, 1700.0, 130.0, 40.0),
    Label.BOWEL_WALL: Tissue("bowel wall", 0.80, 1200.0, 45.0, 25.0),
    Label.BOWEL_CONTENT: Tissue("bowel content", 0.75, 700.0, 60.0, 15.0),
    Label.BOWEL_FLUID: Tissue("bowel fluid", 1.0, 3000.0, 400.0, 100.0),
    Label.BOWEL_GAS: Tissue("bowel gas", 0.0, 1000.0, 1.0, 1.0),
    Label.KIDNEY_CORTEX: Tissue("renal cortex", 0.85, 1150.0, 80.0, 45.0),
    Label.KIDNEY_MEDULLA: Tissue("renal medulla", 0.90, 1550.0, 95.0, 45.0),
    Label.LIVER: Tissue("liver", 0.80, 810.0, 36.0, 22.0),
    Label.SPLEEN: Tissue("spleen", 0.85, 1330.0, 62.0, 30.0),
    Label.LUNG: Tissue("lung", 0.12, 1200.0, 40.0, 1.0),
    # Diseased marrow: the water compartment only; how much of it is fat, the lesion says.
    Label.OEDEMA: Tissue("bone-marrow oedema", 0.95, 1500.0, 95.0, 25.0),
    Label.FIBROVASCULAR_MARROW: Tissue("fibrovascular marrow (Modic 1)", 0.95, 1400.0, 90.0, 20.0),
    Label.FATTY_MARROW: Tissue("fatty marrow (Modic 2, metaplasia)", 0.95, 1000.0, 42.0, 18.0),
    Label.SCLEROTIC_BONE: Tissue("sclerotic bone", 0.35, 900.0, 25.0, 4.0, 370.0, 70.0),
    Label.LYTIC_TUMOUR: Tissue("lytic tumour", 0.95, 1300.0, 80.0, 30.0),
    Label.SCLEROTIC_TUMOUR: Tissue("sclerotic tumour", 0.40, 1000.0, 30.0, 4.0),
    Label.HAEMANGIOMA: Tissue("haemangioma", 0.95, 1300.0, 110.0, 25.0, 370.0, 95.0),
    Label.FRACTURE_OEDEMA: Tissue("oedema of a fracture", 0.90, 1300.0, 80.0, 15.0),
    Label.PANNUS: Tissue("pannus in an erosion", 0.90, 1100.0, 70.0, 15.0),
    Label.METAL: Tissue("metal", 0.0, 1000.0, 1.0, 1.0),
}
# Oedema against the marrow of the same patient: active sacroiliac oedema has T1 1701 +- 725 and T2
# 97 +- 16 (mapped) to 129 +- 24 ms (MAGiC).
_OEDEMA_T1_RATIO = (1.25, 1.9)
_OEDEMA_T2_RATIO = (1.9, 2.6)


def _to_1p5t(label: Label, tissue: Tissue) -> Tissue:
    """Scale one tissue from 3 T to 1.5 T.

    Water T1 falls to 0.80 (de Bazelaire: 21 % longer at 3 T; free water does not change), fat T1
    to 0.85 and water T2 rises to 1.05; the susceptibility part of R2* halves with the field. The
    factors other than the first are general knowledge.
    """
    is_free_water = label in (Label.CSF, Label.JOINT_FLUID, Label.BOWEL_FLUID)
    t2_ms = tissue.t2_ms * (1.0 if is_free_water else 1.05)
    r2_susceptibility = max(1 / tissue.t2star_ms - 1 / tissue.t2_ms, 0.0)
    return Tissue(
        name=tissue.name,
        pd=tissue.pd,
        t1_ms=tissue.t1_ms * (1.0 if is_free_water else 0.80),
        t2_ms=t2_ms,
        t2star_ms=1 / (1 / t2_ms + 0.5 * r2_susceptibility),
        fat_t1_ms=tissue.fat_t1_ms * 0.85,
        fat_t2_ms=tissue.fat_t2_ms,
    )


def tissue_table(field_t: float) -> tuple[Tissue, ...]:
    """Tissues indexed by `Label`, at one field strength.

    Parameters
    ----------
    field_t : float
        1.5 or 3.0 tesla.

    Raises
    ------
    FieldStrengthError
        For any other field.
    """
    if field_t == 3.0:
        return tuple(_AT_3T[label] for label in Label)
    if field_t == 1.5:
        return tuple(_to_1p5t(label, _AT_3T[label]) for label in Label)
    raise FieldStrengthError(f"field strength must be 1.5 or 3.0 T, got {field_t!r}")


def varied_tissue_table(field_t: float, rng: np.random.Generator) -> tuple[Tissue, ...]:
    """Tissues of another patient: every relaxation time drawn from its range.

    Water T1 +-15 %, T2 +-20 % and T2* +-30 % of each tissue on its own. Oedema follows the marrow
    which it is in, by a ratio from its measured range. Fat is the same everywhere in a body, so its
    T1 (+-7 %) and T2 (64-123 ms: J-coupling) vary together.

    Parameters
    ----------
    field_t : float
        1.5 or 3.0 tesla.
    rng : numpy.random.Generator

    Raises
    ------
    FieldStrengthError
        For any other field.
    """
    fat_t1, fat_t2 = rng.uniform(0.93, 1.07), np.exp(rng.uniform(np.log(0.75), np.log(1.45)))
    varied: list[Tissue] = []
    for label, tissue in zip(Label, tissue_table(field_t)):
        t1, t2 = tissue.t1_ms * rng.uniform(0.85, 1.15), tissue.t2_ms * rng.uniform(0.8, 1.2)
        if label == Label.OEDEMA:
            t1 = varied[Label.MARROW].t1_ms * rng.uniform(*_OEDEMA_T1_RATIO)
            t2 = varied[Label.MARROW].t2_ms * rng.uniform(*_OEDEMA_T2_RATIO)
        t2 = min(t2, t1)
        varied.append(
            replace(
                tissue,
                t1_ms=float(t1),
                t2_ms=float(t2),
                t2star_ms=float(min(tissue.t2star_ms * rng.uniform(0.7, 1.3), t2)),
                fat_t1_ms=float(tissue.fat_t1_ms * fat_t1),
                fat_t2_ms=float(tissue.fat_t2_ms * fat_t2),
            )
        )
    return tuple(varied)
