"""Disease for the digital phantom: families of lesions, drawn at random for one patient.

    spine = LumbarSpine(SpineParameters(seed=7))
    patient = spine.with_lesions(disease(np.random.default_rng(7), spine, "si_oedema"))
    truth = lesion_truth(patient)          # stays beside the exam, never reaches the agent

Families in `HELD_OUT` are for testing only: nothing is ever trained on them. The lesions follow
rules written by the authors; nothing here was measured on a patient.
"""

from collections.abc import Callable

import numpy as np

from scanner.disease.healthy import healthy
from scanner.disease.sacroiliac import si_oedema, si_structural
from scanner.disease.vertebral import (
    corner,
    discitis,
    facet,
    fracture,
    haemangioma,
    metastasis,
    modic,
    schmorl,
)
from scanner.phantom import Lesion, LumbarSpine
from scanner.phantom.lesion_truth import LesionTruth, lesion_truth

__all__ = ["FAMILIES", "HELD_OUT", "TRAINED", "LesionTruth", "disease", "lesion_truth"]

Sampler = Callable[[np.random.Generator, LumbarSpine], tuple[Lesion, ...]]

_SAMPLERS: dict[str, Sampler] = {
    "si_oedema": si_oedema,
    "si_structural": si_structural,
    "modic": modic,
    "corner": corner,
    "facet": facet,
    "metastasis": metastasis,
    "haemangioma": haemangioma,
    "fracture": fracture,
    "schmorl": schmorl,
    "discitis": discitis,
}
FAMILIES = ("healthy", *_SAMPLERS)
HELD_OUT = ("haemangioma", "fracture", "schmorl", "discitis")
"""Never trained on."""
TRAINED = tuple(name for name in FAMILIES if name not in HELD_OUT)


def disease(rng: np.random.Generator, spine: LumbarSpine, family: str) -> tuple[Lesion, ...]:
    """Lesions of one family, among those which healthy people have as well.

    Parameters
    ----------
    rng : numpy.random.Generator
    spine : LumbarSpine
        The patient whom they are made for: they follow its anatomy.
    family : str
        One of `FAMILIES`; "healthy" gives the latter alone, of which there may be none.

    Returns
    -------
    tuple of Lesion
        For ``spine.with_lesions``.

    Raises
    ------
    ValueError
        For an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    background = healthy(rng, spine)
    return background if family == "healthy" else _SAMPLERS[family](rng, spine) + background
