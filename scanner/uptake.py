"""What gadolinium would do to the digital phantom: an assumption, for virtual enhancement alone.

Concentrations some minutes after a usual dose are general knowledge, wide on purpose. Whether a
lesion takes up contrast agent does not follow from its relaxation times: here as in patients a part
of them does not, and nothing acquired before tells which.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from scanner.tissues import Label, Tissue

RELAXIVITY = {1.5: 4.5, 3.0: 3.7}
"""Of a macrocyclic agent, per mmol/l and second, by field in tesla."""
NO_UPTAKE = 0.25
"""Share of patients whose lesion takes nothing up."""
_SPREAD = 0.4

_MMOL: dict[Label, float] = {
    Label.SKIN: 0.15,
    Label.MUSCLE: 0.06,
    Label.MARROW: 0.05,
    Label.CORD: 0.01,
    Label.NERVE: 0.03,
    Label.LIGAMENT: 0.03,
    Label.CONNECTIVE: 0.10,
    Label.CARTILAGE: 0.03,
    Label.JOINT_FLUID: 0.05,
    Label.AORTA: 0.6,
    Label.VENA_CAVA: 0.6,
    Label.VEIN: 0.6,
    Label.BOWEL_WALL: 0.3,
    Label.KIDNEY_CORTEX: 1.0,
    Label.KIDNEY_MEDULLA: 1.0,
    Label.LIVER: 0.3,
    Label.SPLEEN: 0.35,
}
_LESION_MMOL: dict[Label, float] = {
    Label.OEDEMA: 0.35,
    Label.FIBROVASCULAR_MARROW: 0.35,
    Label.LYTIC_TUMOUR: 0.45,
    Label.SCLEROTIC_TUMOUR: 0.15,
    Label.HAEMANGIOMA: 0.4,
    Label.FRACTURE_OEDEMA: 0.25,
    Label.PANNUS: 0.5,
}


def enhanced(
    table: tuple[Tissue, ...], field_t: float, rng: np.random.Generator
) -> tuple[Tissue, ...]:
    """Return a patient's tissues after contrast agent: T1 and T2 of water are shorter."""
    tissues = list(table)
    for part, silent in ((_MMOL, 0.0), (_LESION_MMOL, NO_UPTAKE)):
        for label, mmol in part.items():
            taken = mmol * float(np.exp(rng.normal(0, _SPREAD))) * (rng.random() >= silent)
            rate = RELAXIVITY[field_t] * taken * 1e-3
            tissue = tissues[label]
            tissues[label] = replace(
                tissue,
                t1_ms=1 / (1 / tissue.t1_ms + rate),
                t2_ms=1 / (1 / tissue.t2_ms + 1.2 * rate),
            )
    return tuple(tissues)
