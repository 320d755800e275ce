"""What a lesion is: a region in which part of the bone has become another tissue.

Everything a lesion does to an image follows from its water and fat: nothing here knows a contrast.
Touches no anatomy; `lesion_shapes` says where in a patient a lesion is, `lesions` paints it.

Fat fractions and sizes: PDFF of lytic metastases 3.5 %, of acute benign fractures 24 %
(pubmed 29858641); all others are general knowledge, mid-range.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from protocols.findings import FindingType, Side, Structure
from scanner.tissues import Label


class LesionError(ValueError):
    """A lesion is described in a way that no patient can have it."""


class LesionKind(StrEnum):
    """What the tissue has become."""

    OEDEMA = "oedema"
    MODIC_1 = "modic_1"
    MODIC_2 = "modic_2"
    MODIC_3 = "modic_3"
    FAT_METAPLASIA = "fat_metaplasia"
    SCLEROSIS = "sclerosis"
    EROSION = "erosion"
    ANKYLOSIS = "ankylosis"
    LYTIC_METASTASIS = "lytic_metastasis"
    SCLEROTIC_METASTASIS = "sclerotic_metastasis"
    HAEMANGIOMA = "haemangioma"
    FRACTURE = "fracture"
    SCHMORL_NODE = "schmorl_node"
    DISCITIS = "discitis"
    RED_MARROW = "red_marrow"
    OUTLINE = "outline"
    """No disease: a drawn outline without physical consequence, to test for shortcuts."""


_MARROW = (Label.MARROW,)
_BONE = (Label.MARROW, Label.CORTICAL_BONE, Label.VEIN)
_JOINT = (Label.CARTILAGE, Label.JOINT_FLUID, Label.CONNECTIVE)
_DISC = (
    Label.NUCLEUS,
    Label.NUCLEUS_INTERMEDIATE,
    Label.DISC_DESICCATED,
    Label.ANNULUS,
)


@dataclass(frozen=True)
class Makeup:
    """What lesions of one kind are made of and how their border looks.

    Attributes
    ----------
    label : Label
        Tissue which replaces the bone.
    fat : (float, float)
        Range of its fat fraction. Oedema never has more than 0.4 of the fat of its surroundings.
    density : float
        Times the tissue's proton density.
    softness : float
        Half width of the border over the radius, 0-1.
    exponent : float
        2 makes a lesion ellipsoid, more makes it a slab with rounded edges.
    hosts : tuple of Label
        Tissues which it replaces.
    type : FindingType
        How it looks.
    """

    label: Label
    fat: tuple[float, float]
    type: FindingType
    density: float = 1.0
    softness: float = 0.15
    exponent: float = 2.0
    hosts: tuple[Label, ...] = _MARROW


_T = FindingType
MAKEUP: dict[LesionKind, Makeup] = {
    LesionKind.OEDEMA: Makeup(Label.OEDEMA, (0.02, 0.2), _T.OEDEMA_LIKE, softness=0.35),
    LesionKind.MODIC_1: Makeup(
        Label.FIBROVASCULAR_MARROW, (0.06, 0.18), _T.OEDEMA_LIKE, softness=0.22, exponent=3.0
    ),
    LesionKind.MODIC_2: Makeup(
        Label.FATTY_MARROW, (0.6, 0.85), _T.FAT_LIKE, softness=0.22, exponent=3.0
    ),
    LesionKind.MODIC_3: Makeup(
        Label.SCLEROTIC_BONE, (0.15, 0.35), _T.SCLEROSIS_LIKE, softness=0.2, exponent=3.0
    ),
    LesionKind.FAT_METAPLASIA: Makeup(Label.FATTY_MARROW, (0.65, 0.95), _T.FAT_LIKE, softness=0.2),
    LesionKind.SCLEROSIS: Makeup(
        Label.SCLEROTIC_BONE, (0.15, 0.35), _T.SCLEROSIS_LIKE, softness=0.2
    ),
    LesionKind.EROSION: Makeup(
        Label.PANNUS, (0.0, 0.0), _T.OEDEMA_LIKE, hosts=(Label.MARROW, Label.CORTICAL_BONE)
    ),
    LesionKind.ANKYLOSIS: Makeup(
        Label.MARROW, (0.4, 0.65), _T.FAT_LIKE, exponent=4.0, hosts=(Label.CORTICAL_BONE, *_JOINT)
    ),
    LesionKind.LYTIC_METASTASIS: Makeup(
        Label.LYTIC_TUMOUR, (0.0, 0.08), _T.REPLACEMENT_LIKE, softness=0.1, hosts=_BONE
    ),
    LesionKind.SCLEROTIC_METASTASIS: Makeup(
        Label.SCLEROTIC_TUMOUR, (0.0, 0.08), _T.SCLEROSIS_LIKE, softness=0.12
    ),
    LesionKind.HAEMANGIOMA: Makeup(
        Label.HAEMANGIOMA, (0.45, 0.85), _T.FLUID_AND_FAT_LIKE, softness=0.1
    ),
    LesionKind.FRACTURE: Makeup(
        Label.FRACTURE_OEDEMA, (0.12, 0.3), _T.OEDEMA_LIKE, softness=0.3, exponent=4.0
    ),
    LesionKind.SCHMORL_NODE: Makeup(
        Label.NUCLEUS_INTERMEDIATE, (0.0, 0.0), _T.ANOMALY, density=0.9, hosts=_BONE
    ),
    LesionKind.DISCITIS: Makeup(
        Label.OEDEMA, (0.0, 0.0), _T.ANOMALY, softness=0.3, exponent=4.0, hosts=_DISC
    ),
    LesionKind.RED_MARROW: Makeup(Label.MARROW, (0.12, 0.22), _T.ANOMALY, softness=0.35),
    LesionKind.OUTLINE: Makeup(Label.MARROW, (0.0, 0.0), _T.ANOMALY),
}


@dataclass(frozen=True)
class Lesion:
    """One lesion of one patient.

    Attributes
    ----------
    kind : LesionKind
    structure : protocols.findings.Structure
        Also says how the radii lie; see `scanner.phantom.lesion_shapes`.
    side : protocols.findings.Side
        Of the patient.
    level : str or None
        "L4" of a vertebra, "L4/L5" of a disc or facet joint, "S1" of the sacrum.
    centre : (float, float, float)
        Body coordinates in mm, as landmarks before scoliosis and scale. On the joint surface or the
        end plate where a lesion begins there.
    radii : (float, float, float)
        mm.
    severity : float
        Share of the tissue which is replaced at the core, above 0 to 1: down to subtle.
    family : str
        The sampler it comes from.
    seed : int
        Of its outline, inner texture and fat fraction.
    normal : bool
        Whether it also occurs in healthy people, as those who have it here are.

    Raises
    ------
    LesionError
    """

    kind: LesionKind
    structure: Structure
    side: Side
    level: str | None
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    severity: float = 1.0
    family: str = ""
    seed: int = 0
    normal: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.severity <= 1:
            raise LesionError(f"severity must lie in (0, 1], got {self.severity!r}")
        if len(self.radii) != 3 or not min(self.radii) > 0:
            raise LesionError(f"radii must be three lengths above 0 mm, got {self.radii!r}")
        lateral = self.structure in LATERAL
        if lateral and self.side == Side.MIDLINE:
            raise LesionError(f"{self.structure} needs a side, left or right")
        if self.structure in LEVELLED and self.level is None:
            raise LesionError(f"{self.structure} needs a level")


LATERAL = (
    Structure.SACRAL_SUBCHONDRAL,
    Structure.ILIAC_SUBCHONDRAL,
    Structure.SI_JOINT,
    Structure.FACET,
)
LEVELLED = (
    Structure.VERTEBRA,
    Structure.ENDPLATE,
    Structure.CORNER,
    Structure.FACET,
    Structure.DISC,
)
