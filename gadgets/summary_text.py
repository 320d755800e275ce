"""Words of the summary series: how a finding looks and where, what cannot be judged, how good."""

from collections.abc import Sequence

from protocols.findings import (
    EvidenceCoverage,
    Finding,
    FindingType,
    Measure,
    Quality,
    Side,
    Structure,
)

MARK = "COMPUTED - research use, not for diagnosis"

CONTRASTS = {
    "t1": "T1",
    "t2": "T2",
    "t2_fs": "T2 fat-saturated",
    "stir": "STIR",
    "pd": "PD",
    "pdff": "fat fraction",
}

_TITLES = {
    FindingType.OEDEMA_LIKE: "Oedema-like signal",
    FindingType.FAT_LIKE: "Fat-like signal",
    FindingType.SCLEROSIS_LIKE: "Sclerosis-like signal",
    FindingType.REPLACEMENT_LIKE: "Marrow without fat",
    FindingType.FLUID_AND_FAT_LIKE: "Fluid-and-fat-like signal",
    FindingType.DISC_SIGNAL_LOSS: "Dark disc",
    FindingType.DISC_BULGE_LIKE: "Disc beyond its end plates",
    FindingType.HEIGHT_LOSS: "Low vertebral body",
    FindingType.CANAL_NARROW: "Narrow canal",
    FindingType.OFFSET: "Displaced vertebral body",
    FindingType.ANOMALY: "Unusual signal of no named kind",
}
_LOOKS: dict[FindingType, dict[str, tuple[str, ...]]] = {
    FindingType.OEDEMA_LIKE: {"bright": ("stir", "t2_fs"), "dark": ("t1",)},
    FindingType.FAT_LIKE: {"bright": ("t1",), "dark": ("stir", "t2_fs")},
    FindingType.SCLEROSIS_LIKE: {"dark": ("t1", "t2", "t2_fs", "stir", "pd")},
    FindingType.REPLACEMENT_LIKE: {"dark": ("t1",), "not dark": ("stir", "t2_fs")},
    FindingType.FLUID_AND_FAT_LIKE: {"bright": ("t1", "t2")},
    FindingType.DISC_SIGNAL_LOSS: {"dark": ("t2",)},
}
_STRUCTURES = {
    Structure.VERTEBRA: "vertebral body",
    Structure.ENDPLATE: "end plate",
    Structure.CORNER: "corner of the vertebral body",
    Structure.FACET: "facet joint",
    Structure.DISC: "disc",
    Structure.CANAL: "canal",
    Structure.SACRUM: "sacrum",
    Structure.SACRAL_SUBCHONDRAL: "sacrum beside the SI joint",
    Structure.ILIAC_SUBCHONDRAL: "ilium beside the SI joint",
    Structure.SI_JOINT: "SI joint",
    Structure.PARASPINAL_MUSCLE: "paraspinal muscle",
}
_UNSEEN = {
    Structure.VERTEBRA: "vertebral bodies",
    Structure.DISC: "discs",
    Structure.FACET: "facet joints",
    Structure.SACRAL_SUBCHONDRAL: "sacral subchondral bone",
    Structure.ILIAC_SUBCHONDRAL: "iliac subchondral bone",
}
_MEASURES = {
    "vbq": "Vertebral bone quality",
    "disc_height_index": "Disc height index",
    "canal_ap": "Canal, front to back",
    "dural_sac_ap": "Fluid in the canal, front to back",
}


def title(finding: Finding) -> str:
    """Return what the region looks like, in a few words."""
    return _TITLES[finding.type]


def place(finding: Finding) -> str:
    """Return where it is: "Left sacrum beside the SI joint, S1"."""
    where = structure(finding.structure, finding.side)
    sacral = finding.structure in (Structure.SACRAL_SUBCHONDRAL, Structure.ILIAC_SUBCHONDRAL)
    if finding.level and not sacral:
        where = f"{finding.level} {where}"
    elif finding.level:
        where = f"{where}, {finding.level}"
    return where[0].upper() + where[1:]


def structure(kind: Structure, side: Side) -> str:
    """Return a structure with its side: "left ilium beside the SI joint"."""
    return _sided(_STRUCTURES[kind], side)


def _sided(words: str, side: Side) -> str:
    return words if side is Side.MIDLINE else f"{side} {words}"


def looks(finding: Finding, weightings: Sequence[str]) -> str:
    """Return how it looks on the contrasts that show it: "Bright on STIR, dark on T1".

    Parameters
    ----------
    finding : Finding
    weightings : sequence of str
        Of the series that show it. Nothing is said of others.
    """
    parts = []
    for word, where in _LOOKS.get(finding.type, {}).items():
        names = [CONTRASTS[one] for one in where if one in weightings]
        if names:
            parts.append(f"{word} on {_listed(names)}")
    words = ", ".join(parts)
    return words[:1].upper() + words[1:]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sizes(finding: Finding) -> str:
    """Return its size and how sure it is: "0.8 ml, 6 mm deep, contrast 7.2 sigma"."""
    parts = [f"{finding.volume_ml:.2g} ml"] if finding.volume_ml > 0 else []
    if finding.area_mm2 > 0:
        parts.append(f"{finding.area_mm2:.0f} sq mm in a slice")
    if finding.depth_mm is not None:
        parts.append(f"{finding.depth_mm:.0f} mm deep")
    if finding.type is FindingType.CANAL_NARROW:
        parts.append(f"{finding.extent_mm[1]:.0f} mm from front to back")
    else:
        parts.append(f"contrast {finding.cnr:.1f} times the noise")
    return ", ".join(parts)


def probability(finding: Finding) -> str:
    """Return "p 0.93"; never 1.00 or 0.00, which no computed probability is."""
    return f"p {min(max(finding.probability, 0.01), 0.99):.2f}"


def cannot_judge(one: EvidenceCoverage) -> str:
    """Return what is not judged and how much of it was shown."""
    name = _UNSEEN.get(one.structure, _STRUCTURES[one.structure])
    return f"{_sided(name, one.side)}, {100 * one.shown:.0f} % shown"


def quality(one: Quality) -> str:
    """Return how good a series is: "SNR 21, motion 0.03"."""
    parts = [f"SNR {one.snr:.0f}", f"motion {one.motion:.2f}"]
    if one.fat_suppression_failed is not None and one.fat_suppression_failed > 0.005:
        parts.append(f"fat bright {100 * one.fat_suppression_failed:.0f} %")
    if one.wrapped:
        parts.append("folds over")
    if one.cut_off:
        parts.append("cut off")
    return ", ".join(parts)


def measure(one: Measure) -> tuple[str, str]:
    """Return a measure's name with its level, and its value with the unit."""
    name = _MEASURES.get(one.name, one.name.replace("_", " ").capitalize())
    digits = 0 if abs(one.value) >= 100 else 1 if abs(one.value) >= 10 else 2
    return " ".join(filter(None, (name, one.level))), f"{one.value:.{digits}f} {one.unit}".strip()
