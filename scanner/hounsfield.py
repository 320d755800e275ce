"""What CT would show of the digital phantom: Hounsfield units of its tissues, to compare with.

Nothing of this travels: it is what a synthetic CT is trained on and measured against. No beam
hardening, no scatter, no noise. Trabecular bone of one age differs by tens of HU between patients
(and MR does not show by how much): every patient has a number of its own.

Sources:

- Trabecular bone of the lumbar spine: 226 +- 44 HU below the age of 30, 2.5 HU less for each year,
  89 +- 38 HU at 90 (pubmed 30912719).
- Soft tissue, fat, lung and air: ranges in Buzug, Computed Tomography (Springer 2008) 475, and
  Prokop, Spiral and Multislice Computed Tomography of the Body (Thieme 2003), as listed by
  radclass.mudr.org ("Hounsfield units - scale of HU"): air -1000, lung -850 to -910, fat -50 to
  -100, water 0, kidney 20-40, spleen 35-55, blood and liver 45-65.
- Cortical and diseased bone: general knowledge, wide ranges.
"""

from __future__ import annotations

import numpy as np

from scanner.phantom import TissueSample
from scanner.tissues import Label

FAT_HU = -100.0
FAT_IN_MARROW_HU = -140.0
"""By so much less dense is fat than the water of marrow."""
USUAL_MARROW_FAT = 0.4
LIMITS = (-1000.0, 1600.0)

_SOFT: dict[Label, float] = {
    Label.SKIN: 60.0,
    Label.FAT: 0.0,  # With its fat fraction of nearly 1 it comes to -95.
    Label.MUSCLE: 58.0,
    Label.NUCLEUS: 70.0,
    Label.NUCLEUS_INTERMEDIATE: 80.0,
    Label.DISC_DESICCATED: 95.0,
    Label.ANNULUS: 105.0,
    Label.CSF: 8.0,
    Label.CORD: 35.0,
    Label.NERVE: 35.0,
    Label.LIGAMENT: 100.0,
    Label.CONNECTIVE: 30.0,
    Label.CARTILAGE: 95.0,
    Label.JOINT_FLUID: 12.0,
    Label.AORTA: 50.0,
    Label.VENA_CAVA: 50.0,
    Label.VEIN: 50.0,
    Label.BOWEL_WALL: 40.0,
    Label.BOWEL_CONTENT: 30.0,
    Label.BOWEL_FLUID: 10.0,
    Label.KIDNEY_CORTEX: 32.0,
    Label.KIDNEY_MEDULLA: 30.0,
    Label.LIVER: 57.0,
    Label.SPLEEN: 48.0,
}
_GAS: dict[Label, float] = {
    Label.AIR: -1000.0,
    Label.BOWEL_GAS: -1000.0,
    Label.LUNG: -880.0,
    Label.METAL: 3000.0,
}
_RANGES: dict[Label, tuple[float, float]] = {
    Label.CORTICAL_BONE: (800.0, 1600.0),
    Label.SCLEROTIC_BONE: (300.0, 800.0),
    Label.LYTIC_TUMOUR: (20.0, 70.0),
    Label.SCLEROTIC_TUMOUR: (400.0, 1000.0),
    Label.HAEMANGIOMA: (0.0, 60.0),
    Label.PANNUS: (40.0, 80.0),
}
_ABOVE_MARROW: dict[Label, tuple[float, float]] = {
    Label.OEDEMA: (20.0, 60.0),
    Label.FIBROVASCULAR_MARROW: (10.0, 50.0),
    Label.FRACTURE_OEDEMA: (30.0, 90.0),
}


class Hounsfield:
    """Hounsfield units of one patient's tissues.

    Parameters
    ----------
    age : float
        Years.
    rng : numpy.random.Generator
        Where in their ranges the tissues of this patient lie.
    """

    def __init__(self, age: float, rng: np.random.Generator) -> None:
        usual = 226.0 - 2.5 * max(age - 30.0, 0.0)
        self.trabecular = float(np.clip(usual + rng.normal(0, 40), 20.0, 350.0))
        count = len(Label)
        self._table, self._fat = np.zeros(count, np.float32), np.zeros(count, np.float32)
        for label, value in _SOFT.items():
            self._table[label] = value + rng.uniform(-8, 8)
            self._fat[label] = FAT_HU - self._table[label]
        for label, value in _GAS.items():
            self._table[label] = value
        for label, (low, high) in _RANGES.items():
            self._table[label] = rng.uniform(low, high)
        for label, (low, high) in _ABOVE_MARROW.items():
            self._table[label] = self.trabecular + rng.uniform(low, high)
        for label, share in ((Label.MARROW, 1.0), (Label.FATTY_MARROW, 0.5)):
            self._fat[label] = FAT_IN_MARROW_HU
            self._table[label] = share * self.trabecular - FAT_IN_MARROW_HU * USUAL_MARROW_FAT

    def __call__(self, sample: TissueSample) -> np.ndarray:
        """Return the HU at sampled points, float32, of the shape of its labels."""
        found = self._of(sample)
        if sample.lesion is not None:
            share = np.clip(sample.lesion.density, 0, 1)
            found = found + share * (self._of(sample.lesion) - found)
        return np.clip(found, *LIMITS).astype(np.float32)

    def _of(self, sample: TissueSample) -> np.ndarray:
        fat = np.clip(sample.fat_fraction, 0, 1)
        return np.asarray(self._table[sample.labels] + fat * self._fat[sample.labels])
