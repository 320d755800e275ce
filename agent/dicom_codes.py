"""Codes: SNOMED CT and DCM where they have one, else our own scheme, 99BORESIDE.

Our own are words for signal, which no code of the standard's says without naming a disease.
"""

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from protocols.findings import FindingType, Side, Structure

SCHEME = "99BORESIDE"


def own(value: str, meaning: str) -> Code:
    """Return a code of our own scheme."""
    return Code(value, SCHEME, meaning)


COMPUTED = own("computed", "Computed of other images")
PROBABILITY = own("probability", "Probability of a lesion being there")
CNR = own("cnr", "Contrast to noise ratio")
SHOWN = own("shown", "Fraction shown")
JUDGED = own("judged", "Enough shown to judge")
USABLE = own("usable", "Image quality suffices")
SNR = own("snr", "Signal to noise ratio")
MOTION = own("motion", "Motion, 0 to 1")
FAT_SUPPRESSION = own("fatsup", "Fraction of fat not suppressed")
COVERAGE = own("coverage", "Evidence coverage")
QUALITY = own("quality", "Image quality")
ABSTAINED = own("abstained", "Nothing concluded")
LEVELS = own("levels", "Vertebral levels certain")
MEASURES = own("measures", "Measures")
YES, NO = codes.SCT.Yes, codes.SCT.No

FINDINGS = {
    FindingType.OEDEMA_LIKE: own("oedema", "Oedema-like signal"),
    FindingType.FAT_LIKE: own("fat", "Fat-like signal"),
    FindingType.SCLEROSIS_LIKE: own("sclerosis", "Sclerosis-like signal"),
    FindingType.REPLACEMENT_LIKE: own("replacement", "Marrow-replacement-like signal"),
    FindingType.FLUID_AND_FAT_LIKE: own("fluidfat", "Fluid-and-fat-like signal"),
    FindingType.DISC_SIGNAL_LOSS: own("discsignal", "Loss of disc signal"),
    FindingType.DISC_BULGE_LIKE: own("discbulge", "Bulge-like disc contour"),
    FindingType.HEIGHT_LOSS: own("height", "Loss of vertebral height"),
    FindingType.CANAL_NARROW: own("canal", "Narrow canal"),
    FindingType.OFFSET: own("offset", "Offset between vertebral bodies"),
    FindingType.ANOMALY: own("anomaly", "Unusual signal"),
}
UNITS = {
    "": Code("1", "UCUM", "no units"),
    "mm": Code("mm", "UCUM", "mm"),
    "mm2": Code("mm2", "UCUM", "mm2"),
    "mL": Code("mL", "UCUM", "mL"),
    "deg": Code("deg", "UCUM", "degree"),
    "%": Code("%", "UCUM", "percent"),
}
_DISC = own("disc", "Intervertebral disc")
_STRUCTURES = {
    Structure.VERTEBRA: codes.SCT.Vertebra,
    Structure.ENDPLATE: own("endplate", "Vertebral end plate"),
    Structure.CORNER: own("corner", "Corner of vertebral body"),
    Structure.FACET: own("facet", "Facet joint"),
    Structure.DISC: _DISC,
    Structure.CANAL: codes.SCT.SpinalCanalStructure,
    Structure.SACRUM: codes.SCT.Sacrum,
    Structure.SACRAL_SUBCHONDRAL: own("sacralsub", "Sacral subchondral bone"),
    Structure.ILIAC_SUBCHONDRAL: own("iliacsub", "Iliac subchondral bone"),
    Structure.SI_JOINT: codes.SCT.SacroiliacJoint,
    Structure.PARASPINAL_MUSCLE: own("paraspinal", "Paraspinal muscle"),
}
SIDES = {
    Side.LEFT: codes.SCT.Left,
    Side.RIGHT: codes.SCT.Right,
    Side.MIDLINE: codes.SCT.Median,
}


def level(name: str) -> Code | None:
    """Return the code of a vertebra ("L4") or a disc ("L4/L5"); None where there is none."""
    keyword = f"{name.replace('/', '')}Disc" if "/" in name else f"{name}Vertebra"
    try:
        return getattr(codes.SCT, keyword)
    except AttributeError:
        return None


def site(structure: Structure, of_level: str | None) -> Code:
    """Return the code of where a finding is: its level's own where the structure is that."""
    if of_level and structure in (Structure.VERTEBRA, Structure.DISC) and (code := level(of_level)):
        return code
    return _STRUCTURES[structure]


def segment(name: str) -> tuple[Code, Code | None]:
    """Return the code of a label of `gadgets.items.LabelMap`, and of its side."""
    if name.startswith("SI_"):
        return codes.SCT.SacroiliacJoint, SIDES[Side(name.removeprefix("SI_"))]
    if name == "canal":
        return codes.SCT.SpinalCanalStructure, None
    if name == "sacrum":
        return codes.SCT.Sacrum, None
    return level(name) or (_DISC if "/" in name else codes.SCT.Vertebra), None


def code_item(code: Code) -> Dataset:
    """Return an item of a code sequence."""
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def scheme() -> Dataset:
    """Return the item of the Coding Scheme Identification Sequence that says what 99BORESIDE is."""
    item = Dataset()
    item.CodingSchemeDesignator = SCHEME
    item.CodingSchemeName = "Boreside"
    item.CodingSchemeResponsibleOrganization = "Boreside"
    return item


def measure(name: str) -> Code:
    """Return the code of a measure of `gadgets.measures`."""
    return own(name, name.replace("_", " ").capitalize())
